"""Uploads as values."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class MediaInfo:
    """What inspecting a file's bytes found. Facts of a video are None for an image."""

    #: ``video`` or ``image``.
    kind: str
    content_type: str
    #: Without a dot.
    extension: str
    #: None also where the container does not say.
    seconds: float | None = None
    #: Of the upright picture, in pixels.
    width: int | None = None
    height: int | None = None
    #: Frames per second; None also where the container does not say.
    rate: float | None = None


@dataclass(frozen=True)
class Upload:
    """An accepted file. Facts of a video are None for an image and for a file that was not inspected."""

    id: str
    #: None for the legacy route without a key.
    key_id: str | None
    filename: str
    content_type: str
    #: ``video`` or ``image``.
    kind: str
    #: Bytes.
    size: int
    sha256: str
    #: Uploads of one key with the same content share a blob.
    blob: str
    created_at: datetime
    #: Length by the container.
    seconds: float | None = None
    #: Of the upright picture, in pixels.
    width: int | None = None
    height: int | None = None
    #: Frames per second.
    rate: float | None = None
