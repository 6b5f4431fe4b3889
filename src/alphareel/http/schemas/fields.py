"""What all schemas share."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer, model_validator


def _rfc3339(time: datetime) -> str:
    return time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Time = Annotated[datetime, PlainSerializer(_rfc3339, when_used="json")]


class Schema(BaseModel):
    model_config = ConfigDict(frozen=True, from_attributes=True)


class RequestBody(BaseModel):
    """A validated request body: types are not converted, unknown fields are ignored."""

    model_config = ConfigDict(frozen=True, strict=True)

    @model_validator(mode="before")
    @classmethod
    def _convert_whole_numbers(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """JSON has one kind of number, so 1.0 is a whole number."""
        return {
            name: int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in values.items()
        }


class Deleted(Schema):
    success: Literal[True] = True
    deleted: Literal[True] = True
    id: str
    message: str
