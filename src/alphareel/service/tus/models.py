"""Resumable uploads as values."""

from dataclasses import dataclass
from datetime import datetime

from alphareel.service.uploads.models import Upload


@dataclass(frozen=True)
class TusPart:
    """A stored piece of a file: ``size`` bytes from ``start``."""

    start: int
    size: int
    blob: str


@dataclass(frozen=True)
class TusUpload:
    """A file that arrives in parts. It is finished once it has an ``upload_id``, and refused once it has an error."""

    id: str
    key_id: str
    filename: str
    #: As declared; empty if it was not.
    content_type: str
    #: Upload-Metadata as sent; may be empty.
    metadata: str
    #: Bytes of the whole file.
    length: int
    created_at: datetime
    expires_at: datetime
    #: Bytes that are stored durably. Equal to ``length`` only once the file is finished.
    offset: int = 0
    #: How many parts those are.
    parts: int = 0
    #: Counts the requests that appended; one with an older generation has lost its lock.
    generation: int = 0
    #: While a request appends; it renews the lock.
    locked_until: datetime | None = None
    upload_id: str | None = None
    error: str | None = None
    error_code: str | None = None
    #: The upload that it became.
    result: Upload | None = None
