"""Limits how many wrong API keys and admin tokens one address may send.

Counted in the memory of this process, or of all on this machine, so that an outage of the database or of Redis cannot
disable it.
"""

from alphareel.domain.errors import RateLimited
from alphareel.http.origins import origin_of
from alphareel.http.token_bucket import Buckets, BucketState, MemoryBuckets


class AuthFailureLimiter:
    """``max_per_minute``: failures per minute and address; 0 for no limit."""

    def __init__(self, max_per_minute: int, *, buckets: Buckets | None = None) -> None:
        self._limit = max_per_minute
        self._buckets = buckets or MemoryBuckets()

    def check(self, kind: str, address: str) -> None:
        """Call before comparing a secret. Raises RateLimited after too many failures of this kind."""
        if self._limit:
            bucket = self._buckets.peek(_bucket(kind, address), self._limit)
            if not bucket.remaining:
                raise _rate_limited(kind, bucket)

    def record_failure(self, kind: str, address: str) -> None:
        """Count one failure. Raises RateLimited beyond the limit."""
        if self._limit:
            allowed, bucket = self._buckets.take(_bucket(kind, address), self._limit)
            if not allowed:
                raise _rate_limited(kind, bucket)


def _bucket(kind: str, address: str) -> str:
    return f"{kind}:{origin_of(address)}"


def _rate_limited(kind: str, bucket: BucketState) -> RateLimited:
    return RateLimited(
        f"Too many wrong {kind}s came from this address.",
        hint="Wait as long as Retry-After says, then send the right one.",
        retry_after=bucket.seconds_to_next,
    )
