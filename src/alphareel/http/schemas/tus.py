"""JSON of resumable uploads."""

from typing import Literal

from pydantic import Field

from alphareel.http.schemas.fields import Schema, Time
from alphareel.http.schemas.uploads import Upload


class TusUpload(Schema):
    success: Literal[True] = True
    id: str
    status: Literal["receiving", "completed", "failed"]
    offset: int = Field(description="Bytes that are stored; the next request continues there.")
    length: int = Field(description="Bytes of the whole file.")
    expires_at: Time = Field(description="When the record of this upload is deleted; an unfinished file with it.")
    upload: Upload | None = Field(description="What POST /v1/uploads answers, once the file is complete.")
    error: str | None = Field(description="Why the file was refused.")
    error_code: str | None
