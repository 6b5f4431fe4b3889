"""A clock that is set is noticed, and what it would remove too early is kept for a while."""

from datetime import timedelta
from pathlib import Path

import pytest

from alphareel.db import migrate
from alphareel.db.database import open_database
from alphareel.server import container
from alphareel.server.installation import Overrides, assemble
from alphareel.service.clock_watch import ClockWatch
from alphareel.service.jobs.retention import RetentionSweeper
from alphareel.testing.fakes import MemoryBlobs, RecordingEngine, SettableClock, make_settings


class Machine:
    """Its clock, and the seconds since its start."""

    def __init__(self) -> None:
        self.clock = SettableClock()
        self.seconds = 1000.0
        self.watch = ClockWatch(self.clock, since_start=lambda: self.seconds)

    def run(self, seconds: float) -> None:
        self.seconds += seconds
        self.clock.advance(seconds=seconds)


def test_time_that_passes_is_no_step() -> None:
    machine = Machine()
    for _ in range(1000):
        machine.run(3600.2)
        assert machine.watch.step() == timedelta()
        assert not machine.watch.is_doubtful()


def test_a_step_is_told_once() -> None:
    machine = Machine()
    machine.clock.advance(seconds=3600)
    machine.run(1)
    assert machine.watch.step() == timedelta(hours=1)
    assert machine.watch.step() == timedelta()
    machine.clock.advance(seconds=-7200)
    assert machine.watch.step() == timedelta(hours=-2)


def test_a_clock_set_far_ahead_is_doubtful_for_an_hour() -> None:
    machine = Machine()
    machine.clock.advance(seconds=366 * 24 * 3600)
    assert machine.watch.is_doubtful()
    machine.run(3500)
    assert machine.watch.is_doubtful()
    machine.run(200)
    assert not machine.watch.is_doubtful()


def test_a_clock_that_is_set_right_again_is_trusted_at_once() -> None:
    machine = Machine()
    machine.clock.advance(seconds=3600)
    assert machine.watch.is_doubtful()
    machine.clock.advance(seconds=-3600)
    assert not machine.watch.is_doubtful()


def test_small_corrections_and_a_clock_that_is_set_back_are_not_doubtful() -> None:
    machine = Machine()
    machine.clock.advance(seconds=60)
    assert not machine.watch.is_doubtful()
    machine.clock.advance(seconds=-24 * 3600)
    assert not machine.watch.is_doubtful()


def test_nothing_expires_while_the_clock_is_doubtful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is a year ahead for a minute would else delete the files of every job."""
    database = open_database(f"sqlite:///{tmp_path / 'test.db'}")
    migrate.upgrade(database)
    clock = SettableClock()
    overrides = Overrides(clock=clock, blobs=MemoryBlobs(), enqueue=RecordingEngine().enqueue)
    sweeper = container.build_sweeper(assemble(make_settings(storage={"data_dir": tmp_path}), database, overrides))
    swept: list[int] = []
    monkeypatch.setattr(RetentionSweeper, "sweep", lambda _: swept.append(1))
    sweeper.run_once()
    clock.advance(days=366)
    sweeper.run_once()
    assert len(swept) == 1
    clock.advance(days=-366)
    sweeper.run_once()
    assert len(swept) == 2
    database.close()
