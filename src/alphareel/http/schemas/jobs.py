"""JSON of the job routes: request bodies first, then responses.

A null in a request means the same as an absent field, so every optional field may be null.
``service/jobs/validation.py`` parses the request bodies of jobs; these models document them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from alphareel.domain.clip import AlphaKind
from alphareel.domain.color import NAMED
from alphareel.domain.corrections import MAX_SUBJECTS, SUBJECT_ID
from alphareel.domain.options import MAX_OUTPUTS, Anchor, BackgroundType, Quality, Smoothing, Tier
from alphareel.http.schemas.fields import Schema, Time
from alphareel.service.jobs.capabilities import engine_names, output_formats
from alphareel.service.jobs.output_targets import MAX_HEADER_NAME, MAX_HEADER_VALUE, MAX_HEADERS
from alphareel.service.jobs.retention import MAX_RETENTION_SECONDS
from alphareel.service.jobs.test_mode import MAX_SECONDS as MAX_TEST_SECONDS
from alphareel.service.jobs.test_mode import ScenarioOutcome
from alphareel.service.jobs.validation import HOST

_PORT = "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
_URL = rf"https?://{HOST}{_PORT}([/?#][^\u0000-\u0020\u007f-\u00a0\s]*)?"
_HEX = "#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"
PLAIN_TEXT = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f]*$"
_NAMES = "|".join(NAMED)

Url = Annotated[str, Field(max_length=4096, pattern=f"^{_URL}$")]
TargetUrl = Annotated[str, Field(max_length=4096, pattern=rf"^https?://{HOST}{_PORT}([/?#][!-~]*)?$")]
OptionalUrl = Annotated[str, Field(max_length=4096, pattern=f"^({_URL})?$")]
ColorString = Annotated[str, Field(pattern=f"^({_HEX}|{_NAMES})$", examples=["#09A246"])]
ColorNumbers = Annotated[
    list[Annotated[float, Field(ge=0, le=255)]],
    Field(min_length=3, max_length=3, examples=[[0.035, 0.635, 0.274]]),
]
Side = Annotated[int, Field(ge=16, le=4096)]
Shift = Annotated[float, Field(ge=-8192, le=8192)]
OutputFormat = Annotated[str, Field(json_schema_extra={"enum": list(output_formats())})]
EngineName = Annotated[str, Field(max_length=64, json_schema_extra={"examples": list(engine_names())})]
SubjectIds = Annotated[
    list[Annotated[str, Field(pattern=f"^{SUBJECT_ID}$")]], Field(max_length=MAX_SUBJECTS, examples=[["s1"]])
]
PublicStatus = Literal["created", "pending", "processing", "completed", "failed"]


class PresetBackground(Schema):
    """Transparent, or one of the preset colors."""

    type: Literal["transparent", "green", "white", "black", "blue"]


class ColorBackground(Schema):
    type: Literal["color", "custom"] | None = "color"
    color: ColorNumbers | ColorString = Field(
        description="Hex, a name, or three numbers: 0-1 if none exceeds 1, otherwise 0-255."
    )


class ImageBackground(Schema):
    type: Literal["image"] | None = "image"
    image_url: Url


class BlurBackground(Schema):
    """The original video, blurred."""

    type: Literal["blur"]
    radius: float | None = Field(
        default=None, ge=1, le=500, description="In pixels; by default it depends on the frame size."
    )


class VideoBackground(Schema):
    """Another clip: scaled to cover the frame, at its own frame rate, looped, without its audio, not billed."""

    type: Literal["video"] | None = "video"
    video_url: Url


BackgroundRequest = PresetBackground | ColorBackground | ImageBackground | BlurBackground | VideoBackground
BackgroundString = Annotated[str, Field(pattern=f"^(transparent|blur|{_HEX}|{_NAMES})$")]


class CanvasRequest(Schema):
    """Size in pixels; an absent side is that of the source."""

    width: Side | None = None
    height: Side | None = None


class OffsetRequest(Schema):
    x: Shift | None = Field(default=0, description="Pixels to the right of the anchor.")
    y: Shift | None = Field(default=0, description="Pixels below the anchor.")


class ForegroundRequest(Schema):
    anchor: Anchor | None = "center"
    scale: float | None = Field(default=1, ge=0.01, le=10, description="1 fits the source into the canvas.")
    offset: OffsetRequest | None = None


class CompositionRequest(Schema):
    canvas: CanvasRequest | None = None
    foreground: ForegroundRequest | None = None


class TestRequest(Schema):
    outcome: ScenarioOutcome
    seconds: float | None = Field(default=None, ge=0, le=MAX_TEST_SECONDS, description="Seconds until the outcome.")


class OutputTargetRequest(Schema):
    """Where the finished file is sent, with a PUT: usually a presigned URL of your bucket."""

    url: TargetUrl = Field(description="Without a user name. Its query is secret: no response shows it.")
    headers: (
        Annotated[
            dict[
                Annotated[str, Field(pattern=rf"^[!#$%&'*+.^_`|~0-9A-Za-z-]{{1,{MAX_HEADER_NAME}}}$")],
                Annotated[str, Field(pattern=rf"^([!-~]([ -~]{{0,{MAX_HEADER_VALUE - 2}}}[!-~])?)?$")],
            ],
            Field(max_length=MAX_HEADERS, examples=[{"x-ms-blob-type": "BlockBlob"}]),
        ]
        | None
    ) = Field(
        default=None, description="Headers to send; none that belongs to the connection. Their values are secret."
    )


class OutputRequest(Schema):
    """One of several outputs. What it leaves out is as the job has it."""

    format: OutputFormat
    quality: Quality | None = None
    background: BackgroundRequest | BackgroundString | None = None
    composition: CompositionRequest | None = None
    poster_time: float | None = Field(default=None, ge=0, le=86400)
    output_target: OutputTargetRequest | None = Field(default=None, description="Send the finished file there.")


class ExportRequest(OutputRequest):
    """A further output of a completed job. What it leaves out is as the job has it."""

    keep: SubjectIds | None = Field(default=None, description="Only these subjects are in the file.")
    drop: SubjectIds | None = Field(default=None, description="These subjects are not in the file.")


class JobStart(Schema):
    """Every field is optional and replaces the job's own; unknown fields are ignored.

    `mp4` and `prores_hq` need a background that is not transparent, `stacked_mp4`, `matte` and `hevc_mov`
    one that is.
    """

    video_url: Url | None = Field(default=None, description="An upload's video_url, or any http(s) address.")
    metadata: dict[str, Any] | None = Field(
        default=None, description="Your own data, returned with the job. At most 16 KiB as JSON, no null characters."
    )
    model: Tier | None = Field(default="original", description="The quality and speed of the matte.")
    output_format: OutputFormat | None = "webm"
    outputs: Annotated[list[OutputRequest], Field(min_length=1, max_length=MAX_OUTPUTS)] | None = Field(
        default=None,
        description="Several files of one matte, each format once; takes precedence over output_format.",
    )
    output_target: OutputTargetRequest | None = Field(
        default=None,
        description="Send the finished file there before the job is completed. With `outputs`, each has its own.",
    )
    keep_matte: bool | None = Field(
        default=True, description="Keep the matte as long as the outputs, so that exports need no network."
    )
    layers: bool | None = Field(
        default=False, description="Give each subject a file of its own, listed by GET /v1/jobs/{id}/layers."
    )
    background: BackgroundRequest | BackgroundString | None = Field(
        default=None, description="Takes precedence over bg_type, bg_color and bg_image_url."
    )
    bg_type: Literal["transparent", "green", "white", "black", "blue", "custom", "color", "image"] | None = Field(
        default=None, description="color and custom need bg_color, image needs bg_image_url."
    )
    bg_color: ColorNumbers | ColorString | None = Field(
        default=None, description="Hex, a name, or three numbers: 0-1 if none exceeds 1, otherwise 0-255."
    )
    bg_image_url: Url | None = None
    composition: CompositionRequest | None = None
    quality: Quality | None = Field(default="balanced", description="File size against fidelity; see docs/formats.md.")
    poster_time: float | None = Field(
        default=None,
        ge=0,
        le=86400,
        description="Position of the poster or thumbnail in seconds; by default the best frame.",
    )
    smoothing: Smoothing | None = Field(
        default="offline", description="offline: blends each matte with those before and after it; live: only before."
    )
    keep: SubjectIds | None = Field(
        default=None, description="Subjects to keep, by the IDs that the draft's subjects have."
    )
    drop: SubjectIds | None = Field(default=None, description="Subjects to remove, likewise.")
    text_prompt: str | None = Field(
        default=None, max_length=2000, pattern=PLAIN_TEXT, description="What to keep; only the model pro uses it."
    )
    preview_duration: float | None = Field(
        default=None, ge=0.04, le=86400, description="Process only this many seconds of the clip."
    )
    engine: EngineName | None = Field(
        default=None, description="Use this engine instead of the model's; the price stays that of the model."
    )
    key_color: ColorNumbers | ColorString | None = Field(
        default=None, description="The screen's color, for the engine chroma; by default it is detected."
    )
    shadows: bool | None = Field(default=False, description="Keep the subject's shadows (engines chroma and plate).")
    grow: float | None = Field(
        default=0, ge=-50, le=50, description="Move the outline outward by so many pixels; negative: inward."
    )
    feather: float | None = Field(default=0, ge=0, le=50, description="Soften the outline by so many pixels.")
    webhook_url: OptionalUrl | None = Field(default=None, description="Empty is the same as null.")
    test: ScenarioOutcome | TestRequest | None = Field(
        default=None,
        description="Makes this a test job: it processes nothing, costs nothing and ends with this outcome.",
    )
    retention_seconds: int | None = Field(
        default=None,
        ge=0,
        le=MAX_RETENTION_SECONDS,
        description="How long the result and the source are kept after the job ends; 0: until they are downloaded. "
        "At most the server's own retention period.",
    )


class JobCreate(JobStart):
    """Unknown fields are ignored. `mp4`, `prores_hq` need a background; `stacked_mp4`, `matte` a transparent one."""

    video_url: Url = Field(description="An upload's video_url, or any http(s) address.")
    auto_start: bool | None = Field(default=True, description="false creates a draft that waits for /start.")


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
    """What came of sending a file to its output_target."""

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
    revision: int = Field(description="Counts how often the outputs were made anew.")
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
