"""Token buckets that refill within a minute: in this process, in a file of several processes, or in Redis.

The generic cell rate algorithm (ITU-T I.371, annex A): a bucket is one number, the time at which it is full again.
That time is at most a minute ahead, whatever the limit, so a changed limit applies at once.
"""

import fcntl
import hashlib
import mmap
import os
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from alphareel.domain.errors import Unavailable

WINDOW = 60.0  # seconds in which an empty bucket refills
_TIMEOUT = 1  # seconds for Redis to answer
_TOLERANCE = 1e-6  # of a token: a client that waits exactly as long as it was told finds one

_TAKE = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local token = tonumber(ARGV[1])
local full_at = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local allowed = full_at + token - now <= tonumber(ARGV[2]) and 1 or 0
if allowed == 1 then
  full_at = full_at + token
  redis.call('SET', KEYS[1], string.format('%.6f', full_at), 'PX', math.ceil((full_at - now) * 1000) + 1)
end
return {allowed, string.format('%.6f', full_at - now)}
"""


@dataclass(frozen=True)
class BucketState:
    """A bucket of ``limit`` tokens that is full in ``seconds_to_full``."""

    limit: int
    seconds_to_full: float

    @property
    def remaining(self) -> int:
        """Whole tokens left."""
        return max(0, int((WINDOW - self.seconds_to_full) / self._token + _TOLERANCE))

    @property
    def seconds_to_next(self) -> float:
        """Until there is one token more; 0 if the bucket is full."""
        next_one = self.seconds_to_full - WINDOW + (self.remaining + 1) * self._token
        return max(0.0, min(next_one, self.seconds_to_full))

    @property
    def _token(self) -> float:
        return WINDOW / self.limit


class Buckets(Protocol):
    """Buckets by name. A bucket that was never used is full."""

    def take(self, name: str, limit: int) -> tuple[bool, BucketState]:
        """Take one token if there is one. Thread-safe and, in Redis, atomic for all processes."""

    def peek(self, name: str, limit: int) -> BucketState:
        """The state as this process knows it; never waits."""


class MemoryBuckets:
    """Counts in this process. Buckets that are full again are forgotten."""

    def __init__(self, *, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._full_at: dict[str, float] = {}
        self._sweep_at = 0.0

    def take(self, name: str, limit: int) -> tuple[bool, BucketState]:
        token = WINDOW / limit
        with self._lock:
            now = self._now()
            full_at = max(self._full_at.get(name, now), now)
            allowed = full_at + token - now <= WINDOW + token * _TOLERANCE
            if allowed:
                full_at += token
                self._store(name, full_at, now)
        return allowed, BucketState(limit, full_at - now)

    def peek(self, name: str, limit: int) -> BucketState:
        with self._lock:
            return BucketState(limit, max(0.0, self._full_at.get(name, 0.0) - self._now()))

    def note(self, name: str, state: BucketState) -> None:
        """Take over what another store counted."""
        with self._lock:
            now = self._now()
            self._store(name, now + state.seconds_to_full, now)

    def _store(self, name: str, full_at: float, now: float) -> None:
        if now >= self._sweep_at:
            self._full_at = {each: at for each, at in self._full_at.items() if at > now}
            self._sweep_at = now + WINDOW
        self._full_at[name] = full_at


class SharedBuckets:
    """Counts in a file that several processes of this machine map into their memory, and that no restart survives.

    A bucket is a slot of 16 bytes: a hash of its name, and the time at which it is full again. A name has one of 8
    slots; when none is free, the bucket that is full soonest is forgotten. The kernel's record locks keep
    processes apart and end with a process that dies.
    """

    _SETS, _WAYS = 8192, 8
    _SLOT = struct.Struct("=8sd")

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        size = self._SETS * self._WAYS * self._SLOT.size
        os.ftruncate(self._descriptor, size)
        self._memory = mmap.mmap(self._descriptor, size)

    def take(self, name: str, limit: int) -> tuple[bool, BucketState]:
        token = WINDOW / limit
        with self._bucket(name) as (place, stored_full_at):
            now = time.monotonic()  # of the machine: the same in all processes
            full_at = min(max(stored_full_at, now), now + WINDOW)
            allowed = full_at + token - now <= WINDOW + token * _TOLERANCE
            if allowed:
                full_at += token
                self._SLOT.pack_into(self._memory, place, _hash_of(name), full_at)
        return allowed, BucketState(limit, full_at - now)

    def peek(self, name: str, limit: int) -> BucketState:
        with self._bucket(name) as (_, full_at):
            return BucketState(limit, min(WINDOW, max(0.0, full_at - time.monotonic())))

    @contextmanager
    def _bucket(self, name: str) -> Iterator[tuple[int, float]]:
        """The slot of a bucket, or the one to use for it, and when the bucket is full again. Locked in the context."""
        key = _hash_of(name)
        width = self._WAYS * self._SLOT.size
        start = int.from_bytes(key[:4]) % self._SETS * width
        with self._lock:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, width, start)
            try:
                places = range(start, start + width, self._SLOT.size)
                slots = [(place, *self._SLOT.unpack_from(self._memory, place)) for place in places]
                place, owner, full_at = next(
                    (slot for slot in slots if slot[1] == key), min(slots, key=lambda slot: slot[2])
                )
                yield place, full_at if owner == key else 0.0
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, width, start)


def _hash_of(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


class RedisBuckets:
    """Counts in Redis, by its clock. Needs the extra ``redis``: raises ImportError, and ValueError for a bad URL."""

    def __init__(self, url: str) -> None:
        import redis  # noqa: PLC0415  # an extra

        client = redis.Redis.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT)
        self._take = client.register_script(_TAKE)
        self._errors = redis.RedisError
        self._seen = MemoryBuckets()

    def take(self, name: str, limit: int) -> tuple[bool, BucketState]:
        """As for ``Buckets``. Raises Unavailable when Redis does not answer."""
        token = WINDOW / limit
        arguments = [token, WINDOW + token * _TOLERANCE]
        try:
            allowed, seconds = self._take(keys=[f"alphareel:bucket:{name}"], args=arguments)
        except self._errors as error:
            raise Unavailable(f"Redis does not answer: {error}") from error
        state = BucketState(limit, float(seconds))
        self._seen.note(name, state)
        return bool(allowed), state

    def peek(self, name: str, limit: int) -> BucketState:
        return self._seen.peek(name, limit)
