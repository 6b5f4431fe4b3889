"""Detects cuts between shots, at which an engine has to reset its temporal state."""

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.frame import Plane

# A cut is a large difference that also stands out from those of the frames before it, so that fast movement and
# handheld cameras do not count. On real clips without a cut the largest difference was 0.14, 1.5 times that of the
# frame before. At cuts it was at least 0.18, and at least 17 times that of the frame before.
MIN_DIFFERENCE = 0.10
MIN_RATIO = 3.0
_RECENT_FRAMES = 8
_SIGNATURE_SIZE = (32, 18)


class CutDetector:
    """Compares the model inputs of one clip, in order."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._recent: deque[float] = deque(maxlen=_RECENT_FRAMES)

    def is_cut(self, model_input: Plane) -> bool:
        """Whether this model input, uint8 (3, h, w), starts a new shot. False for the first two frames of a shot."""
        signature = _signature(model_input)
        last, self._last = self._last, signature
        if last is None:
            return False
        difference = float(np.abs(signature - last).mean(axis=(1, 2)).sum())
        cut = bool(self._recent) and difference > max(MIN_DIFFERENCE, MIN_RATIO * max(self._recent))
        if cut:
            self._recent.clear()
        else:
            self._recent.append(difference)
        return cut


def _signature(model_input: Plane) -> NDArray[np.float32]:
    """The image at 32x18, blurred to ignore noise and small movement, float32 (3, 18, 32) in 0..1."""
    small = [cv2.resize(_quarter(p), _SIGNATURE_SIZE, interpolation=cv2.INTER_AREA) for p in model_input]
    scaled = [p.astype(np.float32) / 255 for p in small]
    return np.stack([np.asarray(cv2.GaussianBlur(p, (3, 3), 0), np.float32) for p in scaled])


def _quarter(plane: Plane) -> Plane:
    """The plane at a quarter of its size. Integer factors are fast, so the slow resize after it has little to do."""
    height, width = plane.shape
    return np.asarray(cv2.resize(plane, (width // 4, height // 4), interpolation=cv2.INTER_AREA), np.uint8)
