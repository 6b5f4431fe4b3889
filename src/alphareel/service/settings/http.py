"""The HTTP server: who may connect, with which key, and how often."""

import ipaddress
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from alphareel.service.settings.group import MIB, MIN_SECRET, Networks, SettingsGroup, Size

_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


class HttpSettings(SettingsGroup):
    """HTTP server."""

    host: str = Field(
        default="127.0.0.1", validation_alias="HOST", description="Address to listen on; 0.0.0.0 for all interfaces."
    )
    port: int = Field(
        default=8080, ge=0, le=65535, validation_alias="PORT", description="Port to listen on; 0 picks a free one."
    )
    processes: int = Field(
        default=1,
        ge=1,
        le=64,
        validation_alias="API_PROCESSES",
        description="Processes that answer requests. More than one: each is replaced when it dies or hangs.",
    )
    public_url: str | None = Field(
        default=None,
        validation_alias="PUBLIC_URL",
        description="Public base URL of the service (https://host/prefix). Unset: derived from each request.",
    )
    cdn_url: str | None = Field(
        default=None,
        validation_alias="CDN_URL",
        description="Base URL of a CDN that fetches /files/ from this service; links of files start with it.",
    )
    trusted_proxies: Networks = Field(
        default=_LOOPBACK,
        validation_alias="TRUSTED_PROXIES",
        description=(
            "Comma-separated networks of proxies whose X-Forwarded-For is trusted and whose connections are "
            "not limited."
        ),
    )
    connections_per_address: int = Field(
        default=128,
        ge=0,
        validation_alias="CONNECTIONS_PER_ADDRESS",
        description="Concurrent connections per client address; 0 for no limit.",
    )
    min_body_rate: Size = Field(
        default=16 * 1024,
        ge=0,
        validation_alias="MIN_BODY_RATE",
        description=(
            "Minimum average rate of a request body after its first minute, in bytes per second; 0 for no minimum."
        ),
    )
    min_read_rate: Size = Field(
        default=16 * 1024,
        ge=0,
        validation_alias="MIN_READ_RATE",
        description=(
            "Minimum average rate at which a client must read a response after its first minute, in bytes "
            "per second; 0 for no minimum."
        ),
    )
    studio: bool = Field(default=True, validation_alias="STUDIO", description="Serve the studio, the web pages at /.")
    legacy_routes: bool = Field(
        default=True,
        validation_alias="LEGACY_ROUTES",
        description="Serve the legacy /api/* routes. Off: only /api/pricing, and /api/download with a key, remain.",
    )
    legacy_needs_key: bool = Field(
        default=False,
        validation_alias="LEGACY_NEEDS_KEY",
        description="Require an API key on the /api/* routes that create or show jobs.",
    )
    #: Longest time without any data of a body.
    idle_seconds: float = 60.0
    #: The minimum rates apply after this time.
    grace_seconds: float = 60.0
    max_json_bytes: int = MIB
    #: How long the rest of a refused body is read, so that the client sees the response.
    drain_seconds: float = 60.0
    #: Concurrent event streams of one key in this process.
    streams_per_key: int = 10

    @field_validator("public_url", "cdn_url")
    @classmethod
    def _is_http_url(cls, value: str | None) -> str | None:
        if value is None:
            return None
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("must be an http or https URL without a query")
        if "@" in parts.netloc or parts.port == 0 or any(c.isspace() for c in value):
            raise ValueError("must be an http or https URL without a user name and without spaces")
        return value.rstrip("/")


class AccessSettings(SettingsGroup):
    """Access."""

    api_key: SecretStr | None = Field(
        default=None,
        validation_alias="API_KEY",
        description=(
            "An API key of any form that is always valid. Unset: a key is created and shown at the first start."
        ),
    )
    admin_token: SecretStr | None = Field(
        default=None,
        validation_alias="ADMIN_TOKEN",
        description=(
            "Grants access to /v1/admin/* as X-Admin-Token; at least 8 characters. Unset: those routes are disabled."
        ),
    )
    metrics_open: bool = Field(
        default=False, validation_alias="METRICS_OPEN", description="Serve /metrics without the admin token."
    )

    @field_validator("api_key", "admin_token")
    @classmethod
    def _long_enough(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None and not MIN_SECRET <= len(value.get_secret_value()) <= 1000:
            raise ValueError(f"must have between {MIN_SECRET} and 1000 characters")
        if value is not None and value.get_secret_value() != value.get_secret_value().strip():
            raise ValueError("must not begin or end with a space or a line break, which no header can send")
        return value


class RateLimitSettings(SettingsGroup):
    """Rate limits."""

    write: int = Field(
        default=60,
        ge=0,
        validation_alias="WRITE_PER_MINUTE",
        description="Write requests per minute and key; 0 for no limit.",
    )
    read: int = Field(
        default=600,
        ge=0,
        validation_alias="READ_PER_MINUTE",
        description="Read requests per minute and key; 0 for no limit.",
    )
    auth_failures: int = Field(
        default=30,
        ge=0,
        validation_alias="GUESSES_PER_MINUTE",
        description="Wrong API keys, and wrong admin tokens, per client address and minute; 0 for no limit.",
    )
    storage_url: str = Field(
        default="memory://",
        validation_alias="RATE_LIMIT_URL",
        description="Storage of request counts: memory:// for one service, redis://host/0 for several machines.",
    )

    @field_validator("storage_url")
    @classmethod
    def _known_scheme(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if scheme not in ("memory", "redis", "rediss") or not separator:
            raise ValueError("must begin with memory://, redis:// or rediss://")
        return value
