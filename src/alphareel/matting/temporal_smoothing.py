"""Steady mattes from a network that trembles: the matte before, moved along with the picture, weighs in.

For small mattes, before ``refine``. Figures and what it won against: docs/decisions/0009-stabilizer.md and 0024.
"""

from typing import Any

import cv2
import numpy as np

from alphareel.imaging.frame import Plane
from alphareel.matting.runtime import Array

# Weight of the matte before where the picture was followed without doubt.
_KEEP = 0.7
# Difference of a followed pixel (levels of Y, U and V together, mean of 5x5) at which its weight has fallen to 1/e.
_DOUBT = 24.0
_WINDOW = (5, 5)
# Motion is followed at about this many pixels; more cost more and told no better.
_FLOW_AREA = 256 * 256
_LEAST_SIDE = 32  # the flow finds nothing in less
_NOTHING: Any = None  # OpenCV asks for None where its type stubs want an array


class TemporalSmoother:
    """Watches one shot, frame by frame in order. No frame waits for a later one."""

    def __init__(self) -> None:
        self._search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._before: tuple[Plane, Array] | None = None

    def forget(self) -> None:
        """The next frame begins another shot."""
        self._before = None

    def steady(self, alpha: Array, thumbnail: Plane) -> Array:
        """Alpha float32 (h, w) in 0..1 of this frame, less the trembling; ``thumbnail``: its Y, U, V (3, h, w).

        Each pixel is looked up where it was one frame before (optical flow: Kroeger et al., ECCV 2016); it weighs in
        as far as the picture there looks the same. What appears, is uncovered or moves faster than can be followed is
        therefore the network's answer alone. The result lies between the answers of the network.
        """
        if self._before is None or self._before[1].shape != alpha.shape:
            steady = alpha
        else:
            steady = self._blend(alpha, thumbnail, *self._before)
        self._before = (thumbnail, steady)
        return steady

    def _blend(self, alpha: Array, now: Plane, then: Plane, steady: Array) -> Array:
        where = self._follow(now[0], then[0])
        weight = _KEEP * _alike(now, then, where)
        moved = np.asarray(cv2.remap(steady, where, _NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
        return np.asarray(alpha + weight * (moved - alpha), np.float32)

    def _follow(self, now: Plane, then: Plane) -> Array:
        """Where each pixel was one frame before: x and y, float32 (h, w, 2)."""
        height, width = now.shape
        shrink = min(1.0, (_FLOW_AREA / (width * height)) ** 0.5)
        size = (max(_LEAST_SIDE, round(width * shrink)), max(_LEAST_SIDE, round(height * shrink)))
        small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (now, then)]
        flow = cv2.resize(self._search.calc(small[0], small[1], _NOTHING), (width, height))
        flow *= np.array([width / size[0], height / size[1]], np.float32)
        return np.asarray(flow + np.dstack(np.meshgrid(np.arange(width), np.arange(height))), np.float32)


def _alike(now: Plane, then: Plane, where: Array) -> Array:
    """How much the picture looks like the followed one, 0..1, float32 (h, w)."""
    moved = cv2.remap(np.dstack(list(then)), where, _NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    apart = cv2.absdiff(np.dstack(list(now)), moved).astype(np.float32).sum(axis=2)
    return np.asarray(np.exp(-np.square(cv2.blur(apart, _WINDOW) / _DOUBT)), np.float32)
