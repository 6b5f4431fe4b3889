"""Settings of the HTTP layer, filled from ``server.settings``."""

from dataclasses import dataclass, field

from alphareel.http.rate_limits import RateLimits

MIB = 1024 * 1024


@dataclass(frozen=True)
class BodyTimeouts:
    """How slowly a client may send or receive a body.

    ``idle_seconds``: longest time without any data. ``bytes_per_second``: minimum average rate, 0 for none; it
    applies after ``grace_seconds``. Together they bound the time for a body of any size.
    """

    idle_seconds: float = 60.0
    bytes_per_second: int = 16 * 1024
    grace_seconds: float = 60.0

    def is_too_slow(self, waited: float, transferred: int) -> bool:
        """Whether ``transferred`` bytes in ``waited`` seconds are below the minimum rate."""
        return self.bytes_per_second > 0 and waited > self.grace_seconds + transferred / self.bytes_per_second


@dataclass(frozen=True)
class HttpConfig:
    """Settings of the HTTP layer.

    ``public_url``: how clients reach this server ('https://host/prefix'); None derives it from each request.
    ``max_upload_bytes``: size limit of an uploaded file. ``max_side``, ``max_seconds``: clip limits, for display only.
    ``studio``: serve the web pages at ``/``.
    ``legacy_routes``: serve ``/api/*``; these need no key unless ``legacy_needs_key``.
    ``show_pending``: report queued jobs as ``pending`` instead of ``processing``.
    ``body_timeouts``: how slowly a request body may arrive. ``drain_seconds``: how long the rest of a refused body
    is read so that the client sees the response. ``admin_token``: grants access to ``/v1/admin/*``; None disables it.
    ``rate_limits``: requests per minute. ``metrics_open``: /metrics needs no token.
    ``auth_failures_per_minute``: wrong keys and wrong admin tokens per address; 0 for no limit.
    ``ready_with_worker``: /readyz requires a live worker.
    ``streams_per_key``: concurrent event streams of one key in this process.
    """

    version: str = "0"
    public_url: str | None = None
    max_upload_bytes: int = 500 * MIB
    max_side: int = 4096
    max_seconds: float = 4 * 3600.0
    max_json_bytes: int = MIB
    studio: bool = True
    legacy_routes: bool = True
    legacy_needs_key: bool = False
    show_pending: bool = False
    body_timeouts: BodyTimeouts = field(default_factory=BodyTimeouts)
    drain_seconds: float = 60.0
    admin_token: str | None = field(default=None, repr=False)
    rate_limits: RateLimits = field(default_factory=RateLimits)
    auth_failures_per_minute: int = 30
    metrics_open: bool = False
    ready_with_worker: bool = False
    streams_per_key: int = 10
