"""Detects what a file is from its bytes. Import it in a child process only: it opens hostile files with codecs."""

from pathlib import Path

from alphareel.domain.clip import Limits
from alphareel.domain.errors import InvalidFileType
from alphareel.media.image_reader import read_image
from alphareel.media.probe import probe
from alphareel.media.signature import HEAD_BYTES, is_animated, sniff
from alphareel.service.uploads.models import MediaInfo

_IMAGE_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
_VIDEO_EXTENSIONS = {
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
    """Inspect a video, or an image for a background.

    Reads as much of the file as is needed to be sure. Raises InvalidFileType, BadVideo, FileTooLarge.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    mime = sniff(head) or ""
    if mime in _IMAGE_EXTENSIONS and not is_animated(head):
        read_image(path, limits)
        return MediaInfo("image", mime, _IMAGE_EXTENSIONS[mime])
    if mime not in _VIDEO_EXTENSIONS:
        raise InvalidFileType(
            "Invalid file type: this is neither a video nor a PNG, JPEG or WebP picture.",
            hint="Use a video: MP4, MOV, WebM or AVI.",
        )
    try:
        clip = probe(path, limits)
    except InvalidFileType as error:
        message = error.message.replace(path.name, "the file")
        raise InvalidFileType(f"Invalid file type: {message}", hint=error.hint) from error
    facts = (clip.seconds or None, clip.width, clip.height, float(clip.rate) or None)
    return MediaInfo("video", mime, _VIDEO_EXTENSIONS[mime], *facts)
