"""What a file is, by its bytes. It loads codecs and opens hostile files, so it belongs into the child process."""

from pathlib import Path

from alphareel.domain.clip import Limits
from alphareel.domain.errors import InvalidFileType
from alphareel.media.image_reader import read_image
from alphareel.media.probe import probe
from alphareel.media.signature import HEAD_BYTES, is_animated, sniff
from alphareel.service.uploads.models import MediaInfo

_STILLS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_EXTENSIONS = {
    "image/apng": "apng",
    "image/gif": "gif",
    "image/webp": "webp",
    "video/mp4": "mp4",
    "video/mpeg": "mpg",
    "video/mp2t": "ts",
    "video/ogg": "ogv",
    "video/quicktime": "mov",
    "video/webm": "webm",
    "video/x-flv": "flv",
    "video/x-matroska": "mkv",
    "video/x-ms-asf": "wmv",
    "video/x-msvideo": "avi",
    "application/mxf": "mxf",
}


def inspect_media(path: Path, limits: Limits) -> MediaInfo:
    """Kind, type and extension of a video or of a picture for a background.

    Opens the file as far as needed to know that it holds what it claims. Raises InvalidFileType, BadVideo,
    FileTooLarge.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    found = sniff(head) or ""
    if found in _STILLS and not is_animated(head):
        read_image(path, limits)
        return MediaInfo("image", found, _STILLS[found])
    if found not in _EXTENSIONS:
        raise InvalidFileType(
            "Invalid file type: this is neither a video nor a PNG, JPEG or WebP picture.",
            hint="Use a video: MP4, MOV, WebM or AVI.",
        )
    try:
        clip = probe(path, limits)
    except InvalidFileType as error:
        told = error.message.replace(path.name, "the file")
        raise InvalidFileType(f"Invalid file type: {told}", hint=error.hint) from error
    facts = (clip.seconds or None, clip.width, clip.height, float(clip.rate) or None)
    return MediaInfo("video", found, _EXTENSIONS[found], *facts)
