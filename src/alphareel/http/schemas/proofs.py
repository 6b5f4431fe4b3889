"""JSON of the proof routes."""

from pydantic import Field

from alphareel.domain.options import Tier
from alphareel.http.schemas.fields import Schema, Time
from alphareel.http.schemas.jobs import Engine, PublicStatus


class EngineProof(Schema):
    """What one engine would take for the whole clip."""

    name: str
    model: Tier = Field(description="The cheapest model that the engine may serve, whose price is stated.")
    seconds_per_frame: float | None = Field(description="Null where the engine failed.")
    seconds: float | None = Field(description="Processing time of the whole clip on one worker.")
    credits: float | None = Field(description="Credits for the whole clip, for clients with a balance.")
    engine: Engine | None
    error: str | None


class Proof(Schema):
    """A row of source frames and a row for each engine, in one PNG."""

    success: bool = True
    id: str
    status: PublicStatus
    progress: float = Field(ge=0, le=100)
    video_url: str
    sheet_url: str | None = Field(description="The PNG; null until completed.")
    expires_at: Time | None
    width: int | None
    height: int | None
    moments: list[float] = Field(description="Seconds of the frames.")
    engines: list[EngineProof]
    error: str | None
    error_code: str | None
    created_at: Time
    completed_at: Time | None
