"""Limits how many wrong API keys and admin tokens one address may send.

Counted in process memory, so that an outage of the database or of Redis cannot disable it.
"""

import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from alphareel.domain.errors import RateLimited
from alphareel.http.origins import origin_of

_MAX_RETRY_AFTER = 16.0  # seconds


class AuthFailureLimiter:
    """``max_per_minute``: failures per minute and address; 0 for no limit."""

    def __init__(self, max_per_minute: int) -> None:
        self._item = RateLimitItemPerMinute(max_per_minute) if max_per_minute else None
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def check(self, kind: str, address: str) -> None:
        """Call before comparing a secret. Raises RateLimited after too many failures of this kind."""
        if self._item is not None and not self._window.test(self._item, kind, origin_of(address)):
            raise self._rate_limited(kind, address)

    def record_failure(self, kind: str, address: str) -> None:
        """Count one failure. Raises RateLimited beyond the limit."""
        if self._item is not None and not self._window.hit(self._item, kind, origin_of(address)):
            raise self._rate_limited(kind, address)

    def _rate_limited(self, kind: str, address: str) -> RateLimited:
        assert self._item is not None
        reset = self._window.get_window_stats(self._item, kind, origin_of(address)).reset_time
        return RateLimited(
            f"Too many wrong {kind}s came from this address.",
            hint="Wait as long as Retry-After says, then send the right one.",
            retry_after=min(_MAX_RETRY_AFTER, max(1.0, reset - time.time())),
        )
