"""The JSON of options in request bodies, for the OpenAPI document.

``domain/parsing.py`` parses options, for the library and the command too; these models describe what its parsers take.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from alphareel.domain.color import COLOR_TEXT
from alphareel.domain.corrections import SUBJECT_IDS
from alphareel.domain.options import MAX_OUTPUTS
from alphareel.domain.parsing import ANCHOR, COLOR, MODEL, OPTION_PARSERS, RADIUS, SCALE, SHIFT, SIDE
from alphareel.service.jobs.capabilities import engine_names, output_formats
from alphareel.service.jobs.output_targets import HEADER_NAME, HEADER_VALUE, MAX_HEADERS, TARGET_URL
from alphareel.service.requests import SparseBody, documented_by
from alphareel.service.urls import MAX_URL_LENGTH, SOURCE_URL

OutputFormat = Annotated[str, Field(json_schema_extra={"enum": list(output_formats())})]
Color = Annotated[Any, documented_by(COLOR)]
Url = Annotated[Any, documented_by(SOURCE_URL)]
SubjectIds = Annotated[Any, documented_by(SUBJECT_IDS)]
_COLOR = "Hex, a name, or three numbers: 0-1 if none exceeds 1, otherwise 0-255."


def _option(name: str) -> Any:
    return documented_by(OPTION_PARSERS[name])


class PresetBackground(BaseModel):
    """Transparent, or one of the preset colors."""

    type: Literal["transparent", "green", "white", "black", "blue"]


class ColorBackground(BaseModel):
    type: Literal["color", "custom"] | None = "color"
    color: Color = Field(description=_COLOR)


class ImageBackground(BaseModel):
    type: Literal["image"] | None = "image"
    image_url: Url


class BlurBackground(BaseModel):
    """The original video, blurred."""

    type: Literal["blur"]
    radius: Annotated[Any, documented_by(RADIUS)] | None = Field(
        default=None, description="In pixels; by default it depends on the frame size."
    )


class VideoBackground(BaseModel):
    """Another clip: scaled to cover the frame, at its own frame rate, looped, without its audio, not billed."""

    type: Literal["video"] | None = "video"
    video_url: Url


BackgroundText = Annotated[str, Field(pattern=f"^(transparent|blur|{COLOR_TEXT})$")]
BackgroundRequest = Annotated[
    Any,
    documented_by(
        PresetBackground | ColorBackground | ImageBackground | BlurBackground | VideoBackground | BackgroundText
    ),
]


FlatType = Literal["transparent", "green", "white", "black", "blue", "custom", "color", "image"]


class CanvasRequest(BaseModel):
    """Size in pixels; an absent side is that of the source."""

    width: Annotated[Any, documented_by(SIDE)] | None = None
    height: Annotated[Any, documented_by(SIDE)] | None = None


class OffsetRequest(BaseModel):
    x: Annotated[Any, documented_by(SHIFT)] | None = Field(default=0, description="Pixels to the right of the anchor.")
    y: Annotated[Any, documented_by(SHIFT)] | None = Field(default=0, description="Pixels below the anchor.")


class ForegroundRequest(BaseModel):
    anchor: Annotated[Any, documented_by(ANCHOR)] | None = "center"
    scale: Annotated[Any, documented_by(SCALE)] | None = Field(
        default=1, description="1 fits the source into the canvas."
    )
    offset: OffsetRequest | None = None


class CompositionRequest(BaseModel):
    canvas: CanvasRequest | None = None
    foreground: ForegroundRequest | None = None


class OutputTargetRequest(BaseModel):
    """Where the finished file is sent, with a PUT: usually a presigned URL of your bucket."""

    url: Annotated[str, Field(pattern=f"^{TARGET_URL}$", max_length=MAX_URL_LENGTH)] = Field(
        description="Without a user name. Its query is secret: no response shows it."
    )
    headers: (
        Annotated[
            dict[Annotated[str, Field(pattern=f"^{HEADER_NAME}$")], Annotated[str, Field(pattern=f"^{HEADER_VALUE}$")]],
            Field(max_length=MAX_HEADERS, examples=[{"x-ms-blob-type": "BlockBlob"}]),
        ]
        | None
    ) = Field(
        default=None, description="Headers to send; none that belongs to the connection. Their values are secret."
    )


class OutputRequest(SparseBody):
    """One of several outputs. What it leaves out is as the job has it."""

    format: Annotated[Any, documented_by(OutputFormat)]
    quality: Annotated[Any, _option("quality")] | None = None
    background: BackgroundRequest | None = None
    composition: Annotated[Any, documented_by(CompositionRequest)] | None = None
    poster_time: Annotated[Any, _option("poster_time")] | None = None
    output_target: Annotated[Any, documented_by(OutputTargetRequest)] | None = Field(
        default=None, description="Send the finished file there."
    )


class OptionFields(SparseBody):
    """How the matte is made and what the outputs are."""

    model: Annotated[Any, documented_by(MODEL)] | None = Field(
        default="original", description="The quality and speed of the matte."
    )
    output_format: Annotated[Any, documented_by(OutputFormat)] | None = "webm"
    outputs: (
        Annotated[Any, documented_by(Annotated[list[OutputRequest], Field(min_length=1, max_length=MAX_OUTPUTS)])]
        | None
    ) = Field(
        default=None,
        description="Several files of one matte, each format once; takes precedence over output_format.",
    )
    output_target: Annotated[Any, documented_by(OutputTargetRequest)] | None = Field(
        default=None,
        description="Send the finished file there before the job is completed. With `outputs`, each has its own.",
    )
    background: BackgroundRequest | None = Field(
        default=None, description="Takes precedence over bg_type, bg_color and bg_image_url."
    )
    bg_type: Annotated[Any, documented_by(FlatType)] | None = Field(
        default=None, description="color and custom need bg_color, image needs bg_image_url."
    )
    bg_color: Color | None = Field(default=None, description=_COLOR)
    bg_image_url: Url | None = None
    composition: Annotated[Any, documented_by(CompositionRequest)] | None = None
    quality: Annotated[Any, _option("quality")] | None = Field(
        default="balanced", description="File size against fidelity; see docs/formats.md."
    )
    poster_time: Annotated[Any, _option("poster_time")] | None = Field(
        default=None, description="Position of the poster or thumbnail in seconds; by default the best frame."
    )
    smoothing: Annotated[Any, _option("smoothing")] | None = Field(
        default="offline", description="offline: blends each matte with those before and after it; live: only before."
    )
    keep: SubjectIds | None = Field(
        default=None, description="Subjects to keep, by the IDs that the draft's subjects have."
    )
    drop: SubjectIds | None = Field(default=None, description="Subjects to remove, likewise.")
    text_prompt: Annotated[Any, _option("text_prompt")] | None = Field(
        default=None, description="What to keep; only the model pro uses it."
    )
    preview_duration: Annotated[Any, _option("preview_duration")] | None = Field(
        default=None, description="Process only this many seconds of the clip."
    )
    engine: Annotated[Any, _option("engine")] | None = Field(
        default=None,
        description="Use this engine instead of the model's; the price stays that of the model.",
        examples=list(engine_names()),
    )
    key_color: Color | None = Field(
        default=None, description="The screen's color, for the engine chroma; by default it is detected."
    )
    shadows: Annotated[Any, _option("shadows")] | None = Field(
        default=False, description="Keep the subject's shadows (engines chroma and plate)."
    )
    grow: Annotated[Any, _option("grow")] | None = Field(
        default=0, description="Move the outline outward by this many pixels; negative: inward."
    )
    feather: Annotated[Any, _option("feather")] | None = Field(
        default=0, description="Soften the outline by this many pixels."
    )
