"""A job's events as a stream."""

import re
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request, Response

from alphareel.http.auth import KeyPrincipal
from alphareel.http.context import ServicesOf, context_of
from alphareel.http.openapi import errors
from alphareel.http.routes.jobs import SerializersOf
from alphareel.http.sse import EventStream, JobStream

router = APIRouter(tags=["jobs"])

_EVENT: dict[str, Any] = {
    "type": "object",
    "properties": {
        "id": {"type": "string", "description": "The number of a transition; other events have none."},
        "event": {"enum": ["state", "queue", "progress", "preview", "end", "deleted"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
_NUMBER = re.compile(r"[0-9]{1,18}")
_LastSeen = Annotated[str | None, Header(alias="Last-Event-ID", description="The id of the last event received.")]


@router.get(
    "/jobs/{job_id}/events",
    response_class=Response,
    responses={
        **errors(s404="No such job, or another key's", s429="Too many streams or requests"),
        200: {
            "description": "Events until the job ends",
            "content": {"text/event-stream": {"schema": _EVENT}},
        },
        204: {"description": "The job has ended, and the client has seen every event"},
    },
)
def stream_events(
    job_id: str,
    request: Request,
    caller: KeyPrincipal,
    services: ServicesOf,
    views: SerializersOf,
    *,
    last_event_id: _LastSeen = None,
) -> Response:
    """State, progress and small pictures of a job as server-sent events, until it ends."""
    seen = int(last_event_id) if last_event_id and _NUMBER.fullmatch(last_event_id) else 0
    streams = context_of(request).streams
    stream = JobStream(services, views, caller, job_id, seen=seen, is_closed=lambda: streams.closed)
    if stream.is_over():
        return Response(status_code=204)
    if getattr(request.state, "head", False):
        return Response(media_type="text/event-stream", headers={"Cache-Control": "no-store"})  # a stream would not end
    leave = streams.take(caller.key.id if caller.key else "")
    return EventStream(aiter(stream), leave=leave)
