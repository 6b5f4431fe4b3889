"""JSON of the routes of multipart uploads."""

from typing import Annotated, Literal

from pydantic import Field

from alphareel.domain.fields import PLAIN_TEXT
from alphareel.http.schemas.fields import Schema, Time
from alphareel.service.requests import RequestBody
from alphareel.service.uploads.multipart import MAX_PARTS


class MultipartCreate(RequestBody):
    """Unknown fields are ignored."""

    filename: str = Field(default="", max_length=1000, pattern=PLAIN_TEXT)
    bytes: int = Field(ge=1, lt=2**53, description="Size of the whole file.")


class PartReceipt(RequestBody):
    number: int = Field(ge=1, le=MAX_PARTS)
    etag: str = Field(min_length=1, max_length=200, description="The ETag that the bucket answered to the part.")


class MultipartCompletion(RequestBody):
    parts: Annotated[list[PartReceipt], Field(min_length=1, max_length=MAX_PARTS)]


class PartTarget(Schema):
    number: int
    bytes: int = Field(description="What the part must have.")
    url: str = Field(description="Takes the part with a PUT. It is secret: it grants access until it expires.")


class MultipartUpload(Schema):
    success: Literal[True] = True
    upload_id: str
    filename: str
    bytes: int
    part_size: int = Field(description="Bytes of each part but the last one.")
    parts: list[PartTarget] = Field(description="Those that have to be sent.")
    complete_url: str = Field(description="Where to POST the ETags of all parts.")
    expires_at: Time
