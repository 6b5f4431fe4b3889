"""The JSON of the service as typed dictionaries; fields that a newer server adds are simply there."""

from collections.abc import Mapping
from typing import Any, Literal, TypedDict

Status = Literal["created", "pending", "processing", "completed", "failed"]


class Upload(TypedDict):
    success: bool
    video_id: str
    video_url: str
    filename: str
    size: int


class Output(TypedDict):
    format: str
    mime: str
    size: int
    sha256: str
    width: int
    height: int
    frames: int
    seconds: float
    has_alpha: bool
    alpha: str | None
    has_audio: bool
    frames_lost: int


class Job(TypedDict):
    id: str
    status: Status
    progress: float
    queue_position: int | None
    output_url: str | None
    expires_at: str | None
    preview_url: str | None
    error: str | None
    error_code: str | None
    model: str
    output_format: str
    bg_type: str
    background: Mapping[str, Any]
    composition: Mapping[str, Any] | None
    quality: str
    poster_time: float | None
    text_prompt: str | None
    preview_duration: float | None
    video_url: str
    metadata: Mapping[str, Any]
    webhook_url: str | None
    duration_seconds: float | None
    created_at: str
    updated_at: str
    started_at: str | None
    completed_at: str | None
    output: Output | None
    engine: Mapping[str, Any] | None
    warnings: list[str]


class JobPage(TypedDict):
    items: list[Job]
    total: int
    limit: int
    offset: int
    has_more: bool
