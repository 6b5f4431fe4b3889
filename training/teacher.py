"""The teacher: a recurrent matting network in an ONNX file, run as a program that labels pictures.

Anything with the same three methods can take its place, so the recipe is not tied to one network.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

Image = NDArray[Any]  # of uint8; the stubs of OpenCV lose the type
Alpha = NDArray[Any]  # of float32; the stubs of OpenCV lose the type


class Teacher(Protocol):
    """Pictures (H, W, 3) RGB uint8 in, alpha (H, W) float32 0..1 out."""

    def reset(self) -> None:
        """Forget what was seen."""

    def frame(self, rgb: Image) -> Alpha:
        """Alpha of the next frame of a clip."""

    def still(self, rgb: Image) -> Alpha:
        """Alpha of a picture that stands alone."""


class RvmTeacher:
    """Robust Video Matting through its published ONNX interface (`src`, `r1i`..`r4i`, `downsample_ratio`)."""

    def __init__(self, model: Path, inner: int = 416, passes: int = 2) -> None:
        """`inner`: long side in pixels at which the network looks; `passes`: looks at a still."""
        self._session = open_session(model)
        self._inner, self._passes = inner, passes
        self.reset()

    def reset(self) -> None:
        self._states = [np.zeros((1, 1, 1, 1), np.float32)] * 4

    def frame(self, rgb: Image) -> Alpha:
        feed = {f"r{i}i": state for i, state in enumerate(self._states, 1)}
        feed["src"] = rgb.transpose(2, 0, 1)[None].astype(np.float32) / 255  # type: ignore[assignment]
        feed["downsample_ratio"] = np.array([min(self._inner / max(rgb.shape[:2]), 1)], np.float32)
        alpha, *self._states = self._session.run(["pha", "r1o", "r2o", "r3o", "r4o"], feed)
        return alpha[0, 0]

    def still(self, rgb: Image) -> Alpha:
        self.reset()
        for _ in range(self._passes):
            alpha = self.frame(rgb)
        return alpha


def open_session(model: Path) -> ort.InferenceSession:
    """A network on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
