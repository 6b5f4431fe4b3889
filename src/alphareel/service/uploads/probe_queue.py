"""Probes of uploaded files: a few at a time on threads of their own, the rest in a bounded queue, callers in turns.

A probe runs a child process for up to some seconds, so it must not take the threads that serve requests. Whoever
submits one waits for a future and holds no thread meanwhile.
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

T = TypeVar("T")

_HINT = "Wait as long as Retry-After says."
_FIRST_GUESS = 3.0  # seconds that a probe takes, until some were measured
_MARGIN = 1.5  # of what is promised over what is expected
_LONGEST_PAUSE = 600.0
_EVERYBODY = ""
_MOST_PROMISES = 10_000


@dataclass(frozen=True)
class ProbeRules:
    """``at_once``: probes that run at a time. ``waiting``: probes that wait; ``waiting_per_caller``: those of one.

    One caller runs one probe less than that at a time, and so do all callers without a key together: whoever else
    comes finds a free slot.
    """

    at_once: int = 3
    waiting: int = 128
    waiting_per_caller: int = 32

    @property
    def share(self) -> int:
        return max(1, self.at_once - 1)


@dataclass(frozen=True)
class Uploader:
    """Whose uploads count together: those of a key, or without one those of an address."""

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
    """Thread-safe. ``submit`` never blocks; a future that is cancelled before its turn gives its place back."""

    def __init__(self, rules: ProbeRules | None = None, *, now: Callable[[], float] = time.monotonic) -> None:
        self._rules = rules or ProbeRules()
        self._now = now
        self._threads = ThreadPoolExecutor(self._rules.at_once, thread_name_prefix="probe")
        self._lock = threading.RLock()  # a future that is cancelled calls back on the thread that cancels it
        self._waiting: OrderedDict[str, deque[_Probe]] = OrderedDict()  # the caller whose turn is next comes first
        self._running: Counter[Uploader] = Counter()
        self._usual_seconds = _FIRST_GUESS
        self._promised: dict[str, deque[float]] = {}

    def check(self, uploader: Uploader) -> None:
        """Raises what ``submit`` would raise now; asked before the body of an upload is read."""
        with self._lock:
            self._check(uploader)

    def submit(self, uploader: Uploader, work: Callable[[], T]) -> "Future[T]":
        """Have ``work`` done when its turn comes. Raises TooManyUploads, QueueFull, with a true ``retry_after``."""
        probe = _Probe(uploader, work, Future())
        with self._lock:
            self._check(uploader)
            self._waiting.setdefault(uploader.name, deque()).append(probe)
            self._start_next()
        probe.future.add_done_callback(partial(self._drop_cancelled, probe))
        return probe.future

    def _check(self, uploader: Uploader) -> None:
        rules = self._rules
        if len(self._waiting.get(uploader.name, ())) >= rules.waiting_per_caller:
            others = sum(1 for name in self._waiting if name != uploader.name)
            slots = min(rules.share, max(1.0, rules.at_once / (1 + others)))
            whose = "address" if uploader.key_id is None else "key"
            raise TooManyUploads(
                f"As many uploads of this {whose} wait to be examined as may wait ({rules.waiting_per_caller}).",
                hint=_HINT,
                retry_after=self._promise(uploader.name, slots),
            )
        if sum(map(len, self._waiting.values())) >= rules.waiting:
            raise QueueFull(
                "As many uploads wait to be examined as this server takes.",
                hint=_HINT,
                retry_after=self._promise(_EVERYBODY, rules.at_once),
            )

    def _promise(self, name: str, slots: float) -> float:
        """Seconds until a place is free for one more, behind those who were told so before and are to come back."""
        now = self._now()
        for known in list(self._promised):
            told = self._promised[known]
            while told and told[0] <= now:
                told.popleft()
            if not told:
                del self._promised[known]
        mine = self._promised.setdefault(name, deque(maxlen=_MOST_PROMISES))
        pause = min(_LONGEST_PAUSE, math.ceil(_MARGIN * (len(mine) + 1) * self._usual_seconds / slots))
        mine.append(max(now + pause, mine[-1] if mine else 0.0))
        return float(pause)

    def _start_next(self) -> None:
        """Fill the free slots. The lock is held."""
        while sum(self._running.values()) < self._rules.at_once and (probe := self._take_next()) is not None:
            self._running[probe.uploader] += 1
            self._threads.submit(self._run, probe)

    def _take_next(self) -> _Probe | None:
        for name, line in self._waiting.items():
            if self._may_run(line[0].uploader):
                probe = line.popleft()
                self._waiting.move_to_end(name)
                if not line:
                    del self._waiting[name]
                return probe
        return None

    def _may_run(self, uploader: Uploader) -> bool:
        without_key = sum(count for each, count in self._running.items() if each.key_id is None)
        most = self._rules.share
        return self._running[uploader] < most and (uploader.key_id is not None or without_key < most)

    def _run(self, probe: _Probe) -> None:
        began = None
        try:
            if probe.future.set_running_or_notify_cancel():
                began = self._now()
                _carry_out(probe)
        finally:
            with self._lock:
                if began is not None:
                    self._note_length(self._now() - began)
                self._running[probe.uploader] -= 1
                self._running += Counter()  # drops those at zero
                self._start_next()

    def _note_length(self, seconds: float) -> None:
        """What takes longer than usual counts at once, what takes less bit by bit: promises are to be kept."""
        self._usual_seconds = max(seconds, self._usual_seconds + (seconds - self._usual_seconds) / 8)

    def _drop_cancelled(self, probe: _Probe, future: "Future[Any]") -> None:
        if not future.cancelled():
            return
        with self._lock:
            line = self._waiting.get(probe.uploader.name)
            if line is not None and probe in line:
                line.remove(probe)
                if not line:
                    del self._waiting[probe.uploader.name]


def _carry_out(probe: _Probe) -> None:
    try:
        result = probe.work()
    except BaseException as error:  # noqa: BLE001  # whoever waits for the future gets it
        probe.future.set_exception(error)
    else:
        probe.future.set_result(result)
