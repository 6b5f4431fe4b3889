"""Frames of a video with their timestamps, in planes; nothing is held but the frame being handed out."""

from collections.abc import Generator
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from alphareel.domain.clip import Chunk, Clip, Limits
from alphareel.domain.errors import DurationTooLong
from alphareel.imaging.frame import Frame
from alphareel.media.deinterlace import progressive
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.frame_converter import Pictures
from alphareel.media.probe import Layout, check_largest, check_seconds, inspect
from alphareel.media.source import decoding, decoding_from
from alphareel.media.timestamps import TimestampNormalizer

_Size = tuple[int, int]


def open_reader(path: Path, limits: Limits) -> "Reader":
    """A reader of the video ``path``, a context manager. Raises what ``probe`` raises."""
    clip, layout = inspect(path, limits)
    return Reader(path, limits, clip, layout)


class Reader:
    """Reads one clip. ``clip``: its facts; ``frames_lost``: frames that could not be decoded, final after iteration.

    One iteration at a time: a second call of ``frames`` ends the first. Leaving the context releases everything.
    """

    def __init__(self, path: Path, limits: Limits, clip: Clip, layout: Layout) -> None:
        self.clip = clip
        self.frames_lost = 0
        self._path = path
        self._limits = limits
        self._layout = layout
        self._running: Generator[Frame, None, None] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the iteration and release the file; safe twice."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def frames(self, thumbnail: _Size | None = None, seconds: float | None = None) -> Generator[Frame, None, None]:
        """Frames in order of presentation, each with a (width, height) ``thumbnail`` when asked.

        ``seconds``: stop before the first frame at or after this moment. Planes are read-only and may be views of
        the decoder's memory, alive as long as something refers to them. Damaged parts are skipped and counted.
        Raises DurationTooLong when there is more than the header admits (the time for which the last frame is shown
        included), ResolutionTooLarge when a later frame is larger than allowed, BadVideo when reading breaks.
        """
        self.close()
        self._running = self._frames(thumbnail, seconds)
        return self._running

    def chunk(self, chunk: Chunk, thumbnail: _Size | None = None, *, lead: int = 0) -> Generator[Frame, None, None]:
        """Frames of one chunk (``media.chunks``), after up to ``lead`` frames from before it; else like ``frames``."""
        self.close()
        self._running = self._chunk(chunk, thumbnail, lead)
        return self._running

    def _chunk(self, chunk: Chunk, thumbnail: _Size | None, lead: int) -> Generator[Frame, None, None]:
        self.frames_lost = 0
        base = self.clip.time_base
        since = max(0, chunk.start - round(lead / self.clip.rate / base))
        clock, index = TimestampNormalizer(self.clip), 0
        pictures = Pictures(size=self._layout.size, color=self._layout.color, turn=self._layout.turn)
        with (
            decoding_from(self._path, self._limits, self.clip.start + since * base) as frames,
            translating_read_errors(self._path),
        ):
            for decoded in progressive(frames):
                pts, duration = clock.stamp(decoded)
                if chunk.end is not None and pts >= chunk.end:
                    break
                if pts < since:
                    continue
                self._check(index, pts, decoded)
                index += pts >= chunk.start
                yield _frame(pictures, decoded, thumbnail, pts=pts, duration=duration, index=index)
        if chunk.end is None:
            check_seconds(float(clock.end * base), self._limits)
        self.frames_lost = max(0, chunk.frames - index)

    def _frames(self, thumbnail: _Size | None, seconds: float | None) -> Generator[Frame, None, None]:
        self.frames_lost = 0
        clock, index = TimestampNormalizer(self.clip), 0
        pictures = Pictures(size=self._layout.size, color=self._layout.color, turn=self._layout.turn)
        with decoding(self._path, self._limits) as decoder, translating_read_errors(self._path):
            for decoded in progressive(decoder.frames()):
                pts, duration = clock.stamp(decoded)
                self.frames_lost = decoder.errors
                if seconds is not None and float(pts * self.clip.time_base) >= seconds:
                    return
                self._check(index, pts, decoded)
                yield _frame(pictures, decoded, thumbnail, pts=pts, duration=duration, index=index)
                index += 1
        check_seconds(float(clock.end * self.clip.time_base), self._limits)
        self.frames_lost = max(decoder.errors, self._missing(index, clock))

    def _check(self, index: int, pts: int, decoded: av.VideoFrame) -> None:
        check_largest(decoded.width, decoded.height, self._limits)
        check_seconds(float(pts * self.clip.time_base), self._limits)
        if self._limits.max_frames and index >= self._limits.max_frames:
            raise DurationTooLong(
                f"The video has more than the {self._limits.max_frames:,} frames allowed.",
                hint="Cut it into shorter parts.",
            )

    def _missing(self, decoded: int, clock: TimestampNormalizer) -> int:
        """Frames that the file should hold and did not: by its header's count, else by gaps and the time at its end."""
        if self._layout.frames:
            return self._layout.frames - decoded
        absent = round((self.clip.seconds - float(clock.end * self.clip.time_base)) * float(self.clip.rate))
        return clock.skipped + (absent if absent > max(2.0, float(self.clip.rate) / 2) else 0)


def _frame(
    pictures: Pictures, decoded: av.VideoFrame, thumbnail: _Size | None, *, pts: int, duration: int, index: int
) -> Frame:
    owner, (y, u, v), alpha = pictures.planes(decoded)
    small = None if thumbnail is None else pictures.thumbnail(owner, *thumbnail)
    return Frame(y, u, v, pts, duration, index, small, alpha, buffer_owner=owner)
