"""Sends a file resumably, by the tus protocol 1.0.0."""

import base64
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import httpx2

from alphareel_client.errors import ApiError
from alphareel_client.transport import HttpSession, Request, is_passing, pause
from alphareel_client.types import Upload

RESUMABLE_BYTES = 64 * 1024 * 1024
"""Files from this size on are sent this way unless the caller chooses."""

_PATH = "/v1/uploads/tus"
_VERSION = {"Tus-Resumable": "1.0.0"}
_PIECE = 1024 * 1024
_TIMEOUT = httpx2.Timeout(60.0, read=600.0)  # after the last byte the server puts the file together and inspects it
_OFFSET_MISMATCH, _LOCKED = 409, 423
_LOCKED_SECONDS = 600.0  # how long another request, such as one whose connection broke, may hold the upload

OnBytes = Callable[[int, int], None]


def send_resumable(
    session: HttpSession, path: Path, *, content_type: str, retries: int, on_progress: OnBytes | None
) -> Upload:
    """Send the file; ``retries``: failures in a row without a byte of progress. Raises ApiError, OSError."""
    size = path.stat().st_size
    address = _create(session, path, size, content_type)
    with path.open("rb") as file:
        offset = stored = failures = 0
        progressed = time.monotonic()
        while True:
            try:
                pieces = _pieces(file, offset, size, on_progress)
                _append(session, address, pieces, offset=offset, size=size)
            except ApiError as error:
                passing = is_passing(error) or error.status_code in (_OFFSET_MISMATCH, _LOCKED)
                waits = error.status_code == _LOCKED and time.monotonic() - progressed < _LOCKED_SECONDS
                if not passing or (failures >= retries and not waits):
                    raise
                time.sleep(pause(failures, error.retry_after))
                failures += not waits
            state = session.get(address)
            if state["status"] == "failed":
                raise ApiError(str(state.get("error")), 400, state.get("error_code"))
            if state["status"] == "completed":
                return cast(Upload, state["upload"])
            offset = state["offset"]
            if offset > stored:
                stored, failures, progressed = offset, 0, time.monotonic()


def _create(session: HttpSession, path: Path, size: int, content_type: str) -> str:
    """The path of a new upload. The host of Location is not used: the key goes to no other address."""
    metadata = f"filename {_encode(path.name)},filetype {_encode(content_type)}"
    headers = {**_VERSION, "Upload-Length": str(size), "Upload-Metadata": metadata}
    response = session.exchange(Request("POST", _PATH, repeatable=True, options={"headers": headers}))
    name = response.headers.get("location", "").rstrip("/").rpartition("/")[2]
    if response.status_code != 201 or not name:  # 201: else a server that knows no tus answered something else
        raise ApiError("The server does not take resumable uploads.", 404)
    return f"{_PATH}/{name}"


def _append(session: HttpSession, address: str, pieces: Iterator[bytes], *, offset: int, size: int) -> None:
    headers = {
        **_VERSION,
        "Content-Type": "application/offset+octet-stream",
        "Upload-Offset": str(offset),
        "Content-Length": str(size - offset),
    }
    options: dict[str, Any] = {"headers": headers, "content": pieces, "timeout": _TIMEOUT}
    session.exchange_once(Request("PATCH", address, options=options))


def _pieces(file: BinaryIO, offset: int, size: int, on_progress: OnBytes | None) -> Iterator[bytes]:
    file.seek(offset)
    while offset < size:
        data = file.read(min(_PIECE, size - offset))
        if not data:
            raise OSError(f"{file.name} became shorter while it was sent")
        yield data
        offset += len(data)
        if on_progress is not None:
            on_progress(offset, size)


def _encode(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "replace")).decode()
