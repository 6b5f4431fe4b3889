"""Who makes a request."""

from dataclasses import dataclass

from alphareel.domain.errors import MissingApiKey
from alphareel.service.api_keys.models import ApiKey


@dataclass(frozen=True)
class Principal:
    """The authenticated API key, or None on the legacy routes that need no key; and the request ID.

    ``address``: where a caller without a key comes from, as counted for limits. ``operator``: the name of an operator,
    who may see every job.
    """

    key: ApiKey | None
    request_id: str
    address: str = ""
    operator: str | None = None

    @property
    def key_id(self) -> str | None:
        return self.key.id if self.key is not None else None

    @property
    def actor(self) -> str:
        """The name in the audit log."""
        if self.operator is not None:
            return f"operator:{self.operator}"
        return f"key:{self.key.id}" if self.key is not None else "anonymous"

    def require_key(self) -> ApiKey:
        """Raises MissingApiKey."""
        if self.key is None:
            raise MissingApiKey("The request carries no API key.", hint="Send it in the header X-Api-Key.")
        return self.key
