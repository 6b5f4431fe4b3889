"""Reads the frames of a video as planes with timestamps. Holds one frame in memory."""

from collections.abc import Generator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self

import av

from alphareel.domain.clip import Chunk, Clip, Limits
from alphareel.domain.errors import AlphareelError, DurationTooLong
from alphareel.imaging.frame import Frame
from alphareel.media.deinterlace import deinterlace
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.frame_converter import FrameConverter
from alphareel.media.probe import Layout, check_max_size, check_seconds, inspect
from alphareel.media.source import decode_from, open_container, open_decoder, packets
from alphareel.media.timestamps import TimestampNormalizer

_Size = tuple[int, int]
_MAX_SILENT_END = 0.5  # seconds between the last packet of audio and the end of a file that is complete


def open_reader(path: Path, limits: Limits) -> "Reader":
    """A reader of the video ``path``, to be used as a context manager. Raises like ``probe``."""
    clip, layout = inspect(path, limits)
    return Reader(path, limits, clip, layout)


class Reader:
    """Reads one clip. ``frames_lost``: frames that could not be decoded, complete after the iteration.

    There is one iteration at a time: a second call of ``frames`` or ``chunk`` ends the first.
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
        """End the iteration and close the file. May be called twice."""
        if self._running is not None:
            self._running.close()
            self._running = None

    def frames(self, thumbnail: _Size | None = None, seconds: float | None = None) -> Generator[Frame, None, None]:
        """Frames in presentation order. ``thumbnail``: (width, height) of the small copy that each frame carries.

        ``seconds``: stop before the first frame at or after this moment. Planes are read-only and may be views of the
        decoder's memory, which they keep alive. Damaged parts are skipped and counted. Raises DurationTooLong when the
        video, including the duration of its last frame, exceeds the limits, whatever its header says;
        ResolutionTooLarge when a later frame does; BadVideo when the video cannot be read further.
        """
        self.close()
        self._running = self._frames(thumbnail, seconds)
        return self._running

    def chunk(
        self, chunk: Chunk, thumbnail: _Size | None = None, *, lead: int = 0, tail: int = 0
    ) -> Generator[Frame, None, None]:
        """Frames of one chunk, preceded by up to ``lead`` frames from before it and followed by ``tail`` after it.

        Otherwise like ``frames``.
        """
        self.close()
        self._running = self._chunk(chunk, thumbnail, lead, tail)
        return self._running

    def _chunk(self, chunk: Chunk, thumbnail: _Size | None, lead: int, tail: int) -> Generator[Frame, None, None]:
        self.frames_lost = 0
        base = self.clip.time_base
        start_tick = max(0, chunk.start - round(lead / self.clip.rate / base))
        timestamps, index = TimestampNormalizer(self.clip), 0
        converter = FrameConverter(
            size=self._layout.size, color=self._layout.color, orientation=self._layout.orientation
        )
        with (
            decode_from(self._path, self._limits, self.clip.start + start_tick * base) as frames,
            translating_read_errors(self._path),
        ):
            for decoded in deinterlace(frames):
                pts, duration = timestamps.assign(decoded)
                is_after = chunk.end is not None and pts >= chunk.end
                if is_after and not tail:
                    break
                if pts < start_tick:
                    continue
                self._check(index, pts, decoded)
                tail -= is_after
                index += pts >= chunk.start and not is_after
                yield _frame(converter, decoded, thumbnail, pts=pts, duration=duration, index=index)
        if chunk.end is None:
            check_seconds(float(timestamps.end * base), self._limits)
        self.frames_lost = max(0, chunk.frames - index)

    def _frames(self, thumbnail: _Size | None, seconds: float | None) -> Generator[Frame, None, None]:
        self.frames_lost = 0
        timestamps, index = TimestampNormalizer(self.clip), 0
        converter = FrameConverter(
            size=self._layout.size, color=self._layout.color, orientation=self._layout.orientation
        )
        with open_decoder(self._path, self._limits) as decoder, translating_read_errors(self._path):
            for decoded in deinterlace(decoder.frames()):
                pts, duration = timestamps.assign(decoded)
                self.frames_lost = decoder.errors
                if seconds is not None and float(pts * self.clip.time_base) >= seconds:
                    return
                self._check(index, pts, decoded)
                yield _frame(converter, decoded, thumbnail, pts=pts, duration=duration, index=index)
                index += 1
        check_seconds(float(timestamps.end * self.clip.time_base), self._limits)
        self.frames_lost = max(decoder.errors, self._missing(index, timestamps))

    def _check(self, index: int, pts: int, decoded: av.VideoFrame) -> None:
        check_max_size(decoded.width, decoded.height, self._limits)
        check_seconds(float(pts * self.clip.time_base), self._limits)
        if self._limits.max_frames and index >= self._limits.max_frames:
            raise DurationTooLong(
                f"The video has more than the {self._limits.max_frames:,} frames allowed.",
                hint="Cut it into shorter parts.",
            )

    def _missing(self, decoded: int, timestamps: TimestampNormalizer) -> int:
        """Frames that are missing: by the count in the index, else by gaps between timestamps and at the end."""
        if self._layout.frames:
            return self._layout.frames - decoded
        end, rate = float(timestamps.end * self.clip.time_base), float(self.clip.rate)
        missing = round((self.clip.seconds - end) * rate)
        is_damage = missing > max(2.0, rate / 2) and not self._has_audio_until(self.clip.seconds - _MAX_SILENT_END)
        return timestamps.skipped + (missing if is_damage else 0)

    def _has_audio_until(self, moment: float) -> bool:
        """Whether the file has audio at or after ``moment``: its duration is then that of the audio."""
        if self.clip.audio is None:
            return False
        with (
            suppress(AlphareelError),
            open_container(self._path, self._limits) as container,
            translating_read_errors(self._path),
        ):
            for packet in packets(container, *container.streams.audio):
                if packet.pts is not None and packet.pts * Fraction(packet.time_base) - self.clip.start >= moment:
                    return True
        return False


def _frame(
    converter: FrameConverter, decoded: av.VideoFrame, thumbnail: _Size | None, *, pts: int, duration: int, index: int
) -> Frame:
    owner, (y, u, v), alpha = converter.planes(decoded)
    small = None if thumbnail is None else converter.thumbnail(owner, *thumbnail)
    return Frame(y, u, v, pts, duration, index, small, alpha, buffer_owner=owner)
