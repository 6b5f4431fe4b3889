"""What all schemas share."""

from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(_rfc3339, when_used="json")]


class Schema(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class Deleted(Schema):
    success: Literal[True] = True
    deleted: Literal[True] = True
    id: str
    message: str
