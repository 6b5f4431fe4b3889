"""What all schemas share."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, PlainSerializer, PlainValidator, model_validator
from pydantic_core import PydanticCustomError

from alphareel.domain.errors import InvalidRequest


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
    def _convert_whole_numbers(cls, values: Any) -> Any:
        """JSON has one kind of number, so 1.0 is a whole number."""
        if not isinstance(values, Mapping):
            return values  # of a model in a model; refused with its place
        return {
            name: int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in values.items()
        }


def parsed_by(parse: Callable[[Any], Any], documented_as: Any) -> PlainValidator:
    """A field of a request that ``parse`` reads and that the OpenAPI document describes as another type.

    ``parse`` raises InvalidRequest; its message is that of the field.
    """

    def validate(value: Any) -> Any:
        try:
            return parse(value)
        except InvalidRequest as error:
            raise PydanticCustomError("refused", "{reason}", {"reason": str(error)}) from None

    return PlainValidator(validate, json_schema_input_type=documented_as)


class Deleted(Schema):
    success: Literal[True] = True
    deleted: Literal[True] = True
    id: str
    message: str
