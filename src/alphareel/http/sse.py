"""Server-sent events: what happens to a job, as it happens, until it ends. Reads the store; nobody needs to push."""

import json
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from alphareel.domain.errors import NotFound, RateLimited, Unavailable
from alphareel.http.serializers import Serializers
from alphareel.service.jobs.models import TERMINAL, Job, JobEvent
from alphareel.service.principal import Principal
from alphareel.service.services import Services

_LOOK_SECONDS = 1.0
_HEARTBEAT_SECONDS = 15.0


class StreamSlots:
    """How many streams each key has open in this process."""

    def __init__(self, most: int) -> None:
        self.closed = False
        self._most = most
        self._taken = Counter[str]()
        self._lock = threading.Lock()

    def close(self) -> None:
        """The server stops: every stream ends soon, and its client comes again with the last id it saw."""
        self.closed = True

    def take(self, key_id: str) -> Callable[[], None]:
        """Take a place; what is returned gives it back. Raises RateLimited."""
        with self._lock:
            if self._taken[key_id] >= self._most:
                raise RateLimited(
                    f"This key has {self._most} event streams open.", hint="Close one, or poll the job.", retry_after=5
                )
            self._taken[key_id] += 1
        return lambda: self._give_back(key_id)

    def _give_back(self, key_id: str) -> None:
        with self._lock:
            self._taken[key_id] -= 1
            self._taken += Counter()  # drops keys without a stream


class EventStream(StreamingResponse):
    """A response that gives its place back however it ends."""

    def __init__(self, content: AsyncIterator[str], *, leave: Callable[[], None]) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(content, media_type="text/event-stream", headers=headers)
        self._leave = leave

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._leave()


class JobStream:
    """The events of one job after ``seen``, the number of the last transition that the client knows.

    They end early when ``is_closed``.
    """

    def __init__(
        self,
        services: Services,
        views: Serializers,
        caller: Principal,
        job_id: str,
        *,
        seen: int,
        is_closed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_closed = is_closed
        self._services = services
        self._views = views
        self._caller = caller
        self._job_id = job_id
        self._seen = seen
        self._progress: float | None = None
        self._preview: str | None = None
        self._position: int | None = None

    def is_over(self) -> bool:
        """Whether the job has ended and the client knows it. Raises NotFound."""
        job, news = self._look()
        return job.status in TERMINAL and not news

    async def __aiter__(self) -> AsyncIterator[str]:
        spoke = time.monotonic()
        while not self._is_closed():
            try:
                job, news = await run_in_threadpool(self._look)
                told = self._tell(job, news)
            except NotFound:
                yield _event("deleted", {"id": self._job_id})
                return
            except Unavailable:
                job, told = None, []  # the database is away for now; there is nothing to tell
            for text in told:
                spoke = time.monotonic()
                yield text
            if job is not None and job.status in TERMINAL:
                yield _event("end", self._views.job(job).model_dump(mode="json"))
                return
            if time.monotonic() - spoke >= _HEARTBEAT_SECONDS:
                spoke = time.monotonic()
                yield ": still here\n\n"
            await anyio.sleep(_LOOK_SECONDS)

    def _look(self) -> tuple[Job, list[JobEvent]]:
        job = self._services.jobs.get(self._caller, self._job_id)
        events = self._services.jobs.events(self._caller, self._job_id)
        return job, [event for event in events if event.sequence > self._seen]

    def _tell(self, job: Job, news: list[JobEvent]) -> list[str]:
        told = []
        for event in news:
            self._seen = event.sequence
            transition = self._views.transition(event)
            told.append(_event("state", transition, number=event.sequence))
        shown = self._views.job(job)
        if shown.queue_position is not None and shown.queue_position != self._position:
            self._position = shown.queue_position
            told.append(_event("queue", {"id": job.id, "queue_position": shown.queue_position}))
        if shown.progress != self._progress:
            self._progress = shown.progress
            told.append(_event("progress", {"id": job.id, "progress": shown.progress}))
        if shown.preview_url is not None and job.preview != self._preview:
            self._preview = job.preview
            told.append(_event("preview", {"id": job.id, "progress": shown.progress, "preview_url": shown.preview_url}))
        return told


def _event(name: str, data: Mapping[str, Any], *, number: int | None = None) -> str:
    lines = [f"event: {name}", f"data: {json.dumps(data)}"]
    if number is not None:
        lines.insert(0, f"id: {number}")
    return "\n".join(lines) + "\n\n"
