"""Animated WebP with 8-bit alpha, silent. Frames are coded one by one and streamed: a long clip fits in memory."""

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
from alphareel.frame import Frame, Plane
from alphareel.media.ffmpeg_errors import reading
from alphareel.media.result_file import Proof, ResultFile
from alphareel.media.verify import Found
from alphareel.media.webp_pictures import WebpPictures
from alphareel.media.write import Format, Sink, Target

# RFC 9649: chunks are a name, a size in 32 bits and a payload padded to even; the file is one such chunk.
_MOST_BYTES = 0xFFFFFFFE
_ALPHA_FLAG, _ANIMATION_FLAG = 0x10, 0x02
_DO_NOT_BLEND = 0x02  # each frame replaces the one before
_SHORTEST, _LONGEST_MS = Fraction(1, 1000), 0xFFFFFF
_LONGEST = Fraction(_LONGEST_MS, 1000)
_FRAME_HEAD = 16  # bytes before a frame's own chunks
_QUALITY: Mapping[Quality, int] = {"web": 60, "balanced": 75, "master": 92}


class _Animation:
    """An Encoding that writes each frame as a chunk once it knows how long the frame lasts."""

    sound = None

    def __init__(self, target: Target, path: Path) -> None:
        self._target = target
        self._encode = WebpPictures(target, quality=_QUALITY[target.quality])
        self._waiting: tuple[int, bytes] | None = None
        self._file = path.open("wb")
        self._write(_head(target))

    def add(self, frame: Frame, alpha: Plane | None, duration: int) -> None:  # noqa: ARG002 - the next frame tells
        chunks = _picture_chunks(self._encode(frame, alpha))
        self._flush(frame.pts)
        self._waiting = (frame.pts, chunks)

    def end(self, tick: int) -> None:
        self._flush(tick)
        size = self._file.tell()
        self._file.seek(4)
        self._file.write(struct.pack("<I", size - 8))
        self._file.close()

    def drop(self) -> None:
        self._file.close()

    def _flush(self, until: int) -> None:
        """Write the frame that waits, lasting until tick ``until``."""
        if self._waiting is None:
            return
        pts, chunks = self._waiting
        base = self._target.clip.time_base
        # both ends are rounded, not the length, so that errors do not add up
        length = round(until * base * 1000) - round(pts * base * 1000)
        head = bytes(6) + _size(self._target.width, self._target.height) + _three(min(max(1, length), _LONGEST_MS))
        self._write(_chunk(b"ANMF", head + bytes([_DO_NOT_BLEND]) + chunks))
        self._waiting = None

    def _write(self, data: bytes) -> None:
        if self._file.tell() + len(data) > _MOST_BYTES:
            raise StorageFailed("A WebP file holds 4 GB at most.", hint="Choose webm, or a shorter or smaller clip.")
        self._file.write(data)


def _head(target: Target) -> bytes:
    flags = _ANIMATION_FLAG | (_ALPHA_FLAG if target.has_alpha else 0)
    extended = bytes([flags, 0, 0, 0]) + _size(target.width, target.height)
    endless = bytes(6)  # background colour, number of loops
    return b"RIFF\0\0\0\0WEBP" + _chunk(b"VP8X", extended) + _chunk(b"ANIM", endless)


def _size(width: int, height: int) -> bytes:
    return _three(width - 1) + _three(height - 1)


def _three(number: int) -> bytes:
    return number.to_bytes(3, "little")


def _chunk(name: bytes, payload: bytes) -> bytes:
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def _picture_chunks(still: bytes) -> bytes:
    """The chunks of a still WebP that hold its picture, as they go into an animation's frame."""
    wanted = (b"ALPH", b"VP8 ", b"VP8L")
    file = BytesIO(still)
    return b"".join(_chunk(name, file.read(size)) for name, size in _walk(file) if name in wanted)


def _walk(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """(name, size of the payload) of each chunk; the file stands at the payload. Raises BadVideo when it ends early."""
    end = file.seek(0, SEEK_END)
    at = 12
    while at < end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8).ljust(8, b"\0"))
        if at + 8 + size > end:
            raise BadVideo("The WebP file ends too early.")
        yield name, size
        at += 8 + size + size % 2


@dataclass(frozen=True)
class _Entry:
    """A frame in the file: where its chunks lie and how long it lasts."""

    at: int
    size: int
    milliseconds: int


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Found:
    """Walks all chunks and decodes the frames at ``moments``."""
    with reading(path), path.open("rb") as file:
        entries, head = [], b""
        for name, size in _walk(file):
            if name == b"VP8X":
                head = file.read(size)
            if name == b"ANMF":
                length = int.from_bytes(file.read(_FRAME_HEAD)[12:15], "little")
                entries.append(_Entry(file.tell(), size - _FRAME_HEAD, length))
        return Found(
            frames=len(entries),
            seconds=sum(entry.milliseconds for entry in entries) / 1000,
            width=1 + int.from_bytes(head[4:7], "little"),
            height=1 + int.from_bytes(head[7:10], "little"),
            has_alpha=bool(head and head[0] & _ALPHA_FLAG),
            has_audio=False,
            alphas=tuple(_alpha_at(file, head, entries, moment) for moment in moments),
        )


def _alpha_at(file: BinaryIO, head: bytes, entries: list[_Entry], moment: Fraction) -> Plane | None:
    begins = accumulate((entry.milliseconds for entry in entries), initial=0)
    _, chosen = min(zip(begins, entries, strict=False), key=lambda pair: abs(pair[0] - moment * 1000))
    file.seek(chosen.at)
    # the frame's chunks behind a header of their own are a still picture
    body = _chunk(b"VP8X", bytes([_ALPHA_FLAG]) + head[1:]) + file.read(chosen.size)
    still = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    picture = cv2.imdecode(np.frombuffer(still, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        return None
    return np.ascontiguousarray(picture[..., 3], np.uint8)


def _open(target: Target) -> Sink:
    return ResultFile(target, _Animation, Proof(_inspect, shortest=_SHORTEST, longest=_LONGEST, alpha_error=0.0))


FORMAT = Format(name="webp", suffix=".webp", mime="image/webp", alpha=True, audio=False, open=_open, sides={"web": 720})
