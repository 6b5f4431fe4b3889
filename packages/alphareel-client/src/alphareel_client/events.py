"""The event stream of a job: server-sent events, resumed after a lost connection."""

import json
import time
from collections.abc import Iterator
from typing import cast

import httpx2

from alphareel_client.errors import ApiError
from alphareel_client.transport import HttpSession, is_passing, pause
from alphareel_client.types import Event

_LAST = frozenset({"end", "deleted"})
_TIMEOUT = httpx2.Timeout(30.0, read=60.0)  # the server sends a heartbeat every 15 s


def stream_events(session: HttpSession, job_id: str, *, last_event_id: str | None, retries: int) -> Iterator[Event]:
    """Events until the job ends. A lost connection is opened again with ``Last-Event-ID``.

    Raises ApiError when the service refuses, or after ``retries`` connections in a row without an event.
    """
    failures = 0
    while True:
        error: ApiError | None = None
        headers = {"Accept": "text/event-stream", **({"Last-Event-ID": last_event_id} if last_event_id else {})}
        try:
            with session.stream(f"/v1/jobs/{job_id}/events", headers, timeout=_TIMEOUT) as response:
                if response.status_code == 204:  # the job has ended, and its last event was seen
                    return
                for event in _parse(response.iter_bytes()):
                    failures = 0
                    last_event_id = event["id"] or last_event_id
                    yield event
                    if event["event"] in _LAST:
                        return
        except ApiError as caught:
            if not is_passing(caught):
                raise
            error = caught
        failures += 1
        if failures > retries:
            raise error or ApiError("The event stream ended before the job did.", code="connection_lost")
        time.sleep(pause(failures - 1, error.retry_after if error else None))


def _parse(chunks: Iterator[bytes]) -> Iterator[Event]:
    """Events from the bytes of a stream; an unfinished one at the end is dropped, as the standard says."""
    fields: dict[str, list[str]] = {}
    for line in _lines(chunks):
        if line:
            name, _, value = line.partition(":")
            fields.setdefault(name, []).append(value.removeprefix(" "))
            continue
        if "data" in fields:
            yield cast(
                Event,
                {
                    "event": fields.get("event", ["message"])[-1],
                    "id": fields["id"][-1] if "id" in fields else None,
                    "data": json.loads("\n".join(fields["data"])),
                },
            )
        fields = {}


def _lines(chunks: Iterator[bytes]) -> Iterator[str]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r").decode("utf-8", "replace") for line in lines)
