"""JSON of cost and time estimates."""

from typing import Annotated, Literal, Self

from pydantic import Field

from alphareel.http.schemas.base import Schema
from alphareel.http.schemas.jobs import JobCreate
from alphareel.service.jobs.estimates import Estimate as JobEstimate

Fact = Annotated[float, Field(gt=0, le=1_000_000)]


class SourceFacts(Schema):
    """What you know of a video that lies at an address; an upload's own facts win."""

    seconds: Fact | None = None
    width: Fact | None = None
    height: Fact | None = None
    frame_rate: Fact | None = None


class EstimateRequest(JobCreate):
    """The body of a job, and what is known of its source. `mp4` and `prores_hq` need a background, as in a job."""

    source: SourceFacts | None = None


class Estimate(Schema):
    """Null is what cannot be told; `notes` says why."""

    success: Literal[True] = True
    credits: float | None = Field(description="That a client who has a balance would be charged.")
    charged: bool = Field(description="Whether this client has a balance.")
    affordable: bool | None = Field(description="Whether the balance covers it.")
    pricing_version: str
    video_seconds: float | None = Field(description="To be processed: of the video, or of preview_duration.")
    frames: int | None
    work_seconds: float | None = Field(description="Of a worker, without the wait for one.")
    output_bytes: int | None
    speed_basis: Literal["measured", "typical"] = Field(description="measured: by the latest jobs of this server.")
    size_basis: Literal["measured", "typical"]
    notes: list[str]

    @classmethod
    def of(cls, found: JobEstimate, balance: int | None) -> Self:
        facts = ("pricing_version", "frames", "work_seconds", "output_bytes", "speed_basis", "size_basis")
        fits = None if found.credits is None else balance is None or found.credits <= balance
        return cls(
            credits=None if found.credits is None else found.credits / 100,
            charged=balance is not None,
            affordable=fits,
            video_seconds=found.seconds,
            notes=list(found.notes),
            **{name: getattr(found, name) for name in facts},
        )
