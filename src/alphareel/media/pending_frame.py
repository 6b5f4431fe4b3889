"""Holds one encoded frame of an animation until the next one shows how long it lasts."""

from fractions import Fraction

_MILLISECONDS = 1000


class PendingFrame:
    """``time_base``: seconds per tick."""

    def __init__(self, time_base: Fraction) -> None:
        self._ticks_to_milliseconds = time_base * _MILLISECONDS
        self._frame: tuple[int, bytes] | None = None

    def put(self, pts: int, data: bytes) -> None:
        """Hold the frame that starts at tick ``pts``. Take the one before first."""
        self._frame = pts, data

    def take(self, until: int) -> tuple[int, bytes] | None:
        """The frame's duration in milliseconds, at least 1, and its data; None if none is held.

        It lasts until tick ``until``. Both ends are rounded instead of the length, so that errors do not accumulate.
        """
        if self._frame is None:
            return None
        pts, data = self._frame
        self._frame = None
        return max(1, self._milliseconds(until) - self._milliseconds(pts)), data

    def _milliseconds(self, tick: int) -> int:
        return round(tick * self._ticks_to_milliseconds)
