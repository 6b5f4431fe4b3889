"""Parses the JSON of options for the HTTP API, the library and the command alike."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypeVar, cast

from alphareel.domain.color import COLOR_TEXT, NAMED, parse_color
from alphareel.domain.corrections import SUBJECT_IDS
from alphareel.domain.errors import AlphareelError, FieldProblem, InvalidRequest
from alphareel.domain.fields import BOOLEAN, Fields, Parser, mapping, number, one_of, text, whole
from alphareel.domain.options import (
    ANCHORS,
    BACKGROUNDS,
    MAX_OUTPUTS,
    QUALITIES,
    SMOOTHINGS,
    TIERS,
    Background,
    BackgroundType,
    Composition,
    Options,
)

T = TypeVar("T")
_Fail: TypeAlias = Callable[[str, str], AlphareelError]

FLAT_COLORS = ("green", "white", "black", "blue")
_IMPLIES = (("color", "color"), ("image", "image_url"), ("video", "video_url"), ("blur", "radius"))
# A video background has no flat spelling, so errors name its nested field.
_FLAT_NAMES = {"type": "bg_type", "color": "bg_color", "image_url": "bg_image_url", "video_url": "background.video_url"}
OUTPUT_FIELDS = ("quality", "background", "composition", "poster_time")
"""What an output may have for itself, beside its format."""
COLOR = Parser(
    parse_color,
    {
        "anyOf": [
            {
                "type": "array",
                "items": {"type": "number", "minimum": 0, "maximum": 255},
                "minItems": 3,
                "maxItems": 3,
                "examples": [[0.035, 0.635, 0.274]],
            },
            {"type": "string", "pattern": f"^({COLOR_TEXT})$", "examples": ["#09A246"]},
        ]
    },
)
RADIUS = number(1, 500)
SIDE = whole(16, 4096)
SHIFT = number(-8192, 8192)
SCALE = number(0.01, 10)
ANCHOR = one_of(ANCHORS)
MODEL = one_of(TIERS)
OPTION_PARSERS: Mapping[str, Parser[Any]] = {
    "text_prompt": text(2000),
    "preview_duration": number(0.04, 86400),
    "engine": text(64),
    "quality": one_of(QUALITIES),
    "poster_time": number(0, 86400),
    "smoothing": one_of(SMOOTHINGS),
    "keep": SUBJECT_IDS,
    "drop": SUBJECT_IDS,
    "key_color": COLOR,
    "plate": text(4096),
    "shadows": BOOLEAN,
    "grow": number(-50, 50),
    "feather": number(0, 50),
}
"""The options whose value stands in a field of the same name and depends on no other field."""
BACKGROUND_FIELDS = ("background", "bg_type", "bg_color", "bg_image_url")


def parse_options(values: Mapping[str, Any], *, stored: Options | None = None, formats: tuple[str, ...]) -> Options:
    """Parse options; unknown fields are ignored, absent ones keep the value in ``stored``.

    ``formats``: names of the accepted output formats.
    Any background field in ``values`` replaces the whole stored background; ``background`` wins over ``bg_*``.
    Raises InvalidRequest with one detail for each bad field.
    """
    defaults = stored or Options()
    fields = Fields(values)
    background = defaults.background
    if any(fields.has(name) for name in BACKGROUND_FIELDS):
        background = _read_background(fields)
    options: dict[str, Any] = {
        "model": fields.read("model", MODEL, defaults.model),
        "output_format": fields.read("output_format", one_of(formats), defaults.output_format),
        "background": background,
        "composition": fields.read("composition", _parse_composition, defaults.composition),
        **{name: fields.read(name, parse, getattr(defaults, name)) for name, parse in OPTION_PARSERS.items()},
    }
    fields.check()
    return Options(**options)


def parse_outputs(value: Any, shared: Options, *, formats: tuple[str, ...]) -> tuple[Options, ...]:
    """Parse a list of outputs: the options of each, which are ``shared`` but for what it says itself.

    Raises InvalidRequest for an empty list, more than MAX_OUTPUTS, a format that is named twice, and bad fields.
    """
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_OUTPUTS:
        got = f"; got {len(value)}" if isinstance(value, list) else ""
        raise _bad_output("outputs", f"must be a list of 1 to {MAX_OUTPUTS} outputs{got}.")
    parsed = [_parse_output(item, f"outputs.{n}.", shared, formats) for n, item in enumerate(value)]
    names = [options.output_format for options in parsed]
    for n, name in enumerate(names):
        if name in names[:n]:
            raise _bad_output(f"outputs.{n}.format", f"{name} is named twice; each output needs its own format.")
    return tuple(parsed)


def parse_output(values: Mapping[str, Any], shared: Options, *, formats: tuple[str, ...]) -> Options:
    """Parse one output: ``format``, and its own quality, background, composition and poster_time.

    Raises InvalidRequest with one detail for each bad field.
    """
    return _parse_output(values, "", shared, formats)


def _parse_output(value: Any, prefix: str, shared: Options, formats: tuple[str, ...]) -> Options:
    if not isinstance(value, Mapping):
        raise _bad_output(prefix.rstrip("."), "must be an object with a format.")
    if value.get("format") is None:
        raise _bad_output(f"{prefix}format", "is required.")
    own = {name: value[name] for name in OUTPUT_FIELDS if value.get(name) is not None}
    try:
        return parse_options({**own, "output_format": value["format"]}, stored=shared, formats=formats)
    except InvalidRequest as error:
        names = [detail.field.replace("output_format", "format") for detail in error.details]
        details = [
            FieldProblem(prefix + name, detail.message) for name, detail in zip(names, error.details, strict=True)
        ]
        raise InvalidRequest(f"{details[0].field}: {details[0].message}", details=details) from None


def _bad_output(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])


def _read_background(fields: Fields) -> Background:
    if fields.has("background"):
        return fields.read("background", _parse_background, Background())
    return fields.read("bg_type" if fields.has("bg_type") else _first_flat(fields), _flat(fields), Background())


def _first_flat(fields: Fields) -> str:
    return "bg_color" if fields.has("bg_color") else "bg_image_url"


def _flat(fields: Fields) -> Callable[[Any], Background]:
    """Parses the flat spelling: ``bg_type`` with ``bg_color`` or ``bg_image_url``, which imply a missing type."""

    def parse(_: Any) -> Background:
        implied = "color" if fields.has("bg_color") else "image"
        kind = fields.values["bg_type"] if fields.has("bg_type") else implied
        if kind in FLAT_COLORS:
            return _preset(str(kind))
        nested = {
            "type": kind,
            "color": fields.values.get("bg_color"),
            "image_url": fields.values.get("bg_image_url"),
        }
        return _checked_background(nested, names=_FLAT_NAMES)

    return parse


def _parse_background(value: Any) -> Background:
    if isinstance(value, str):
        return _parse_background_text(value)
    names = {name: f"background.{name}" for name in ("type", "color", "image_url", "radius", "video_url")}
    values = dict(mapping(value))
    if values.get("type") is None:
        values["type"] = next((kind for kind, name in _IMPLIES if values.get(name) is not None), None)
    if values["type"] in FLAT_COLORS:
        return _preset(values["type"])
    return _checked_background(values, names=names)


def _preset(name: str) -> Background:
    return Background("color", NAMED[name], requested_type=name)


def _parse_background_text(value: str) -> Background:
    if value in ("transparent", "blur"):
        return Background(cast(BackgroundType, value))
    return Background("color", parse_color(value))


def _checked_background(values: Mapping[str, Any], *, names: Mapping[str, str]) -> Background:
    def fail(name: str, message: str) -> AlphareelError:
        return InvalidRequest(message, details=[FieldProblem(names.get(name, name), message)])

    kind, requested_type = values.get("type"), None
    if kind == "custom":
        kind, requested_type = "color", "custom"
    if kind not in BACKGROUNDS:
        accepted = ", ".join((*BACKGROUNDS, *FLAT_COLORS, "custom"))
        if kind is None:
            raise fail("type", f"is required and must be one of {accepted}.")
        got = repr(kind[:60]) if isinstance(kind, str) else "something else"
        raise fail("type", f"must be one of {accepted}; got {got}.")
    if kind == "transparent":
        return Background()
    if kind == "color":
        color = _read(values, "color", COLOR, fail)
        if color is None:
            raise fail("color", "is required for a color background.")
        return Background("color", color, requested_type=requested_type)
    if kind == "blur":
        return Background("blur", radius=_read(values, "radius", RADIUS, fail))
    url = f"{kind}_url"
    address = _read(values, url, text(4096), fail)
    if not address:
        raise fail(url, f"is required for {'an' if kind == 'image' else 'a'} {kind} background.")
    return Background("image", image_url=address) if kind == "image" else Background("video", video_url=address)


def _read(values: Mapping[str, Any], name: str, parse: Callable[[Any], T], fail: _Fail) -> T | None:
    """The parsed field; None if it is absent."""
    if values.get(name) is None:
        return None
    try:
        return parse(values[name])
    except InvalidRequest as error:
        raise fail(name, str(error)) from None


def _parse_composition(value: Any) -> Composition:
    outer = Fields(mapping(value), "composition.")
    canvas = Fields(outer.read("canvas", mapping, {}), "composition.canvas.")
    foreground = Fields(outer.read("foreground", mapping, {}), "composition.foreground.")
    offset = Fields(foreground.read("offset", mapping, {}), "composition.foreground.offset.")
    width = canvas.read("width", SIDE, 0)
    height = canvas.read("height", SIDE, 0)
    composition = Composition(
        width=width or None,
        height=height or None,
        anchor=foreground.read("anchor", ANCHOR, "center"),
        scale=foreground.read("scale", SCALE, 1.0),
        offset_x=offset.read("x", SHIFT, 0.0),
        offset_y=offset.read("y", SHIFT, 0.0),
    )
    problems = [p for f in (outer, canvas, foreground, offset) for p in f.problems]
    if problems:
        raise InvalidRequest(problems[0].message, details=problems)
    return composition
