"""RemoveBGVideo's Python SDK, method for method: programs written for it change the import and the base URL."""

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from alphareel_client.errors import ApiError
from alphareel_client.wire import HttpSession, Request

_KEY_VARIABLE = "REMOVEBGVIDEO_API_KEY"


class RemoveBGVideoClient:
    """The same names, arguments, defaults and exceptions; beyond them, reading calls outlast a passing failure."""

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str = "https://api.removebgvideo.com",
        timeout: float = 30,
        *,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """``api_key`` None reads REMOVEBGVIDEO_API_KEY. Raises ValueError for no key."""
        self.api_key = os.environ.get(_KEY_VARIABLE, "") if api_key is None else api_key
        self.base_url = base_url.rstrip("/")
        self.timeout = timeout
        self._wire = HttpSession(self.api_key, base_url=base_url, timeout=timeout, retries=3, transport=transport)

    def upload(self, file_path: str | Path) -> dict[str, Any]:
        """Upload a file. Raises FileNotFoundError, ApiError."""
        path = Path(file_path)
        if not path.exists():
            raise FileNotFoundError(f"File not found: {path}")
        with path.open("rb") as file:
            return self._wire.send(Request("POST", "/v1/uploads", options={"files": {"file": (path.name, file)}}))

    def create_job(  # noqa: PLR0917  # the order of the other SDK
        self,
        video_url: str,
        model: str = "original",
        bg_type: str = "green",
        output_format: str = "webm",
        text_prompt: str | None = None,
        webhook_url: str | None = None,
        bg_color: Sequence[float] | None = None,
        auto_start: bool = True,  # noqa: FBT001, FBT002
        metadata: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """Create a job; note that the default background is green here. Raises ApiError."""
        body: dict[str, Any] = {
            "video_url": video_url,
            "model": model,
            "bg_type": bg_type,
            "output_format": output_format,
            "auto_start": auto_start,
            **_drop_empty(text_prompt=text_prompt, webhook_url=webhook_url),
            **_present(bg_color=bg_color, metadata=metadata),
        }
        return self._wire.send(Request("POST", "/v1/jobs", options={"json": body}))

    def start_job(  # noqa: PLR0917
        self,
        job_id: str,
        model: str | None = None,
        output_format: str | None = None,
        bg_type: str | None = None,
        text_prompt: str | None = None,
        webhook_url: str | None = None,
        bg_color: Sequence[float] | None = None,
    ) -> dict[str, Any]:
        """Start a draft or a failed job. Raises ApiError."""
        named = _drop_empty(
            model=model, output_format=output_format, bg_type=bg_type, text_prompt=text_prompt, webhook_url=webhook_url
        )
        body = {**named, **_present(bg_color=bg_color)}
        return self._wire.send(Request("POST", f"/v1/jobs/{job_id}/start", options={"json": body}))

    def get_job(self, job_id: str) -> dict[str, Any]:
        """The job as it is now. Raises ApiError."""
        return self._read(f"/v1/jobs/{job_id}", {})

    def list_jobs(self, limit: int = 20, offset: int = 0, status: str | None = None) -> dict[str, Any]:
        """The key's jobs. Raises ApiError."""
        return self._read("/v1/jobs", {"limit": limit, "offset": offset, **_drop_empty(status=status)})

    def usage_summary(self, days: int = 7) -> dict[str, Any]:
        """Totals of the last days. Raises ApiError."""
        return self._read("/v1/usage/summary", {"days": days})

    def usage_events(self, limit: int = 20) -> dict[str, Any]:
        """The latest calls. Raises ApiError."""
        return self._read("/v1/usage/events", {"limit": limit})

    def wait_for_completion(
        self, job_id: str, interval_seconds: float = 2.0, timeout_seconds: float = 600
    ) -> dict[str, Any]:
        """Poll until the job is completed. Raises ApiError with the job's error when it failed, TimeoutError."""
        began = time.monotonic()
        while True:
            job = self.get_job(job_id)
            if job.get("status") == "completed":
                return job
            if job.get("status") == "failed":
                raise ApiError(str(job.get("error") or "Job failed"))
            if time.monotonic() - began > timeout_seconds:
                raise TimeoutError(f"Job {job_id} did not complete in {timeout_seconds}s")
            time.sleep(interval_seconds)

    def _read(self, path: str, params: Mapping[str, Any]) -> dict[str, Any]:
        return self._wire.send(Request("GET", path, repeatable=True, options={"params": params}))


def _drop_empty(**fields: str | None) -> dict[str, str]:
    """Empty strings count as absent, as in the other SDK."""
    return {name: value for name, value in fields.items() if value}


def _present(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
