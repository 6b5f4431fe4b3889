"""Previews that runners send: whether bytes are a small still WebP, by its container alone.

They are shown to whoever made the job, as what the runner computes is. Decoding each in a confined child process would
cost more than making it.
"""

from alphareel.domain.errors import InvalidRequest

MAX_BYTES = 128 * 1024
MAX_SIDE = 320  # pixels
_CHUNKS = ([b"VP8X", b"ALPH", b"VP8 "], [b"VP8X", b"VP8L"])


def check_preview(data: bytes) -> None:
    """Raises InvalidRequest unless they are a still WebP with alpha, without metadata, and small."""
    if not (_names(data) in _CHUNKS and max(_canvas(data)) <= MAX_SIDE):
        raise InvalidRequest("This is no preview.", hint="Use the runner of this server's version.")


def _names(data: bytes) -> list[bytes]:
    """Names of the chunks (https://developers.google.com/speed/webp/docs/riff_container); empty if it is no WebP."""
    size = len(data)
    if size > MAX_BYTES or data[:4] != b"RIFF" or data[8:12] != b"WEBP" or _number(data[4:8]) != size - 8:
        return []
    names, at = list[bytes](), 12
    while at + 8 <= size:
        names.append(data[at : at + 4])
        length = _number(data[at + 4 : at + 8])
        at += 8 + length + length % 2
    return names if at == size else []


def _canvas(data: bytes) -> tuple[int, int]:
    """Width and height, as the chunk VP8X says."""
    return _number(data[24:27]) + 1, _number(data[27:30]) + 1


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
