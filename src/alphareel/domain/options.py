"""What a caller may ask of a run, as values that hold together, and their JSON for the database."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from alphareel.domain.color import Rgb
from alphareel.domain.errors import FieldProblem, InvalidRequest

Tier: TypeAlias = Literal["original", "light", "pro", "human"]
FormatName: TypeAlias = Literal[
    "webm", "mov", "mp4", "gif", "webp", "png_sequence",
    "apng", "stacked_mp4", "matte", "prores_hq", "ffv1", "hevc_mov", "poster", "thumbnail",
]  # fmt: skip
Quality: TypeAlias = Literal["web", "balanced", "master"]
BackgroundType: TypeAlias = Literal["transparent", "color", "image", "blur", "video"]
Anchor: TypeAlias = Literal[
    "top-left", "top-center", "top-right",
    "center-left", "center", "center-right",
    "bottom-left", "bottom-center", "bottom-right",
]  # fmt: skip

TIERS: tuple[Tier, ...] = get_args(Tier)
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
QUALITIES: tuple[Quality, ...] = get_args(Quality)
BACKGROUNDS: tuple[BackgroundType, ...] = get_args(BackgroundType)
ANCHORS: tuple[Anchor, ...] = get_args(Anchor)
OPAQUE_FORMATS: frozenset[str] = frozenset({"mp4", "prores_hq"})
ALPHA_ONLY_FORMATS: frozenset[str] = frozenset({"hevc_mov", "stacked_mp4", "matte"})

_FOR_ALPHA = "Choose webm, mov, gif, webp or png_sequence, or set a background."


@dataclass(frozen=True)
class Background:
    """What stands behind the subject. ``color``: RGB 0-255. ``image_url``: an URL, or a path for the library.

    ``radius``: how far (standard deviation, in pixels of the result) a ``blur`` of the original reaches; None follows
    from its size. ``video_url``: like ``image_url``, a clip that starts with the source and is repeated.
    """

    type: BackgroundType = "transparent"
    color: Rgb | None = None
    image_url: str | None = None
    radius: float | None = None
    video_url: str | None = None


@dataclass(frozen=True)
class Composition:
    """Where the source frame stands on a canvas (pixels); scale 1 fits it into the canvas, +x right, +y down."""

    width: int | None = None
    height: int | None = None
    anchor: Anchor = "center"
    scale: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0


@dataclass(frozen=True)
class Options:
    """Everything a run needs to know beside its source and target.

    ``engine`` overrides the tier's choice by name. ``key_color``: for the chroma engine; None finds it by itself.
    ``plate``: path of a picture of the empty scene; it chooses the engine plate, which finds one in the clip otherwise.
    ``shadows``: keep those that the subject casts (engines chroma and plate). ``grow``: pixels of the clip by which the
    matte's outline moves out, negative for in; ``feather``: by how many it becomes softer.
    ``preview_duration``: seconds of the clip to process, None for all of it. ``quality``: small for pages, as usual, or
    for going on working with; docs/formats.md has what each format makes of it.
    ``poster_time``: seconds of the clip at which poster and thumbnail are taken; None for the frame that looks best.
    """

    model: Tier = "original"
    output_format: FormatName = "webm"
    background: Background = field(default_factory=Background)
    composition: Composition | None = None
    text_prompt: str | None = None
    preview_duration: float | None = None
    engine: str | None = None
    key_color: Rgb | None = None
    plate: str | None = None
    quality: Quality = "balanced"
    shadows: bool = False
    grow: float = 0.0
    feather: float = 0.0
    poster_time: float | None = None

    def __post_init__(self) -> None:
        if self.output_format in OPAQUE_FORMATS and self.background.type == "transparent":
            raise InvalidRequest(
                f"{self.output_format} carries no alpha, so a transparent background cannot be kept.",
                hint=_FOR_ALPHA,
                details=[FieldProblem("output_format", f"{self.output_format} carries no alpha. {_FOR_ALPHA}")],
            )
        if self.output_format in ALPHA_ONLY_FORMATS and self.background.type != "transparent":
            raise InvalidRequest(
                f"{self.output_format} is for alpha, and nothing is transparent over a background.",
                hint="Leave the background transparent, or choose mp4.",
                details=[FieldProblem("output_format", "needs a transparent background")],
            )

    @property
    def matte(self) -> "Options":
        """What of this the matte depends on: equal for outputs that one matte serves."""
        return replace(
            self, output_format="webm", background=Background(), composition=None, quality="balanced", poster_time=None
        )

    def warnings(self) -> tuple[str, ...]:
        """What was accepted but has no effect."""
        unused = []
        if self.text_prompt and self.model != "pro":
            unused.append(f"text_prompt is used by the model pro only; {self.model} ignored it.")
        if self.plate and self.engine not in (None, "plate"):
            unused.append(f"plate is used by the engine plate only; {self.engine} ignored it.")
        if self.key_color and self.engine != "chroma":
            unused.append("key_color is used by the engine chroma only.")
        if self.shadows and self.plate is None and self.engine not in ("chroma", "plate"):
            unused.append("shadows are kept by the engines chroma and plate only.")
        return tuple(unused)


@dataclass(frozen=True)
class Output:
    """One file to make, and how. The outputs of one run differ in what becomes of the matte, not in the matte."""

    path: Path
    options: Options = field(default_factory=Options)


def to_json(options: Options) -> dict[str, Any]:
    """A JSON object that ``from_json`` turns back into equal options."""
    return asdict(options)


def from_json(values: Mapping[str, Any]) -> Options:
    """Options stored by ``to_json``."""
    made = dict(values)
    background = dict(made.get("background") or {})
    if background.get("color") is not None:
        background["color"] = tuple(background["color"])
    made["background"] = Background(**background)
    if made.get("composition") is not None:
        made["composition"] = Composition(**made["composition"])
    if made.get("key_color") is not None:
        made["key_color"] = tuple(made["key_color"])
    return Options(**made)
