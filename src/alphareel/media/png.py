"""Encodes PNG files fast, and reads and writes their chunks (ISO/IEC 15948)."""

import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from io import SEEK_CUR
from pathlib import Path
from typing import BinaryIO

import av

try:
    import fpng_py
except ImportError:  # no wheel for this machine
    fpng_py = None

from alphareel.domain.errors import BadVideo
from alphareel.media.encoder_input import Pixels

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_encoder() -> Callable[[Pixels], bytes]:
    """The fastest available lossless PNG encoder: fpng, which is eight times as fast as FFmpeg's, else FFmpeg's."""
    if fpng_py is None:
        return encode_with_ffmpeg
    return lambda pixels: bytes(
        fpng_py.fpng_encode_image_to_memory(pixels, pixels.shape[1], pixels.shape[0], pixels.shape[2])
    )


def encode_with_ffmpeg(pixels: Pixels) -> bytes:
    """A PNG file of (H, W, 3) RGB or (H, W, 4) RGBA pixels."""
    return _encode(pixels, {"pred": "sub", "compression_level": "1"})


def encode_small(pixels: Pixels) -> bytes:
    """Like ``encode_with_ffmpeg``, but smaller and fifteen times as slow."""
    return _encode(pixels, {"pred": "mixed", "compression_level": "9"})


def _encode(pixels: Pixels, options: dict[str, str]) -> bytes:
    name = "rgba" if pixels.shape[2] == 4 else "rgb24"
    context = av.CodecContext.create("png", "w")
    context.height, context.width = pixels.shape[:2]
    context.pix_fmt, context.time_base = name, Fraction(1, 25)
    context.options = options
    frame = av.VideoFrame.from_ndarray(pixels, format=name)
    frame.pts = 0
    return b"".join(bytes(p) for p in [*context.encode(frame), *context.encode(None)])


def chunk(name: bytes, data: bytes) -> bytes:
    """The bytes of a chunk: length, name, data, checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(name)))


def read_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """(name, data) of each chunk up to IEND. Raises BadVideo for a wrong checksum and for a truncated file."""
    if file.read(len(SIGNATURE)) != SIGNATURE:
        raise BadVideo("The file is not a PNG file.")
    name = b""
    while name != b"IEND":
        header = file.read(8)
        size, name = struct.unpack(">I4s", header.ljust(8, b"\0"))
        data, checksum = file.read(size), file.read(4)
        if len(checksum) < 4 or struct.unpack(">I", checksum)[0] != zlib.crc32(data, zlib.crc32(name)):
            raise BadVideo("The PNG file is truncated or damaged.")
        yield name, data


def read_apng_length(path: Path) -> tuple[int, Fraction]:
    """(frames, seconds) of an APNG: the frame count it declares, and the sum of its delays. Raises OSError.

    The delays of a truncated file are those of the frames that are there.
    """
    frames, seconds = 0, Fraction(0)
    with path.open("rb") as file:
        file.seek(len(SIGNATURE))
        while len(header := file.read(8)) == 8:
            size, name = struct.unpack(">I4s", header)
            if name == b"acTL":
                frames = int.from_bytes(file.read(4), "big")
                size -= 4
            elif name == b"fcTL":
                seconds += _delay(file.read(26)[20:24])
                size -= 26
            file.seek(size + 4, SEEK_CUR)
    return frames, seconds


def _delay(data: bytes) -> Fraction:
    """Duration of a frame in seconds. A zero denominator means 100 (PNG, third edition, 11.3.6.2)."""
    numerator, denominator = struct.unpack(">HH", data.ljust(4, b"\0"))
    return Fraction(numerator, denominator or 100)
