"""Parsers for the fields of a JSON object; each raises InvalidRequest with a plain sentence."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

from alphareel.domain.errors import FieldProblem, InvalidRequest

T = TypeVar("T")

PLAIN_TEXT = r"^[^\u0000-\u0008\u000b\u000c\u000e-\u001f]*$"
"""Pattern of text without control characters."""


@dataclass(frozen=True)
class Parser(Generic[T]):
    """Turns the JSON value of a field into what it means. Raises InvalidRequest.

    ``schema``: the values that it accepts, as JSON Schema; the OpenAPI document is made of it.
    """

    parse: Callable[[Any], T]
    schema: Mapping[str, Any]

    def __call__(self, value: Any) -> T:
        return self.parse(value)


class Fields:
    """Reads fields of a JSON object and collects all problems. Null and absent are the same."""

    def __init__(self, values: Mapping[str, Any], prefix: str = "") -> None:
        self.values = values
        self.prefix = prefix
        self.problems: list[FieldProblem] = []

    def has(self, name: str) -> bool:
        return self.values.get(name) is not None

    def read(self, name: str, parse: Callable[[Any], T], default: T) -> T:
        if not self.has(name):
            return default
        try:
            return parse(self.values[name])
        except InvalidRequest as error:
            self.problems.extend(error.details or [FieldProblem(self.prefix + name, str(error))])
        return default

    def check(self) -> None:
        if self.problems:
            first = self.problems[0]
            raise InvalidRequest(f"{first.field}: {first.message}", details=self.problems)


def is_storable(value: str) -> bool:
    """Whether every database can store the text: PostgreSQL rejects NUL, and UTF-8 cannot encode lone surrogates."""
    return not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)


def storable(value: str) -> str:
    """The text, with U+FFFD for each character that a database cannot store."""
    return value if is_storable(value) else re.sub("[\0\ud800-\udfff]", "\ufffd", value)


def text(max_length: int) -> Parser[str]:
    """A parser of strings of at most ``max_length`` characters without control characters."""

    def parse(value: Any) -> str:
        if not isinstance(value, str):
            raise InvalidRequest(f"must be a string, not {_kind(value)}.")
        if len(value) > max_length:
            raise InvalidRequest(f"must have at most {max_length} characters; it has {len(value)}.")
        if any(ord(c) < 32 and c not in "\t\r\n" for c in value):
            raise InvalidRequest("must not contain control characters.")
        return value

    return Parser(parse, {"type": "string", "maxLength": max_length, "pattern": PLAIN_TEXT})


def one_of(allowed: tuple[T, ...]) -> Parser[T]:
    """A parser of the ``allowed`` strings."""

    def parse(value: Any) -> T:
        if value not in allowed:
            got = repr(value[:60]) if isinstance(value, str) else _kind(value)
            raise InvalidRequest(f"must be one of {', '.join(map(str, allowed))}; got {got}.")
        return cast(T, value)

    return Parser(parse, {"type": "string", "enum": list(allowed)})


def number(low: float, high: float) -> Parser[float]:
    """A parser of numbers from ``low`` to ``high``, both included."""

    def parse(value: Any) -> float:
        is_number = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
        if isinstance(value, bool) or not is_number:
            kind = "infinite or not a number" if isinstance(value, float) else _kind(value)
            raise InvalidRequest(f"must be a number, not {kind}.")
        if not low <= value <= high:  # before float(): an int may be too large for it
            shown = max(-1e99, min(1e99, value))
            raise InvalidRequest(f"must be between {low:g} and {high:g}; got {shown:g}.")
        return float(value)

    return Parser(parse, {"type": "number", "minimum": low, "maximum": high})


def whole(low: int, high: int) -> Parser[int]:
    """A parser of whole numbers. JSON has one kind of number, so 640.0 is whole."""
    parse_number = number(low, high)

    def parse(value: Any) -> int:
        parsed = parse_number(value)
        if not parsed.is_integer():
            raise InvalidRequest(f"must be a whole number; got {parsed:g}.")
        return int(parsed)

    return Parser(parse, {"type": "integer", "minimum": low, "maximum": high})


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"must be true or false, not {_kind(value)}.")
    return value


BOOLEAN = Parser(_boolean, {"type": "boolean"})


def _kind(value: Any) -> str:
    names = {dict: "an object", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return "null" if value is None else names.get(type(value), "a list")


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a JSON object. Raises InvalidRequest."""
    if not isinstance(value, Mapping):
        raise InvalidRequest(f"must be an object, not {_kind(value)}.")
    return value
