"""Runners and the tasks that are leased to them, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Self

LIVE = timedelta(seconds=60)
"""A runner that was not seen for so long gets no work."""
LEASE_SECONDS = 30.0
"""A lease that nobody renewed for so long is taken back."""
RENEW_SECONDS = 5.0
"""How often a runner renews."""
MAX_SLOTS = 64
MAX_RELEASES = 3
"""A runner that gave a task back so often does not get it again."""


class TaskState(StrEnum):
    WAITING = "waiting"
    LEASED = "leased"
    ENDED = "ended"


class RunnerState(StrEnum):
    NEW = "new"
    IDLE = "idle"
    WORKING = "working"
    AWAY = "away"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Runner:
    """A runner without its token, of which only the SHA-256 is stored. ``slots``, ``engines``: as it last reported.

    ``tasks_done``: tasks whose result was verified. ``tasks_failed``: those that ended otherwise while it held them,
    unless nobody waited for them any more or it gave them back.
    """

    id: str
    name: str
    created_at: datetime
    revoked_at: datetime | None = None
    last_seen_at: datetime | None = None
    slots: int = 0
    engines: tuple[str, ...] = ()
    version: str = ""
    tasks_done: int = 0
    tasks_failed: int = 0


@dataclass(frozen=True)
class LeasedTask:
    """What a runner works on. ``share``: how much of it is done, 0 to 1."""

    runner_id: str
    job_id: str
    engine: str
    share: float


@dataclass(frozen=True)
class RunnerStatus:
    """A runner as it is now, with the tasks that it holds."""

    runner: Runner
    tasks: tuple[LeasedTask, ...]
    state: RunnerState

    @classmethod
    def at(cls, now: datetime, runner: Runner, tasks: tuple[LeasedTask, ...] = ()) -> Self:
        if runner.revoked_at is not None:
            state = RunnerState.REVOKED
        elif runner.last_seen_at is None:
            state = RunnerState.NEW
        elif not runner.slots or abs(now - runner.last_seen_at) >= LIVE:
            state = RunnerState.AWAY
        else:
            state = RunnerState.WORKING if tasks else RunnerState.IDLE
        return cls(runner, tasks, state)


@dataclass(frozen=True)
class NewRunner:
    """A runner that was just created, with its token."""

    runner: Runner
    token: str


@dataclass(frozen=True)
class ReturnedFile:
    """A file that a runner uploaded under its lease."""

    blob: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class RunnerTask:
    """A RunTask that a worker process lets a runner do.

    ``request``: the RunTask as JSON, with file names in place of paths. ``inputs``: its files, as blobs by name.
    ``outputs``: names of the files to return. ``refused``: runners that failed at it. ``released``: runners that gave
    it back, once for each time. ``preview``: the newest one, if the request asks for previews. ``outcome``: the last
    event of the child process, as JSON; nothing in it is trusted.
    """

    id: str
    executor_id: str
    job_id: str
    attempt: int
    engine: str
    version: str
    created_at: datetime
    request: Mapping[str, Any]
    inputs: Mapping[str, str]
    outputs: tuple[str, ...]
    refused: tuple[str, ...] = ()
    released: tuple[str, ...] = ()
    state: TaskState = TaskState.WAITING
    runner_id: str | None = None
    lease: str | None = None
    beat: int = 0
    progress: Mapping[str, Any] | None = None
    files: Mapping[str, ReturnedFile] = field(default_factory=dict)
    preview: ReturnedFile | None = None
    outcome: Mapping[str, Any] | None = None
