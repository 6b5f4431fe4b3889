"""Animated PNG: lossless straight RGBA, silent. Frames are ordinary PNG files whose chunks are renamed and numbered."""

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
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.format import Format, Sink, Target
from alphareel.media.output_file import OutputFile, VerificationProfile
from alphareel.media.png import SIGNATURE, chunk, png_encoder, walk
from alphareel.media.rgba import RgbPictures
from alphareel.media.verify import Inspection

# PNG, third edition, section 11.3.6: a frame is fcTL and its data, IDAT for the first and fdAT for all others; fcTL
# and fdAT share one row of numbers.
_CONTROL = ">IIIIIHHBB"
_KEEP, _REPLACE = 0, 0  # how a frame leaves the canvas, how it is put there
_LONGEST = 0xFFFF  # of both numbers that a delay is a fraction of
_MILLISECONDS = 1000
_RGBA = 6  # a color type
_ANIMATION_AT = len(SIGNATURE) + 25  # acTL, with the count of frames, stands behind IHDR
_SLACK = Fraction(1, 1500)  # seconds; more than rounding to thousandths moves a frame


class _Animation:
    """An Encoding that writes each frame once it knows how long it lasts; the count of frames is filled in last."""

    sound = None

    def __init__(self, target: Target, path: Path) -> None:
        self._target = target
        self._pixels = RgbPictures(target.clip.color)
        self._encode = png_encoder()
        self._frames = self._number = 0
        self._waiting: tuple[int, bytes] | None = None
        self._file = path.open("wb")

    def add(self, frame: Frame, alpha: Plane | None, duration: int) -> None:  # noqa: ARG002 - the next frame tells
        still = dict(_joined(self._encode(self._pixels(frame, alpha))))
        if not self._frames:
            self._file.write(SIGNATURE + chunk(b"IHDR", still[b"IHDR"]) + _animation(0))
        self._flush(frame.pts)
        self._waiting = (frame.pts, still[b"IDAT"])
        self._frames += 1

    def end(self, tick: int) -> None:
        self._flush(tick)
        self._file.write(chunk(b"IEND", b""))
        self._file.seek(_ANIMATION_AT)
        self._file.write(_animation(self._frames))
        self._file.close()

    def drop(self) -> None:
        self._file.close()

    def _flush(self, until: int) -> None:
        """Write the frame that waits, lasting until tick ``until``."""
        if self._waiting is None:
            return
        pts, data = self._waiting
        base = self._target.clip.time_base
        # both ends are rounded, not the length, so that errors do not add up
        length = round(until * base * _MILLISECONDS) - round(pts * base * _MILLISECONDS)
        size = (self._target.width, self._target.height)
        control = (self._next(), *size, 0, 0, *_delay(max(1, length)), _KEEP, _REPLACE)
        self._file.write(chunk(b"fcTL", struct.pack(_CONTROL, *control)))
        first = control[0] == 0
        self._file.write(chunk(b"IDAT", data) if first else chunk(b"fdAT", struct.pack(">I", self._next()) + data))
        self._waiting = None

    def _next(self) -> int:
        self._number += 1
        return self._number - 1


def _animation(frames: int) -> bytes:
    endless = 0
    return chunk(b"acTL", struct.pack(">II", frames, endless))


def _delay(milliseconds: int) -> tuple[int, int]:
    """A fraction of a second, the finest that fits into 16 bits each."""
    for parts in (_MILLISECONDS, 100, 10):
        if milliseconds * parts <= _LONGEST * _MILLISECONDS:
            return round(milliseconds * parts / _MILLISECONDS), parts
    return min(_LONGEST, round(milliseconds / _MILLISECONDS)), 1


def _joined(still: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The header and the picture data of a PNG file, each in one piece."""
    pieces = list(walk(BytesIO(still)))
    for wanted in (b"IHDR", b"IDAT"):
        yield wanted, b"".join(data for name, data in pieces if name == wanted)


@dataclass(frozen=True)
class _Entry:
    """A frame in the file: when it is shown, in seconds, the file's header, and the frame's data."""

    begins: Fraction
    ends: Fraction
    header: bytes
    data: bytes


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    """Walks all chunks, checksums included, and decodes the frames at ``moments``."""
    alphas: dict[Fraction, Plane | None] = {}
    frames, last = 0, _Entry(Fraction(0), Fraction(0), bytes(13), b"")
    with translating_read_errors(path), path.open("rb") as file:
        for last in _entries(file):
            frames += 1
            alphas.update((m, _alpha(last)) for m in moments if last.begins - _SLACK <= m < last.ends - _SLACK)
    width, height, _, kind = struct.unpack(">IIBB", last.header[:10])
    return Inspection(
        frames=frames,
        seconds=float(last.ends),
        width=width,
        height=height,
        has_alpha=kind == _RGBA,
        has_audio=False,
        alphas=tuple(alphas.get(moment) for moment in moments),
    )


def _entries(file: BinaryIO) -> Iterator[_Entry]:
    """The frames in order. Raises BadVideo when there are not as many as the head says."""
    begins, header, control, declared, count = Fraction(0), b"", b"", 0, 0
    for name, data in walk(file):
        if name == b"IHDR":
            header = data
        elif name == b"acTL":
            declared = struct.unpack(">I", data[:4])[0]
        elif name == b"fcTL":
            control = data
        elif name in (b"IDAT", b"fdAT"):
            ends = begins + Fraction(*struct.unpack(">HH", control[20:24]))
            yield _Entry(begins, ends, header, data if name == b"IDAT" else data[4:])
            begins, count = ends, count + 1
    if count != declared:
        raise BadVideo(f"The file announces {declared} frames and holds {count}.")


def _alpha(entry: _Entry) -> Plane | None:
    still = SIGNATURE + chunk(b"IHDR", entry.header) + chunk(b"IDAT", entry.data) + chunk(b"IEND", b"")
    picture = cv2.imdecode(np.frombuffer(still, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return None
    return np.ascontiguousarray(picture[..., 3], np.uint8)


def _open(target: Target) -> Sink:
    return OutputFile(
        target, _Animation, VerificationProfile(_inspect, shortest=Fraction(1, _MILLISECONDS), alpha_error=0.0)
    )


FORMAT = Format(name="apng", suffix=".apng", mime="image/apng", alpha=True, audio=False, open=_open, sides={"web": 720})
