"""JSON that the job routes return. ``service/jobs/requests.py`` has the bodies that they take."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field

from alphareel.domain.clip import AlphaKind
from alphareel.domain.options import Anchor, BackgroundType, Quality, Smoothing, Tier
from alphareel.http.schemas.fields import Schema, Time
from alphareel.service.jobs.option_fields import OutputFormat
from alphareel.service.jobs.test_mode import ScenarioOutcome

PublicStatus = Literal["created", "pending", "processing", "completed", "failed"]


class Background(Schema):
    type: BackgroundType = "transparent"
    color: str | None = Field(default=None, examples=["#09A246"])
    image_url: str | None = None
    radius: float | None = Field(
        default=None, ge=1, le=500, description="Of a blur, in pixels; by default it depends on the frame size."
    )
    video_url: str | None = None


class Canvas(Schema):
    width: int | None = Field(default=None, ge=16, le=4096, description="Pixels; the source's when left out.")
    height: int | None = Field(default=None, ge=16, le=4096)


class Offset(Schema):
    x: float = Field(default=0, description="Pixels to the right of the anchor.")
    y: float = Field(default=0, description="Pixels below the anchor.")


class Foreground(Schema):
    anchor: Anchor = "center"
    scale: float = Field(default=1, ge=0.01, le=10, description="1 fits the source into the canvas.")
    offset: Offset = Offset()


class Composition(Schema):
    canvas: Canvas = Canvas()
    foreground: Foreground = Foreground()


class Engine(Schema):
    """The engine that made the matte, so that the result can be reproduced."""

    name: str
    version: str
    weights_sha256: str | None
    license: str = Field(description="Of the weights.")
    code_license: str = ""
    training_data: str | None = Field(default=None, description="What the weights were trained on, as far as known.")
    author_statement: str | None = Field(default=None, description="What the authors say about using it.")


class Output(Schema):
    """The delivered file, verified after writing."""

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
        description="straight: colors are not multiplied by alpha; white_is_opaque: a grayscale matte; null: unknown."
    )
    has_audio: bool
    frames_lost: int = Field(description="Frames of the source that could not be decoded.")


class Delivery(Schema):
    """How the delivery of a file to its output_target ended."""

    url: str = Field(description="The target's, without its query.")
    status: Literal["delivered", "failed"]
    attempts: int = Field(description="How many requests were sent.")
    at: Time
    status_code: int | None = Field(description="Of the last response; null without one.")
    error: str | None = Field(description="Why it failed.")


class NamedOutput(Schema):
    """One of a job's files, verified after writing."""

    name: str = Field(description="The format; with a number where the job has several files of it.")
    format: str
    url: str | None = Field(description="Signed and temporary; null once the files expired.")
    revision: int = Field(
        description="Of the job, when the file was made: that of an export stays behind when the job is corrected."
    )
    bytes: int
    sha256: str
    frames: int
    has_alpha: bool
    mime: str
    width: int
    height: int
    seconds: float
    alpha: AlphaKind | None
    has_audio: bool
    frames_lost: int
    quality: Quality
    background: Background
    keep: list[str] = Field(description="IDs of the subjects in the file; empty for all.")
    drop: list[str] = Field(description="IDs of the subjects that are not in the file.")
    delivery: Delivery | None = Field(description="Null where no output_target was given.")


class RequestedOutput(Schema):
    format: str
    quality: Quality
    background: Background
    composition: Composition | None
    poster_time: float | None
    output_target_url: str | None = Field(
        description="Where it is sent: the address without its query, which is secret."
    )


class Matte(Schema):
    """The lossless matte that is kept with the job."""

    bytes: int
    sha256: str
    frames: int


class TestRun(Schema):
    """The outcome of a test job, and after how many seconds."""

    outcome: ScenarioOutcome
    seconds: float


class Job(Schema):
    id: str
    job_id: str = Field(description="The same as id.")
    status: PublicStatus
    progress: float = Field(ge=0, le=100)
    output_url: str | None = Field(description="Signed and temporary; every response has a fresh one.")
    expires_at: Time | None = Field(description="When output_url expires.")
    queue_position: int | None = Field(
        ge=0, description="How many jobs start before it, 0 for the next one; an estimate, null unless it is queued."
    )
    preview_url: str | None = Field(
        description="A small transparent WebP of the newest frame while the job is running."
    )
    error: str | None = Field(description="Why it failed.")
    error_code: str | None
    model: Tier
    output_format: OutputFormat
    bg_type: str = Field(
        description="The type as it was requested, such as green or custom; background.type is color for these.",
        json_schema_extra={"enum": [*get_args(BackgroundType), "green", "white", "black", "blue", "custom"]},
    )
    background: Background
    composition: Composition | None
    quality: Quality
    poster_time: float | None
    smoothing: Smoothing
    text_prompt: str | None
    preview_duration: float | None
    requested_engine: str | None = Field(description="The engine that the job asked for; `engine` is what served it.")
    key_color: str | None = Field(examples=["#00B140"])
    shadows: bool
    grow: float
    feather: float
    video_url: str
    metadata: Mapping[str, Any]
    webhook_url: str | None
    webhook_events: Mapping[str, str] = Field(description="For each event: pending, sent or failed.")
    billing_status: Literal["not_billed", "reserved", "charged", "released"]
    credits_used: float = Field(description="Credits charged; 0 until completed, and for clients who are not charged.")
    credits_reserved: float
    pricing_version: str | None = Field(description="The price list of the run, if it is charged.")
    duration_seconds: float | None = Field(description="Duration of the output.")
    created_at: Time
    updated_at: Time
    started_at: Time | None
    completed_at: Time | None
    output: Output | None
    outputs: list[NamedOutput] = Field(description="All files: of the run, then of the exports. Empty until completed.")
    requested_outputs: list[RequestedOutput]
    keep_matte: bool
    layers: bool = Field(description="Whether each subject gets a file of its own.")
    matte: Matte | None = Field(description="Null until completed, and where it was not kept.")
    revision: int = Field(description="Counts how often the outputs were remade.")
    engine: Engine | None
    warnings: list[str]
    retention_seconds: int | None = Field(description="How long its files are kept after it ends; null: forever.")
    files_expire_at: Time | None = Field(description="When the result and the source are deleted; null until it ends.")
    attempts: int = Field(description="How many times a worker started it.")
    test: TestRun | None = Field(description="Null for a real job.")


class AcceptedJob(Job):
    """The job after it was created, started or cancelled."""

    success: Literal[True] = True
    message: str


class JobList(Schema):
    success: Literal[True] = True
    items: list[Job]
    jobs: list[Job] = Field(description="The same as items.")
    total: int
    limit: int
    offset: int
    has_more: bool


class Export(RequestedOutput):
    """A further output of a completed job, made of its matte."""

    id: str
    job_id: str = Field(description="The job that it belongs to.")
    status: PublicStatus
    progress: float = Field(ge=0, le=100)
    revision: int = Field(description="The revision of the job's matte that it is made of.")
    keep: list[str] = Field(description="IDs of the subjects in the file; empty for all.")
    drop: list[str] = Field(description="IDs of the subjects that are not in the file.")
    output_url: str | None
    expires_at: Time | None
    output: Output | None
    delivery: Delivery | None = Field(description="Null where no output_target was given, and until it is completed.")
    error: str | None
    error_code: str | None
    billing_status: Literal["not_billed", "reserved", "charged", "released"]
    credits_used: float
    credits_reserved: float
    created_at: Time
    completed_at: Time | None


class AcceptedExport(Export):
    success: Literal[True] = True
    message: str


class Layer(Schema):
    """The file of one subject."""

    subject: str = Field(description="The subject's ID.")
    export: Export


class Layers(Schema):
    success: Literal[True] = True
    job_id: str
    status: PublicStatus = Field(description="Of the analysis that finds the subjects.")
    ready: bool = Field(description="Whether every file is there. Ask again while it is false and nothing failed.")
    error: str | None = Field(description="Why the analysis failed.")
    items: list[Layer]


class ExportList(Schema):
    success: Literal[True] = True
    job_id: str
    items: list[Export]


class Transition(Schema):
    sequence: int
    from_status: str | None
    to_status: str
    at: Time
    actor: str
    request_id: str | None
    reason: str


class History(Schema):
    """Every transition of a job, oldest first."""

    success: Literal[True] = True
    id: str
    job_id: str
    items: list[Transition]


class Process(Schema):
    success: Literal[True] = True
    id: str
    job_id: str
    status: PublicStatus
    message: str
