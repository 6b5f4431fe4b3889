"""Runners and the tasks that are leased to them, as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

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


@dataclass(frozen=True)
class Runner:
    """A runner without its token, of which only the SHA-256 is stored. ``slots``, ``engines``: as it last reported."""

    id: str
    name: str
    created_at: datetime
    revoked_at: datetime | None = None
    last_seen_at: datetime | None = None
    slots: int = 0
    engines: tuple[str, ...] = ()
    version: str = ""


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
    it back, once for each time. ``outcome``: the last event of the child process, as JSON; nothing in it is trusted.
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
    outcome: Mapping[str, Any] | None = None
