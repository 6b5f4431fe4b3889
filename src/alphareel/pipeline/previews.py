"""Small pictures of a run while it goes on: the newest frame without its background."""

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from alphareel.domain.clip import Clip, Progress
from alphareel.domain.options import Composition, Options
from alphareel.imaging.compositor import make_compositor
from alphareel.imaging.frame import Matte
from alphareel.media.output_file import Target
from alphareel.media.webp_encoder import WebpEncoder

_SIDE = 320  # pixels, the longer one
_QUALITY, _EFFORT = 70, 2
_SHARE = 0.05  # of the run between two pictures
_SECONDS = 2.0  # at least between two


class PreviewWriter:
    """Writes ``preview-<n>.webp`` into ``folder``: the first frame at once, then about one for each twentieth.

    ``single``: no others, because the run makes but a part of the clip.
    """

    def __init__(self, folder: Path, clip: Clip, *, single: bool = False) -> None:
        width, height = _size(clip)
        self._folder = folder
        self._single = single
        self._compose = make_compositor(
            Options(composition=Composition(width, height)), clip, read_still=_not_asked, open_video=_not_asked
        )
        target = Target(folder, clip, width, height, has_alpha=True)
        self._encode = WebpEncoder(target, quality=_QUALITY, effort=_EFFORT)
        self._drawn = 0
        self._last: Progress | None = None

    def write_preview(self, progress: Progress, matte: Matte) -> Progress:
        """The progress with the newest picture, which shows this matte where one is due."""
        if self._is_due(progress):
            path = self._folder / f"preview-{self._drawn}.webp"
            with contextlib.suppress(OSError):  # a full disk will stop the result, and say so; a preview must not
                path.write_bytes(self._encode(*self._compose(matte)))
                self._last = replace(progress, preview=str(path))
                self._drawn += 1
        return progress if self._last is None else replace(progress, preview=self._last.preview)

    def _is_due(self, progress: Progress) -> bool:
        last = self._last
        if last is None or self._single:
            return last is None
        return progress.share - last.share >= _SHARE and progress.seconds - last.seconds >= _SECONDS


def _size(clip: Clip) -> tuple[int, int]:
    scale = min(1.0, _SIDE / max(clip.width, clip.height))
    width, height = (max(2, round(length * scale / 2) * 2) for length in (clip.width, clip.height))
    return width, height


def _not_asked(path: str) -> NoReturn:
    raise AssertionError(f"a preview has no background, but {path} was asked for")
