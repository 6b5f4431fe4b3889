"""JSON of the upload routes."""

from typing import Literal

from pydantic import Field

from alphareel.http.schemas.fields import Schema


class Upload(Schema):
    success: Literal[True] = True
    video_id: str
    video_url: str = Field(
        description="Pass it as video_url of a job or of its background, or as image_url; nothing is downloaded again."
    )
    filename: str
    size: int = Field(description="Bytes.")
    url: str | None = Field(default=None, description="The same URL if the file is an image.")
