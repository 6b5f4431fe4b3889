"""Job and Upload as values, and the one table of legal transitions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from alphareel.domain.clip import AlphaKind, EngineFacts
from alphareel.domain.options import Options


class Status(StrEnum):
    """States of the contract; a cancelled job is ``failed`` with ``error_code`` cancelled."""

    CREATED = "created"  # a draft, not started
    PENDING = "pending"  # accepted and queued
    PROCESSING = "processing"  # a worker has it
    COMPLETED = "completed"
    FAILED = "failed"


class Step(StrEnum):
    """What the engine is to do next for a job."""

    RUN = "run"
    FETCH = "fetch"  # its files, which are not in the store yet
    RUN_FETCHED = "run_fetched"  # before jobs that were not begun yet: it had its turn already


# from -> to. Pending may fail (cancelled while queued); failed may be started again; completed is final.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.PENDING, Status.FAILED}),
    Status.PENDING: frozenset({Status.PROCESSING, Status.FAILED}),
    Status.PROCESSING: frozenset({Status.PROCESSING, Status.COMPLETED, Status.FAILED}),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.COMPLETED: frozenset(),
}


class Billing(StrEnum):
    """What became of a job's credits in its present run."""

    NOT_BILLED = "not_billed"
    RESERVED = "reserved"
    CHARGED = "charged"
    RELEASED = "released"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED})


def sources(target: Status) -> tuple[Status, ...]:
    """States from which ``target`` may be entered: the right side of every compare-and-set."""
    return tuple(s for s in Status if target in TRANSITIONS[s])


@dataclass(frozen=True)
class Upload:
    """An accepted file. ``kind`` is ``video`` or ``image``; ``key_id`` None for the legacy route without a key.

    ``seconds``: how long the video is, as its container says; ``rate``: frames a second. None for an image and where
    nobody looked, as for ``width`` and ``height``, which are those of the upright picture.
    """

    id: str
    key_id: str | None
    filename: str
    content_type: str
    kind: str
    size: int
    sha256: str
    blob: str
    created_at: datetime
    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Output:
    """The winning attempt's delivered file: what the manifest says of it.

    ``stages``: seconds of work that reading, matting and writing took, side by side; empty where nobody measured.
    ``alpha``: None where nobody noted it. ``source_seconds``: how much of the source was processed, which is what is
    charged, in ``source_frames`` of ``source_pixels`` each; None in results of older versions.
    """

    blob: str
    format: str
    mime: str
    bytes: int
    sha256: str
    width: int
    height: int
    frames: int
    seconds: float
    has_alpha: bool
    has_audio: bool
    frames_lost: int = 0
    stages: Mapping[str, float] = field(default_factory=dict)
    alpha: AlphaKind | None = None
    source_seconds: float | None = None
    source_frames: int | None = None
    source_pixels: int | None = None


@dataclass(frozen=True)
class Job:
    """One job as stored.

    ``run`` counts starts (a failed job may be started again) and ``tries`` the executions of this run, from the one
    on that last finished a chunk. ``ticket`` counts hand-overs to the engine: only the newest ticket may execute.
    ``attempt`` counts executions over all runs; it is the fence that keeps a forgotten worker from touching the job.

    ``credits`` (hundredths): reserved or charged for this run. ``price`` (hundredths for a minute): agreed at the
    start; None when the run is not charged. ``test``: the outcome and seconds of a job that only tests a client.
    ``traceparent``: the trace (W3C) of the request that started it. ``preview``: the blob of the newest small
    picture of the attempt that runs. ``queue_position``: how many jobs begin before it as things stand; None
    unless it is queued.
    """

    id: str
    key_id: str | None
    status: Status
    options: Options
    video_url: str
    created_at: datetime
    updated_at: datetime
    webhook_url: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    progress: float = 0.0
    run: int = 0
    tries: int = 0
    ticket: int = 0
    attempt: int = 0
    progress_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output: Output | None = None
    engine: EngineFacts | None = None
    error: str | None = None
    error_code: str | None = None
    warnings: tuple[str, ...] = ()
    request_id: str | None = None
    billing_status: Billing = Billing.NOT_BILLED
    credits: int = 0
    price: int | None = None
    pricing_version: str | None = None
    webhook_events: Mapping[str, str] = field(default_factory=dict)
    retention_seconds: int | None = None
    files_expire_at: datetime | None = None
    files_expired_at: datetime | None = None
    test: Mapping[str, Any] | None = None
    traceparent: str | None = None
    preview: str | None = None
    queue_position: int | None = None


@dataclass(frozen=True)
class JobEvent:
    """One row of the audit log: a transition with time, actor, request and reason; never changed, never deleted."""

    job_id: str
    sequence: int
    from_status: Status | None
    to_status: Status
    at: datetime
    actor: str
    request_id: str | None
    reason: str


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret, which is stored as SHA-256 only. ``fingerprint`` may be shown and logged.

    ``calls`` and ``last_used_at`` lag by some seconds. ``previous_until``: how long the secret before the last
    rotation is good. The limits are its own: None takes the service's, 0 is none. ``test``: every job of it is a test.
    """

    id: str
    fingerprint: str
    client_id: str
    note: str
    enabled: bool
    created_at: datetime
    disabled_at: datetime | None = None
    last_used_at: datetime | None = None
    calls: int = 0
    previous_until: datetime | None = None
    write_per_minute: int | None = None
    read_per_minute: int | None = None
    max_running_jobs: int | None = None
    max_queued_jobs: int | None = None
    max_storage_bytes: int | None = None
    max_credits_per_month: int | None = None
    test: bool = False


@dataclass(frozen=True)
class Executor:
    """A worker process that beats. ``home`` names the data directory whose lock it lives under, empty for none."""

    id: str
    home: str
    beat: int
    started_at: datetime
