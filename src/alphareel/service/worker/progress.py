"""Reports the progress of a running child process, and ends it when the job no longer needs it."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NoReturn

from alphareel.domain.clip import Progress
from alphareel.domain.errors import Unavailable
from alphareel.service.jobs.models import TERMINAL, Job, Status
from alphareel.service.worker.previews import PreviewPublisher

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore

_CHECK_SECONDS = 1.0
_MAX_SILENCE_SECONDS = 10.0
_RUNNING_PERCENT = 99.0  # 100 means delivered


class AttemptSuperseded(Exception):
    """Another attempt has the job now, or the job has ended."""


class WorkerStopping(Exception):
    """The worker stops and must leave the attempt to another."""


def block_until_exit() -> NoReturn:
    """Wait for the process to exit: the engine would record a step that returns as done."""
    while True:
        time.sleep(3600)


class CancellationCheck:
    """A tick that ends a child process, or a fetch, once the job has changed. ``job``: as it was at the start."""

    def __init__(self, jobs: JobStore, job: Job, stopping: threading.Event) -> None:
        self._jobs = jobs
        self._job = job
        self._stopping = stopping
        self._checked_at = time.monotonic()

    def __call__(self, progress: Progress | None) -> None:  # noqa: ARG002
        """Raises AttemptSuperseded, WorkerStopping."""
        if self._stopping.is_set():
            raise WorkerStopping
        if time.monotonic() - self._checked_at < _CHECK_SECONDS:
            return
        self._checked_at = time.monotonic()
        try:
            current = self._jobs.job(self._job.id)
        except Unavailable:
            return  # a short outage of the database must not end the child
        if current is None or current.status in TERMINAL or current.ticket != self._job.ticket:
            raise AttemptSuperseded


class ProgressReporter:
    """A tick that stores the child's progress, and ends the child once the attempt is not the current one."""

    def __init__(self, jobs: JobStore, job: Job, stopping: threading.Event, previews: PreviewPublisher) -> None:
        self._jobs = jobs
        self._job = job
        self._stopping = stopping
        self._previews = previews
        self._share = 0.0
        self._preview: str | None = None
        self._has_news = False
        self._is_first = True
        self._reported_at = self._checked_at = time.monotonic()

    def __call__(self, progress: Progress | None) -> None:
        """Raises AttemptSuperseded, WorkerStopping."""
        if self._stopping.is_set():
            raise WorkerStopping
        if progress is not None:
            self._share, self._has_news = progress.share, True
            self._preview = progress.preview
        now = time.monotonic()
        is_first = self._is_first and self._has_news  # users wait for it
        if now - self._checked_at < _CHECK_SECONDS and not is_first:
            return
        self._is_first = self._is_first and not is_first
        self._checked_at = now
        try:
            is_due = self._has_news or now - self._reported_at >= _MAX_SILENCE_SECONDS
            is_current = self._report() if is_due else self._is_current()
        except Unavailable:
            return  # a short outage of the database must not end the child
        if not is_current:
            raise AttemptSuperseded

    def _report(self) -> bool:
        self._reported_at, self._has_news = self._checked_at, False
        percent = round(self._share * _RUNNING_PERCENT, 1)
        preview = self._previews.publish(self._preview)
        return self._jobs.set_progress(self._job.id, attempt=self._job.attempt, progress=percent, preview=preview)

    def _is_current(self) -> bool:
        """A read notices a cancellation as soon as a report does, and costs the disk nothing."""
        current = self._jobs.job(self._job.id)
        return current is not None and current.status is Status.PROCESSING and current.attempt == self._job.attempt
