"""One frame of a run as a picture: the one shown at a moment, or the one that shows its subject best."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from alphareel.domain.errors import BadVideo
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.output_file import OutputFile
from alphareel.media.verify import ExpectedOutput, Inspection

_SIDE = 256  # pixels of the longer side at which frames are judged
_ENOUGH = 0.1  # share of the picture that a subject need not exceed
_MIDDLE, _SPREAD = 118.0, 60.0  # luma at which things are best seen, and how far from it they still are
_BETTER = 1.05  # times; a little more is no reason to leave the earlier one


class PosterFile(OutputFile):
    """A Sink that keeps one frame of all it is given, and writes that alone. Holds no more than this one."""

    _kept: tuple[Frame, Plane | None] | None = None
    _appeal = 0.0

    def write(self, frame: Frame, alpha: Plane | None) -> None:
        if self._kept is None or self._is_preferred(frame, alpha):
            self._kept = (frame, alpha)

    def finish(self) -> ExpectedOutput:
        assert self._kept is not None, "a run without frames is not finished"
        super().write(*self._kept)
        return replace(super().finish(), seconds=0.0)

    def _is_preferred(self, frame: Frame, alpha: Plane | None) -> bool:
        moment = self._target.moment
        if moment is not None:
            return float(frame.pts * self._target.clip.time_base) <= moment
        return self._is_better(poster_score(frame, alpha))

    def _is_better(self, found: float) -> bool:
        if found <= self._appeal * _BETTER:
            return False
        self._appeal = found
        return True


def poster_score(frame: Frame, alpha: Plane | None) -> float:
    """How well a frame shows its subject, from 0: sharp, neither dark nor pale, whole, and enough of it."""
    height, width = frame.y.shape
    scale = min(1.0, _SIDE / max(height, width))
    size = max(2, round(width * scale)), max(2, round(height * scale))
    luma = cv2.resize(frame.y, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    mask = np.full_like(frame.y, 255) if alpha is None else alpha
    seen = cv2.resize(mask, size, interpolation=cv2.INTER_AREA) / np.float32(255)
    total = float(seen.sum())
    if total < 1:
        return 0.0
    detail = float((np.abs(cv2.Laplacian(luma, cv2.CV_32F)) * seen).sum()) / total
    light = float(np.exp(-((((luma * seen).sum() / total - _MIDDLE) / _SPREAD) ** 2)))
    presence = min(1.0, total / seen.size / _ENOUGH)
    return detail * light * presence * _wholeness(seen)


def _wholeness(seen: np.ndarray) -> float:
    """How little of the subject is cut off by the sides and the top; people commonly stand on the lower edge."""
    edge = np.concatenate([seen[0], seen[:, 0], seen[:, -1]])
    return 1.0 - 0.5 * float(edge.mean())


@dataclass(frozen=True)
class Still:
    """An Encoding of the one frame that comes: ``make`` turns it into the file's bytes."""

    path: Path
    make: Callable[[Frame, Plane | None], bytes]
    sound = None

    def add(self, frame: Frame, alpha: Plane | None, duration: int) -> None:  # noqa: ARG002 - a still does not last
        self.path.write_bytes(self.make(frame, alpha))

    def end(self, tick: int) -> None:
        """Nothing is left."""

    def drop(self) -> None:
        """Nothing is open."""


def inspect_still(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    """What a picture file holds, decoded whole. A picture without an alpha channel is opaque."""
    with translating_read_errors(path):
        data = np.frombuffer(path.read_bytes(), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if picture is None or picture.ndim != 3:
        raise BadVideo("The picture cannot be decoded.")
    height, width, channels = picture.shape
    has_alpha = channels == 4
    opaque = np.full((height, width), 255, np.uint8)
    alpha = np.ascontiguousarray(picture[..., 3], np.uint8) if has_alpha else opaque
    # coders leave a channel out that is opaque everywhere: the samples tell whether it may be
    return Inspection(
        1, 0.0, width, height, has_alpha or bool(moments), has_audio=False, alphas=(alpha,) * len(moments)
    )
