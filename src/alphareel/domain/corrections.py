"""Corrections of a finished matte: what a user points out in one frame, and its JSON form."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, get_args

from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.domain.fields import Fields, Parser, mapping, number, one_of, text, whole

Label: TypeAlias = Literal["keep", "remove"]
LABELS: tuple[Label, ...] = get_args(Label)
MAX_POINTS = 100
MAX_SUBJECTS = 64
SUBJECT_ID = "[A-Za-z0-9_-]{1,64}"
COORDINATE = number(0, 65_536)
TIME = number(0, 86_400)
FRAME = whole(0, 100_000_000)
LABEL = one_of(LABELS)


@dataclass(frozen=True)
class Point:
    """A click at pixel (x, y) of the frame."""

    x: float
    y: float
    label: Label


@dataclass(frozen=True)
class Correction:
    """What is wrong in one frame.

    ``time`` (seconds) or ``frame`` (from 0) names the frame. ``points``: what to keep and what to remove. ``box``: x,
    y, width, height in pixels; with points it bounds what may change, alone it encloses what to keep. ``mask``: path or
    URL of a PNG of the frame's size. With transparency, opaque white is kept, opaque black removed and the rest left
    as it is, or as points and box make it; without, its gray levels replace the alpha. ``keep``, ``drop``: IDs of
    subjects; such a correction applies to the whole clip and needs no frame.
    """

    time: float | None = None
    frame: int | None = None
    points: tuple[Point, ...] = ()
    box: tuple[float, float, float, float] | None = None
    mask: str | None = None
    keep: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    @property
    def selects_subjects(self) -> bool:
        return bool(self.keep or self.drop)


def parse_correction(values: Mapping[str, Any], *, mask_field: str = "mask_url") -> Correction:
    """Parse a correction; unknown fields are ignored. Raises InvalidRequest with one detail for each bad field."""
    fields = Fields(values)
    correction = Correction(
        time=fields.read("time", TIME, None),
        frame=fields.read("frame", FRAME, None),
        points=fields.read("points", _points, ()),
        box=fields.read("box", _box, None),
        mask=fields.read(mask_field, text(4096), None) or None,
        keep=fields.read("keep", SUBJECT_IDS, ()),
        drop=fields.read("drop", SUBJECT_IDS, ()) or fields.read("subject", ONE_SUBJECT, ()),
    )
    fields.check()
    _check(correction, mask_field)
    return correction


def _check(correction: Correction, mask_field: str) -> None:
    if correction.keep and correction.drop:
        raise _refused("drop", "cannot be combined with keep.")
    if correction.selects_subjects:
        return
    if (correction.time is None) == (correction.frame is None):
        raise _refused("time", "is required, or frame in its place, but not both.")
    if not (correction.points or correction.box or correction.mask):
        raise _refused("points", f"is required, or box, {mask_field}, keep or drop.")


def _points(value: Any) -> tuple[Point, ...]:
    if not isinstance(value, list) or len(value) > MAX_POINTS:
        raise InvalidRequest(f"must be a list of at most {MAX_POINTS} objects with x, y and label.")
    points = []
    for index, each in enumerate(value):
        fields = Fields(mapping(each), f"points.{index}.")
        for name in ("x", "y"):
            if not fields.has(name):
                fields.problems.append(FieldProblem(f"points.{index}.{name}", "is required."))
        x, y = (fields.read(name, COORDINATE, 0.0) for name in ("x", "y"))
        label: Label = fields.read("label", LABEL, "keep")
        fields.check()
        points.append(Point(x, y, label))
    return tuple(points)


def _box(value: Any) -> tuple[float, float, float, float]:
    if not isinstance(value, list) or len(value) != 4:
        raise InvalidRequest("must be a list of x, y, width and height.")
    x, y, width, height = (COORDINATE(each) for each in value)
    if width < 1 or height < 1:
        raise InvalidRequest("must be at least one pixel wide and high.")
    return x, y, width, height


def _subject_ids(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_SUBJECTS:
        raise InvalidRequest(f"must be a list of at most {MAX_SUBJECTS} subject IDs.")
    return tuple(dict.fromkeys(_subject_id(each) for each in value))


def _one_id(value: Any) -> tuple[str, ...]:
    return (_subject_id(value),)


def _subject_id(value: Any) -> str:
    if not isinstance(value, str) or re.fullmatch(SUBJECT_ID, value) is None:
        raise InvalidRequest("must be IDs of subjects: letters, digits, - and _.")
    return value


_ID_SCHEMA = {"type": "string", "pattern": f"^{SUBJECT_ID}$"}
ONE_SUBJECT = Parser(_one_id, _ID_SCHEMA)
SUBJECT_IDS = Parser(
    _subject_ids, {"type": "array", "items": _ID_SCHEMA, "maxItems": MAX_SUBJECTS, "examples": [["s1"]]}
)


def _refused(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])


def correction_to_json(correction: Correction) -> dict[str, Any]:
    """The JSON form of a correction, without absent fields."""
    return {name: value for name, value in asdict(correction).items() if value not in (None, ())}


def correction_from_json(values: Mapping[str, Any]) -> Correction:
    """The inverse of ``correction_to_json``."""
    fields = dict(values)
    fields["points"] = tuple(Point(**point) for point in fields.get("points", ()))
    if fields.get("box") is not None:
        fields["box"] = tuple(fields["box"])
    for name in ("keep", "drop"):
        fields[name] = tuple(fields.get(name, ()))
    return Correction(**fields)
