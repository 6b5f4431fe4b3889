"""Detects the type of a video or picture file from its first bytes."""

HEAD_BYTES = 8192  # of a file, that ``sniff`` examines

_PNG = b"\x89PNG\r\n\x1a\n"
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_PREFIXES = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"BM", "image/bmp"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"FLV\x01", "video/x-flv"),
    (b"OggS", "video/ogg"),
    (_ASF, "video/x-ms-asf"),
    (b"\0\0\x01\xba", "video/mpeg"),
    (b"\0\0\x01\xb3", "video/mpeg"),
    (b"\x06\x0e\x2b\x34\x02\x05\x01\x01", "application/mxf"),
)
_PICTURE_BRANDS = {
    b"avif": "image/avif",
    b"avis": "image/avif",
    b"heic": "image/heic",
    b"heix": "image/heic",
    b"mif1": "image/heif",
    b"msf1": "image/heif",
}
_AUDIO_BRANDS = (b"M4A ", b"M4B ", b"M4P ")
_QUICKTIME_ATOMS = (b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")


def sniff(head: bytes) -> str | None:
    """MIME type of a file that begins with ``head`` (HEAD_BYTES bytes), or None.

    Recognizes all supported containers and common picture formats. Audio and text files are None.
    """
    for prefix, mime in _PREFIXES:
        if head.startswith(prefix):
            return mime
    if head.startswith(_PNG):
        return "image/apng" if _has_animation_chunk(head) else "image/png"
    if head[:4] == b"RIFF":
        return {b"AVI ": "video/x-msvideo", b"WEBP": "image/webp"}.get(head[8:12])
    if head[:4] == b"\x1aE\xdf\xa3":
        return "video/webm" if b"webm" in head[:64] else "video/x-matroska"
    return _sniff_atoms(head) or _sniff_transport_stream(head)


def is_animated(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a video or an animated picture (GIF, APNG, animated WebP)."""
    mime = sniff(head)
    if mime == "image/webp":
        return head[12:16] == b"VP8X" and len(head) > 20 and bool(head[20] & 0x02)
    return mime in ("image/gif", "image/apng") or (mime is not None and not mime.startswith("image/"))


def _has_animation_chunk(head: bytes) -> bool:
    """Whether a PNG has an acTL chunk before its picture data (PNG, third edition, 11.3.6.1)."""
    offset = len(_PNG)
    while offset + 8 <= len(head):
        name = head[offset + 4 : offset + 8]
        if name in (b"acTL", b"IDAT"):
            return name == b"acTL"
        offset += 12 + int.from_bytes(head[offset : offset + 4], "big")
    return False


def _sniff_atoms(head: bytes) -> str | None:
    """ISO base media and QuickTime files begin with the size and the name of a box."""
    if head[4:8] in _QUICKTIME_ATOMS:
        return "video/quicktime"
    if head[4:8] != b"ftyp" or head[8:12] in _AUDIO_BRANDS:
        return None
    brand = head[8:12]
    return _PICTURE_BRANDS.get(brand) or ("video/quicktime" if brand == b"qt  " else "video/mp4")


def _sniff_transport_stream(head: bytes) -> str | None:
    """MPEG-TS has a sync byte every 188 bytes; on discs every 192 bytes, after a 4-byte timestamp."""
    for size, first in ((188, 0), (192, 4)):
        if len(head) > first + 2 * size and all(head[first + n * size] == 0x47 for n in range(3)):
            return "video/mp2t"
    return None
