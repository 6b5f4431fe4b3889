"""Animated WebP as frames, one at a time: FFmpeg here reads still ones only. The chunks are those of RFC 9649."""

import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from io import SEEK_END
from pathlib import Path
from typing import BinaryIO

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.domain.errors import BadVideo, ResolutionTooLarge
from alphareel.media.ffmpeg_errors import EXPORT_AGAIN

TICK = Fraction(1, 1000)
_ALPHA_FLAG, _CLEARS_AFTERWARDS, _REPLACES = 0x10, 0x01, 0x02
_MOST_SIDE = 16384  # of a canvas, where the caller sets no limit; a frame cannot have more
_FRAME_HEAD = 16  # bytes before a frame's own chunks
_PICTURE_CHUNKS = (b"ALPH", b"VP8 ", b"VP8L")
_VP8_START = b"\x9d\x01\x2a"
_VP8L_START = b"\x2f"
_SHORTEST = 10  # milliseconds; browsers show what claims to be shorter for a tenth of a second, and so do we
_USUAL = 100

_Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Entry:
    """A frame in the file: where its chunks lie, where it stands on the canvas, how long, and how it is drawn."""

    at: int
    size: int
    left: int
    top: int
    width: int
    height: int
    milliseconds: int
    clears_afterwards: bool
    replaces: bool


@dataclass(frozen=True)
class Animation:
    """What a WebP says of itself. ``is_whole``: it holds as many bytes as it claims."""

    width: int
    height: int
    has_alpha: bool
    entries: tuple[Entry, ...]
    is_whole: bool

    @property
    def milliseconds(self) -> int:
        return sum(entry.milliseconds for entry in self.entries)


def is_webp(path: Path) -> bool:
    """Whether the file begins like a WebP. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(12)
    return head[:4] == b"RIFF" and head[8:] == b"WEBP"


def read_animation(path: Path) -> Animation:
    """The index of an animated WebP; decodes nothing. Raises BadVideo and OSError."""
    with path.open("rb") as file:
        head = file.read(30)
        if len(head) < 30 or head[12:16] != b"VP8X":
            raise BadVideo(f"{path.name} is damaged: its header is cut off.", hint=EXPORT_AGAIN)
        claimed = 8 + int.from_bytes(head[4:8], "little")
        entries = []
        for name, size in chunks(file, 12):
            if name == b"ANMF" and size > _FRAME_HEAD:
                entries.append(_entry(file, size))
        width, height = (1 + int.from_bytes(head[n : n + 3], "little") for n in (24, 27))
        if max(width, height) > _MOST_SIDE:
            raise ResolutionTooLarge(f"{path.name} has {width}x{height} pixels.", hint="Scale it down first.")
        return Animation(
            width=width,
            height=height,
            has_alpha=bool(head[20] & _ALPHA_FLAG),
            entries=tuple(entries),
            is_whole=file.seek(0, SEEK_END) >= claimed,
        )


def chunks(file: BinaryIO, start: int, end: int | None = None) -> Iterator[tuple[bytes, int]]:
    """(name, size of the payload) of each whole chunk from ``start`` on; the file stands at the payload."""
    end = file.seek(0, SEEK_END) if end is None else end
    at = start
    while at + 8 <= end:
        file.seek(at)
        name, size = struct.unpack("<4sI", file.read(8))
        if at + 8 + size > end:
            return
        yield name, size
        at += 8 + size + size % 2


class WebpDecoder:
    """Draws the frames of one file onto its canvas. ``errors`` counts those that could not be decoded."""

    def __init__(self, path: Path, animation: Animation) -> None:
        self.errors = 0 if animation.is_whole else 1
        self._path = path
        self._animation = animation

    def frames(self, *, tries: int | None = None) -> Iterator[av.VideoFrame]:
        """Whole canvases in order, bgra where there is alpha, else bgr24. Raises OSError.

        Ends when none of the first ``tries`` frames can be decoded; None reads all of them.
        """
        canvas = _Canvas(self._animation.width, self._animation.height)
        moment = 0
        with self._path.open("rb") as file:
            for number, entry in enumerate(self._animation.entries, 1):
                if self._draw(file, entry, canvas):
                    yield self._shown(canvas.pixels, moment, entry.milliseconds)
                elif number == tries and canvas.is_untouched:
                    return
                if entry.clears_afterwards:
                    canvas.clear(entry)
                moment += entry.milliseconds

    def _draw(self, file: BinaryIO, entry: Entry, canvas: "_Canvas") -> bool:
        part = canvas.part(entry)
        fits = part.shape[:2] == (entry.height, entry.width)
        picture = _picture(file, entry) if fits else None
        if picture is None or picture.shape != part.shape:
            self.errors += 1
            return False
        part[:] = picture if entry.replaces else _over(picture, part)
        canvas.note_drawn(entry)
        return True

    def _shown(self, canvas: _Pixels, moment: int, milliseconds: int) -> av.VideoFrame:
        if self._animation.has_alpha:
            made = av.VideoFrame.from_ndarray(canvas, format="bgra")
        else:
            made = av.VideoFrame.from_ndarray(np.ascontiguousarray(canvas[..., :3]), format="bgr24")
        made.pts, made.duration, made.time_base = moment, milliseconds, TICK
        return made


def _entry(file: BinaryIO, size: int) -> Entry:
    head = file.read(_FRAME_HEAD)
    left, top, width, height, length = (int.from_bytes(head[n : n + 3], "little") for n in range(0, 15, 3))
    return Entry(
        at=file.tell(),
        size=size - _FRAME_HEAD,
        left=left * 2,
        top=top * 2,
        width=width + 1,
        height=height + 1,
        milliseconds=length if length > _SHORTEST else _USUAL,
        clears_afterwards=bool(head[15] & _CLEARS_AFTERWARDS),
        replaces=bool(head[15] & _REPLACES),
    )


class _Canvas:
    """The pixels, and the rectangle that may hold anything else than transparent black.

    A frame may ask to clear the whole canvas and draw nothing, thousands of times in a small file: clearing costs no
    more than what was drawn since.
    """

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.zeros((height, width, 4), np.uint8)
        self.is_untouched = True
        self._drawn: tuple[int, int, int, int] | None = None  # left, top, right, bottom

    def part(self, entry: Entry) -> _Pixels:
        return self.pixels[entry.top : entry.top + entry.height, entry.left : entry.left + entry.width]

    def note_drawn(self, entry: Entry) -> None:
        self.is_untouched = False
        left, top, right, bottom = _edges(entry)
        if self._drawn is not None:
            left, top = min(left, self._drawn[0]), min(top, self._drawn[1])
            right, bottom = max(right, self._drawn[2]), max(bottom, self._drawn[3])
        self._drawn = (left, top, right, bottom)

    def clear(self, entry: Entry) -> None:
        if self._drawn is None:
            return
        left, top, right, bottom = _edges(entry)
        inner = (
            max(left, self._drawn[0]),
            max(top, self._drawn[1]),
            min(right, self._drawn[2]),
            min(bottom, self._drawn[3]),
        )
        if inner[0] < inner[2] and inner[1] < inner[3]:
            self.pixels[inner[1] : inner[3], inner[0] : inner[2]] = 0
        if inner == self._drawn:
            self._drawn = None


def _edges(entry: Entry) -> tuple[int, int, int, int]:
    return entry.left, entry.top, entry.left + entry.width, entry.top + entry.height


def _picture(file: BinaryIO, entry: Entry) -> _Pixels | None:
    """The frame's own pixels, BGRA; None when they are damaged or not of the size that they claim."""
    body = b""
    coded = None
    for name, size in chunks(file, entry.at, entry.at + entry.size):
        if name in _PICTURE_CHUNKS:
            data = file.read(size)
            body += name + struct.pack("<I", size) + data + b"\0" * (size % 2)
            coded = coded or _coded_size(name, data)
    if coded != (entry.width, entry.height):
        return None  # the decoder would first allocate, and complain on standard error
    # behind a header of their own the frame's chunks are a still picture
    edges = struct.pack("<I", entry.width - 1)[:3] + struct.pack("<I", entry.height - 1)[:3]
    body = b"VP8X" + struct.pack("<I", 10) + bytes([_ALPHA_FLAG, 0, 0, 0]) + edges + body
    still = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    found = None
    with suppress(cv2.error):
        found = cv2.imdecode(np.frombuffer(still, np.uint8), cv2.IMREAD_UNCHANGED)
    if found is None or found.ndim != 3:
        return None
    return np.asarray(found if found.shape[2] == 4 else cv2.cvtColor(found, cv2.COLOR_BGR2BGRA), np.uint8)


def _coded_size(name: bytes, data: bytes) -> tuple[int, int] | None:
    """Width and height in the head of a VP8 key frame or a VP8L picture; None for anything else."""
    if name == b"VP8 " and data[3:6] == _VP8_START and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L" and data[:1] == _VP8L_START and len(data) >= 5:
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None


def _over(above: _Pixels, below: _Pixels) -> _Pixels:
    """``above`` over ``below``, both with straight alpha."""
    if (above[..., 3] == 255).all():
        return above
    share = above[..., 3:].astype(np.float32) / 255
    rest = below[..., 3:].astype(np.float32) / 255 * (1 - share)
    total = share + rest
    colors = (above[..., :3] * share + below[..., :3] * rest) / np.maximum(total, 1e-6)
    return np.asarray(np.rint(np.concatenate([colors, total * 255], axis=-1)), np.uint8)
