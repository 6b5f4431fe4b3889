"""Turns pydantic's validation errors into InvalidRequest, in plain words."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from alphareel.domain.errors import FieldProblem, InvalidRequest

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


def invalid_request(errors: Sequence[Mapping[str, Any]], *, skip: int = 0) -> InvalidRequest:
    """One detail per error. ``skip``: leading parts of each location that are not part of the field's name."""
    problems = [FieldProblem(".".join(str(part) for part in error["loc"][skip:]), _message(error)) for error in errors]
    return InvalidRequest(f"{problems[0].field}: {problems[0].message}", details=problems)


def _message(error: Mapping[str, Any]) -> str:
    context = {name: _plain(value) for name, value in error.get("ctx", {}).items()}
    if error["type"] == "literal_error":
        return f"must be one of {', '.join(_CHOICE.findall(str(context['expected'])))}."
    if error["type"] == "refused":
        return str(context["reason"])
    template = _MESSAGES.get(error["type"])
    return template.format(**context) if template else "is not valid."


def _plain(value: Any) -> Any:
    return f"{value:.15g}" if isinstance(value, float) else value
