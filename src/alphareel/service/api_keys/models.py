"""API keys and the admin audit log as values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret, of which only the SHA-256 is stored. A limit of None means the service's limit."""

    id: str
    #: May be shown and logged; changes when the key is rotated.
    fingerprint: str
    client_id: str
    note: str
    enabled: bool
    created_at: datetime
    disabled_at: datetime | None = None
    #: Lags by some seconds, like ``calls``.
    last_used_at: datetime | None = None
    calls: int = 0
    #: How long the secret before the last rotation is valid.
    previous_until: datetime | None = None
    write_per_minute: int | None = None
    read_per_minute: int | None = None
    max_running_jobs: int | None = None
    max_queued_jobs: int | None = None
    max_storage_bytes: int | None = None
    max_credits_per_month: int | None = None
    #: All jobs of a test key are test jobs.
    test: bool = False
    #: A deleted key has no secret, and is listed no more. Its jobs and the audit log refer to it.
    deleted_at: datetime | None = None


@dataclass(frozen=True)
class AuditContext:
    """Who does what; each change by an operator writes it into the audit log."""

    actor: str
    action: str
    request_id: str | None


@dataclass(frozen=True)
class AdminEvent:
    """One row of the admin audit log; never changed."""

    id: int
    at: datetime
    actor: str
    action: str
    #: Fingerprint of the key, or the client.
    subject: str
    detail: Mapping[str, Any]
    request_id: str | None
