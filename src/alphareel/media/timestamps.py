"""Timestamps of one clip: from zero, rising, in the clip's ticks, whatever the container wrote."""

from fractions import Fraction

import av

from alphareel.domain.clip import Clip

_JUMP_SECONDS = 1  # a step back by more is a new clock (a spliced stream), by less a slip of the muxer
_SPLICED = frozenset({"mpegts", "mpeg", "flv", "ogg"})  # streams that go on behind each other; files have one clock
_MOSTLY = Fraction(19, 20)  # of all frames that follow each other at the clip's rate: then the others are gaps


class TimestampNormalizer:
    """Stamps decoded frames one after the other. ``end``: tick at which the latest frame ends."""

    def __init__(self, clip: Clip) -> None:
        self.end = 0
        self._base = clip.time_base
        self._offset = clip.start
        self._nominal = max(1, round(1 / clip.rate / clip.time_base))
        self._last = -1
        self._follows_on = self._intervals = self._absent = 0
        self._may_restart = clip.container in _SPLICED

    @property
    def skipped(self) -> int:
        """Frames missing in gaps between others, 0 where frames come at no constant rate and gaps say nothing."""
        return self._absent if self._follows_on >= self._intervals * _MOSTLY else 0

    def stamp(self, frame: av.VideoFrame) -> tuple[int, int]:
        """(pts, duration) of the next frame, in ticks of the clip's time base."""
        duration = self._duration(frame)
        pts = self._pts(frame)
        if self._last >= 0:
            self._note(pts - self._last)
        self._last, self.end = pts, pts + duration
        return pts, duration

    def _pts(self, frame: av.VideoFrame) -> int:
        if frame.pts is None:
            return max(self.end, self._last + 1)
        moment = frame.pts * Fraction(frame.time_base or self._base)
        pts = round((moment - self._offset) / self._base)
        if pts > self._last:
            return pts
        if self._may_restart and (self._last - pts) * self._base > _JUMP_SECONDS:
            self._offset = moment - self.end * self._base
            return max(self.end, self._last + 1)
        return self._last + 1

    def _note(self, interval: int) -> None:
        frames = round(interval / self._nominal)
        self._intervals += 1
        self._follows_on += frames == 1
        self._absent += max(0, frames - 1)

    def _duration(self, frame: av.VideoFrame) -> int:
        if not frame.duration or frame.duration < 0:
            return self._nominal
        return max(1, round(frame.duration * Fraction(frame.time_base or self._base) / self._base))
