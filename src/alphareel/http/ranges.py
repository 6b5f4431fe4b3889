"""Parses the Range header (RFC 9110, 14.2) and compares ETags (RFC 9110, 8.8.3 and 13.1)."""

import re
from dataclasses import dataclass

_SINGLE_RANGE = re.compile(r"bytes\s*=\s*(\d{0,18})\s*-\s*(\d{0,18})", re.IGNORECASE | re.ASCII)
_ENTITY_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


class Unsatisfiable(ValueError):
    """The range starts after the end of the file."""


@dataclass(frozen=True)
class Range:
    """Bytes ``start`` up to but not including ``stop``."""

    start: int
    stop: int

    @property
    def length(self) -> int:
        return self.stop - self.start


def parse_range(header: str, size: int) -> Range | None:
    """The requested range; None for no range, several, or an invalid one. Raises Unsatisfiable."""
    match = _SINGLE_RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, stop = max(0, size - int(last)), size
    else:
        start, stop = int(first), min(int(last) + 1, size) if last else size
        if last and int(last) < int(first):
            return None
    if start >= size:
        raise Unsatisfiable
    return Range(start, stop)


def matches_etag(if_none_match: str, etag: str) -> bool:
    """Whether an If-None-Match header lists ``etag`` (with its quotes), by weak comparison, or is ``*``."""
    return if_none_match.strip() == "*" or etag in _ENTITY_TAG.findall(if_none_match)
