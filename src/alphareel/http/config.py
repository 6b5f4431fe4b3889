"""What the wire needs to be told: a frozen value, filled by the composition root."""

from dataclasses import dataclass, field

from alphareel.http.rate_limits import RateLimits

MIB = 1024 * 1024


@dataclass(frozen=True)
class BodyTimeouts:
    """How slowly a body may come or be taken: no silence of ``idle_seconds``, and ``bytes_per_second`` on average.

    0: any rate. The average counts from ``grace_seconds`` on. So a body of any size has an end.
    """

    idle_seconds: float = 60.0
    bytes_per_second: int = 16 * 1024
    grace_seconds: float = 60.0

    def is_over(self, waited: float, came: int) -> bool:
        """After ``waited`` seconds, in which ``came`` bytes did."""
        return self.bytes_per_second > 0 and waited > self.grace_seconds + came / self.bytes_per_second


@dataclass(frozen=True)
class HttpConfig:
    """Settings of the wire.

    ``public_url``: how clients reach this server ('https://host/prefix'); None takes it from each request.
    ``max_upload_bytes``: of the file itself. ``max_side``, ``max_seconds``: of a clip, to be shown.
    ``legacy_routes``: serve ``/api/*``, which ask for no key unless ``legacy_needs_key``.
    ``show_pending``: report queued jobs as ``pending`` instead of ``processing``.
    ``patience``: how slowly a body may come. ``drain_seconds``: how long the rest of a refused body is
    read, so that its sender sees the answer. ``admin_token``: opens ``/v1/admin/*``; None shuts them.
    ``rates``: how many requests a minute a caller may make. ``metrics_open``: /metrics asks for no token.
    ``guesses_per_minute``: wrong keys and wrong admin tokens that one address may send; 0 for any number.
    ``ready_with_worker``: /readyz asks for a worker that beats.
    ``streams_per_key``: event streams that a key may have open in this process.
    """

    version: str = "0"
    public_url: str | None = None
    max_upload_bytes: int = 500 * MIB
    max_side: int = 4096
    max_seconds: float = 4 * 3600.0
    max_json_bytes: int = MIB
    legacy_routes: bool = True
    legacy_needs_key: bool = False
    show_pending: bool = False
    patience: BodyTimeouts = field(default_factory=BodyTimeouts)
    drain_seconds: float = 60.0
    admin_token: str | None = field(default=None, repr=False)
    rates: RateLimits = field(default_factory=RateLimits)
    guesses_per_minute: int = 30
    metrics_open: bool = False
    ready_with_worker: bool = False
    streams_per_key: int = 10
