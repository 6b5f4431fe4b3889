"""``Client``: the whole API, for programs that are written for this service."""

import mimetypes
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import httpx2

from alphareel_client.download import fetch
from alphareel_client.errors import JobFailed
from alphareel_client.types import Job, JobPage, Upload
from alphareel_client.wire import HttpSession, Request, idempotent_call

OnBytes = Callable[[int, int], None]
OnProgress = Callable[[float], None]

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 10.0
_UPLOAD_TIMEOUT = httpx2.Timeout(60.0, read=180.0)  # after the last byte the server looks into the file


class Client:
    """A client of one server with one key. Close it, or use it in a ``with`` statement.

    ``timeout``: seconds without any progress of a request. ``retries``: how often a call that can be repeated
    safely is sent again after 429, a 5xx or a lost connection; other calls only when they cannot have arrived.
    """

    def __init__(
        self,
        api_key: str,
        *,
        base_url: str = "http://127.0.0.1:8080",
        timeout: float = 30.0,
        retries: int = 5,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._wire = HttpSession(api_key, base_url=base_url, timeout=timeout, retries=retries, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._wire.http.close()

    def upload(self, path: str | Path, *, on_progress: OnBytes | None = None) -> Upload:
        """Stream a file from disk; ``on_progress(sent, total)`` counts its bytes. Raises ApiError, OSError."""
        source = Path(path)
        kind = mimetypes.guess_type(source.name)[0] or "application/octet-stream"
        with source.open("rb") as file:
            limit_connections = _Counted(file, source.stat().st_size, on_progress)
            options = {"files": {"file": (source.name, limit_connections, kind)}, "timeout": _UPLOAD_TIMEOUT}
            return cast(Upload, self._wire.send(Request("POST", "/v1/uploads", options=options)))

    def create_job(self, video_url: str, **fields: Any) -> Job:
        """Create a job, and start it unless ``auto_start=False``.

        ``fields``: model, output_format, background, bg_type, bg_color, bg_image_url, composition, text_prompt,
        preview_duration, webhook_url, metadata, auto_start. Raises ApiError.
        """
        body = {"video_url": video_url, **_drop_none(fields)}
        return cast(Job, self._wire.send(idempotent_call("POST", "/v1/jobs", body)))

    def estimate(self, video_url: str, **fields: Any) -> dict[str, Any]:
        """Credits, seconds of work and size of the result of a job, before it is made.

        ``fields``: as of ``create_job``, and ``source`` (seconds, width, height, frame_rate) for a video that was
        not uploaded. Raises ApiError.
        """
        body = {"video_url": video_url, **_drop_none(fields)}
        return self._wire.send(Request("POST", "/v1/estimate", repeatable=True, options={"json": body}))

    def start_job(self, job_id: str, **fields: Any) -> Job:
        """Start a draft or a failed job; ``fields`` as of ``create_job`` replace the job's. Raises ApiError."""
        return cast(Job, self._wire.send(idempotent_call("POST", f"/v1/jobs/{job_id}/start", _drop_none(fields))))

    def get_job(self, job_id: str) -> Job:
        """The job as it is now. Raises ApiError."""
        return cast(Job, self._wire.send(Request("GET", f"/v1/jobs/{job_id}", repeatable=True)))

    def cancel_job(self, job_id: str) -> Job:
        """Stop a job; one that has ended in another way than completed stays as it is. Raises ApiError."""
        return cast(Job, self._wire.send(Request("POST", f"/v1/jobs/{job_id}/cancel", repeatable=True)))

    def delete_job(self, job_id: str) -> None:
        """Remove a job with its files; it is cancelled when it runs. Raises ApiError."""
        self._wire.send(Request("DELETE", f"/v1/jobs/{job_id}"))

    def delete_upload(self, video_id: str) -> None:
        """Remove an upload. Raises ApiError, also while a job that is not done uses it."""
        self._wire.send(Request("DELETE", f"/v1/uploads/{video_id}"))

    def list_jobs(self, *, limit: int = 20, offset: int = 0, status: str | None = None) -> JobPage:
        """The key's jobs, newest first; ``limit`` 1-100. Raises ApiError."""
        options = {"params": _drop_none({"limit": limit, "offset": offset, "status": status})}
        return cast(JobPage, self._wire.send(Request("GET", "/v1/jobs", repeatable=True, options=options)))

    def usage_summary(self, *, days: int = 7) -> dict[str, Any]:
        """Jobs, credits and requests of the key's last days, 1-90. Raises ApiError."""
        return self._wire.send(Request("GET", "/v1/usage/summary", repeatable=True, options={"params": {"days": days}}))

    def usage_events(self, *, limit: int = 20) -> dict[str, Any]:
        """The key's latest calls, 1-100, newest first. Raises ApiError."""
        return self._wire.send(
            Request("GET", "/v1/usage/events", repeatable=True, options={"params": {"limit": limit}})
        )

    def wait_for_completion(
        self, job_id: str, *, timeout: float | None = None, on_progress: OnProgress | None = None
    ) -> Job:
        """Poll from every second to every ten until the job is completed; ``on_progress`` gets percent.

        Raises JobFailed, ApiError, and TimeoutError after ``timeout`` seconds (the job goes on).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        pause = _FIRST_PAUSE
        while True:
            job = self.get_job(job_id)
            if on_progress is not None:
                on_progress(job["progress"])
            if job["status"] == "completed":
                return job
            if job["status"] == "failed":
                raise JobFailed(job)
            if deadline is not None and time.monotonic() + pause > deadline:
                raise TimeoutError(f"Job {job_id} did not complete in {timeout:g} s")
            time.sleep(pause)
            pause = min(_LONGEST_PAUSE, pause * 1.5)

    def download(self, job: str | Mapping[str, Any], path: str | Path, *, on_progress: OnBytes | None = None) -> Path:
        """Fetch a completed job's output to ``path``, which appears only when it is whole and verified.

        An interrupted download goes on where it stopped, also in a later call. Raises JobFailed, ApiError,
        DownloadFailed, OSError.
        """
        job_id = job if isinstance(job, str) else str(job["id"])
        return fetch(self._wire.http, lambda: self.get_job(job_id), Path(path), on_progress=on_progress)


class _Counted:
    """A file that tells how much of it was read."""

    def __init__(self, file: Any, total: int, on_progress: OnBytes | None) -> None:
        self._file = file
        self._total = total
        self._on_progress = on_progress

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._file.read(size)
        if self._on_progress is not None and data:
            self._on_progress(self._file.tell(), self._total)
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def _drop_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
