"""Decodes animated WebP, one frame at a time. The bundled FFmpeg decodes still WebP only.

The chunk layout follows RFC 9649.
"""

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
_ALPHA_FLAG = 0x10  # of the file
_DISPOSE_FLAG, _NO_BLEND_FLAG = 0x01, 0x02  # of a frame
_MAX_SIDE = 16384  # pixels of the canvas, where the caller sets no limit; the limit of a frame
_FRAME_HEADER_BYTES = 16
_PICTURE_CHUNKS = (b"ALPH", b"VP8 ", b"VP8L")
_VP8_START_CODE = b"\x9d\x01\x2a"  # RFC 6386, section 9.1
_VP8L_SIGNATURE = b"\x2f"
# Like browsers, shows frames of 10 ms and less for 100 ms.
_MAX_IGNORED_MILLISECONDS, _DEFAULT_MILLISECONDS = 10, 100

_Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class WebpFrame:
    """A frame in a file: where its chunks are (bytes), its rectangle on the canvas, its duration, how it is drawn.

    ``clears_canvas``: its rectangle becomes transparent after it was shown. ``replaces``: it is not blended with what
    is on the canvas.
    """

    offset: int
    size: int
    left: int
    top: int
    width: int
    height: int
    milliseconds: int
    clears_canvas: bool
    replaces: bool


@dataclass(frozen=True)
class WebpAnimation:
    """The index of a WebP file. ``is_complete``: the file is as long as its header says."""

    width: int
    height: int
    has_alpha: bool
    frames: tuple[WebpFrame, ...]
    is_complete: bool

    @property
    def milliseconds(self) -> int:
        return sum(frame.milliseconds for frame in self.frames)


def is_webp(path: Path) -> bool:
    """Whether the file has the signature of WebP. Raises OSError."""
    with path.open("rb") as file:
        header = file.read(12)
    return header[:4] == b"RIFF" and header[8:] == b"WEBP"


def read_animation(path: Path) -> WebpAnimation:
    """The index of an animated WebP, without decoding it. Raises BadVideo, ResolutionTooLarge and OSError."""
    with path.open("rb") as file:
        header = file.read(30)
        if len(header) < 30 or header[12:16] != b"VP8X":
            raise BadVideo(f"{path.name} is damaged: its header is truncated.", hint=EXPORT_AGAIN)
        declared = 8 + int.from_bytes(header[4:8], "little")
        frames = []
        for name, size in read_chunks(file, 12):
            if name == b"ANMF" and size > _FRAME_HEADER_BYTES:
                frames.append(_read_frame(file, size))
        width, height = (1 + int.from_bytes(header[n : n + 3], "little") for n in (24, 27))
        if max(width, height) > _MAX_SIDE:
            raise ResolutionTooLarge(f"{path.name} has {width}x{height} pixels.", hint="Scale it down first.")
        return WebpAnimation(
            width=width,
            height=height,
            has_alpha=bool(header[20] & _ALPHA_FLAG),
            frames=tuple(frames),
            is_complete=file.seek(0, SEEK_END) >= declared,
        )


def read_chunks(file: BinaryIO, start: int, end: int | None = None) -> Iterator[tuple[bytes, int]]:
    """(name, payload size) of each complete chunk from byte ``start`` on, with the file positioned at its payload."""
    end = file.seek(0, SEEK_END) if end is None else end
    offset = start
    while offset + 8 <= end:
        file.seek(offset)
        name, size = struct.unpack("<4sI", file.read(8))
        if offset + 8 + size > end:
            return
        yield name, size
        offset += 8 + size + size % 2


class WebpDecoder:
    """Decodes one file. ``errors``: number of frames that could not be decoded so far, and one for a truncated file."""

    def __init__(self, path: Path, animation: WebpAnimation) -> None:
        self.errors = 0 if animation.is_complete else 1
        self._path = path
        self._animation = animation

    def frames(self, *, max_damaged_start: int | None = None) -> Iterator[av.VideoFrame]:
        """The canvas after each frame: bgra where the file has alpha, else bgr24. Raises OSError.

        Stops when the first ``max_damaged_start`` frames are all damaged; None reads to the end.
        """
        canvas = _Canvas(self._animation.width, self._animation.height)
        moment = 0
        with self._path.open("rb") as file:
            for number, frame in enumerate(self._animation.frames, 1):
                if self._draw(file, frame, canvas):
                    yield self._to_av_frame(canvas.pixels, moment, frame.milliseconds)
                elif number == max_damaged_start and canvas.is_untouched:
                    return
                if frame.clears_canvas:
                    canvas.clear(frame)
                moment += frame.milliseconds

    def _draw(self, file: BinaryIO, frame: WebpFrame, canvas: "_Canvas") -> bool:
        rectangle = canvas.rectangle(frame)
        fits = rectangle.shape[:2] == (frame.height, frame.width)
        picture = _decode(file, frame) if fits else None
        if picture is None or picture.shape != rectangle.shape:
            self.errors += 1
            return False
        rectangle[:] = picture if frame.replaces else _blend(picture, rectangle)
        canvas.note_drawn(frame)
        return True

    def _to_av_frame(self, canvas: _Pixels, moment: int, milliseconds: int) -> av.VideoFrame:
        if self._animation.has_alpha:
            result = av.VideoFrame.from_ndarray(canvas, format="bgra")
        else:
            result = av.VideoFrame.from_ndarray(np.ascontiguousarray(canvas[..., :3]), format="bgr24")
        result.pts, result.duration, result.time_base = moment, milliseconds, TICK
        return result


def _read_frame(file: BinaryIO, size: int) -> WebpFrame:
    header = file.read(_FRAME_HEADER_BYTES)
    left, top, width, height, length = (int.from_bytes(header[n : n + 3], "little") for n in range(0, 15, 3))
    return WebpFrame(
        offset=file.tell(),
        size=size - _FRAME_HEADER_BYTES,
        left=left * 2,
        top=top * 2,
        width=width + 1,
        height=height + 1,
        milliseconds=length if length > _MAX_IGNORED_MILLISECONDS else _DEFAULT_MILLISECONDS,
        clears_canvas=bool(header[15] & _DISPOSE_FLAG),
        replaces=bool(header[15] & _NO_BLEND_FLAG),
    )


class _Canvas:
    """The pixels, and the rectangle outside of which all of them are transparent black.

    A small file may contain thousands of frames that clear the whole canvas and draw nothing. Clearing therefore
    touches only what was drawn since the canvas was last empty.
    """

    def __init__(self, width: int, height: int) -> None:
        self.pixels = np.zeros((height, width, 4), np.uint8)
        self.is_untouched = True
        self._drawn: tuple[int, int, int, int] | None = None  # left, top, right, bottom

    def rectangle(self, frame: WebpFrame) -> _Pixels:
        return self.pixels[frame.top : frame.top + frame.height, frame.left : frame.left + frame.width]

    def note_drawn(self, frame: WebpFrame) -> None:
        self.is_untouched = False
        left, top, right, bottom = _bounds(frame)
        if self._drawn is not None:
            left, top = min(left, self._drawn[0]), min(top, self._drawn[1])
            right, bottom = max(right, self._drawn[2]), max(bottom, self._drawn[3])
        self._drawn = (left, top, right, bottom)

    def clear(self, frame: WebpFrame) -> None:
        if self._drawn is None:
            return
        left, top, right, bottom = _bounds(frame)
        overlap = (
            max(left, self._drawn[0]),
            max(top, self._drawn[1]),
            min(right, self._drawn[2]),
            min(bottom, self._drawn[3]),
        )
        if overlap[0] < overlap[2] and overlap[1] < overlap[3]:
            self.pixels[overlap[1] : overlap[3], overlap[0] : overlap[2]] = 0
        if overlap == self._drawn:
            self._drawn = None


def _bounds(frame: WebpFrame) -> tuple[int, int, int, int]:
    return frame.left, frame.top, frame.left + frame.width, frame.top + frame.height


def _decode(file: BinaryIO, frame: WebpFrame) -> _Pixels | None:
    """The frame's own pixels, BGRA, or None when they are damaged or have another size than the frame."""
    body = b""
    coded_size = None
    for name, size in read_chunks(file, frame.offset, frame.offset + frame.size):
        if name in _PICTURE_CHUNKS:
            data = file.read(size)
            body += name + struct.pack("<I", size) + data + b"\0" * (size % 2)
            coded_size = coded_size or _read_coded_size(name, data)
    if coded_size != (frame.width, frame.height):
        return None  # OpenCV would allocate memory for the wrong size, and print to standard error
    # with a header of its own, a frame's chunks are a still WebP file
    size_bytes = struct.pack("<I", frame.width - 1)[:3] + struct.pack("<I", frame.height - 1)[:3]
    body = b"VP8X" + struct.pack("<I", 10) + bytes([_ALPHA_FLAG, 0, 0, 0]) + size_bytes + body
    webp = b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
    picture = None
    with suppress(cv2.error):
        picture = cv2.imdecode(np.frombuffer(webp, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3:
        return None
    return np.asarray(picture if picture.shape[2] == 4 else cv2.cvtColor(picture, cv2.COLOR_BGR2BGRA), np.uint8)


def _read_coded_size(name: bytes, data: bytes) -> tuple[int, int] | None:
    """Width and height in the header of a VP8 key frame or a VP8L picture; None for anything else."""
    if name == b"VP8 " and data[3:6] == _VP8_START_CODE and len(data) >= 10:
        width, height = struct.unpack("<HH", data[6:10])
        return width & 0x3FFF, height & 0x3FFF
    if name == b"VP8L" and data[:1] == _VP8L_SIGNATURE and len(data) >= 5:
        bits = int.from_bytes(data[1:5], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return None


def _blend(above: _Pixels, below: _Pixels) -> _Pixels:
    """``above`` over ``below``, both with straight alpha."""
    if (above[..., 3] == 255).all():
        return above
    weight = above[..., 3:].astype(np.float32) / 255
    rest = below[..., 3:].astype(np.float32) / 255 * (1 - weight)
    total = weight + rest
    colors = (above[..., :3] * weight + below[..., :3] * rest) / np.maximum(total, 1e-6)
    return np.asarray(np.rint(np.concatenate([colors, total * 255], axis=-1)), np.uint8)
