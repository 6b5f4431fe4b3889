"""Parses colors: hex, names, and numbers 0 to 1 or 0 to 255."""

import math
from collections.abc import Sequence
from typing import TypeAlias

from alphareel.domain.errors import InvalidRequest

Rgb: TypeAlias = tuple[int, int, int]

# "green" is the contract's studio green #09A246, not pure #00FF00.
NAMED: dict[str, Rgb] = {
    "green": (9, 162, 70),
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "blue": (0, 0, 255),
    "red": (255, 0, 0),
    "yellow": (255, 255, 0),
    "cyan": (0, 255, 255),
    "magenta": (255, 0, 255),
    "orange": (255, 165, 0),
    "purple": (128, 0, 128),
    "pink": (255, 192, 203),
    "gray": (128, 128, 128),
    "grey": (128, 128, 128),
}

COLOR_TEXT = "#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})|" + "|".join(NAMED)
"""Pattern of colors as text. ``parse_color`` also takes capital letters and spaces around them."""

_EXPECTED_TEXT = f"Write a hex color (#RRGGBB) or one of {', '.join(NAMED)}."
_EXPECTED = "Write a hex color (#RRGGBB), a name (green, white, ...), or three numbers, all 0-1 or all 0-255."


def parse_color(value: object) -> Rgb:
    """RGB, 0-255 each, of a hex string, a name, or three finite numbers (all <= 1: normalized, else 0-255).

    Raises InvalidRequest for anything else; normalized values are rounded half up.
    """
    if isinstance(value, str):
        return _parse_text(value.strip().lower())
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return _parse_numbers(value)
    raise InvalidRequest(f"{value!r} is not a color.", hint=_EXPECTED)


def _parse_text(text: str) -> Rgb:
    if text in NAMED:
        return NAMED[text]
    digits = text.removeprefix("#")
    if len(digits) == 3:
        digits = "".join(d * 2 for d in digits)
    if len(digits) == 6 and all(d in "0123456789abcdef" for d in digits):
        return int(digits[0:2], 16), int(digits[2:4], 16), int(digits[4:6], 16)
    raise InvalidRequest(f"{text!r} is not a color.", hint=_EXPECTED_TEXT)


def _parse_numbers(values: Sequence[object]) -> Rgb:
    components = [float(v) for v in values if isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v <= 255]
    if not len(components) == len(values) == 3:
        raise InvalidRequest(f"{str(list(values))[:60]} is not a color.", hint=_EXPECTED)
    scale = 255.0 if max(components) <= 1 else 1.0
    red, green, blue = (math.floor(n * scale + 0.5) for n in components)
    return red, green, blue
