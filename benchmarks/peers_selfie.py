"""A peer as an engine: MediaPipe's selfie segmentation, frame by frame, upsampled bilinearly as others use it.

Its file (Apache-2.0, not part of alphareel) is read from the models folder.
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
from alphareel.matting.runtime import Array, OnnxSession, Runtime
from alphareel.matting.temporal_smoothing import TemporalSmoother

NAME = "selfie"
FILE = "mediapipe_selfie_segmentation.onnx"
SIZE = (256, 256)


@dataclass(frozen=True)
class Selfie:
    facts: EngineFacts
    session: OnnxSession
    smooth: bool = False

    def start(self, clip: Clip, options: Options) -> "SelfieSession":  # noqa: ARG002
        return SelfieSession(self.session, clip, smooth=self.smooth)


class SelfieSession:
    """Has no temporal state, except optional smoothing. The image is resized to a square, as its authors do."""

    model_input_size = SIZE

    def __init__(self, session: OnnxSession, clip: Clip, *, smooth: bool) -> None:
        self._session = session
        self._smoother, self._cuts = TemporalSmoother() if smooth else None, CutDetector()
        self._matrix, self._full_range = clip.color.resolved_matrix(clip.height), clip.color.full_range

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        return [self._matte(frame) for frame in frames]

    def finish(self) -> None:
        """Nothing to check."""

    def _matte(self, frame: Frame) -> Matte:
        model_input = model_input_of(frame, SIZE)
        rgb = to_rgb(model_input, matrix=self._matrix, full_range=self._full_range)
        (output,) = self._session.run(tuple(self._session.outputs), {"input_1:0": rgb.transpose(1, 2, 0)[None]})
        levels = np.clip(self._smoothed(output[0, :, :, 0], model_input) * 255 + 0.5, 0, 255).astype(np.uint8)
        return Matte(frame, np.asarray(cv2.resize(levels, (frame.width, frame.height)), np.uint8))

    def _smoothed(self, alpha: Array, model_input: Plane) -> Array:
        if self._smoother is None:
            return alpha
        if self._cuts.is_cut(model_input):
            self._smoother.reset()
        return self._smoother.smooth(alpha, model_input)


def load(models_dir: Path | None, *, threads: int) -> Selfie | None:
    """The peer; None when its file is missing."""
    path = None if models_dir is None else models_dir / FILE
    if path is None or not path.is_file():
        return None
    return Selfie(EngineFacts(NAME, "2021", None, "Apache-2.0"), Runtime(threads=threads).open(path))
