"""What a caller may ask of a run, parsed and checked once for all faces (HTTP, library, command)."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias, TypeVar, cast, get_args

from alphareel.domain.colours import NAMED, Rgb, parse_colour
from alphareel.domain.errors import AlphareelError, FieldProblem, InvalidRequest

Tier: TypeAlias = Literal["original", "light", "pro", "human"]
FormatName: TypeAlias = Literal[
    "webm", "mov", "mp4", "gif", "webp", "png_sequence",
    "apng", "stacked_mp4", "matte",
]  # fmt: skip
BackgroundType: TypeAlias = Literal["transparent", "color", "image", "blur", "video"]
Anchor: TypeAlias = Literal[
    "top-left", "top-center", "top-right",
    "center-left", "center", "center-right",
    "bottom-left", "bottom-center", "bottom-right",
]  # fmt: skip

TIERS: tuple[Tier, ...] = get_args(Tier)
FORMATS: tuple[FormatName, ...] = get_args(FormatName)
BACKGROUNDS: tuple[BackgroundType, ...] = get_args(BackgroundType)
ANCHORS: tuple[Anchor, ...] = get_args(Anchor)
OPAQUE_FORMATS: frozenset[str] = frozenset({"mp4"})
ALPHA_ONLY_FORMATS: frozenset[str] = frozenset({"stacked_mp4", "matte"})

_FOR_ALPHA = "Choose webm, mov, gif, webp or png_sequence, or set a background."
_FLAT_COLOURS = ("green", "white", "black", "blue")
_IMPLIES = (("color", "color"), ("image", "image_url"), ("video", "video_url"), ("blur", "radius"))
_BACKGROUND_FIELDS = ("background", "bg_type", "bg_color", "bg_image_url")


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
    ``preview_duration``: seconds of the clip to process, None for all of it.
    """

    model: Tier = "original"
    output_format: FormatName = "webm"
    background: Background = field(default_factory=Background)
    composition: Composition | None = None
    text_prompt: str | None = None
    preview_duration: float | None = None
    engine: str | None = None
    key_color: Rgb | None = None

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

    def warnings(self) -> tuple[str, ...]:
        """What was accepted but has no effect."""
        if self.text_prompt and self.model != "pro":
            return (f"text_prompt is used by the model pro only; {self.model} ignored it.",)
        return ()


T = TypeVar("T")
_Fail: TypeAlias = Callable[[str, str], AlphareelError]


class _Fields:
    """Reads fields of a JSON object and collects every problem instead of stopping at the first."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self.values = values
        self.prefix = prefix
        self.problems: list[FieldProblem] = []

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def read(self, name: str, parse: Callable[[Any], T], default: T) -> T:
        if not self.has(name):
            return default
        try:
            return parse(self.values[name])
        except InvalidRequest as error:
            self.problems.extend(error.details or [FieldProblem(self.prefix + name, str(error))])
        return default

    def check(self) -> None:
        if self.problems:
            first = self.problems[0]
            raise InvalidRequest(f"{first.field}: {first.message}", details=self.problems)


def parse_options(values: Mapping[str, Any], *, stored: Options | None = None) -> Options:
    """Options of a request body; unknown fields are ignored, ``stored`` fills what the body leaves out.

    Any background field in ``values`` replaces the stored background whole; ``background`` wins over ``bg_*``.
    Raises InvalidRequest with one detail for each bad field.
    """
    old = stored or Options()
    fields = _Fields(values)
    background = old.background
    if any(fields.has(name) for name in _BACKGROUND_FIELDS):
        background = _read_background(fields)
    made = {
        "model": fields.read("model", _one_of(TIERS), old.model),
        "output_format": fields.read("output_format", _one_of(FORMATS), old.output_format),
        "background": background,
        "composition": fields.read("composition", _parse_composition, old.composition),
        "text_prompt": fields.read("text_prompt", text(2000), old.text_prompt),
        "preview_duration": fields.read("preview_duration", _number(0.04, 86400), old.preview_duration),
        "engine": fields.read("engine", text(64), old.engine),
        "key_color": fields.read("key_color", parse_colour, old.key_color),
    }
    fields.check()
    return Options(**made)  # type: ignore[arg-type]


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


def text(longest: int) -> Callable[[Any], str]:
    """A parser of strings of at most ``longest`` characters, none of them a control character."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidRequest(f"must be a string, not {_kind(value)}.")
        if len(value) > longest:
            raise InvalidRequest(f"must have at most {longest} characters, not {len(value)}.")
        if any(ord(c) < 32 and c not in "\t\r\n" for c in value):
            raise InvalidRequest("must not contain control characters.")
        return value

    return parse


def _one_of(allowed: tuple[T, ...]) -> Callable[[Any], T]:
    def parse(value: Any) -> T:
        if value not in allowed:
            raise InvalidRequest(f"must be one of {', '.join(map(str, allowed))}; got {str(value)[:60]!r}.")
        return cast(T, value)

    return parse


def _number(low: float, high: float) -> Callable[[Any], float]:
    def parse(value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise InvalidRequest(f"must be a number, not {_kind(value)}.")
        if not low <= value <= high:
            raise InvalidRequest(f"must lie between {low:g} and {high:g}; got {value:g}.")
        return float(value)

    return parse


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "this")


def _object(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"must be an object, not {_kind(value)}.")
    return value


def _read_background(fields: _Fields) -> Background:
    if fields.has("background"):
        return fields.read("background", _parse_background, Background())
    return fields.read("bg_type" if fields.has("bg_type") else _first_flat(fields), _flat(fields), Background())


def _first_flat(fields: _Fields) -> str:
    return "bg_color" if fields.has("bg_color") else "bg_image_url"


def _flat(fields: _Fields) -> Callable[[Any], Background]:
    """The flat spelling (``bg_type`` and friends) as a background; a missing ``bg_type`` follows from the others."""

    def parse(_: Any) -> Background:
        implied = "color" if fields.has("bg_color") else "image"
        kind = fields.values.get("bg_type") or implied
        kind = "color" if kind == "custom" else kind
        if kind in _FLAT_COLOURS:
            return Background("color", NAMED[str(kind)])
        named = {
            "type": kind,
            "color": fields.values.get("bg_color"),
            "image_url": fields.values.get("bg_image_url"),
        }
        return _checked_background(named, names={"type": "bg_type", "color": "bg_color", "image_url": "bg_image_url"})

    return parse


def _parse_background(value: Any) -> Background:
    if isinstance(value, str):
        return _parse_background_text(value)
    names = {name: f"background.{name}" for name in ("type", "color", "image_url", "radius", "video_url")}
    values = dict(_object(value))
    if not values.get("type"):
        values["type"] = next((kind for kind, name in _IMPLIES if values.get(name) is not None), None)
    if values["type"] in _FLAT_COLOURS:
        return Background("color", NAMED[values["type"]])
    if values["type"] == "custom":
        values["type"] = "color"
    return _checked_background(values, names=names)


def _parse_background_text(value: str) -> Background:
    if value in ("transparent", "blur"):
        return Background(cast(BackgroundType, value))
    return Background("color", parse_colour(value))


def _checked_background(values: Mapping[str, Any], *, names: Mapping[str, str]) -> Background:
    def fail(name: str, message: str) -> AlphareelError:
        return InvalidRequest(message, details=[FieldProblem(names.get(name, name), message)])

    kind = values.get("type")
    if kind not in BACKGROUNDS:
        accepted = ", ".join((*BACKGROUNDS, *_FLAT_COLOURS, "custom"))
        raise fail("type", f"must be one of {accepted}; got {str(kind)[:60]!r}.")
    if kind == "transparent":
        return Background()
    if kind == "color":
        colour = _read(values, "color", parse_colour, fail)
        if colour is None:
            raise fail("color", "is required for a colour background.")
        return Background("color", colour)
    if kind == "blur":
        return Background("blur", radius=_read(values, "radius", _number(1, 500), fail))
    url = f"{kind}_url"
    address = _read(values, url, text(4096), fail)
    if not address:
        raise fail(url, f"is required for {'an' if kind == 'image' else 'a'} {kind} background.")
    return Background("image", image_url=address) if kind == "image" else Background("video", video_url=address)


def _read(values: Mapping[str, Any], name: str, parse: Callable[[Any], T], fail: _Fail) -> T | None:
    """The parsed field, None when it is left out."""
    if values.get(name) is None:
        return None
    try:
        return parse(values[name])
    except InvalidRequest as error:
        raise fail(name, str(error)) from None


def _parse_composition(value: Any) -> Composition:
    outer = _Fields(_object(value), "composition.")
    canvas = _Fields(outer.read("canvas", _object, {}), "composition.canvas.")
    foreground = _Fields(outer.read("foreground", _object, {}), "composition.foreground.")
    offset = _Fields(foreground.read("offset", _object, {}), "composition.foreground.offset.")
    side = _number(16, 4096)
    width = canvas.read("width", side, 0.0)
    height = canvas.read("height", side, 0.0)
    made = Composition(
        width=int(width) or None,
        height=int(height) or None,
        anchor=foreground.read("anchor", _one_of(ANCHORS), "center"),
        scale=foreground.read("scale", _number(0.01, 10), 1.0),
        offset_x=offset.read("x", _number(-8192, 8192), 0.0),
        offset_y=offset.read("y", _number(-8192, 8192), 0.0),
    )
    problems = [p for f in (outer, canvas, foreground, offset) for p in f.problems]
    if problems:
        raise InvalidRequest(problems[0].message, details=problems)
    return made
