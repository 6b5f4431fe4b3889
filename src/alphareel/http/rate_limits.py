"""How many requests a minute a caller may make: two budgets each, one for reading and one for everything else."""

import math
import threading
import time
from dataclasses import dataclass

from limits import RateLimitItemPerMinute
from limits.errors import ConfigurationError, StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from alphareel.domain.errors import InvalidRequest, RateLimited
from alphareel.http.origins import origin_of
from alphareel.service.api_keys.models import ApiKey
from alphareel.telemetry.logging import get_logger

_READING = ("GET", "HEAD", "OPTIONS")
_LONGEST_PAUSE = 16.0  # seconds; clients of the contract wait no longer before they try again
_PATIENCE = 1  # seconds for an answer of a store of counts that is elsewhere
_UNCOUNTED = 5.0  # seconds before a store that was away is asked again: each question may cost all the patience


@dataclass(frozen=True)
class RateLimitState:
    """What is left of a minute's requests. ``reset``: whole seconds until there is one more."""

    limit: int
    remaining: int
    reset: int

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }


@dataclass(frozen=True)
class RateLimits:
    """Requests a minute; 0 for no limit. ``storage_url``: memory:// counts in this process, redis://... for many."""

    write: int = 60
    read: int = 600
    storage_url: str = "memory://"


class Limiter:
    """Counts requests in the last 60 seconds.

    When the store of counts is away everybody may pass: limits share a service out, and one that refuses everybody
    shares nothing out. Who may enter at all is not decided here.
    """

    def __init__(self, rates: RateLimits) -> None:
        self._rates = rates
        self._window = MovingWindowRateLimiter(_open(rates.storage_url))
        self._away_until = 0.0
        self._lock = threading.Lock()

    def hit_key(self, key: ApiKey, method: str) -> RateLimitState | None:
        """Count a request of a key; None where there is no limit. Raises Exceeded."""
        own = key.read_per_minute if method in _READING else key.write_per_minute
        return self._spend(f"key:{key.id}", method, own)

    def hit_address(self, address: str, method: str) -> RateLimitState | None:
        """Count a request of somebody without a key; an IPv6 address counts for its /64."""
        return self._spend(f"address:{origin_of(address)}", method, None)

    def _spend(self, who: str, method: str, own: int | None) -> RateLimitState | None:
        kind = "read" if method in _READING else "write"
        most = own if own is not None else (self._rates.read if kind == "read" else self._rates.write)
        if most == 0 or time.monotonic() < self._away_until:
            return None
        try:
            return self._count(RateLimitItemPerMinute(most), kind, who)
        except StorageError as error:
            self._let_pass(error)
            return None

    def _let_pass(self, error: StorageError) -> None:
        """Told once for all the requests that met it at the same time."""
        with self._lock:
            fresh = time.monotonic() >= self._away_until
            self._away_until = time.monotonic() + _UNCOUNTED
        if fresh:
            get_logger(__name__).error("rate limits are not counted", error=str(error.storage_error))

    def _count(self, item: RateLimitItemPerMinute, kind: str, who: str) -> RateLimitState:
        fits = self._window.hit(item, kind, who)
        found = self._window.get_window_stats(item, kind, who)
        pause = max(0.0, found.reset_time - time.time())
        budget = RateLimitState(item.amount, found.remaining, math.ceil(pause))
        if not fits:
            raise RateLimitExceeded(budget, min(_LONGEST_PAUSE, max(1.0, pause)))
        return budget


class RateLimitExceeded(RateLimited):
    """``budget`` is what the answer's headers tell."""

    def __init__(self, budget: RateLimitState, pause: float) -> None:
        super().__init__(
            f"More than {budget.limit} requests in a minute.",
            hint="Wait as long as Retry-After says.",
            retry_after=pause,
        )
        self.budget = budget


def _open(url: str) -> MemoryStorage:
    patience = {} if url.startswith("memory") else {"socket_timeout": _PATIENCE, "socket_connect_timeout": _PATIENCE}
    try:
        return storage_from_string(url, wrap_exceptions=True, **patience)  # type: ignore[return-value]
    except ConfigurationError as error:
        raise InvalidRequest(
            f"Rate limits cannot be counted at this address: {error}",
            hint="Set ALPHAREEL_RATE_LIMIT_URL to memory://, or redis://host with pip install 'alphareel[redis]'.",
        ) from None
