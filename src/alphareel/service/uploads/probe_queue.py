"""Runs the inspections of uploaded files: a few at a time, the rest in a bounded queue, with fair turns.

An inspection runs a child process for up to some seconds, so it must not block the threads that serve requests:
``submit`` returns a future.
"""

import math
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from alphareel.domain.errors import QueueFull, TooManyUploads
from alphareel.service.settings import ProbeSettings

T = TypeVar("T")

_HINT = "Wait as long as Retry-After says."
_DEFAULT_SECONDS = 3.0  # per probe, until some were measured
_MARGIN = 1.5  # of promised over expected waiting time
_MAX_PAUSE_SECONDS = 600.0
_EVERYBODY = ""
_MAX_PROMISES = 10_000


@dataclass(frozen=True)
class Uploader:
    """Whose uploads count together: those of a key, or of an address without a key."""

    key_id: str | None
    address: str = ""

    @property
    def name(self) -> str:
        return f"key:{self.key_id}" if self.key_id is not None else f"address:{self.address}"


@dataclass(frozen=True, eq=False)
class _Probe:
    uploader: Uploader
    work: Callable[[], Any]
    future: "Future[Any]"


class ProbeQueue:
    """Thread-safe. ``submit`` never blocks; canceling a future before its turn frees its slot in the queue."""

    def __init__(self, settings: ProbeSettings | None = None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings or ProbeSettings()
        self._now = now
        self._threads = ThreadPoolExecutor(self._settings.slots, thread_name_prefix="probe")
        self._lock = threading.RLock()  # a future that is cancelled calls back on the thread that cancels it
        self._waiting: OrderedDict[str, deque[_Probe]] = OrderedDict()  # the caller whose turn is next comes first
        self._running: Counter[Uploader] = Counter()
        self._usual_seconds = _DEFAULT_SECONDS
        self._promised: dict[str, deque[float]] = {}

    def check(self, uploader: Uploader) -> None:
        """Raises what ``submit`` would raise now; called before the body of an upload is read."""
        with self._lock:
            self._check(uploader)

    def submit(self, uploader: Uploader, work: Callable[[], T]) -> "Future[T]":
        """Queue ``work``. Raises TooManyUploads, QueueFull with an estimated ``retry_after``."""
        probe = _Probe(uploader, work, Future())
        with self._lock:
            self._check(uploader)
            self._waiting.setdefault(uploader.name, deque()).append(probe)
            self._start_next()
        probe.future.add_done_callback(partial(self._drop_cancelled, probe))
        return probe.future

    def _check(self, uploader: Uploader) -> None:
        settings = self._settings
        if len(self._waiting.get(uploader.name, ())) >= settings.queue_per_caller:
            others = sum(1 for name in self._waiting if name != uploader.name)
            slots = min(settings.slots_per_caller, max(1.0, settings.slots / (1 + others)))
            whose = "address" if uploader.key_id is None else "key"
            raise TooManyUploads(
                f"As many uploads of this {whose} wait to be examined as may wait ({settings.queue_per_caller}).",
                hint=_HINT,
                retry_after=self._retry_after(uploader.name, slots, settings.queue_per_caller),
            )
        if sum(map(len, self._waiting.values())) >= settings.queue:
            raise QueueFull(
                "As many uploads wait to be examined as this server takes.",
                hint=_HINT,
                retry_after=self._retry_after(_EVERYBODY, settings.slots, settings.queue),
            )

    def _retry_after(self, name: str, slots: float, places: int) -> float:
        """Seconds until a slot is free for this caller, after all callers that got such a time before.

        They return in whole seconds, so each second is given to no more callers than there are ``places`` in the queue.
        """
        now = self._now()
        for known in list(self._promised):
            promises = self._promised[known]
            while promises and promises[0] <= now:
                promises.popleft()
            if not promises:
                del self._promised[known]
        mine = self._promised.setdefault(name, deque(maxlen=_MAX_PROMISES))
        each = max(self._usual_seconds / slots, 1 / max(1, places))
        pause = min(_MAX_PAUSE_SECONDS, math.ceil(_MARGIN * (len(mine) + 1) * each))
        mine.append(max(now + pause, mine[-1] if mine else 0.0))
        return float(pause)

    def _start_next(self) -> None:
        """Fill the free slots. The caller holds the lock."""
        while sum(self._running.values()) < self._settings.slots and (probe := self._take_next()) is not None:
            self._running[probe.uploader] += 1
            self._threads.submit(self._run, probe)

    def _take_next(self) -> _Probe | None:
        for name, queue in self._waiting.items():
            if self._may_run(queue[0].uploader):
                probe = queue.popleft()
                self._waiting.move_to_end(name)
                if not queue:
                    del self._waiting[name]
                return probe
        return None

    def _may_run(self, uploader: Uploader) -> bool:
        without_key = sum(count for each, count in self._running.items() if each.key_id is None)
        share = self._settings.slots_per_caller
        return self._running[uploader] < share and (uploader.key_id is not None or without_key < share)

    def _run(self, probe: _Probe) -> None:
        began = None
        try:
            if probe.future.set_running_or_notify_cancel():
                began = self._now()
                _perform(probe)
        finally:
            with self._lock:
                if began is not None:
                    self._note_length(self._now() - began)
                self._running[probe.uploader] -= 1
                self._running += Counter()  # drops those at zero
                self._start_next()

    def _note_length(self, seconds: float) -> None:
        """Raise the estimate at once and lower it slowly, so that the times that callers got stay true."""
        self._usual_seconds = max(seconds, self._usual_seconds + (seconds - self._usual_seconds) / 8)

    def _drop_cancelled(self, probe: _Probe, future: "Future[Any]") -> None:
        if not future.cancelled():
            return
        with self._lock:
            queue = self._waiting.get(probe.uploader.name)
            if queue is not None and probe in queue:
                queue.remove(probe)
                if not queue:
                    del self._waiting[probe.uploader.name]


def _perform(probe: _Probe) -> None:
    try:
        result = probe.work()
    except BaseException as error:  # noqa: BLE001  # raised to the caller that waits for the future
        probe.future.set_exception(error)
    else:
        probe.future.set_result(result)
