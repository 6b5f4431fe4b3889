"""Uploads: their limits, the two ways to send a file in parts, and their inspection."""

from pydantic import Field

from alphareel.domain.clip import Limits
from alphareel.machine import cores
from alphareel.service.settings.group import MIB, SettingsGroup, Size


class LimitSettings(SettingsGroup):
    """Limits of a video."""

    max_upload_bytes: Size = Field(
        default=500 * MIB,
        ge=1,
        validation_alias="MAX_UPLOAD_BYTES",
        description="Maximum size of an uploaded or fetched file.",
    )
    max_side: int = Field(
        default=4096,
        ge=16,
        le=16384,
        validation_alias="MAX_SIDE",
        description="Maximum width or height of a video, in pixels.",
    )
    max_seconds: float = Field(
        default=4 * 3600.0, gt=0, validation_alias="MAX_SECONDS", description="Maximum duration of a video."
    )

    @property
    def clip(self) -> Limits:
        return Limits(max_bytes=self.max_upload_bytes, max_side=self.max_side, max_seconds=self.max_seconds)


class TusSettings(SettingsGroup):
    """Resumable uploads."""

    expire_seconds: float = Field(
        default=24 * 3600.0,
        ge=60,
        validation_alias="TUS_EXPIRE_SECONDS",
        description="Time after its last part when an unfinished resumable upload is deleted.",
    )
    uploads_per_key: int = Field(
        default=100,
        ge=1,
        validation_alias="TUS_UPLOADS_PER_KEY",
        description="Unfinished resumable uploads per key; further ones are refused.",
    )
    #: Bytes after which what was received is stored, and the offset moves on; more for a large file.
    part_bytes: int = 8 * MIB
    #: Parts of one upload; each request makes at least one.
    max_parts: int = 10_000
    #: How long a request that appends keeps the upload locked after it received something.
    lock_seconds: float = 6.0


class ProbeSettings(SettingsGroup):
    """Inspection of uploads."""

    seconds: float = Field(
        default=5.0, gt=0, validation_alias="PROBE_SECONDS", description="Time limit for inspecting an uploaded file."
    )
    processes: int = Field(
        default=0,
        ge=0,
        le=64,
        validation_alias="PROBE_PROCESSES",
        description="Concurrent upload inspections, each in its own process; 0: processors + 1, between 3 and 8.",
    )
    queue: int = Field(
        default=128,
        ge=1,
        validation_alias="PROBE_QUEUE",
        description="Uploads that may wait for inspection; further uploads are refused for the moment.",
    )
    queue_per_caller: int = Field(
        default=32,
        ge=1,
        validation_alias="PROBE_QUEUE_PER_CALLER",
        description="Uploads per key that may wait for inspection (per address without a key).",
    )

    @property
    def slots(self) -> int:
        """Inspections that run at the same time."""
        return self.processes or min(8, max(3, cores() + 1))

    @property
    def slots_per_caller(self) -> int:
        """Of one caller, or of all callers without a key together: one less, so that others find one."""
        return max(1, self.slots - 1)


class MultipartSettings(SettingsGroup):
    """Multipart uploads."""

    seconds: int = Field(
        default=6 * 3600,
        ge=60,
        le=7 * 24 * 3600,
        validation_alias="MULTIPART_SECONDS",
        description="How long a client may send the parts of a multipart upload, and complete it.",
    )
    max_per_key: int = Field(
        default=32,
        ge=1,
        validation_alias="MULTIPART_PER_KEY",
        description="Multipart uploads of a key that are not complete; further ones are refused for the moment.",
    )
