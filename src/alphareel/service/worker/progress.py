"""What a worker tells of a running child and what it hears: progress to the store, and news that end the child."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NoReturn

from alphareel.domain.errors import Unavailable
from alphareel.service.jobs.models import TERMINAL, Job, Status
from alphareel.service.worker.previews import PreviewPublisher

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore

_NEWS_SECONDS = 1.0
_SILENCE_SECONDS = 10.0
_WHILE_RUNNING = 99.0  # percent; 100 means delivered


class AttemptSuperseded(Exception):
    """Another attempt has the job now, or nobody needs it any more."""


class WorkerStopping(Exception):
    """The worker stops and must leave the attempt to another."""


def park() -> NoReturn:
    """Wait for the end of the process: a step of the engine that returned would be recorded as done."""
    while True:
        time.sleep(3600)


class CancellationCheck:
    """Ends a child, or a fetch, that nobody needs any more. ``job``: as it was when the work began."""

    def __init__(self, jobs: JobStore, job: Job, stopping: threading.Event) -> None:
        self._jobs = jobs
        self._job = job
        self._stopping = stopping
        self._looked = time.monotonic()

    def __call__(self, progress: Mapping[str, Any] | None) -> None:  # noqa: ARG002
        """Raises Overtaken, Stopping."""
        if self._stopping.is_set():
            raise WorkerStopping
        if time.monotonic() - self._looked < _NEWS_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            found = self._jobs.job(self._job.id)
        except Unavailable:
            return  # the child need not suffer for a database that is away for a while
        if found is None or found.status in TERMINAL or found.ticket != self._job.ticket:
            raise AttemptSuperseded


class ProgressReporter:
    """Turns a child's ticks into progress in the store, and the store's news into the end of the child."""

    def __init__(self, jobs: JobStore, job: Job, stopping: threading.Event, pictures: PreviewPublisher) -> None:
        self._jobs = jobs
        self._job = job
        self._stopping = stopping
        self._pictures = pictures
        self._share = 0.0
        self._preview: str | None = None
        self._news = False
        self._told = self._looked = time.monotonic()

    def __call__(self, progress: Mapping[str, Any] | None) -> None:
        """Raises Overtaken, Stopping."""
        if self._stopping.is_set():
            raise WorkerStopping
        if progress is not None:
            self._share, self._news = float(progress["share"]), True
            self._preview = progress.get("preview")
        if time.monotonic() - self._looked < _NEWS_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            current = self._tell() if self._news or self._looked - self._told >= _SILENCE_SECONDS else self._ask()
        except Unavailable:
            return  # the child need not suffer for a database that is away for a while
        if not current:
            raise AttemptSuperseded

    def _tell(self) -> bool:
        self._told, self._news = self._looked, False
        share = round(self._share * _WHILE_RUNNING, 1)
        preview = self._pictures.publish(self._preview)
        return self._jobs.set_progress(self._job.id, attempt=self._job.attempt, progress=share, preview=preview)

    def _ask(self) -> bool:
        """Whether the job was cancelled is asked as often as news is told, but reading costs the disk nothing."""
        found = self._jobs.job(self._job.id)
        return found is not None and found.status is Status.PROCESSING and found.attempt == self._job.attempt
