"""Errors of the client. No message contains a key.

ClientError                 also known as RemoveBGVideoError
├── ApiError                the service refused or failed; status_code is None when there was no response
│   └── JobFailed           a job that was waited for has failed
├── DownloadFailed          the downloaded file does not match the job's size or SHA-256
└── InvalidSignature        a webhook was not signed with the secret, or it is too old
"""

from collections.abc import Mapping, Sequence
from typing import Any


class ClientError(Exception):
    """Base of every error of the SDK."""


class ApiError(ClientError):
    """``code`` and ``request_id`` come from the service; quote the latter when asking for help.

    ``retry_after``: seconds after which the same request may succeed, None when the service did not say.
    """

    def __init__(
        self,
        message: str,
        status_code: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        *,
        details: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.status_code = status_code
        self.code = code
        self.request_id = request_id
        self.details = tuple(details)
        self.retry_after = retry_after


class JobFailed(ApiError):
    """``job`` is the failed job as the service shows it."""

    def __init__(self, job: Mapping[str, Any]) -> None:
        super().__init__(str(job.get("error") or "Job failed"), code=job.get("error_code"))
        self.job = job


class DownloadFailed(ClientError):
    """The target was not written."""


class InvalidSignature(ClientError):
    """Do not trust the webhook: answer it with 400."""


RemoveBGVideoError = ClientError
