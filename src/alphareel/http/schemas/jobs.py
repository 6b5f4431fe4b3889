"""The JSON bodies that the routes for jobs take, as OpenAPI shows them; ``jobs.requests`` parses what really comes.

A null is the same as a field left out, so every field that may be left out may be null.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from alphareel.domain.color import NAMED
from alphareel.domain.options import Anchor, Quality, Tier
from alphareel.http.schemas.responses import OutputFormat
from alphareel.service.jobs.retention import MAX_RETENTION_SECONDS
from alphareel.service.jobs.test_mode import MAX_SECONDS as MAX_TEST_SECONDS
from alphareel.service.jobs.test_mode import ScenarioOutcome
from alphareel.service.jobs.validation import HOST

_PORT = "(:([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?"
_ADDRESS = rf"https?://{HOST}{_PORT}([/?#][^\u0000-\u0020\u007f-\u00a0\s]*)?"
_HEX = "#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"
_TEXT = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f]*$"
_NAMES = "|".join(NAMED)

Address = Annotated[str, Field(max_length=4096, pattern=f"^{_ADDRESS}$")]
MaybeAddress = Annotated[str, Field(max_length=4096, pattern=f"^({_ADDRESS})?$")]
ColorText = Annotated[str, Field(pattern=f"^({_HEX}|{_NAMES})$", examples=["#09A246"])]
ColorNumbers = Annotated[
    list[Annotated[float, Field(ge=0, le=255)]],
    Field(min_length=3, max_length=3, examples=[[0.035, 0.635, 0.274]]),
]
Side = Annotated[int, Field(ge=16, le=4096)]
Shift = Annotated[float, Field(ge=-8192, le=8192)]


class _Schema(BaseModel):
    model_config = ConfigDict(frozen=True)


class FlatBackground(_Schema):
    """Nothing, or one of the colors that have a type of their own."""

    type: Literal["transparent", "green", "white", "black", "blue"]


class ColorBackground(_Schema):
    type: Literal["color", "custom"] | None = "color"
    color: ColorNumbers | ColorText = Field(
        description="Hex, a name, or three numbers: all up to 1 are shares, any above is 0-255."
    )


class ImageBackground(_Schema):
    type: Literal["image"] | None = "image"
    image_url: Address


class BlurBackground(_Schema):
    """The original, out of focus."""

    type: Literal["blur"]
    radius: float | None = Field(default=None, ge=1, le=500, description="In pixels; follows from the size.")


class VideoBackground(_Schema):
    """Another clip, scaled to cover, at its own pace, from its start and repeated; silent, and not billed."""

    type: Literal["video"] | None = "video"
    video_url: Address


WantedBackground = FlatBackground | ColorBackground | ImageBackground | BlurBackground | VideoBackground
BackgroundText = Annotated[str, Field(pattern=f"^(transparent|blur|{_HEX}|{_NAMES})$")]


class WantedCanvas(_Schema):
    """In pixels; what is left out is the source's."""

    width: Side | None = None
    height: Side | None = None


class WantedOffset(_Schema):
    x: Shift | None = Field(default=0, description="Pixels to the right of the anchor.")
    y: Shift | None = Field(default=0, description="Pixels below the anchor.")


class WantedForeground(_Schema):
    anchor: Anchor | None = "center"
    scale: float | None = Field(default=1, ge=0.01, le=10, description="1 fits the source into the canvas.")
    offset: WantedOffset | None = None


class WantedComposition(_Schema):
    canvas: WantedCanvas | None = None
    foreground: WantedForeground | None = None


class WantedTest(_Schema):
    outcome: ScenarioOutcome
    seconds: float | None = Field(default=None, ge=0, le=MAX_TEST_SECONDS, description="Until the outcome.")


class JobStart(_Schema):
    """Every field is optional and replaces the job's own; unknown fields are ignored.

    `mp4` and `prores_hq` need a background that is not transparent, `stacked_mp4`, `matte` and `hevc_mov`
    one that is.
    """

    video_url: Address | None = Field(default=None, description="An upload's video_url, or any http(s) address.")
    metadata: dict[str, Any] | None = Field(
        default=None, description="Yours; it comes back with the job. At most 16 KiB as JSON, no null characters."
    )
    model: Tier | None = Field(default="original", description="Which tier of quality and speed makes the matte.")
    output_format: OutputFormat | None = "webm"
    background: WantedBackground | BackgroundText | None = Field(
        default=None, description="Wins over bg_type and its companions."
    )
    bg_type: Literal["transparent", "green", "white", "black", "blue", "custom", "color", "image"] | None = Field(
        default=None, description="color and custom need bg_color, image needs bg_image_url."
    )
    bg_color: ColorNumbers | ColorText | None = Field(
        default=None, description="Hex, a name, or three numbers: all up to 1 are shares, any above is 0-255."
    )
    bg_image_url: Address | None = None
    composition: WantedComposition | None = None
    quality: Quality | None = Field(default="balanced", description="How large and how good: docs/formats.md.")
    poster_time: float | None = Field(
        default=None,
        ge=0,
        le=86400,
        description="Seconds at which a poster or thumbnail is taken; else the best.",
    )
    text_prompt: str | None = Field(
        default=None, max_length=2000, pattern=_TEXT, description="What to keep; used by the model pro."
    )
    preview_duration: float | None = Field(
        default=None, ge=0.04, le=86400, description="Only so many seconds of the clip."
    )
    webhook_url: MaybeAddress | None = Field(default=None, description="Empty is the same as null.")
    test: ScenarioOutcome | WantedTest | None = Field(
        default=None, description="Makes this a test job: it computes nothing, costs nothing and comes to this."
    )
    retention_seconds: int | None = Field(
        default=None,
        ge=0,
        le=MAX_RETENTION_SECONDS,
        description="How long result and source stay after the end; 0 until they were fetched. No longer than the "
        "server keeps files anyway.",
    )


class JobCreate(JobStart):
    """Unknown fields are ignored. `mp4`, `prores_hq` need a background; `stacked_mp4`, `matte` a transparent one."""

    video_url: Address = Field(description="An upload's video_url, or any http(s) address.")
    auto_start: bool | None = Field(default=True, description="false makes a draft that waits for /start.")


Fact = Annotated[float, Field(gt=0, le=1_000_000)]


class SourceFacts(_Schema):
    """What you know of a video that lies at an address; an upload's own facts win."""

    seconds: Fact | None = None
    width: Fact | None = None
    height: Fact | None = None
    frame_rate: Fact | None = None


class EstimateRequest(JobCreate):
    """The body of a job, and what is known of its source. `mp4` and `prores_hq` need a background, as in a job."""

    source: SourceFacts | None = None


class WebhookTest(_Schema):
    webhook_url: Address = Field(description="Where the event is sent, now and once.")
