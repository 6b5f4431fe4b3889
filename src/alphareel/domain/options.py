"""The options of a run, and their JSON form for the database.

``media.format.check_format`` checks whether the output format exists and fits the background.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from alphareel.domain.color import Rgb

Tier: TypeAlias = Literal["original", "light", "pro", "human"]
Quality: TypeAlias = Literal["web", "balanced", "master"]
Smoothing: TypeAlias = Literal["offline", "live"]
BackgroundType: TypeAlias = Literal["transparent", "color", "image", "blur", "video"]
Anchor: TypeAlias = Literal[
    "top-left", "top-center", "top-right",
    "center-left", "center", "center-right",
    "bottom-left", "bottom-center", "bottom-right",
]  # fmt: skip

LOSSLESS_MATTE = "lossless_matte"
"""The format of the matte that is kept for further outputs."""
MAX_OUTPUTS = 8

TIERS: tuple[Tier, ...] = get_args(Tier)
QUALITIES: tuple[Quality, ...] = get_args(Quality)
SMOOTHINGS: tuple[Smoothing, ...] = get_args(Smoothing)
BACKGROUNDS: tuple[BackgroundType, ...] = get_args(BackgroundType)
ANCHORS: tuple[Anchor, ...] = get_args(Anchor)


@dataclass(frozen=True)
class Background:
    """What is behind the subject.

    ``color``: RGB, 0 to 255. ``image_url``: a URL; a path in the library. ``video_url``: likewise; the video starts
    with the source and is looped. ``radius``: standard deviation of a ``blur`` of the original, in output pixels;
    None derives it from the output size. ``requested_type``: the caller's word for the type, such as green or custom,
    if it is another one.
    """

    type: BackgroundType = "transparent"
    color: Rgb | None = None
    image_url: str | None = None
    radius: float | None = None
    video_url: str | None = None
    requested_type: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Composition:
    """The canvas of the output, and the position of the source frame on it. All lengths in pixels.

    ``width``, ``height``: None for the clip's size. ``scale``: 1 fits the frame into the canvas. ``offset_x`` points
    right and ``offset_y`` down.
    """

    width: int | None = None
    height: int | None = None
    anchor: Anchor = "center"
    scale: float = 1.0
    offset_x: float = 0.0
    offset_y: float = 0.0

    def odd_sides(self) -> str:
        """How the odd sides are rounded, in words; empty if there are none. The compositor works in 4:2:0."""
        sides = {"width": self.width, "height": self.height}
        return ", ".join(f"{name} {side} becomes {side - 1}" for name, side in sides.items() if side and side % 2)


@dataclass(frozen=True)
class Options:
    """All settings of a run besides its source and target.

    ``engine``: overrides the engine that serves ``model``. ``key_color``: for the engine chroma; None to detect it.
    ``plate``: path of a picture of the empty scene; selects the engine plate, which otherwise finds one in the clip.
    ``shadows``: keep the subject's shadows (engines chroma and plate). ``grow``: moves the outline of the matte outward
    by this many pixels of the clip, inward if negative. ``feather``: pixels by which to soften it.
    ``preview_duration``: seconds of the clip to process, None for all. ``quality``: see docs/formats.md.
    ``poster_time``: seconds at which poster and thumbnail are taken, None for the best frame. ``smoothing``: "offline"
    blends each matte with those before and after it, "live" only with those before it. ``keep``, ``drop``: IDs of
    subjects that an analysis found; all others go, or these.
    """

    model: Tier = "original"
    output_format: str = "webm"
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
    smoothing: Smoothing = "offline"
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    @property
    def matting_options(self) -> "Options":
        """These options without those that do not affect the matte. Equal for all outputs of one matte."""
        return replace(
            self, output_format="webm", background=Background(), composition=None, quality="balanced", poster_time=None
        )

    def warnings(self) -> tuple[str, ...]:
        """Sentences about options that have no effect."""
        messages = []
        if self.text_prompt and self.model != "pro":
            messages.append(f"text_prompt is only used by the model pro; {self.model} ignored it.")
        if self.plate and self.engine not in (None, "plate"):
            messages.append(f"plate is only used by the engine plate; {self.engine} ignored it.")
        if self.key_color and self.engine != "chroma":
            messages.append("key_color is only used by the engine chroma.")
        if self.composition is not None and (odd := self.composition.odd_sides()):
            messages.append(f"The sides of the canvas are even, so {odd}.")
        if self.shadows and self.plate is None and self.engine not in ("chroma", "plate"):
            messages.append("shadows is only used by the engines chroma and plate.")
        return tuple(messages)


@dataclass(frozen=True)
class Output:
    """One file to write. All outputs of a run share the matte: their ``matting_options`` are equal."""

    path: Path
    options: Options = field(default_factory=Options)


def to_json(options: Options) -> dict[str, Any]:
    """As stored with a job."""
    return asdict(options)


def from_json(values: Mapping[str, Any]) -> Options:
    """The inverse of ``to_json``."""
    fields = dict(values)
    background = dict(fields.get("background") or {})
    if background.get("color") is not None:
        background["color"] = tuple(background["color"])
    fields["background"] = Background(**background)
    if fields.get("composition") is not None:
        fields["composition"] = Composition(**fields["composition"])
    if fields.get("key_color") is not None:
        fields["key_color"] = tuple(fields["key_color"])
    for name in ("keep", "drop"):
        fields[name] = tuple(fields.get(name) or ())
    return Options(**fields)
