"""Animated PNG: lossless straight RGBA, no audio. Each frame is encoded as a PNG file, whose chunks are repackaged.

The chunk layout follows PNG, third edition, section 11.3.6: a frame is an fcTL chunk and its data, IDAT for the first
frame and fdAT for the others. fcTL and fdAT chunks share one sequence of numbers.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from alphareel.domain.errors import BadVideo
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.encoder_input import RgbConverter
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.format import Format
from alphareel.media.output_file import Target, VerificationProfile
from alphareel.media.pending_frame import PendingFrame
from alphareel.media.png import SIGNATURE, chunk, png_encoder, read_chunks
from alphareel.media.verify import Inspection

_CONTROL = ">IIIIIHHBB"
_DISPOSE_NONE, _BLEND_SOURCE = 0, 0  # keep the canvas after a frame; a frame replaces what was there
_MAX_UINT16 = 0xFFFF  # a delay is a fraction of two 16-bit numbers
_MILLISECONDS = 1000
_RGBA_COLOR_TYPE = 6
_ACTL_OFFSET = len(SIGNATURE) + 25  # acTL, with the frame count, follows IHDR
_ROUNDING = Fraction(1, 1500)  # seconds; more than rounding to milliseconds moves a timestamp


def _actl(frames: int) -> bytes:
    infinite_loop = 0
    return chunk(b"acTL", struct.pack(">II", frames, infinite_loop))


def _delay(milliseconds: int) -> tuple[int, int]:
    """Numerator and denominator in seconds: the finest fraction that fits into 16 bits each."""
    for denominator in (_MILLISECONDS, 100, 10):
        if milliseconds * denominator <= _MAX_UINT16 * _MILLISECONDS:
            return round(milliseconds * denominator / _MILLISECONDS), denominator
    return min(_MAX_UINT16, round(milliseconds / _MILLISECONDS)), 1


def _header_and_data(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The contents of a PNG file's IHDR chunk and of all its IDAT chunks together."""
    chunks = list(read_chunks(BytesIO(png)))
    for key in (b"IHDR", b"IDAT"):
        yield key, b"".join(data for name, data in chunks if name == key)


@dataclass(frozen=True)
class _ApngFrame:
    """A frame in a file: its time in seconds, the file's IHDR contents, and the frame's compressed data."""

    start: Fraction
    end: Fraction
    header: bytes
    data: bytes


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    """Reads all chunks, verifies their checksums, and decodes the frames at ``moments``."""
    alphas: dict[Fraction, Plane | None] = {}
    frames, last = 0, _ApngFrame(Fraction(0), Fraction(0), bytes(13), b"")
    with translating_read_errors(path), path.open("rb") as file:
        for last in _read_frames(file):
            frames += 1
            alphas.update((m, _alpha(last)) for m in moments if last.start - _ROUNDING <= m < last.end - _ROUNDING)
    width, height, _, color_type = struct.unpack(">IIBB", last.header[:10])
    return Inspection(
        frames=frames,
        seconds=float(last.end),
        width=width,
        height=height,
        has_alpha=color_type == _RGBA_COLOR_TYPE,
        has_audio=False,
        alphas=tuple(alphas.get(moment) for moment in moments),
    )


def _read_frames(file: BinaryIO) -> Iterator[_ApngFrame]:
    """The frames in order. Raises BadVideo when their number differs from the one in acTL."""
    start, header, control, declared, count = Fraction(0), b"", b"", 0, 0
    for name, data in read_chunks(file):
        if name == b"IHDR":
            header = data
        elif name == b"acTL":
            declared = struct.unpack(">I", data[:4])[0]
        elif name == b"fcTL":
            control = data
        elif name in (b"IDAT", b"fdAT"):
            end = start + Fraction(*struct.unpack(">HH", control[20:24]))
            yield _ApngFrame(start, end, header, data if name == b"IDAT" else data[4:])
            start, count = end, count + 1
    if count != declared:
        raise BadVideo(f"The file announces {declared} frames and holds {count}.")


def _alpha(frame: _ApngFrame) -> Plane | None:
    png = SIGNATURE + chunk(b"IHDR", frame.header) + chunk(b"IDAT", frame.data) + chunk(b"IEND", b"")
    picture = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return None
    return np.ascontiguousarray(picture[..., 3], np.uint8)


class _ApngEncoder:
    """A FrameEncoder that writes each frame when the next one shows its duration, and the frame count at the end."""

    audio = None
    verification = VerificationProfile(_inspect, min_frame_duration=Fraction(1, _MILLISECONDS), alpha_error=0.0)

    def __init__(self, target: Target, path: Path) -> None:
        self._target = target
        self._to_rgb = RgbConverter(target.clip.color)
        self._encode_png = png_encoder()
        self._frames = self._numbers = 0
        self._pending = PendingFrame(target.clip.time_base)
        self._file = path.open("wb")

    def encode(self, frame: Frame, alpha: Plane | None, duration: int) -> None:  # noqa: ARG002 - the next frame shows it
        png = dict(_header_and_data(self._encode_png(self._to_rgb(frame, alpha))))
        if not self._frames:
            self._file.write(SIGNATURE + chunk(b"IHDR", png[b"IHDR"]) + _actl(0))
        self._flush(frame.pts)
        self._pending.put(frame.pts, png[b"IDAT"])
        self._frames += 1

    def finish(self, end: int) -> None:
        self._flush(end)
        self._file.write(chunk(b"IEND", b""))
        self._file.seek(_ACTL_OFFSET)
        self._file.write(_actl(self._frames))
        self._file.close()

    def abort(self) -> None:
        self._file.close()

    def _flush(self, until: int) -> None:
        """Write the pending frame, which lasts until tick ``until``."""
        if (pending := self._pending.take(until)) is None:
            return
        milliseconds, data = pending
        size = (self._target.width, self._target.height)
        control = (self._next_number(), *size, 0, 0, *_delay(milliseconds), _DISPOSE_NONE, _BLEND_SOURCE)
        self._file.write(chunk(b"fcTL", struct.pack(_CONTROL, *control)))
        first = control[0] == 0
        self._file.write(
            chunk(b"IDAT", data) if first else chunk(b"fdAT", struct.pack(">I", self._next_number()) + data)
        )

    def _next_number(self) -> int:
        self._numbers += 1
        return self._numbers - 1


FORMAT = Format(
    name="apng",
    suffix=".apng",
    mime="image/apng",
    audio=False,
    encoder=_ApngEncoder,
    max_side={"web": 720},
    bytes_per_pixel=1.0,
    other_suffixes=frozenset({".png"}),
)
