"""Animated WebP: 8-bit alpha, no audio. Frames are encoded and written one by one, so memory use is constant.

The chunk layout follows RFC 9649: a chunk is a name, a 32-bit size, and a payload padded to an even size. The file is
one such chunk.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from io import SEEK_END, BytesIO
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np

from alphareel.domain.errors import BadVideo, StorageFailed
from alphareel.domain.options import Quality
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.format import Format
from alphareel.media.output_file import Target, VerificationProfile
from alphareel.media.pending_frame import PendingFrame
from alphareel.media.verify import Inspection
from alphareel.media.webp_encoder import WebpEncoder

_MAX_BYTES = 0xFFFFFFFE
_ALPHA_FLAG, _ANIMATION_FLAG = 0x10, 0x02
_DO_NOT_BLEND = 0x02  # a frame replaces the one before it
_MIN_FRAME_DURATION, _MAX_MILLISECONDS = Fraction(1, 1000), 0xFFFFFF
_MAX_FRAME_DURATION = Fraction(_MAX_MILLISECONDS, 1000)
_FRAME_HEADER_BYTES = 16
_QUALITY: Mapping[Quality, int] = {"web": 60, "balanced": 75, "master": 92}


def _file_header(target: Target) -> bytes:
    flags = _ANIMATION_FLAG | (_ALPHA_FLAG if target.has_alpha else 0)
    extended = bytes([flags, 0, 0, 0]) + _size(target.width, target.height)
    animation = bytes(6)  # background color, and 0 for an infinite loop
    return b"RIFF\0\0\0\0WEBP" + _chunk(b"VP8X", extended) + _chunk(b"ANIM", animation)


def _size(width: int, height: int) -> bytes:
    return _uint24(width - 1) + _uint24(height - 1)


def _uint24(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def _picture_chunks(webp: bytes) -> bytes:
    """The picture chunks of a still WebP file, which are also the contents of an animation frame."""
    names = (b"ALPH", b"VP8 ", b"VP8L")
    file = BytesIO(webp)
    return b"".join(_chunk(name, file.read(size)) for name, size in _read_chunks(file) if name in names)


def _read_chunks(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(name, payload size) of each chunk, with the file positioned at its payload. Raises BadVideo when truncated."""
    end = file.seek(0, SEEK_END)
    offset = 12
    while offset < end:
        file.seek(offset)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if offset + 8 + size > end:
            raise BadVideo("The WebP file is truncated.")
        yield name, size
        offset += 8 + size + size % 2


@dataclass(frozen=True)
class _WebpFrame:
    """A frame in a file: the position of its chunks in bytes, and its duration."""

    offset: int
    size: int
    milliseconds: int


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    """Reads all chunk headers and decodes the frames at ``moments``."""
    with translating_read_errors(path), path.open("rb") as file:
        frames, header = [], b""
        for name, size in _read_chunks(file):
            if name == b"VP8X":
                header = file.read(size)
            if name == b"ANMF":
                length = int.from_bytes(file.read(_FRAME_HEADER_BYTES)[12:15], "little")
                frames.append(_WebpFrame(file.tell(), size - _FRAME_HEADER_BYTES, length))
        return Inspection(
            frames=len(frames),
            seconds=sum(frame.milliseconds for frame in frames) / 1000,
            width=1 + int.from_bytes(header[4:7], "little"),
            height=1 + int.from_bytes(header[7:10], "little"),
            has_alpha=bool(header and header[0] & _ALPHA_FLAG),
            has_audio=False,
            alphas=tuple(_alpha_at(file, header, frames, moment) for moment in moments),
        )


def _alpha_at(file: BinaryIO, header: bytes, frames: list[_WebpFrame], moment: Fraction) -> Plane | None:
    starts = accumulate((frame.milliseconds for frame in frames), initial=0)
    _, nearest = min(zip(starts, frames, strict=False), key=lambda pair: abs(pair[0] - moment * 1000))
    file.seek(nearest.offset)
    # with a header of its own, a frame's chunks are a still WebP file
    body = _chunk(b"VP8X", bytes([_ALPHA_FLAG]) + header[1:]) + file.read(nearest.size)
    webp = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    picture = cv2.imdecode(np.frombuffer(webp, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return None
    return np.ascontiguousarray(picture[..., 3], np.uint8)


class _AnimationEncoder:
    """A FrameEncoder that writes each frame when the next one shows its duration."""

    audio = None
    verification = VerificationProfile(
        _inspect,
        min_frame_duration=_MIN_FRAME_DURATION,
        max_frame_duration=_MAX_FRAME_DURATION,
        alpha_error=0.0,
    )

    def __init__(self, target: Target, path: Path) -> None:
        self._target = target
        self._encode_webp = WebpEncoder(target, quality=_QUALITY[target.quality])
        self._pending = PendingFrame(target.clip.time_base)
        self._file = path.open("wb")
        self._write(_file_header(target))

    def encode(self, frame: Frame, alpha: Plane | None, duration: int) -> None:  # noqa: ARG002 - the next frame shows it
        chunks = _picture_chunks(self._encode_webp(frame, alpha))
        self._flush(frame.pts)
        self._pending.put(frame.pts, chunks)

    def finish(self, end: int) -> None:
        self._flush(end)
        size = self._file.tell()
        self._file.seek(4)
        self._file.write(struct.pack("<I", size - 8))
        self._file.close()

    def abort(self) -> None:
        self._file.close()

    def _flush(self, until: int) -> None:
        """Write the pending frame, which lasts until tick ``until``."""
        if (pending := self._pending.take(until)) is None:
            return
        milliseconds, chunks = pending
        size = _size(self._target.width, self._target.height)
        header = bytes(6) + size + _uint24(min(milliseconds, _MAX_MILLISECONDS))
        self._write(_chunk(b"ANMF", header + bytes([_DO_NOT_BLEND]) + chunks))

    def _write(self, data: bytes) -> None:
        if self._file.tell() + len(data) > _MAX_BYTES:
            raise StorageFailed("A WebP file cannot exceed 4 GB.", hint="Choose webm, or a shorter or smaller clip.")
        self._file.write(data)


FORMAT = Format(
    name="webp",
    suffix=".webp",
    mime="image/webp",
    audio=False,
    encoder=_AnimationEncoder,
    max_side={"web": 720},
    bytes_per_pixel=0.15,
)
