"""Reads a still picture (PNG, JPEG, WebP) as planes, for backgrounds. Checks its size before decoding it."""

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

MAX_PIXELS = 64_000_000  # three bytes each when decoded
_HINT = "Use a PNG, JPEG or WebP picture."
_READABLE = ("image/png", "image/apng", "image/jpeg", "image/webp")  # of an APNG the first picture
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def read_image(path: Path, limits: Limits) -> Frame:
    """The picture, upright (EXIF) and even-sized, as BT.709 limited-range planes.

    Scaled down to ``limits.max_side``; transparency is dropped. Raises NotFound, InvalidFileType, FileTooLarge,
    ResolutionTooLarge and StorageFailed.
    """
    data = _read_bytes(path, limits)
    size = image_size(data) if sniff(data) in _READABLE else None
    if size is None:
        raise InvalidFileType(f"{path.name} is not a supported picture.", hint=_HINT)
    if size[0] * size[1] > MAX_PIXELS:
        raise ResolutionTooLarge(
            f"{path.name} has {size[0]}x{size[1]} pixels; {MAX_PIXELS // 1_000_000} million are allowed.",
            hint="Scale it down first.",
        )
    with translating_read_errors(path):
        return _planes(_decode(data, path), limits)


def image_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) from the header of a PNG, JPEG or WebP, or None."""
    if data.startswith(b"\x89PNG") and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if data.startswith(b"\xff\xd8"):
        return _jpeg_size(data)
    if data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_size(data)
    return None


def _read_bytes(path: Path, limits: Limits) -> bytes:
    if not path.is_file():
        raise NotFound(f"There is no file {path.name}.", hint="Check the path.")
    if limits.max_bytes and path.stat().st_size > limits.max_bytes:
        raise FileTooLarge(f"{path.name} has more than {limits.max_bytes:,} bytes.", hint="Scale the picture down.")
    with translating_read_errors(path):
        return path.read_bytes()


def _decode(data: bytes, path: Path) -> np.ndarray:
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
    converted = VideoReformatter().reformat(
        av.VideoFrame.from_ndarray(bgr, format="bgr24"),
        width=max(2, round(width * shrink) // 2 * 2),
        height=max(2, round(height * shrink) // 2 * 2),
        format="yuv420p",
        dst_colorspace=1,
        dst_color_range=1,
        interpolation=Interpolation.AREA if shrink < 1 else Interpolation.BICUBIC,
    )
    y, u, v = (view(p) for p in converted.planes)
    return Frame(y, u, v, pts=0, buffer_owner=converted)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Reads the segments up to the start of frame (ITU-T T.81, B.2.2)."""
    offset = 2
    while offset + 9 < len(data) and data[offset] == 0xFF:
        marker = data[offset + 1]
        if marker in _START_OF_FRAME:
            return int.from_bytes(data[offset + 7 : offset + 9], "big"), int.from_bytes(
                data[offset + 5 : offset + 7], "big"
            )
        offset += 1 if marker == 0xFF else 2 + int.from_bytes(data[offset + 2 : offset + 4], "big")
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Lossy, lossless and extended headers (RFC 9649, section 2)."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None
