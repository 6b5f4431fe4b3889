"""Sends a file in parts straight to the service's bucket, several at a time."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx2

from alphareel_client.errors import ApiError
from alphareel_client.transport import HttpSession, Request, is_passing, pause, unreachable
from alphareel_client.types import MultipartUpload, PartTarget, Upload

_PATH = "/v1/uploads/multipart"
_AT_A_TIME = 4
_PIECE = 1024 * 1024
_PART_TIMEOUT = httpx2.Timeout(60.0)
_COMPLETE_TIMEOUT = httpx2.Timeout(60.0, read=1200.0)  # the service reads the file from the bucket, and inspects it
_FORBIDDEN, _LOCKED = 403, 423  # the URL expired; another request completes the upload
_LOCKED_SECONDS = 1500.0  # longer than a completion whose server died holds the upload

OnBytes = Callable[[int, int], None]


def send_multipart(session: HttpSession, path: Path, *, retries: int, on_progress: OnBytes | None) -> Upload:
    """Send the file; ``retries``: failures in a row of each part. Raises ApiError, OSError.

    The upload is aborted at the service when it does not succeed.
    """
    body = {"filename": path.name, "bytes": path.stat().st_size}
    begun = cast(MultipartUpload, session.post(_PATH, body))
    address = f"{_PATH}/{begun['upload_id']}"  # not complete_url: the key goes to no other address
    try:
        etags = _Parts(session, path, begun, address, retries=retries, on_progress=on_progress).send()
        return _complete(session, f"{address}/complete", etags)
    except BaseException:
        with suppress(ApiError):  # it expires by itself
            session.send(Request("DELETE", address, repeatable=True))
        raise


def _complete(session: HttpSession, path: str, etags: dict[int, str]) -> Upload:
    parts = [{"number": number, "etag": etags[number]} for number in sorted(etags)]
    options: dict[str, Any] = {"json": {"parts": parts}, "timeout": _COMPLETE_TIMEOUT}
    deadline = time.monotonic() + _LOCKED_SECONDS
    while True:
        try:
            return cast(Upload, session.send(Request("POST", path, repeatable=True, options=options)))
        except ApiError as error:
            if error.status_code != _LOCKED or time.monotonic() > deadline:
                raise
            time.sleep(pause(0, error.retry_after))


class _Parts:
    """The parts of one file on their way."""

    def __init__(
        self,
        session: HttpSession,
        path: Path,
        begun: MultipartUpload,
        address: str,
        *,
        retries: int,
        on_progress: OnBytes | None,
    ) -> None:
        self._session = session
        self._path = path
        self._begun = begun
        self._address = address
        self._retries = retries
        self._on_progress = on_progress
        self._lock = threading.Lock()
        self._sent: dict[int, int] = {}
        self._stopped = threading.Event()

    def send(self) -> dict[int, str]:
        """The ETag of each part by its number. Raises what the first part that failed raised."""
        with ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="upload") as pool:
            futures = {part["number"]: pool.submit(self._send_part, part) for part in self._begun["parts"]}
            try:
                return {number: future.result() for number, future in futures.items()}
            except BaseException:
                self._stopped.set()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _send_part(self, part: PartTarget) -> str:
        url, failures = part["url"], 0
        while True:
            try:
                return self._put(part, url)
            except ApiError as error:
                is_expired = error.status_code == _FORBIDDEN
                if failures == self._retries or self._stopped.is_set() or not (is_expired or is_passing(error)):
                    raise
                time.sleep(pause(failures, error.retry_after))
                failures += 1
            if is_expired:
                url = self._fresh_url(part) or url

    def _put(self, part: PartTarget, url: str) -> str:
        """One try; the answer's ETag. The URL is a secret: no error has it."""
        number = part["number"]
        headers = {"Content-Length": str(part["bytes"])}
        try:
            answer = self._session.http.put(url, content=self._pieces(part), headers=headers, timeout=_PART_TIMEOUT)
        except httpx2.TransportError as error:
            raise unreachable(error, f"part {number}") from None
        if not answer.is_success or "etag" not in answer.headers:
            raise ApiError(f"The bucket refused part {number}.", answer.status_code, "storage_failed")
        return answer.headers["etag"]

    def _fresh_url(self, part: PartTarget) -> str | None:
        state = cast(MultipartUpload, self._session.get(self._address))
        return next((each["url"] for each in state["parts"] if each["number"] == part["number"]), None)

    def _pieces(self, part: PartTarget) -> Iterator[bytes]:
        number, left = part["number"], part["bytes"]
        with self._path.open("rb") as file:
            file.seek((number - 1) * self._begun["part_size"])
            while left and not self._stopped.is_set():
                data = file.read(min(_PIECE, left))
                if not data:
                    raise OSError(f"{self._path} became shorter while it was sent")
                yield data
                left -= len(data)
                self._count(number, part["bytes"] - left)

    def _count(self, number: int, sent: int) -> None:
        with self._lock:
            self._sent[number] = sent
            if self._on_progress is not None:
                self._on_progress(sum(self._sent.values()), self._begun["bytes"])
