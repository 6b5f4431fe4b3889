"""Normalizes the timestamps of one clip: they start at zero, increase, and count ticks of the clip's time base."""

from fractions import Fraction

import av

from alphareel.domain.clip import Clip

_MIN_RESTART_SECONDS = 1  # a larger step back is a new clock (a spliced stream), a smaller one a muxer error
_SPLICEABLE = frozenset({"mpegts", "mpeg", "flv", "ogg"})  # containers that may restart their clock
_MIN_REGULAR = Fraction(19, 20)  # share of intervals at the clip's frame rate from which the others are gaps


class TimestampNormalizer:
    """Assigns timestamps to decoded frames in order. ``end``: tick at which the latest frame ends."""

    def __init__(self, clip: Clip) -> None:
        self.end = 0
        self._base = clip.time_base
        self._offset = clip.start
        self._nominal = max(1, round(1 / clip.rate / clip.time_base))
        self._last = -1
        self._regular_intervals = self._intervals = self._missing = 0
        self._may_restart = clip.container in _SPLICEABLE

    @property
    def skipped(self) -> int:
        """Frames missing in gaps. 0 when the frame rate is not constant, so that gaps mean nothing."""
        return self._missing if self._regular_intervals >= self._intervals * _MIN_REGULAR else 0

    def assign(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(pts, duration) of the next frame, in ticks of the clip's time base."""
        duration = self._duration(frame)
        pts = self._pts(frame)
        if self._last >= 0:
            self._count_interval(pts - self._last)
        self._last, self.end = pts, pts + duration
        return pts, duration

    def _pts(self, frame: av.VideoFrame) -> int:
        if frame.pts is None:
            return max(self.end, self._last + 1)
        moment = frame.pts * Fraction(frame.time_base or self._base)
        pts = round((moment - self._offset) / self._base)
        if pts > self._last:
            return pts
        if self._may_restart and (self._last - pts) * self._base > _MIN_RESTART_SECONDS:
            self._offset = moment - self.end * self._base
            return max(self.end, self._last + 1)
        return self._last + 1

    def _count_interval(self, interval: int) -> None:
        frames = round(interval / self._nominal)
        self._intervals += 1
        self._regular_intervals += frames == 1
        self._missing += max(0, frames - 1)

    def _duration(self, frame: av.VideoFrame) -> int:
        if not frame.duration or frame.duration < 0:
            return self._nominal
        return max(1, round(frame.duration * Fraction(frame.time_base or self._base) / self._base))
