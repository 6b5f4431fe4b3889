"""Lets requests wait for changes of a job without polling the database all the time."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class JobChange:
    """Whether a job has changed since ``clear``. Belongs to the event loop that created it."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def set(self) -> None:
        """Safe to call from any thread."""
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._event.set)

    def clear(self) -> None:
        """Call this before the job is read: a change after the read then ends the next wait."""
        self._event.clear()

    async def wait(self, seconds: float) -> None:
        """Wait for a change, at most for ``seconds``. A change may also go unnoticed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), seconds)


class JobWatch:
    """Hands notifications of jobs to the requests that wait for them. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: dict[str, set[JobChange]] = {}
        self._lock = threading.Lock()

    def notify(self, topic: str) -> None:
        """``topic``: what happened and the ID of the job, as ``db.notifications`` writes it."""
        _, _, job_id = topic.partition(" ")
        with self._lock:
            changes = tuple(self._waiting.get(job_id, ()))
        for change in changes:
            change.set()

    @contextmanager
    def watching(self, job_id: str) -> Iterator[JobChange]:
        """Collects changes of a job while the context is open."""
        change = JobChange()
        with self._lock:
            self._waiting.setdefault(job_id, set()).add(change)
        try:
            yield change
        finally:
            with self._lock:
                changes = self._waiting[job_id]
                changes.discard(change)
                if not changes:
                    del self._waiting[job_id]
