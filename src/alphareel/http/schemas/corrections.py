"""JSON of the routes of corrections and analyses."""

from typing import Annotated, Any, Literal

from pydantic import Field

from alphareel.domain.corrections import COORDINATE, FRAME, LABEL, MAX_POINTS, ONE_SUBJECT, TIME, Label
from alphareel.http.schemas.fields import Schema, Time
from alphareel.http.schemas.jobs import PublicStatus
from alphareel.service.jobs.option_fields import SubjectIds, Url
from alphareel.service.requests import documented_by

Coordinate = Annotated[Any, documented_by(COORDINATE), Field(description="Pixels of the video's frame.")]


class PointRequest(Schema):
    x: Coordinate
    y: Coordinate
    label: Annotated[Any, documented_by(LABEL)] | None = "keep"


class CorrectionRequest(Schema):
    """Points, box, mask_url, or several of them, with time or frame; or keep or drop."""

    time: Annotated[Any, documented_by(TIME)] | None = Field(
        default=None, description="Seconds; the frame shown then is corrected."
    )
    frame: Annotated[Any, documented_by(FRAME)] | None = Field(
        default=None, description="The frame's number, from 0, in place of time."
    )
    points: Annotated[list[PointRequest], Field(max_length=MAX_POINTS)] | None = Field(
        default=None, description="What to keep and what to remove."
    )
    box: Annotated[list[Coordinate], Field(min_length=4, max_length=4)] | None = Field(
        default=None,
        description="x, y, width, height. With points it bounds what may change; alone it encloses what to keep.",
    )
    mask_url: Url | None = Field(
        default=None,
        description="A PNG of the frame's size. With transparency: white is kept, black removed, the rest left as it "
        "is, or as points and box make it. Without: it replaces the frame's alpha.",
    )
    keep: SubjectIds | None = Field(default=None, description="Only these subjects stay, in the whole clip.")
    drop: SubjectIds | None = Field(default=None, description="These subjects go, in the whole clip.")
    subject: Annotated[Any, documented_by(ONE_SUBJECT)] | None = Field(
        default=None, description="The same as drop with this ID."
    )


class CorrectionPoint(Schema):
    x: float = Field(description="Pixels of the video's frame.")
    y: float
    label: Label


class EncodedWhole(Schema):
    """An output that was encoded from its first frame to its last."""

    format: str
    reason: str


class Correction(Schema):
    """A correction of a job's matte, and the state of the revision that it makes."""

    id: str
    job_id: str
    number: int | None = Field(description="Counts the job's corrections from 1; null for the undoing of one.")
    status: PublicStatus
    progress: float = Field(ge=0, le=100)
    revision: int | None = Field(description="The job's revision that it made; null until it is completed.")
    time: float | None
    frame: int | None
    points: list[CorrectionPoint]
    box: list[float] | None
    mask_url: str | None
    keep: list[str]
    drop: list[str]
    undone: bool = Field(description="It does not apply any more.")
    undoes: int | None = Field(description="The number of the correction that this undid.")
    encoded_whole: list[EncodedWhole] = Field(
        description="Outputs that could not be joined from the former file and the part that changed, and why."
    )
    error: str | None
    error_code: str | None
    created_at: Time
    completed_at: Time | None


class AcceptedCorrection(Correction):
    success: Literal[True] = True
    message: str


class CorrectionList(Schema):
    success: Literal[True] = True
    job_id: str
    revision: int
    items: list[Correction]


class SubjectBox(Schema):
    time: float = Field(description="Seconds.")
    box: list[float] = Field(description="x, y, width, height as shares of the picture.")


class Subject(Schema):
    id: str
    share: float = Field(ge=0, le=1, description="Of the picture that it covers, mean while it is there.")
    present: list[list[float]] = Field(description="From when to when it is there, in seconds.")
    boxes: list[SubjectBox]
    sure: bool = Field(description="false: it may have been confused with another one, such as after they crossed.")
    thumbnail_url: str | None


class _Analysis(Schema):
    success: Literal[True] = True
    job_id: str
    status: PublicStatus = Field(description="Of the analysis; repeat the request until it is completed or failed.")
    progress: float = Field(ge=0, le=100)
    revision: int = Field(description="The job's revision that was analyzed.")
    error: str | None
    error_code: str | None


class Subjects(_Analysis):
    sampled: bool = Field(description="Found in sample frames, because the job has no matte yet.")
    subjects: list[Subject]


class WorstMoment(Schema):
    time: float
    frame: int
    error: float
    uncertainty: float
    flicker: float
    coverage: float
    thumbnail_url: str | None


class QualityStrip(Schema):
    """Values over time, at most 600 of each. `time`: seconds; all others 0 to 1."""

    time: list[float] = Field(default_factory=list)
    uncertainty: list[float] = Field(default_factory=list)
    flicker: list[float] = Field(default_factory=list)
    coverage: list[float] = Field(default_factory=list)
    error: list[float] = Field(default_factory=list)


class QualityReport(_Analysis):
    summary: dict[str, float] = Field(description="Means of the strip.")
    strip: QualityStrip
    worst: list[WorstMoment]
    suggestions: list[dict[str, Any]] = Field(description="What to try: action, message and what they refer to.")
    picture_url: str | None = Field(description="The strip as a PNG.")
