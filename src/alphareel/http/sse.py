"""The events of a job as a server-sent event stream, and the limit on concurrent streams. Polls the job store."""

import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from alphareel.domain.errors import InvalidApiKey, NotFound, RateLimited, Unavailable
from alphareel.http.serializers import Serializers
from alphareel.service.jobs.models import TERMINAL, Job, JobEvent
from alphareel.service.jobs.watch import JobChange
from alphareel.service.principal import Principal
from alphareel.service.services import Services

_POLL_SECONDS = 1.0


class EventStreamResponse(EventSourceResponse):
    """Makes FastAPI encode a generator route's events. Its errors are JSON, so it sets no media type for the route."""

    media_type = None  # type: ignore[assignment]  # Starlette allows None


class StreamSlots:
    """Limits how many streams each key has open in this process."""

    def __init__(self, max_per_key: int) -> None:
        self.closed = False
        self._max_per_key = max_per_key
        self._open = Counter[str]()
        self._lock = threading.Lock()

    def close(self) -> None:
        """On shutdown: every stream ends soon, and its client reconnects with the last ID that it saw."""
        self.closed = True

    def acquire(self, key_id: str) -> Callable[[], None]:
        """Take a slot and return the function that releases it. Raises RateLimited."""
        with self._lock:
            if self._open[key_id] >= self._max_per_key:
                raise RateLimited(
                    f"This key has {self._max_per_key} event streams open.",
                    hint="Close one, or poll the job.",
                    retry_after=5,
                )
            self._open[key_id] += 1
        return lambda: self._release(key_id)

    def _release(self, key_id: str) -> None:
        with self._lock:
            self._open[key_id] -= 1
            self._open += Counter()  # drops keys without a stream


class StreamCompleted(Exception):
    """The job has ended and the client has seen every event: 204, so that browsers do not reconnect."""


def install(app: FastAPI) -> None:
    """Answer completed streams with 204."""
    app.add_exception_handler(StreamCompleted, _no_content)


async def _no_content(_request: Request, _error: Exception) -> Response:
    return Response(status_code=204)


class JobStream:
    """The events of one job after ``last_seen``, the sequence number of the last transition that the client knows.

    The stream ends when the job ends, when it or its key is deleted, when the key is disabled, or when ``is_closed``
    returns True.
    """

    def __init__(
        self,
        services: Services,
        serializers: Serializers,
        principal: Principal,
        job_id: str,
        *,
        last_seen: int,
        is_closed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._is_closed = is_closed
        self._services = services
        self._serializers = serializers
        self._principal = principal
        self._job_id = job_id
        self._last_seen = last_seen
        self._progress: float | None = None
        self._preview: str | None = None
        self._position: int | None = None

    def is_over(self) -> bool:
        """Whether the job has ended and the client has seen every transition. Raises NotFound, InvalidApiKey."""
        job, new = self._poll()
        return job.status in TERMINAL and not new

    async def __aiter__(self) -> AsyncIterator[ServerSentEvent]:
        with self._services.watch.watching(self._job_id) as change:
            async for event in self._until_end(change):
                yield event

    async def _until_end(self, change: JobChange) -> AsyncIterator[ServerSentEvent]:
        while not self._is_closed():
            change.clear()
            try:
                job, new = await run_in_threadpool(self._poll)
                events = self._changes(job, new)
            except NotFound:
                yield ServerSentEvent(event="deleted", data={"id": self._job_id})
                return
            except InvalidApiKey:
                return
            except Unavailable:  # retry at the next poll
                await change.wait(_POLL_SECONDS)
                continue
            for event in events:
                yield event
            if job.status in TERMINAL:
                yield ServerSentEvent(event="end", data=self._serializers.job(job).model_dump(mode="json"))
                return
            await change.wait(_POLL_SECONDS)

    def _poll(self) -> tuple[Job, list[JobEvent]]:
        self._services.api_keys.check(self._principal.key)
        job = self._services.jobs.get(self._principal, self._job_id)
        events = self._services.jobs.events(self._principal, self._job_id)
        return job, [event for event in events if event.sequence > self._last_seen]

    def _changes(self, job: Job, new: list[JobEvent]) -> list[ServerSentEvent]:
        """Events for everything that changed since the last poll."""
        events = []
        for transition in new:
            self._last_seen = transition.sequence
            data: dict[str, Any] = self._serializers.transition(transition)
            events.append(ServerSentEvent(event="state", data=data, id=str(transition.sequence)))
        state = self._serializers.job(job)
        if state.queue_position is not None and state.queue_position != self._position:
            self._position = state.queue_position
            events.append(ServerSentEvent(event="queue", data={"id": job.id, "queue_position": state.queue_position}))
        if state.progress != self._progress:
            self._progress = state.progress
            events.append(ServerSentEvent(event="progress", data={"id": job.id, "progress": state.progress}))
        if state.preview_url is not None and job.preview != self._preview:
            self._preview = job.preview
            data = {"id": job.id, "progress": state.progress, "preview_url": state.preview_url}
            events.append(ServerSentEvent(event="preview", data=data))
        return events
