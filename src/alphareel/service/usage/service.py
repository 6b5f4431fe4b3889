"""Usage of the service: recorded API calls, and totals over a key's jobs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.service.periodic import PeriodicTask
from alphareel.service.ports import Clock
from alphareel.service.principal import Principal
from alphareel.service.uploads.storage_quotas import StoredBytes
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.storage_quotas import StorageUsage
    from alphareel.db.usage import CallStore

MAX_DAYS = 90
MAX_EVENTS = 100
_SWEEP_SECONDS = 3600.0
_MAX_WAITING = 20_000  # calls kept while the database is down; beyond that the oldest are lost


@dataclass(frozen=True)
class ApiCall:
    """One answered request of a key. ``endpoint``: the path with names in place of IDs."""

    key_id: str
    at: datetime
    method: str
    endpoint: str
    status_code: int
    request_id: str | None = None
    job_id: str | None = None
    error_code: str | None = None


@dataclass(frozen=True)
class CallEvent:
    """A recorded call, with the model and the credits (hundredths) of its job."""

    id: int
    call: ApiCall
    model: str | None
    credits: int


@dataclass(frozen=True)
class UsageBucket:
    """Jobs of one day and model. ``credits``: hundredths that were charged."""

    day: str
    model: str
    jobs: int
    completed: int
    failed: int
    credits: int


@dataclass(frozen=True)
class KeyUsageBucket:
    """How much one key did in a period, as in UsageBucket."""

    client_id: str
    fingerprint: str
    bucket: UsageBucket


@dataclass(frozen=True)
class Summary:
    """Usage of a key in a period."""

    begin: datetime
    end: datetime
    #: By day and model, oldest first.
    buckets: tuple[UsageBucket, ...]
    #: Counted by whole hours.
    requests: int
    #: Now.
    stored: StoredBytes


class UnstorableCall(Exception):
    """The database rejects the values of a call; a retry cannot succeed."""


class UsageService:
    """Usage as keys and operators see it."""

    def __init__(self, store: CallStore, storage: StorageUsage, *, clock: Clock) -> None:
        self._store = store
        self._storage = storage
        self._clock = clock

    def summary(self, principal: Principal, *, days: int) -> Summary:
        """Usage in the last ``days`` (1-90), from a full hour on. Raises InvalidRequest."""
        _check("days", days, MAX_DAYS)
        key_id = principal.require_key().id
        now, begin = self._clock.now(), self._begin(days)
        buckets = self._store.job_usage(key_id, since=begin)
        requests = self._store.count_calls(key_id, since=begin)
        return Summary(begin, now, buckets, requests, self._storage.stored(key_id))

    def by_key(self, *, days: int, client_id: str | None) -> tuple[KeyUsageBucket, ...]:
        """Usage of every key, or of a client's keys, in the last ``days`` (1-90). Raises InvalidRequest."""
        _check("days", days, MAX_DAYS)
        return self._store.key_usage(client_id, since=self._begin(days))

    def _begin(self, days: int) -> datetime:
        return (self._clock.now() - timedelta(days=days)).replace(minute=0, second=0, microsecond=0)

    def events(self, principal: Principal, *, limit: int) -> tuple[CallEvent, ...]:
        """The latest calls, newest first; ``limit`` 1-100. Raises InvalidRequest."""
        _check("limit", limit, MAX_EVENTS)
        return self._store.call_events(principal.require_key().id, limit=limit)


class CallLog:
    """Buffers calls in memory and writes them in batches, so that requests need not wait for the database."""

    def __init__(self, store: CallStore, *, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._waiting: deque[ApiCall] = deque(maxlen=_MAX_WAITING)
        self._writing = threading.Lock()

    def record(self, key_id: str, **facts: Any) -> None:
        """Record a request; ``facts`` are the other fields of ApiCall. Safe to call from any thread; never blocks."""
        self._waiting.append(ApiCall(key_id, self._clock.now(), **facts))

    def flush(self) -> None:
        """Write the buffered calls. Raises Unavailable, and then keeps them.

        A call that the database rejects is dropped; the others of its batch are written.
        """
        with self._writing:
            batches = [[self._waiting.popleft() for _ in range(len(self._waiting))]]
            try:
                while batches:
                    batches[:1] = self._write(batches[0])
            except Exception:
                self._waiting.extendleft(call for batch in reversed(batches) for call in reversed(batch))
                raise

    def _write(self, batch: list[ApiCall]) -> list[list[ApiCall]]:
        """Batches left to write: none, or the two halves of a batch with a call that the database rejects."""
        try:
            if batch:
                self._store.add_calls(batch)
        except UnstorableCall:
            if len(batch) > 1:
                middle = len(batch) // 2
                return [batch[:middle], batch[middle:]]
            get_logger(__name__).error("call record left out", call=repr(batch[0]), exc_info=True)
        return []


class UsageFlusher:
    """Background threads of the API process: write recorded calls every other second, run each sweep every hour."""

    def __init__(
        self, flush: Callable[[], None], sweeps: Mapping[str, Callable[[], None]], *, seconds: float = 2.0
    ) -> None:
        self._flush = PeriodicTask("flush", flush, seconds=seconds, run_at_start=False)
        self._sweeps = [PeriodicTask(name, sweep, seconds=_SWEEP_SECONDS) for name, sweep in sweeps.items()]

    def start(self) -> None:
        for task in (self._flush, *self._sweeps):
            task.start()

    def stop(self) -> None:
        """Write the last calls and end."""
        for task in (self._flush, *self._sweeps):
            task.stop()
        self._flush.run_once()


def _check(field: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        message = f"must be between 1 and {most}; got {value}."
        raise InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])
