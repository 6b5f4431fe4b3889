"""Limits requests per minute and key: one budget for reads, one for writes."""

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

_READ_METHODS = ("GET", "HEAD", "OPTIONS")
_MAX_RETRY_AFTER = 16.0  # seconds; the contract's clients wait no longer before they retry
_STORE_TIMEOUT = 1  # seconds for a remote counter store
_OUTAGE_PAUSE = 5.0  # seconds before an unreachable store is tried again: each attempt may take the whole timeout


@dataclass(frozen=True)
class RateLimitState:
    """The budget after a request. ``reset``: whole seconds until one more request is allowed."""

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
    """Requests per minute; 0 for no limit.

    ``storage_url``: memory:// counts in this process, redis://... across processes.
    """

    write: int = 60
    read: int = 600
    storage_url: str = "memory://"


class Limiter:
    """Counts requests in a moving window of 60 seconds.

    Fails open when the counter store is unreachable. Authentication is unaffected.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits
        self._window = MovingWindowRateLimiter(_open(limits.storage_url))
        self._unavailable_until = 0.0
        self._lock = threading.Lock()

    def hit_key(self, key: ApiKey, method: str) -> RateLimitState | None:
        """Count a request of a key; None if it has no limit. Raises RateLimitExceeded."""
        key_limit = key.read_per_minute if method in _READ_METHODS else key.write_per_minute
        return self._hit(f"key:{key.id}", method, key_limit)

    def hit_address(self, address: str, method: str) -> RateLimitState | None:
        """Count a request without a key; an IPv6 address counts for its /64. Raises RateLimitExceeded."""
        return self._hit(f"address:{origin_of(address)}", method, None)

    def _hit(self, identity: str, method: str, key_limit: int | None) -> RateLimitState | None:
        kind = "read" if method in _READ_METHODS else "write"
        default = self._limits.read if kind == "read" else self._limits.write
        limit = default if key_limit is None else key_limit
        if limit == 0 or time.monotonic() < self._unavailable_until:
            return None
        try:
            return self._count(RateLimitItemPerMinute(limit), kind, identity)
        except StorageError as error:
            self._pause_counting(error)
            return None

    def _pause_counting(self, error: StorageError) -> None:
        """Logs once for all requests that fail at the same time."""
        with self._lock:
            is_first = time.monotonic() >= self._unavailable_until
            self._unavailable_until = time.monotonic() + _OUTAGE_PAUSE
        if is_first:
            get_logger(__name__).error("rate limits are not counted", error=str(error.storage_error))

    def _count(self, item: RateLimitItemPerMinute, kind: str, identity: str) -> RateLimitState:
        allowed = self._window.hit(item, kind, identity)
        stats = self._window.get_window_stats(item, kind, identity)
        wait = max(0.0, stats.reset_time - time.time())
        state = RateLimitState(item.amount, stats.remaining, math.ceil(wait))
        if not allowed:
            raise RateLimitExceeded(state, min(_MAX_RETRY_AFTER, max(1.0, wait)))
        return state


class RateLimitExceeded(RateLimited):
    """``state`` becomes the RateLimit-* headers of the response."""

    def __init__(self, state: RateLimitState, retry_after: float) -> None:
        super().__init__(
            f"More than {state.limit} requests in a minute.",
            hint="Wait as long as Retry-After says.",
            retry_after=retry_after,
        )
        self.state = state


def _open(url: str) -> MemoryStorage:
    timeouts = {"socket_timeout": _STORE_TIMEOUT, "socket_connect_timeout": _STORE_TIMEOUT}
    options = {} if url.startswith("memory") else timeouts
    try:
        return storage_from_string(url, wrap_exceptions=True, **options)  # type: ignore[return-value]
    except ConfigurationError as error:
        raise InvalidRequest(
            f"Rate limits cannot be counted at this address: {error}",
            hint="Set ALPHAREEL_RATE_LIMIT_URL to memory://, or redis://host with pip install 'alphareel[redis]'.",
        ) from None
