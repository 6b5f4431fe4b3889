"""Preview images of a run in progress: small transparent WebP files of the newest frame."""

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

_MAX_SIDE = 320  # pixels
_QUALITY, _EFFORT = 70, 2
_MIN_SHARE_STEP = 0.05  # of the run between two previews
_MIN_SECONDS = 2.0  # between two previews


class PreviewWriter:
    """Writes ``preview-<n>.webp`` into ``folder``: the first frame, then about one for each twentieth of the run.

    ``single``: only the first frame, for a run that processes one chunk of a clip.
    """

    def __init__(self, folder: Path, clip: Clip, *, single: bool = False) -> None:
        width, height = _size(clip)
        self._folder = folder
        self._single = single
        self._compose = make_compositor(
            Options(composition=Composition(width, height)), clip, read_still=_no_background, open_video=_no_background
        )
        target = Target(folder, clip, width, height, has_alpha=True)
        self._encode = WebpEncoder(target, quality=_QUALITY, effort=_EFFORT)
        self._count = 0
        self._last: Progress | None = None

    def update(self, progress: Progress, matte: Matte) -> Progress:
        """Write a preview of this matte if one is due. Returns ``progress`` with the latest preview's path."""
        if self._is_due(progress):
            path = self._folder / f"preview-{self._count}.webp"
            with contextlib.suppress(OSError):  # a full disk fails the output; a preview must not
                path.write_bytes(self._encode(*self._compose(matte)))
                self._last = replace(progress, preview=str(path))
                self._count += 1
        return progress if self._last is None else replace(progress, preview=self._last.preview)

    def _is_due(self, progress: Progress) -> bool:
        last = self._last
        if last is None or self._single:
            return last is None
        return progress.share - last.share >= _MIN_SHARE_STEP and progress.seconds - last.seconds >= _MIN_SECONDS


def _size(clip: Clip) -> tuple[int, int]:
    scale = min(1.0, _MAX_SIDE / max(clip.width, clip.height))
    width, height = (max(2, round(length * scale / 2) * 2) for length in (clip.width, clip.height))
    return width, height


def _no_background(path: str) -> NoReturn:
    raise AssertionError(f"previews have no background, but {path} was requested")
