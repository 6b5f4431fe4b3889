"""The JSON of the service as typed dictionaries. A newer service may add fields."""

from collections.abc import Mapping
from typing import Any, Literal, NotRequired, TypedDict

Status = Literal["created", "pending", "processing", "completed", "failed"]


class Upload(TypedDict):
    success: bool
    video_id: str
    video_url: str
    filename: str
    size: int


class PartTarget(TypedDict):
    """Where a part of a multipart upload is sent with a PUT."""

    number: int
    bytes: int
    url: str


class MultipartUpload(TypedDict):
    """A file whose ``parts`` go straight to the bucket; ``complete_url`` takes their ETags."""

    upload_id: str
    filename: str
    bytes: int
    part_size: int
    parts: list[PartTarget]
    complete_url: str
    expires_at: str


class Output(TypedDict):
    format: str
    mime: str
    size: int
    sha256: str
    width: int
    height: int
    frames: int
    seconds: float
    has_alpha: bool
    alpha: str | None
    has_audio: bool
    frames_lost: int


class OutputTarget(TypedDict):
    """Where a finished file is sent with a PUT, usually a presigned URL; ``output_target`` of a job or an output."""

    url: str
    headers: NotRequired[Mapping[str, str]]


class OutputDelivery(TypedDict):
    """What came of sending a file to its target; ``status`` is delivered or failed."""

    url: str
    status: str
    attempts: int
    at: str
    status_code: int | None
    error: str | None


class NamedOutput(TypedDict):
    """One of a job's files; ``url`` is None once they expired.

    ``revision``: of the job, when the file was made. That of an export stays behind when the job is corrected.
    """

    name: str
    format: str
    url: str | None
    revision: int
    bytes: int
    sha256: str
    frames: int
    has_alpha: bool
    delivery: OutputDelivery | None


class Export(TypedDict):
    """A further output of a job, made of its kept matte."""

    id: str
    job_id: str
    status: Status
    progress: float
    revision: int
    format: str
    output_url: str | None
    output: Output | None
    delivery: OutputDelivery | None
    error: str | None
    error_code: str | None


class ExportList(TypedDict):
    job_id: str
    items: list[Export]


class Correction(TypedDict):
    """A correction of a job's matte, or the undoing of one."""

    id: str
    job_id: str
    number: int | None
    status: Status
    progress: float
    revision: int | None
    undone: bool
    undoes: int | None
    encoded_whole: list[Mapping[str, str]]
    error: str | None
    error_code: str | None


class CorrectionList(TypedDict):
    job_id: str
    revision: int
    items: list[Correction]


class QualityReport(TypedDict):
    """How certain and steady a matte is, over time."""

    job_id: str
    status: Status
    revision: int
    summary: Mapping[str, float]
    strip: Mapping[str, list[float]]
    worst: list[Mapping[str, Any]]
    suggestions: list[Mapping[str, Any]]
    picture_url: str | None


class Subjects(TypedDict):
    """The subjects that a matte keeps."""

    job_id: str
    status: Status
    revision: int
    sampled: bool
    subjects: list[Mapping[str, Any]]


class Job(TypedDict):
    id: str
    status: Status
    progress: float
    queue_position: int | None
    output_url: str | None
    expires_at: str | None
    preview_url: str | None
    error: str | None
    error_code: str | None
    model: str
    output_format: str
    bg_type: str
    background: Mapping[str, Any]
    composition: Mapping[str, Any] | None
    quality: str
    poster_time: float | None
    smoothing: str
    text_prompt: str | None
    preview_duration: float | None
    video_url: str
    metadata: Mapping[str, Any]
    webhook_url: str | None
    duration_seconds: float | None
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None
    output: Output | None
    outputs: list[NamedOutput]
    revision: int
    engine: Mapping[str, Any] | None
    warnings: list[str]


class JobPage(TypedDict):
    items: list[Job]
    total: int
    limit: int
    offset: int
    has_more: bool


EventName = Literal["state", "queue", "progress", "preview", "end", "deleted"]


class Event(TypedDict):
    """One event of a job's stream; ``id`` is None for events that a reconnect does not repeat."""

    event: EventName
    id: str | None
    data: dict[str, Any]


class Transition(TypedDict):
    sequence: int
    at: str
    from_status: str | None
    to_status: str
    actor: str
    reason: str
    request_id: str | None


class History(TypedDict):
    id: str
    job_id: str
    items: list[Transition]


class Estimate(TypedDict):
    """``credits``, ``work_seconds`` and ``output_bytes`` are None when too little is known of the video."""

    credits: float | None
    charged: bool
    affordable: bool | None
    pricing_version: str
    video_seconds: float | None
    work_seconds: float | None
    frames: int | None
    output_bytes: int | None
    size_basis: str
    speed_basis: str
    notes: list[str]


class Models(TypedDict):
    """``items``: the tiers, with the engine that serves each; ``engines``: every engine; ``limits`` of a video."""

    items: list[dict[str, Any]]
    engines: list[dict[str, Any]]
    limits: dict[str, Any]


class Pricing(TypedDict):
    pricing_version: str
    model_pricing_credits_per_minute: dict[str, float]
    models: list[dict[str, Any]]
    packages: list[dict[str, Any]]
    price_per_second_cents: float
    limits: dict[str, Any]


class WebhookAttempt(TypedDict):
    at: str
    status_code: int | None
    error: str | None
    milliseconds: int


class WebhookDelivery(TypedDict):
    id: str
    event: str
    url: str
    status: str
    created_at: str
    sent_at: str | None
    next_attempt_at: str | None
    attempts: list[WebhookAttempt]


class WebhookList(TypedDict):
    id: str
    job_id: str
    items: list[WebhookDelivery]


class WebhookTest(TypedDict):
    id: str
    event: str
    url: str
    delivered: bool
    attempt: WebhookAttempt


class WebhookPayload(TypedDict):
    """What a webhook's body contains; ``data`` is the job as it was at the event."""

    event: str
    event_id: str
    timestamp: str
    data: Job


class ApiKey(TypedDict):
    client_id: str
    key_fingerprint: str
    note: str
    enabled: bool
    test: bool
    created_at: str
    disabled_at: str | None
    last_used_at: str | None
    previous_until: str | None
    total_calls: int
    read_per_minute: int | None
    write_per_minute: int | None
    max_queued_jobs: int | None
    max_running_jobs: int | None
    max_storage_bytes: int | None
    max_credits_per_month: int | None


class NewApiKey(ApiKey):
    """``api_key`` is the secret, which the service shows only once."""

    api_key: str


class ApiKeyList(TypedDict):
    items: list[ApiKey]


class Account(TypedDict):
    """``balance`` None: the client is unlimited."""

    client_id: str
    balance: float | None
    reserved: float
    charged: float


class Ledger(Account):
    items: list[dict[str, Any]]
