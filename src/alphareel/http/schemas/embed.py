"""JSON of the embed route."""

from typing import Literal

from pydantic import Field

from alphareel.http.schemas.fields import Schema, Time


class EmbedSource(Schema):
    """A file, and which browsers play it with its transparency."""

    format: str
    type: str = Field(description="For the type attribute of a source element.")
    url: str
    alpha: Literal["native", "stacked"] = Field(description="stacked: the player puts picture and alpha together.")
    browsers: str


class EmbedMissing(Schema):
    format: str
    export_id: str | None = Field(description="The export that makes it; null when nothing does.")
    reason: str


class Embed(Schema):
    """What shows a job on a web page with its transparency."""

    success: Literal[True] = True
    id: str
    job_id: str
    ready: bool = Field(description="Whether every browser is served. Ask again while exports are running.")
    width: int
    height: int
    sources: list[EmbedSource]
    poster: str | None
    player: str = Field(description="Address of the player, at most 3 kB: it serves browsers without WebM alpha.")
    html: str = Field(description="A video element and the player, to paste into a page.")
    missing: list[EmbedMissing]
    expires_at: Time = Field(description="When the links expire: with the files, or after ten years.")
