"""A still picture (PNG, JPEG, WebP) as planes, for backgrounds; its size is known before anything is decoded."""

from pathlib import Path
from typing import cast

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from alphareel.domain.clip import Limits
from alphareel.domain.errors import FileTooLarge, InvalidFileType, NotFound, ResolutionTooLarge
from alphareel.imaging.frame import Frame
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.frame_converter import view
from alphareel.media.signature import sniff

MOST_PIXELS = 64_000_000  # decoded, three bytes each
_HINT = "Use a PNG, JPEG or WebP picture."
_READABLE = ("image/png", "image/apng", "image/jpeg", "image/webp")  # of an animated one the first picture
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_image(path: Path, limits: Limits) -> Frame:
    """The picture upright (EXIF), even-sized, as BT.709 limited-range planes, no side above ``limits.max_side``.

    Transparency is dropped. Raises NotFound, InvalidFileType, FileTooLarge and ResolutionTooLarge.
    """
    data = _bytes(path, limits)
    kind = sniff(data)
    size = image_size(data) if kind in _READABLE else None
    if size is None:
        raise InvalidFileType(f"{path.name} is no picture that can be read.", hint=_HINT)
    if size[0] * size[1] > MOST_PIXELS:
        raise ResolutionTooLarge(
            f"{path.name} has {size[0]}x{size[1]} pixels; {MOST_PIXELS // 1_000_000} million are allowed.",
            hint="Scale it down first.",
        )
    with translating_read_errors(path):
        return _planes(_decoded(data, path), limits)


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) as the header of a PNG, JPEG or WebP says, None when it cannot be read."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_size(data)
    return None


def _bytes(path: Path, limits: Limits) -> bytes:
    if not path.is_file():
        raise NotFound(f"There is no file {path.name}.", hint="Check the path.")
    if limits.max_bytes and path.stat().st_size > limits.max_bytes:
        raise FileTooLarge(f"{path.name} has more than {limits.max_bytes:,} bytes.", hint="Scale the picture down.")
    with translating_read_errors(path):
        return path.read_bytes()


def _decoded(data: bytes, path: Path) -> np.ndarray:
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        picture = None
    if picture is None:
        raise InvalidFileType(f"{path.name} is a damaged picture.", hint=_HINT)
    return cast(np.ndarray, picture)


def _planes(bgr: np.ndarray, limits: Limits) -> Frame:
    height, width = bgr.shape[:2]
    shrink = min(1.0, (limits.max_side or max(width, height)) / max(width, height))
    made = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(bgr, format="bgr24"),
        width=max(2, round(width * shrink) // 2 * 2),
        height=max(2, round(height * shrink) // 2 * 2),
        format="yuv420p",
        dst_colorspace=1,
        dst_color_range=1,
        interpolation=Interpolation.AREA if shrink < 1 else Interpolation.BICUBIC,
    )
    y, u, v = (view(p) for p in made.planes)
    return Frame(y, u, v, pts=0, buffer_owner=made)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Walks the segments up to the start of frame (ITU-T T.81, B.2.2)."""
    at = 2
    while at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _START_OF_FRAME:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 1 if marker == 0xFF else 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Lossy, lossless and extended headers (RFC 9649, section 2)."""
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None
