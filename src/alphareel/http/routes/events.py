"""A job's events as a stream."""

import re
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header, Request, Response
from fastapi.sse import ServerSentEvent

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf, context_of
from alphareel.http.openapi import errors
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.sse import EventStreamResponse, JobStream, StreamCompleted

router = APIRouter(tags=["jobs"])

_EVENT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "The sequence number of a transition; other events have none."},
        "event": {"enum": ["state", "queue", "progress", "preview", "end", "deleted"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
_SEQUENCE = re.compile(r"[0-9]{1,18}")
_LastEventId = Annotated[str | None, Header(alias="Last-Event-ID", description="The id of the last event received.")]


def _open_stream(
    job_id: str,
    request: Request,
    principal: KeyPrincipal,
    services: ServicesOf,
    serializers: SerializersOf,
    *,
    last_event_id: _LastEventId = None,
) -> Iterator[JobStream]:
    """The stream, with a slot of its key until the response ends. Raises NotFound, RateLimited, StreamCompleted."""
    last_seen = int(last_event_id) if last_event_id and _SEQUENCE.fullmatch(last_event_id) else 0
    slots = context_of(request).streams
    stream = JobStream(services, serializers, principal, job_id, last_seen=last_seen, is_closed=lambda: slots.closed)
    if stream.is_over():
        raise StreamCompleted
    release = slots.acquire(principal.key.id if principal.key else "")
    try:
        yield stream
    finally:
        release()


@router.get(
    "/jobs/{job_id}/events",
    response_class=EventStreamResponse,
    responses={
        **errors(s404="No such job, or another key's", s429="Too many streams or requests"),
        200: {
            "description": "Events until the job ends",
            "content": {"text/event-stream": {"schema": _EVENT_SCHEMA}},
        },
        204: {"description": "The job has ended, and the client has seen every event"},
    },
)
async def stream_events(stream: Annotated[JobStream, Depends(_open_stream)]) -> AsyncIterator[ServerSentEvent]:
    """State, progress and small pictures of a job as server-sent events, until it ends."""
    async for event in stream:
        yield event


@router.head("/jobs/{job_id}/events", include_in_schema=False)
def head_events(job_id: str, principal: KeyPrincipal, services: ServicesOf) -> Response:
    """HeadMiddleware would run the whole stream, which may not end for hours."""
    services.jobs.get(principal, job_id)
    return Response(media_type="text/event-stream", headers={"Cache-Control": "no-cache"})
