"""When a worker counts as hung: by its own signs of life, and only for time in which we ourselves ran."""

import errno
import io
import os
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain.errors import Unavailable
from alphareel.server import supervisor as module
from alphareel.server import worker_process
from alphareel.server.supervisor import HeartbeatReader, Supervisor
from alphareel.service.health import HealthMonitor
from alphareel.service.worker.models import Executor


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Time:
        now = 1000.0

        def monotonic(self) -> float:
            return self.now

    time = Time()
    monkeypatch.setattr(module, "time", time)
    return time


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        os.close(descriptor)


def becomes_overdue(reader: HeartbeatReader, time: Any, seconds: float, *, beating: int | None = None) -> bool:
    """Whether the worker counts as hung at any time, checked as often as the supervisor does."""
    hung = False
    for _ in range(round(seconds * 5)):
        time.now += 0.2
        if beating is not None:
            os.write(beating, b".")
        hung = reader.is_overdue() or hung
    return hung


def test_a_worker_that_falls_silent_hangs(time: Any, pipe: tuple[int, int]) -> None:
    reader = HeartbeatReader(pipe[0], 15)
    assert not becomes_overdue(reader, time, 60, beating=pipe[1])
    assert not becomes_overdue(reader, time, 14)
    assert becomes_overdue(reader, time, 2)


def test_each_heartbeat_touches_a_file_for_health_checks(time: Any, pipe: tuple[int, int], tmp_path: Path) -> None:
    file = tmp_path / "heartbeat"
    reader = HeartbeatReader(pipe[0], 15, file)
    becomes_overdue(reader, time, 1)
    assert not file.exists()
    becomes_overdue(reader, time, 1, beating=pipe[1])
    assert file.exists()


def test_a_worker_that_is_busy_and_beats_late_does_not_hang(time: Any, pipe: tuple[int, int]) -> None:
    reader = HeartbeatReader(pipe[0], 15)
    for _ in range(10):
        os.write(pipe[1], b".")
        assert not becomes_overdue(reader, time, 12)


def test_a_worker_that_loads_its_modules_has_more_time(time: Any, pipe: tuple[int, int]) -> None:
    reader = HeartbeatReader(pipe[0], 15)
    assert not becomes_overdue(reader, time, 110)
    assert becomes_overdue(reader, time, 20)


def test_time_in_which_the_machine_slept_counts_against_nobody(time: Any, pipe: tuple[int, int]) -> None:
    reader = HeartbeatReader(pipe[0], 15)
    assert not becomes_overdue(reader, time, 10, beating=pipe[1])
    time.now += 8 * 3600
    assert not reader.is_overdue()
    assert not becomes_overdue(reader, time, 10)


def test_an_overloaded_supervisor_judges_more_slowly(time: Any, pipe: tuple[int, int]) -> None:
    reader = HeartbeatReader(pipe[0], 15)
    becomes_overdue(reader, time, 1, beating=pipe[1])
    for _ in range(10):
        time.now += 60
        assert not reader.is_overdue()


class Counters:
    def __init__(self) -> None:
        self.beat = 0
        self.away = False

    def executors(self) -> tuple[Executor, ...]:
        if self.away:
            raise Unavailable("The database does not answer.")
        return (Executor("w", "", self.beat, datetime(2026, 4, 20, tzinfo=UTC)),)


class Well:
    write_error: Unavailable | None = None

    def is_ready(self) -> bool:
        return True


@pytest.fixture
def counters() -> Counters:
    return Counters()


@pytest.fixture
def monitor(counters: Counters, monkeypatch: pytest.MonkeyPatch, time: Any) -> HealthMonitor:
    monkeypatch.setattr("alphareel.service.health.time", time)
    return HealthMonitor(jobs=Well(), executors=counters, blobs=Well())  # type: ignore[arg-type]


def test_only_a_worker_that_beats_counts(monitor: HealthMonitor, counters: Counters, time: Any) -> None:
    for _ in range(10):
        counters.beat += 1
        time.now += 2
        assert (monitor.check().worker, monitor.workers()) == (True, 1)
    time.now += 9
    assert (monitor.check().worker, monitor.workers()) == (False, 0)
    counters.beat += 1
    assert monitor.workers() == 1


def test_a_database_that_was_away_makes_no_worker_silent(monitor: HealthMonitor, counters: Counters, time: Any) -> None:
    assert monitor.workers() == 1
    counters.away = True
    time.now += 100
    found = monitor.check()
    assert (found.database, found.worker) == (False, False)
    counters.away = False
    found = monitor.check()
    assert (found.database, found.worker) == (True, True)


def test_a_worker_ends_with_its_code_although_nobody_reads_its_log_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """An evicted worker that stayed would run its jobs beside the one that took them over."""

    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    codes: list[int] = []
    monkeypatch.setattr(sys, "stderr", Broken())
    monkeypatch.setattr(os, "_exit", codes.append)
    worker_process._exit_evicted()
    assert codes == [worker_process.EXIT_EVICTED]


def test_a_worker_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without memory or processes left for a moment would else have no worker until a restart."""
    tried = threading.Event()
    starts: list[str] = []

    def start(_: Supervisor, executor_id: str, __: int) -> None:
        starts.append(executor_id)
        if len(starts) == 2:
            tried.set()
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(Supervisor, "_start", start)
    monkeypatch.setattr(module, "MIN_RESTART_DELAY", 0.01)
    gone: list[str] = []
    supervisor = Supervisor({}, home="", lock=0, stop_seconds=1, hang_seconds=1, deregister=gone.append)
    supervisor.start()
    assert tried.wait(60)
    supervisor.stop()
    assert gone == starts
