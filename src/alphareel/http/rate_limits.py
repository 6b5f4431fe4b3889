"""Limits requests per key in two token buckets, one for reads and one for writes."""

import math
import threading
import time
from dataclasses import dataclass

from alphareel.domain.errors import InvalidRequest, RateLimited, Unavailable
from alphareel.http.origins import origin_of
from alphareel.http.token_bucket import Buckets, BucketState, MemoryBuckets, RedisBuckets
from alphareel.service.api_keys.models import ApiKey
from alphareel.service.settings import RateLimitSettings
from alphareel.telemetry.logging import get_logger

READ_METHODS = ("GET", "HEAD", "OPTIONS")
JOB_READS = 60
"""Reads per minute of each unfinished job, beside those of its key: twice what a client needs that polls every 2 s."""

TUS_REQUESTS = 600
"""Requests per minute of each resumable upload, beside those of its key: clients send large files in many."""
RUNNER_REQUESTS = 1200
"""Requests per minute of each runner: a renewal every 5 s in each of 64 slots, and files."""

_OUTAGE_PAUSE = 5.0  # seconds before an unreachable store is tried again: each attempt may take the whole timeout


@dataclass(frozen=True)
class RateLimitState:
    """The budget after a request. ``reset``: whole seconds until one more request is allowed than now."""

    limit: int
    remaining: int
    reset: int

    @classmethod
    def of(cls, bucket: BucketState) -> "RateLimitState":
        return cls(bucket.limit, bucket.remaining, math.ceil(bucket.seconds_to_next))

    def headers(self) -> dict[str, str]:
        return {
            "RateLimit-Limit": str(self.limit),
            "RateLimit-Remaining": str(self.remaining),
            "RateLimit-Reset": str(self.reset),
        }


class Limiter:
    """A bucket holds the requests of a minute and refills steadily, so after a burst requests are allowed one by one.

    Fails open when the counter store is unreachable. Authentication is unaffected.
    """

    def __init__(self, limits: RateLimitSettings, *, shared: Buckets | None = None) -> None:
        """``shared``: of the processes of this machine; unused where the settings name a store."""
        self._limits = limits
        self._buckets = _open(limits.storage_url, shared)
        self._unavailable_until = 0.0
        self._lock = threading.Lock()

    def hit_key(
        self, key: ApiKey, method: str, *, unfinished_job: str | None = None, tus_upload: str | None = None
    ) -> RateLimitState | None:
        """Count a request of a key; None if it has no limit. Raises RateLimitExceeded.

        ``unfinished_job``, ``tus_upload``: the ID of the caller's job that the request reads, or of the upload that it
        is about, which have budgets of their own.
        """
        key_limit = key.read_per_minute if method in READ_METHODS else key.write_per_minute
        own = (f"tus:{tus_upload}", TUS_REQUESTS) if tus_upload is not None else _job_budget(unfinished_job)
        return self._hit(f"key:{key.id}", method, key_limit, own)

    def hit_address(self, address: str, method: str, *, unfinished_job: str | None = None) -> RateLimitState | None:
        """Count a request without a key; an IPv6 address counts for its /64. Raises RateLimitExceeded."""
        return self._hit(f"address:{origin_of(address)}", method, None, _job_budget(unfinished_job))

    def hit_runner(self, runner_id: str, method: str) -> RateLimitState | None:
        """Count a request of a runner. Raises RateLimitExceeded."""
        return self._hit(f"runner:{runner_id}", method, RUNNER_REQUESTS, None)

    def peek_address(self, address: str, method: str) -> RateLimitState | None:
        """The budget of an address, without counting; None if it has no limit. Never waits for a remote store."""
        limit = self._default(method)
        if limit == 0 or self._is_unavailable():
            return None
        return RateLimitState.of(self._buckets.peek(_bucket(f"address:{origin_of(address)}", method), limit))

    def _hit(
        self, identity: str, method: str, key_limit: int | None, own: tuple[str, int] | None
    ) -> RateLimitState | None:
        limit = self._default(method) if key_limit is None else key_limit
        if limit == 0 or self._is_unavailable():
            return None
        try:
            if own is not None:
                allowed, bucket = self._buckets.take(*own)
                if allowed:
                    return RateLimitState.of(bucket)
            allowed, bucket = self._buckets.take(_bucket(identity, method), limit)
        except Unavailable as error:
            self._pause_counting(error)
            return None
        state = RateLimitState.of(bucket)
        if not allowed:
            raise RateLimitExceeded(state, bucket.seconds_to_next)
        return state

    def _default(self, method: str) -> int:
        return self._limits.read if method in READ_METHODS else self._limits.write

    def _is_unavailable(self) -> bool:
        return time.monotonic() < self._unavailable_until

    def _pause_counting(self, error: Exception) -> None:
        """Logs once for all requests that fail at the same time."""
        with self._lock:
            is_first = not self._is_unavailable()
            self._unavailable_until = time.monotonic() + _OUTAGE_PAUSE
        if is_first:
            get_logger(__name__).error("rate limits are not counted", error=str(error))


class RateLimitExceeded(RateLimited):
    """``state`` becomes the RateLimit-* headers of the response."""

    def __init__(self, state: RateLimitState, retry_after: float) -> None:
        super().__init__(
            f"More than {state.limit} requests in a minute.",
            hint="Wait as long as Retry-After says.",
            retry_after=retry_after,
        )
        self.state = state


def _job_budget(unfinished_job: str | None) -> tuple[str, int] | None:
    return None if unfinished_job is None else (f"job:{unfinished_job}", JOB_READS)


def _bucket(identity: str, method: str) -> str:
    return f"{'read' if method in READ_METHODS else 'write'}:{identity}"


def _open(url: str, shared: Buckets | None) -> Buckets:
    if url.startswith("memory://"):
        return shared or MemoryBuckets()
    try:
        return RedisBuckets(url)
    except (ImportError, ValueError) as error:
        raise InvalidRequest(
            f"Rate limits cannot be counted at this address: {error}",
            hint="Set ALPHAREEL_RATE_LIMIT_URL to memory://, or redis://host with pip install 'alphareel[redis]'.",
        ) from None
