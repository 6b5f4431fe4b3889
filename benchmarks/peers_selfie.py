"""A peer behind our engine contract: MediaPipe's selfie segmentation, one frame at a time, enlarged bilinearly.

Its file (Apache-2.0, not part of alphareel) is looked for in the models folder; that is how others use it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.options import Options
from alphareel.imaging.frame import Frame, Matte, Plane
from alphareel.matting.cuts import CutDetector
from alphareel.matting.model_input import model_input_of, to_rgb
from alphareel.matting.runtime import Array, Runtime, Session
from alphareel.matting.temporal_smoothing import TemporalSmoother

NAME = "selfie"
FILE = "mediapipe_selfie_segmentation.onnx"
SIZE = (256, 256)


@dataclass(frozen=True)
class Selfie:
    facts: EngineFacts
    session: Session
    steady: bool = False

    def start(self, clip: Clip, options: Options) -> "SelfieMemory":  # noqa: ARG002 - the contract of engines
        return SelfieMemory(self.session, clip, steady=self.steady)


class SelfieMemory:
    """It remembers nothing, unless our stabilizer does. The picture is squeezed into a square, as its makers do."""

    thumbnail = SIZE

    def __init__(self, session: Session, clip: Clip, *, steady: bool) -> None:
        self._session = session
        self._stabilizer, self._cuts = TemporalSmoother() if steady else None, CutDetector()
        self._matrix, self._full_range = clip.color.resolved_matrix(clip.height), clip.color.full_range

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        return [self._matte(frame) for frame in frames]

    def finish(self) -> None:
        """Nothing to say of the whole."""

    def _matte(self, frame: Frame) -> Matte:
        small = model_input_of(frame, SIZE)
        rgb = to_rgb(small, matrix=self._matrix, full_range=self._full_range)
        (made,) = self._session.run(tuple(self._session.outputs), {"input_1:0": rgb.transpose(1, 2, 0)[None]})
        levels = np.clip(self._steadied(made[0, :, :, 0], small) * 255 + 0.5, 0, 255).astype(np.uint8)
        return Matte(frame, np.asarray(cv2.resize(levels, (frame.width, frame.height)), np.uint8))

    def _steadied(self, alpha: Array, small: Plane) -> Array:
        if self._stabilizer is None:
            return alpha
        if self._cuts.is_cut(small):
            self._stabilizer.forget()
        return self._stabilizer.steady(alpha, small)


def load(models_dir: Path | None, *, threads: int) -> Selfie | None:
    """The peer, or None when its file is not there."""
    path = None if models_dir is None else models_dir / FILE
    if path is None or not path.is_file():
        return None
    return Selfie(EngineFacts(NAME, "2021", None, "Apache-2.0"), Runtime(threads=threads).open(path))
