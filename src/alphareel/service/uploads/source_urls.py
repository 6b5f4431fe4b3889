"""The URLs in a job: its source, and its background."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from alphareel.domain.options import Options


@dataclass(frozen=True)
class SourceUrl:
    """A URL in a request. ``kind``: image or video; ``field``: the request field that it comes from."""

    url: str
    kind: str
    field: str


def source(video_url: str) -> SourceUrl:
    return SourceUrl(video_url, "video", "video_url")


def background(options: Options) -> SourceUrl | None:
    """The URL of the image or video behind the subject; None where neither is."""
    background = options.background
    if background.image_url is not None:
        return SourceUrl(background.image_url, "image", "background.image_url")
    if background.video_url is not None:
        return SourceUrl(background.video_url, "video", "background.video_url")
    return None


def mask(url: str) -> SourceUrl:
    """The painted mask of a correction."""
    return SourceUrl(url, "image", "mask_url")


def backgrounds(requested: Iterable[Options]) -> tuple[SourceUrl, ...]:
    """The distinct URLs of the backgrounds of several outputs."""
    urls = (background(options) for options in requested)
    return tuple(dict.fromkeys(url for url in urls if url is not None))


def with_local_background(options: Options, path: Path) -> Options:
    """The options with the background at a local path."""
    if options.background.image_url is not None:
        return replace(options, background=replace(options.background, image_url=str(path)))
    return replace(options, background=replace(options.background, video_url=str(path)))
