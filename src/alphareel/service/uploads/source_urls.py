"""Files that a job names by address: its source, and what stands behind the subject."""

from dataclasses import dataclass, replace
from pathlib import Path

from alphareel.domain.options import Options


@dataclass(frozen=True)
class SourceUrl:
    """``kind``: image or video; ``field`` names where the address stood in the request."""

    url: str
    kind: str
    field: str


def source(video_url: str) -> SourceUrl:
    return SourceUrl(video_url, "video", "video_url")


def background(options: Options) -> SourceUrl | None:
    """The picture or clip behind the subject, None where there is none to get."""
    behind = options.background
    if behind.image_url is not None:
        return SourceUrl(behind.image_url, "image", "background.image_url")
    if behind.video_url is not None:
        return SourceUrl(behind.video_url, "video", "background.video_url")
    return None


def with_local_background(options: Options, path: Path) -> Options:
    """The options with the background read from ``path``."""
    if options.background.image_url is not None:
        return replace(options, background=replace(options.background, image_url=str(path)))
    return replace(options, background=replace(options.background, video_url=str(path)))
