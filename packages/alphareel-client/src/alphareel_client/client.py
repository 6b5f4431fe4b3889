"""``Client``: the whole ``/v1`` API."""

import mimetypes
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import httpx2

from alphareel_client.admin import AdminClient
from alphareel_client.config import API_KEY_VARIABLES, resolve_base_url, resolve_secret
from alphareel_client.download import fetch
from alphareel_client.errors import ApiError, JobFailed
from alphareel_client.events import stream_events
from alphareel_client.multipart import send_multipart
from alphareel_client.transport import HttpClient, HttpSession, Request, drop_none, idempotent_request
from alphareel_client.tus import RESUMABLE_BYTES, send_resumable
from alphareel_client.types import (
    Correction,
    CorrectionList,
    Estimate,
    Event,
    Export,
    ExportList,
    History,
    Job,
    JobPage,
    Models,
    Pricing,
    QualityReport,
    Subjects,
    Upload,
)
from alphareel_client.webhooks import Webhooks

OnBytes = Callable[[int, int], None]
OnProgress = Callable[[float], None]

_FIRST_PAUSE = 1.0
_UNKNOWN_ROUTE = (404, 405)  # an older service
_MAX_PAUSE = 10.0
_UPLOAD_TIMEOUT = httpx2.Timeout(60.0, read=180.0)  # the server probes the file after the last byte


class Client(HttpClient):
    """A client of one service with one key. Close it, or use it in a ``with`` statement.

    Parameters
    ----------
    api_key
        None reads ALPHAREEL_API_KEY, then REMOVEBGVIDEO_API_KEY. Whitespace around the key is removed.
    base_url
        None reads ALPHAREEL_BASE_URL, then REMOVEBGVIDEO_BASE_URL; without them http://127.0.0.1:8080.
    timeout
        Seconds a request may take without progress.
    retries
        How often a request is repeated after 429, 5xx or a lost connection. Only requests that are safe to repeat
        are, others only when the service cannot have executed them.

    Raises
    ------
    ValueError
        There is no key, or it cannot be sent in a header; or base_url is not an http(s) URL. The message never
        contains the key.
    """

    def __init__(
        self,
        api_key: str | None = None,
        *,
        base_url: str | None = None,
        timeout: float = 30.0,
        retries: int = 5,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        key = resolve_secret(api_key, "api_key", API_KEY_VARIABLES)
        self.base_url = resolve_base_url(base_url)
        self._retries = retries
        self._transport = transport
        self._timeout = timeout
        self._session = HttpSession(
            ("X-Api-Key", key), base_url=self.base_url, timeout=timeout, retries=retries, transport=transport
        )
        self.webhooks = Webhooks(self._session)

    def upload(
        self,
        path: str | Path,
        *,
        resumable: bool | None = None,
        multipart: bool = False,
        on_progress: OnBytes | None = None,
    ) -> Upload:
        """Stream a file from disk. Raises ApiError, OSError.

        Parameters
        ----------
        resumable
            Go on where a broken connection stopped it. None: if the file has 64 MiB or more, and the service can.
        multipart
            Send parts straight to the service's bucket, four at a time. A service that stores files on a disk refuses
            it with ``multipart_unavailable``.
        on_progress
            Called with the bytes sent so far and in all; the former fall back when a connection breaks. With
            ``multipart`` it is called in other threads, one at a time.
        """
        source = Path(path)
        if multipart:
            if resumable:
                raise ValueError("resumable and multipart are two ways to send a file: choose one")
            return send_multipart(self._session, source, retries=self._retries, on_progress=on_progress)
        kind = _declared_type(source.name)
        if resumable or (resumable is None and source.stat().st_size >= RESUMABLE_BYTES):
            try:
                return send_resumable(
                    self._session, source, content_type=kind, retries=self._retries, on_progress=on_progress
                )
            except ApiError as error:
                if resumable or error.status_code not in _UNKNOWN_ROUTE:
                    raise
        with source.open("rb") as file:
            counted = _CountingReader(file, source.stat().st_size, on_progress)
            options = {"files": {"file": (source.name, counted, kind)}, "timeout": _UPLOAD_TIMEOUT}
            return cast(Upload, self._session.send(Request("POST", "/v1/uploads", options=options)))

    def create_job(self, video_url: str, **fields: Any) -> Job:
        """Create a job, and start it unless ``auto_start=False``.

        ``fields``: model, output_format, outputs, output_target, keep_matte, layers, background, bg_type, bg_color,
        bg_image_url, composition, text_prompt, preview_duration, webhook_url, metadata, auto_start. Raises ApiError.
        """
        body = {"video_url": video_url, **drop_none(fields)}
        return cast(Job, self._session.send(idempotent_request("POST", "/v1/jobs", body)))

    def estimate(self, video_url: str, **fields: Any) -> Estimate:
        """Credits, processing time and result size of a job, without creating it.

        ``fields``: those of ``create_job``, and ``source`` (seconds, width, height, frame_rate) for a video that was
        not uploaded. Raises ApiError.
        """
        body = {"video_url": video_url, **drop_none(fields)}
        return cast(Estimate, self._session.post("/v1/estimate", body, repeatable=True))

    def start_job(self, job_id: str, **fields: Any) -> Job:
        """Start a draft or a failed job; ``fields`` of ``create_job`` replace the job's. Raises ApiError."""
        return cast(Job, self._session.send(idempotent_request("POST", f"/v1/jobs/{job_id}/start", drop_none(fields))))

    def export(self, job_id: str, format: str, **fields: Any) -> Export:  # noqa: A002 - the API's word
        """Make a further file of a completed job's kept matte, without a network.

        ``fields``: quality, background, composition, poster_time, keep, drop. Wait for it and download it like a job,
        by its ``id``; then it is also among the job's ``outputs``. Raises ApiError.
        """
        body = {"format": format, **drop_none(fields)}
        return cast(Export, self._session.send(idempotent_request("POST", f"/v1/jobs/{job_id}/exports", body)))

    def embed(self, job_id: str) -> dict[str, Any]:
        """Files, poster and HTML that show a job on a web page in every browser. Raises ApiError.

        Ask again until ``ready``: missing files are exported meanwhile.
        """
        return self._session.get(f"/v1/jobs/{job_id}/embed")

    def get_layers(self, job_id: str, *, format: str | None = None) -> dict[str, Any]:  # noqa: A002 - the API's word
        """A file for each subject of a completed job: ``items`` with ``subject`` and ``export``. Raises ApiError.

        ``format``: None for files like the job's first output. Ask again until ``ready``: the subjects are found and
        their files exported meanwhile.
        """
        query = "" if format is None else f"?format={quote(format, safe='')}"
        return self._session.get(f"/v1/jobs/{job_id}/layers{query}")

    def create_batch(self, **fields: Any) -> dict[str, Any]:
        """Create several jobs, all or none: ``items`` or ``video_urls``, and fields of all jobs. Raises ApiError."""
        return self._session.send(idempotent_request("POST", "/v1/batches", drop_none(fields)))

    def get_batch(self, batch_id: str) -> dict[str, Any]:
        """The jobs of a batch as they are now. Raises ApiError."""
        return self._session.get(f"/v1/batches/{batch_id}")

    def create_proof(
        self, video_url: str, *, engines: Sequence[str] | None = None, text_prompt: str | None = None
    ) -> dict[str, Any]:
        """Cut out six frames with every engine, or with these; free of charge. Raises ApiError."""
        body = {"video_url": video_url, "engines": engines, "text_prompt": text_prompt}
        return self._session.send(idempotent_request("POST", "/v1/proofs", drop_none(body)))

    def get_proof(self, proof_id: str) -> dict[str, Any]:
        """A proof as it is now. Raises ApiError."""
        return self._session.get(f"/v1/proofs/{proof_id}")

    def list_exports(self, job_id: str) -> ExportList:
        """The exports of a job, oldest first. Raises ApiError."""
        return cast(ExportList, self._session.get(f"/v1/jobs/{job_id}/exports"))

    def correct(self, job_id: str, **fields: Any) -> Correction:
        """Correct one frame of a completed job; its outputs are remade as the next revision.

        ``fields``: time or frame, with points, box or mask_url; or keep or drop with IDs of subjects. Poll
        ``list_corrections`` until its status is completed. Raises ApiError.
        """
        request = idempotent_request("POST", f"/v1/jobs/{job_id}/corrections", drop_none(fields))
        return cast(Correction, self._session.send(request))

    def list_corrections(self, job_id: str) -> CorrectionList:
        """The corrections of a job and what undid them, oldest first. Raises ApiError."""
        return cast(CorrectionList, self._session.get(f"/v1/jobs/{job_id}/corrections"))

    def undo_correction(self, job_id: str, number: int) -> Correction:
        """Remake the outputs without a correction. Raises ApiError."""
        return cast(Correction, self._session.send(Request("DELETE", f"/v1/jobs/{job_id}/corrections/{number}")))

    def get_quality(self, job_id: str) -> QualityReport:
        """The quality of a job's matte over time; repeat until its status is completed. Raises ApiError."""
        return cast(QualityReport, self._session.get(f"/v1/jobs/{job_id}/quality"))

    def get_subjects(self, job_id: str) -> Subjects:
        """The subjects in a job's matte, or in a draft; repeat until the status is completed. Raises ApiError."""
        return cast(Subjects, self._session.get(f"/v1/jobs/{job_id}/subjects"))

    def get_job(self, job_id: str) -> Job:
        """The job as it is now. Raises ApiError."""
        return cast(Job, self._session.get(f"/v1/jobs/{job_id}"))

    def cancel_job(self, job_id: str) -> Job:
        """Stop a job; one that has already ended stays as it is. Raises ApiError."""
        return cast(Job, self._session.post(f"/v1/jobs/{job_id}/cancel", repeatable=True))

    def delete_job(self, job_id: str) -> None:
        """Delete a job with its files; a running job is canceled first. Raises ApiError."""
        self._session.send(Request("DELETE", f"/v1/jobs/{job_id}"))

    def delete_upload(self, video_id: str) -> None:
        """Delete an upload. Raises ApiError, also while an unfinished job uses it."""
        self._session.send(Request("DELETE", f"/v1/uploads/{video_id}"))

    def list_jobs(self, *, limit: int = 20, offset: int = 0, status: str | None = None) -> JobPage:
        """The key's jobs, newest first; ``limit`` 1-100. Raises ApiError."""
        return cast(JobPage, self._session.get("/v1/jobs", limit=limit, offset=offset, status=status))

    def usage_summary(self, *, days: int = 7) -> dict[str, Any]:
        """Jobs, credits and requests of the key's last days, 1-90. Raises ApiError."""
        return self._session.get("/v1/usage/summary", days=days)

    def usage_events(self, *, limit: int = 20) -> dict[str, Any]:
        """The key's latest calls, 1-100, newest first. Raises ApiError."""
        return self._session.get("/v1/usage/events", limit=limit)

    def history(self, job_id: str) -> History:
        """Every status change of a job: when, by whom, why. Raises ApiError."""
        return cast(History, self._session.get(f"/v1/jobs/{job_id}/history"))

    def events(self, job_id: str, *, last_event_id: str | None = None) -> Iterator[Event]:
        """Follow a job live, until it ends: ``for event in client.events(job_id): ...``.

        Events are ``state``, ``queue``, ``progress``, ``preview``, and finally ``end`` (with the whole job) or
        ``deleted``. A lost connection is opened again after the last ``state`` event, so that none is missed.
        ``last_event_id``: continue a stream of an earlier call. Raises ApiError.
        """
        return stream_events(self._session, job_id, last_event_id=last_event_id, retries=self._retries)

    def models(self) -> Models:
        """The tiers with the engine that serves each, all engines, and the limits of a video. Raises ApiError."""
        return cast(Models, self._session.get("/v1/models"))

    def pricing(self) -> Pricing:
        """Credits for a minute of video, for each model. Raises ApiError."""
        return cast(Pricing, self._session.get("/api/pricing"))

    def admin(self, admin_token: str | None = None) -> AdminClient:
        """An ``AdminClient`` of the same service. ``admin_token`` None reads the environment."""
        return AdminClient(
            admin_token,
            base_url=self.base_url,
            timeout=self._timeout,
            retries=self._retries,
            transport=self._transport,
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
            pause = min(_MAX_PAUSE, pause * 1.5)

    def download(
        self,
        job: str | Mapping[str, Any],
        path: str | Path,
        *,
        overwrite: bool = False,
        on_progress: OnBytes | None = None,
    ) -> Path:
        """Download the output of a completed job; returns the path of the file.

        Parameters
        ----------
        job
            The job or its id.
        path
            The file to write, or an existing folder: then the file is named after the job. The file appears under its
            name only when its size and SHA-256 match the job's.
        overwrite
            Replace a file that exists.
        on_progress
            Called with the bytes received so far and in all.

        Raises
        ------
        FileExistsError
            The file exists, and ``overwrite`` is False.
        FileNotFoundError, NotADirectoryError
            The folder does not exist.
        JobFailed, ApiError, DownloadFailed, OSError
            An interrupted download leaves ``<name>.<hash>.part``, where the next call with this path resumes.
        """
        job_id = job if isinstance(job, str) else str(job["id"])
        return fetch(
            self._session.http, lambda: self.get_job(job_id), path, overwrite=overwrite, on_progress=on_progress
        )


def _declared_type(name: str) -> str:
    """The type by the suffix, if it is one of videos or images: for many a video, lists of systems name another."""
    kind = mimetypes.guess_type(name)[0] or ""
    return kind if kind.startswith(("video/", "image/")) else "application/octet-stream"


class _CountingReader:
    """A file that reports how much of it was read."""

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
