"""JSON of the model list and the price list."""

from typing import Literal

from pydantic import Field

from alphareel.domain.options import Tier
from alphareel.http.schemas.fields import Schema


class ModelStatus(Schema):
    """A model of the API and the engine that serves it on this server."""

    model: Tier
    available: bool
    engine: str | None
    subject: str | None = Field(description="What that engine segments; null without an engine.")
    license: str | None = Field(description="License of that engine's weights; null without an engine.")
    speed: str = Field(description="Relative speed: fastest, standard or slowest.")
    quality: str = Field(description="Relative quality: highest or high.")
    full_hd_fps: float | None = Field(
        description="Frames of 1920x1080 that a worker of this server processes per second."
    )
    speed_basis: Literal["measured", "typical"] | None = Field(
        description="measured: the median of this server's own jobs; typical: a built-in figure."
    )
    text_prompt: bool = Field(description="Whether the model uses text_prompt.")
    credits_per_minute: float


class EngineStatus(Schema):
    name: str
    version: str
    subject: str = Field(description="What it segments.")
    summary: str
    code_license: str
    weights_license: str
    training_data: str | None = Field(
        description="What its weights were trained on, as far as known; null without weights."
    )
    author_statement: str | None = Field(description="What the authors say about using it; null when unknown.")
    permissive: bool = Field(description="Whether the licenses of code and weights, as published, permit any use.")
    serves: list[str] = Field(description="The models that it would serve on this server.")
    missing: str | None = Field(description="Why it cannot run on this server; null if it can.")


class ClipLimits(Schema):
    """Limits on clips on this server; 0 for no limit."""

    bytes: int
    side: int = Field(description="Longest side in pixels.")
    seconds: float


class Models(Schema):
    success: Literal[True] = True
    items: list[ModelStatus]
    engines: list[EngineStatus]
    formats: list[str] = Field(description="The output formats that this server can write.")
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
    models: list[ModelStatus] = Field(description="The engine of each model, as in /v1/models.")
    limits: ClipLimits
