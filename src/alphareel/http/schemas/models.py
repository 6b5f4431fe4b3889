"""JSON of the model list and the price list."""

from typing import Literal

from pydantic import Field

from alphareel.domain.options import Tier
from alphareel.http.schemas.base import Schema


class ModelStatus(Schema):
    """A tier of the contract and the engine that serves it on this server."""

    model: Tier
    available: bool
    engine: str | None
    subject: str | None = Field(description="What that engine cuts out; null without one.")
    license: str | None = Field(description="License of that engine's weights; null without one.")
    speed: str = Field(description="What the contract promises: fastest, standard or slowest.")
    quality: str = Field(description="What the contract promises: highest or high.")
    full_hd_fps: float | None = Field(description="Frames of 1920x1080 that a worker here does in a second.")
    speed_basis: Literal["measured", "typical"] | None = Field(
        description="Whether that is the middle of this server's own jobs or a figure that comes with the program."
    )
    text_prompt: bool = Field(description="Whether the tier uses text_prompt.")
    credits_per_minute: float


class EngineStatus(Schema):
    name: str
    version: str
    subject: str = Field(description="What it cuts out.")
    summary: str
    code_license: str
    weights_license: str
    serves: list[str] = Field(description="The tiers that it would serve here.")
    missing: str | None = Field(description="What keeps it from running here; null when nothing does.")


class ClipLimits(Schema):
    """What a clip may be at most on this server; 0 for no limit."""

    bytes: int
    side: int = Field(description="Longest side in pixels.")
    seconds: float


class Models(Schema):
    success: Literal[True] = True
    items: list[ModelStatus]
    engines: list[EngineStatus]
    limits: ClipLimits


class Package(Schema):
    id: str
    name: str
    credits: int
    price_cents: int


class Pricing(Schema):
    model_pricing_credits_per_minute: dict[Tier, float]
    price_per_second_cents: float
    packages: list[Package]
    pricing_version: str
    models: list[ModelStatus] = Field(description="What serves each model here, as in /v1/models.")
    limits: ClipLimits
