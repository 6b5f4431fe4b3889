"""The JSON answers of the contract, as OpenAPI shows them; ``views.py`` fills them, ``request_schemas.py`` asks."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer

from alphareel.domain.clip import AlphaKind
from alphareel.domain.options import Anchor, BackgroundType, Quality, Tier
from alphareel.service.jobs.capabilities import output_formats
from alphareel.service.jobs.test_mode import ScenarioOutcome

ShownStatus = Literal["created", "pending", "processing", "completed", "failed"]


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(_rfc3339, when_used="json")]
OutputFormat = Annotated[str, Field(json_schema_extra={"enum": list(output_formats())})]


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class ErrorDetail(_Schema):
    """One field that cannot be accepted."""

    field: str
    message: str


class ErrorBody(_Schema):
    code: str = Field(description="Stable, for programs; docs/api.md lists every one.")
    message: str = Field(description="What was wrong and what to do, for people.")
    request_id: str = Field(description="The same as the header X-Request-Id.")
    details: list[ErrorDetail] | None = Field(default=None, description="Only where single fields are at fault.")


class Error(_Schema):
    """The body of every answer that is not 200."""

    error: ErrorBody


class Upload(_Schema):
    success: Literal[True] = True
    video_id: str
    video_url: str = Field(
        description="Give it back as video_url of a job (or of its background, or as image_url); it costs no transfer."
    )
    filename: str
    size: int = Field(description="Bytes.")
    url: str | None = Field(default=None, description="The same address, where the file is an image.")


class Background(_Schema):
    type: BackgroundType = "transparent"
    color: str | None = Field(default=None, examples=["#09A246"])
    image_url: str | None = None
    radius: float | None = Field(default=None, ge=1, le=500, description="Of a blur, in pixels; follows from the size.")
    video_url: str | None = None


class Canvas(_Schema):
    width: int | None = Field(default=None, ge=16, le=4096, description="Pixels; the source's when left out.")
    height: int | None = Field(default=None, ge=16, le=4096)


class Offset(_Schema):
    x: float = Field(default=0, description="Pixels to the right of the anchor.")
    y: float = Field(default=0, description="Pixels below the anchor.")


class Foreground(_Schema):
    anchor: Anchor = "center"
    scale: float = Field(default=1, ge=0.01, le=10, description="1 fits the source into the canvas.")
    offset: Offset = Offset()


class Composition(_Schema):
    canvas: Canvas = Canvas()
    foreground: Foreground = Foreground()


class Engine(_Schema):
    """What made the matte, so that a result can be repeated."""

    name: str
    version: str
    weights_sha256: str | None
    license: str


class Output(_Schema):
    """The delivered file, as verified by opening it again."""

    format: str
    mime: str
    size: int = Field(description="Bytes.")
    sha256: str
    width: int
    height: int
    frames: int
    seconds: float
    has_alpha: bool
    alpha: AlphaKind | None = Field(
        description="straight: colors are not multiplied by it; white_is_opaque: a gray picture; null: not noted."
    )
    has_audio: bool
    frames_lost: int = Field(description="Frames of the source that could not be decoded.")


class TestRun(_Schema):
    """What a test job comes to, and after how many seconds."""

    outcome: ScenarioOutcome
    seconds: float


class Job(_Schema):
    id: str
    job_id: str = Field(description="The same as id.")
    status: ShownStatus
    progress: float = Field(ge=0, le=100)
    output_url: str | None = Field(description="Signed and expiring; every answer carries a fresh one.")
    expires_at: Time | None = Field(description="When output_url stops to work.")
    queue_position: int | None = Field(
        ge=0, description="How many jobs begin before it as things stand, 0 for the next one; null unless it is queued."
    )
    preview_url: str | None = Field(
        description="A small transparent WebP of the newest frame while the job is worked on; gone when it ends."
    )
    error: str | None = Field(description="Why it failed, in one text.")
    error_code: str | None
    model: Tier
    output_format: OutputFormat
    bg_type: BackgroundType
    background: Background
    composition: Composition | None
    quality: Quality
    poster_time: float | None
    text_prompt: str | None
    preview_duration: float | None
    video_url: str
    metadata: Mapping[str, Any]
    webhook_url: str | None
    webhook_events: Mapping[str, str] = Field(description="For each event: pending, sent or failed.")
    billing_status: Literal["not_billed", "reserved", "charged", "released"]
    credits_used: float = Field(description="Charged; 0 until completed, and where nothing is charged.")
    credits_reserved: float
    pricing_version: str | None = Field(description="The price list of the run, where it is charged.")
    duration_seconds: float | None = Field(description="Of the output.")
    created_at: Time
    updated_at: Time
    started_at: Time | None
    completed_at: Time | None
    output: Output | None
    engine: Engine | None
    warnings: list[str]
    retention_seconds: int | None = Field(description="How long its files stay after its end; null for ever.")
    files_expire_at: Time | None = Field(description="When result and source are removed; null until it ended.")
    attempts: int = Field(description="How often a worker began with it.")
    test: TestRun | None = Field(description="Null for a real job.")


class AcceptedJob(Job):
    """What creating or starting a job answers: the job, and that it was accepted."""

    success: Literal[True] = True
    message: str


class Deleted(_Schema):
    success: Literal[True] = True
    deleted: Literal[True] = True
    id: str
    message: str


class JobList(_Schema):
    success: Literal[True] = True
    items: list[Job]
    jobs: list[Job] = Field(description="The same as items.")
    total: int
    limit: int
    offset: int
    has_more: bool


class Transition(_Schema):
    sequence: int
    from_status: str | None
    to_status: str
    at: Time
    actor: str
    request_id: str | None
    reason: str


class History(_Schema):
    """Every transition of a job, oldest first, as written when it happened."""

    success: Literal[True] = True
    id: str
    job_id: str
    items: list[Transition]


class Download(_Schema):
    success: Literal[True] = True
    download_url: str
    output_url: str = Field(description="The same as download_url.")
    output_format: str


class Process(_Schema):
    success: Literal[True] = True
    id: str
    job_id: str
    status: ShownStatus
    message: str


class Package(_Schema):
    id: str
    name: str
    credits: int
    price_cents: int


class ModelStatus(_Schema):
    """A tier of the contract and the engine that serves it on this server."""

    model: Tier
    available: bool
    engine: str | None
    subject: str | None = Field(description="What that engine cuts out; null without one.")
    license: str | None = Field(description="License of that engine's weights; null without one.")
    speed: str = Field(description="What the contract promises: fastest, standard or slowest.")
    quality: str = Field(description="What the contract promises: highest or high.")
    full_hd_fps: float | None = Field(description="Frames of 1920x1080 that a worker here does in a second.")
    speed_basis: Literal["measured", "typical"] | None = Field(
        description="Whether that is the middle of this server's own jobs or a figure that comes with the program."
    )
    text_prompt: bool = Field(description="Whether the tier uses text_prompt.")
    credits_per_minute: float


class EngineStatus(_Schema):
    name: str
    version: str
    subject: str = Field(description="What it cuts out.")
    summary: str
    code_license: str
    weights_license: str
    serves: list[str] = Field(description="The tiers that it would serve here.")
    missing: str | None = Field(description="What keeps it from running here; null when nothing does.")


class ClipLimits(_Schema):
    """What a clip may be at most on this server; 0 for no limit."""

    bytes: int
    side: int = Field(description="Longest side in pixels.")
    seconds: float


class Pricing(_Schema):
    model_pricing_credits_per_minute: dict[Tier, float]
    price_per_second_cents: float
    packages: list[Package]
    pricing_version: str
    models: list[ModelStatus] = Field(description="What serves each model here, as in /v1/models.")
    limits: ClipLimits


class Models(_Schema):
    success: Literal[True] = True
    items: list[ModelStatus]
    engines: list[EngineStatus]
    limits: ClipLimits


class HealthChecks(_Schema):
    api: bool
    database_configured: bool
    worker_configured: bool
    storage_configured: bool
    runpod_configured: bool = Field(description="The same as worker_configured.")
    r2_configured: bool = Field(description="The same as storage_configured.")


class Health(_Schema):
    status: Literal["healthy", "degraded"]
    version: str
    checks: HealthChecks


class Alive(_Schema):
    status: Literal["alive", "ready"]
