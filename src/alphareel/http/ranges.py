"""The Range header (RFC 9110, 14.2): one range of bytes; anything else is answered with the whole file."""

import re
from dataclasses import dataclass

_ONE_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})", re.IGNORECASE | re.ASCII)


class Unsatisfiable(ValueError):
    """The range begins behind the end of the file."""


@dataclass(frozen=True)
class Range:
    """Bytes ``start`` up to but not including ``stop``."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def parse_range(header: str, size: int) -> Range | None:
    """The one range asked for; None for none, several or nonsense. Raises Unsatisfiable."""
    found = _ONE_RANGE.fullmatch(header.strip())
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size:
        raise Unsatisfiable
    return Range(start, stop)
