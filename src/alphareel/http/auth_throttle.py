"""Wrong keys and admin tokens are counted by the address that they come from, so that nobody can go on guessing.

Counted in the memory of each process: a guard that a database elsewhere could switch off would be none.
"""

import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from alphareel.domain.errors import RateLimited
from alphareel.http.origins import origin_of

_LONGEST_PAUSE = 16.0


class AuthFailureLimiter:
    """``most``: wrong ones a minute from one address; 0 for any number."""

    def __init__(self, most: int) -> None:
        self._item = RateLimitItemPerMinute(most) if most else None
        self._window = MovingWindowRateLimiter(MemoryStorage())

    def check(self, kind: str, address: str) -> None:
        """Raises RateLimited where there were too many of this kind; asked before a secret is compared."""
        if self._item is not None and not self._window.test(self._item, kind, origin_of(address)):
            raise self._refusal(kind, address)

    def note(self, kind: str, address: str) -> None:
        """One more was wrong. Raises RateLimited beyond the limit."""
        if self._item is not None and not self._window.hit(self._item, kind, origin_of(address)):
            raise self._refusal(kind, address)

    def _refusal(self, kind: str, address: str) -> RateLimited:
        assert self._item is not None
        until = self._window.get_window_stats(self._item, kind, origin_of(address)).reset_time
        return RateLimited(
            f"Too many wrong {kind}s came from this address.",
            hint="Wait as long as Retry-After says, and send the right one.",
            retry_after=min(_LONGEST_PAUSE, max(1.0, until - time.time())),
        )
