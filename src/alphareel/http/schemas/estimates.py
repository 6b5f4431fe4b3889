"""JSON of cost and time estimates."""

from typing import Literal, Self

from pydantic import Field

from alphareel.http.schemas.fields import Schema
from alphareel.service.jobs.estimates import Estimate as JobEstimate


class Estimate(Schema):
    """Values that cannot be estimated are null; `notes` says why."""

    success: Literal[True] = True
    credits: float | None = Field(description="What a client with a balance would be charged.")
    charged: bool = Field(description="Whether this client is charged: whether it has a balance.")
    affordable: bool | None = Field(description="Whether the balance suffices.")
    pricing_version: str
    video_seconds: float | None = Field(description="Seconds of video to process: its length, or preview_duration.")
    frames: int | None
    work_seconds: float | None = Field(description="Processing time of a worker, without time in the queue.")
    output_bytes: int | None
    speed_basis: Literal["measured", "typical"] = Field(
        description="measured: from the latest jobs of this server; typical: a built-in figure."
    )
    size_basis: Literal["measured", "typical"]
    notes: list[str]

    @classmethod
    def of(cls, estimate: JobEstimate, balance: int | None) -> Self:
        names = ("pricing_version", "frames", "work_seconds", "output_bytes", "speed_basis", "size_basis")
        affordable = None if estimate.credits is None else balance is None or estimate.credits <= balance
        return cls(
            credits=None if estimate.credits is None else estimate.credits / 100,
            charged=balance is not None,
            affordable=affordable,
            video_seconds=estimate.seconds,
            notes=list(estimate.notes),
            **{name: getattr(estimate, name) for name in names},
        )
