"""RemoveBGVideo's Python SDK, method for method: programs written for it change the import and the base URL."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx2

from alphareel_client.admin import AdminClient
from alphareel_client.config import API_KEY_VARIABLES, resolve_base_url, resolve_secret, without_userinfo
from alphareel_client.errors import ApiError
from alphareel_client.transport import HttpSession, Request, drop_none


class RemoveBGVideoClient:
    """The same names, arguments, defaults and exceptions, except for ``base_url``.

    Calls that only read are also repeated after a passing failure.
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        timeout: float = 30,
        *,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """``api_key`` None reads ALPHAREEL_API_KEY, then REMOVEBGVIDEO_API_KEY; whitespace around it is removed.

        ``base_url`` None reads ALPHAREEL_BASE_URL, then REMOVEBGVIDEO_BASE_URL; without them it is
        http://127.0.0.1:8080. Raises ValueError for a missing or malformed key.
        """
        self.api_key = resolve_secret(api_key, "api_key", API_KEY_VARIABLES)
        self.base_url = resolve_base_url(base_url)
        self.timeout = timeout
        self._session = HttpSession(
            ("X-Api-Key", self.api_key), base_url=self.base_url, timeout=timeout, retries=3, transport=transport
        )

    def __repr__(self) -> str:
        return f"RemoveBGVideoClient(base_url={without_userinfo(self.base_url)!r})"

    def upload(self, file_path: str | Path) -> dict[str, Any]:
        """Upload a file. Raises FileNotFoundError, ApiError."""
        path = Path(file_path)
        if not path.exists():
            raise FileNotFoundError(f"File not found: {path}")
        with path.open("rb") as file:
            return self._session.send(Request("POST", "/v1/uploads", options={"files": {"file": (path.name, file)}}))

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
            **drop_none({"bg_color": bg_color, "metadata": metadata}),
        }
        return self._session.send(Request("POST", "/v1/jobs", options={"json": body}))

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
        fields = _drop_empty(
            model=model, output_format=output_format, bg_type=bg_type, text_prompt=text_prompt, webhook_url=webhook_url
        )
        body = {**fields, **drop_none({"bg_color": bg_color})}
        return self._session.send(Request("POST", f"/v1/jobs/{job_id}/start", options={"json": body}))

    def get_job(self, job_id: str) -> dict[str, Any]:
        """The job as it is now. Raises ApiError."""
        return self._session.get(f"/v1/jobs/{job_id}")

    def list_jobs(self, limit: int = 20, offset: int = 0, status: str | None = None) -> dict[str, Any]:
        """The key's jobs. Raises ApiError."""
        return self._session.get("/v1/jobs", limit=limit, offset=offset, status=status or None)

    def usage_summary(self, days: int = 7) -> dict[str, Any]:
        """Totals of the last days. Raises ApiError."""
        return self._session.get("/v1/usage/summary", days=days)

    def usage_events(self, limit: int = 20) -> dict[str, Any]:
        """The latest calls. Raises ApiError."""
        return self._session.get("/v1/usage/events", limit=limit)

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


class RemoveBGVideoAdminClient:
    """The key management of RemoveBGVideo's SDK; ``AdminClient`` can do more."""

    def __init__(
        self,
        admin_token: str | None = None,
        base_url: str | None = None,
        timeout: float = 30,
        *,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        """``admin_token`` None reads ALPHAREEL_ADMIN_TOKEN, then REMOVEBGVIDEO_ADMIN_TOKEN.

        ``base_url`` as for ``RemoveBGVideoClient``. Raises ValueError for a missing or malformed token.
        """
        self._admin = AdminClient(admin_token, base_url=base_url, timeout=timeout, retries=3, transport=transport)
        self.base_url = self._admin.base_url
        self.timeout = timeout

    def __repr__(self) -> str:
        return f"RemoveBGVideoAdminClient(base_url={without_userinfo(self.base_url)!r})"

    def get_config(self) -> dict[str, Any]:
        """The settings of the service. Raises ApiError."""
        return self._admin.get_config()

    def list_keys(self) -> dict[str, Any]:
        """Every key, in ``items``. Raises ApiError."""
        return dict(self._admin.list_keys())

    def create_key(self, client_id: str, note: str | None = None) -> dict[str, Any]:
        """Create a key; ``api_key`` is shown this once. Raises ApiError."""
        return dict(self._admin.create_key(client_id, note or None))

    def disable_key(self, key_fingerprint: str) -> dict[str, Any]:
        """Refuse a key from now on. Raises ApiError."""
        return dict(self._admin.disable_key(key_fingerprint))

    def enable_key(self, key_fingerprint: str) -> dict[str, Any]:
        """Accept a disabled key again. Raises ApiError."""
        return dict(self._admin.enable_key(key_fingerprint))


def _drop_empty(**fields: str | None) -> dict[str, str]:
    """Empty strings count as absent, as in the other SDK."""
    return {name: value for name, value in fields.items() if value}
