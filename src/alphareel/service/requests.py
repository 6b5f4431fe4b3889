"""Request bodies: models that validate a JSON object and make its part of the OpenAPI document."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from alphareel.domain.errors import FieldProblem, InvalidRequest
from alphareel.domain.fields import Parser

_MESSAGES: Mapping[str, str] = {
    "missing": "is required.",
    "string_type": "must be a string.",
    "string_pattern_mismatch": "contains characters that are not allowed.",
    "bool_type": "must be true or false.",
    "bool_parsing": "must be true or false.",
    "int_type": "must be a whole number.",
    "int_parsing": "must be a whole number.",
    "int_parsing_size": "is too large.",
    "int_from_float": "must be a whole number.",
    "float_type": "must be a number.",
    "float_parsing": "must be a number.",
    "finite_number": "must be a finite number.",
    "greater_than": "must be greater than {gt}.",
    "greater_than_equal": "must be at least {ge}.",
    "less_than": "must be less than {lt}.",
    "less_than_equal": "must be at most {le}.",
    "string_too_long": "must have at most {max_length} characters.",
    "string_too_short": "must have at least {min_length} characters.",
}
_CHOICE = re.compile(r"'([^']+)'")
_REFUSED = "refused"

ModelT = TypeVar("ModelT", bound=BaseModel)


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


class SparseBody(RequestBody):
    """A request body in which an empty URL means the same as an absent field, and null is read as absent.

    Some clients send every field of their form. Where null differs from absent, as in a start, the caller of the model
    treats it before.
    """

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, values: Any) -> Any:
        if not isinstance(values, Mapping):
            return values
        return {
            name: value
            for name, value in values.items()
            if not (value is None or (value == "" and name in ("video_url", "webhook_url")))
        }


def parsed_by(parse: Callable[[Any], Any], schema: Any = None) -> PlainValidator:
    """A field that ``parse`` reads. ``schema``: the type that documents it, where ``parse`` is no Parser.

    ``parse`` raises InvalidRequest; its messages are those of the field.
    """

    def validate(value: Any) -> Any:
        try:
            return parse(value)
        except InvalidRequest as error:
            raise refused(str(error)) from None

    return PlainValidator(validate, json_schema_input_type=_schema_of(parse) if schema is None else schema)


def refused(reason: str) -> PydanticCustomError:
    """A validation error with this message."""
    return PydanticCustomError(_REFUSED, "{reason}", {"reason": reason})


def documented_by(described: Any) -> PlainValidator:
    """A field that is parsed elsewhere. ``described``: what parses it, or the type that documents it."""
    return PlainValidator(lambda value: value, json_schema_input_type=_schema_of(described))


def validated(model: type[ModelT], values: Mapping[str, Any], context: Any = None) -> ModelT:
    """The body as ``model``. Raises InvalidRequest with one detail for each bad field."""
    try:
        return model.model_validate(values, context=context)
    except ValidationError as error:
        raise invalid_request(error.errors()) from None


def invalid_request(errors: Sequence[Mapping[str, Any]], *, skip: int = 0) -> InvalidRequest:
    """Pydantic's errors in plain words. ``skip``: leading parts of each location that are not of the field's name."""
    problems = [FieldProblem(".".join(str(part) for part in error["loc"][skip:]), _message(error)) for error in errors]
    return InvalidRequest(f"{problems[0].field}: {problems[0].message}", details=problems)


def _schema_of(described: Any) -> Any:
    return Annotated[Any, WithJsonSchema(dict(described.schema))] if isinstance(described, Parser) else described


def _message(error: Mapping[str, Any]) -> str:
    context = {name: _plain(value) for name, value in error.get("ctx", {}).items()}
    if error["type"] == "literal_error":
        return f"must be one of {', '.join(_CHOICE.findall(str(context['expected'])))}."
    if error["type"] == _REFUSED:
        return str(context["reason"])
    template = _MESSAGES.get(error["type"])
    return template.format(**context) if template else "is not valid."


def _plain(value: Any) -> Any:
    return f"{value:.15g}" if isinstance(value, float) else value
