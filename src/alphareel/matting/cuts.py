"""Where one shot ends and the next begins: the moment to forget what an engine remembers."""

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.frame import Plane

# A cut is a large difference that also stands out from the frames before it, so that fast movement and hand-held
# cameras are none. On real clips without a cut the largest difference was 0.14, 1.5 times that of the frame before;
# at cuts it was 0.18 and more, 17 times and more.
_LARGE = 0.10
_TIMES = 3.0
_RECENT = 8
_GRID = (32, 18)


class CutDetector:
    """Watches the thumbnails of one clip, in order."""

    def __init__(self) -> None:
        self._last: NDArray[np.float32] | None = None
        self._recent: deque[float] = deque(maxlen=_RECENT)

    def is_cut(self, thumbnail: Plane) -> bool:
        """Whether this thumbnail (3, h, w) begins another shot; never for the first two of a shot."""
        signature = _signature(thumbnail)
        last, self._last = self._last, signature
        if last is None:
            return False
        difference = float(np.abs(signature - last).mean(axis=(1, 2)).sum())
        cut = bool(self._recent) and difference > max(_LARGE, _TIMES * max(self._recent))
        if cut:
            self._recent.clear()
        else:
            self._recent.append(difference)
        return cut


def _signature(thumbnail: Plane) -> NDArray[np.float32]:
    """The picture at 32x18, blurred, 0..1, float32 (3, 18, 32): blind to noise and small movement."""
    small = [cv2.resize(_quarter(p), _GRID, interpolation=cv2.INTER_AREA).astype(np.float32) / 255 for p in thumbnail]
    return np.stack([np.asarray(cv2.GaussianBlur(p, (3, 3), 0), np.float32) for p in small])


def _quarter(plane: Plane) -> Plane:
    """A quarter of each side: whole steps are quick, and what is left of the uneven ones is little."""
    height, width = plane.shape
    return np.asarray(cv2.resize(plane, (width // 4, height // 4), interpolation=cv2.INTER_AREA), np.uint8)
