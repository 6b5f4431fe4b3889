"""What operating the service needs from outside: keys, their audit, credits, calls and requests that repeat."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from alphareel.service.jobs.models import ApiKey


@dataclass(frozen=True)
class AuditContext:
    """An operator's deed on its way into the audit."""

    actor: str
    action: str
    request_id: str | None


@dataclass(frozen=True)
class AdminEvent:
    """One row of the admin audit; never changed. ``subject``: the key's fingerprint or the client."""

    id: int
    at: datetime
    actor: str
    action: str
    subject: str
    detail: Mapping[str, Any]
    request_id: str | None


class ApiKeyAdminStore(Protocol):
    """Changes to keys, found by fingerprint; each method is one transaction that leaves an audit row."""

    def make_key(self, key: ApiKey, *, secret_sha256: str, act: AuditContext) -> ApiKey: ...

    def set_enabled(self, fingerprint: str, *, enabled: bool, act: AuditContext) -> ApiKey | None:
        """The key after the change; None when there is none."""

    def set_limits(self, fingerprint: str, limits: Mapping[str, int | None], *, act: AuditContext) -> ApiKey | None:
        """Change those that are named, as fields of ApiKey."""

    def rotate(
        self, fingerprint: str, *, secret_sha256: str, new_fingerprint: str, previous_until: datetime, act: AuditContext
    ) -> ApiKey | None:
        """Give it another secret; the one it had is good until ``previous_until``, one before that no more."""

    def admin_events(self, *, limit: int) -> tuple[AdminEvent, ...]:
        """Newest first."""
