"""JSON that points to a result file."""

from typing import Literal

from pydantic import Field

from alphareel.http.schemas.fields import Schema


class Download(Schema):
    success: Literal[True] = True
    download_url: str
    output_url: str = Field(description="The same as download_url.")
    output_format: str
