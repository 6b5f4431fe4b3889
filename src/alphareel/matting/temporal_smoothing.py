"""Temporal smoothing: blends a matte with the one before it, warped along the optical flow, to reduce flicker.

Works on small mattes, before ``refine``. Measurements and alternatives: docs/decisions/0009-temporal-smoothing.md and
0024.
"""

from typing import Any

import cv2
import numpy as np

from alphareel.imaging import kernels
from alphareel.imaging.frame import Plane
from alphareel.matting.runtime import Array

# Weight of the warped matte where it matches the frame exactly.
MAX_WEIGHT = 0.7
# Difference between a pixel and its warped predecessor (levels of Y, U and V added, mean of 5x5) at which the weight
# is down to 1/e.
_FALLOFF = 24.0
_WINDOW = (5, 5)
# Flow is computed at about this many pixels. More cost more and did not improve it.
_FLOW_AREA = 256 * 256
MIN_SIDE = 32  # the smallest size at which the flow works
_NOTHING: Any = None  # OpenCV asks for None where its type stubs want an array


class TemporalSmoother:
    """Smooths the mattes of one shot, in order and without delay."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._previous: tuple[Plane, Array] | None = None

    def reset(self) -> None:
        """Start a new shot with the next frame."""
        self._previous = None

    def smooth(self, alpha: Array, model_input: Plane) -> Array:
        """Smooth alpha float32 (h, w) in 0..1 of the next frame, whose ``model_input`` is uint8 Y, U, V (3, h, w).

        Each pixel is blended with its predecessor (optical flow: Kroeger et al., ECCV 2016), weighted by how well the
        warped frame matches this one. Pixels that appear, are uncovered or move too fast for the flow therefore keep
        the network's alpha.
        """
        if self._previous is None or self._previous[1].shape != alpha.shape:
            smoothed = alpha
        else:
            smoothed = self._blend(alpha, model_input, *self._previous)
        self._previous = (model_input, smoothed)
        return smoothed

    def _blend(self, alpha: Array, frame: Plane, previous: Plane, previous_alpha: Array) -> Array:
        source = self._find_source(frame[0], previous[0])
        warped = _warp(previous_alpha, source)
        if kernels.library() is not None:
            warped_frame = np.stack([_warp(plane, source) for plane in previous])
            weight = kernels.match(frame, warped_frame, kernels.match_weights(MAX_WEIGHT, _FALLOFF))
        else:
            weight = MAX_WEIGHT * _match(frame, previous, source)
        return np.asarray(alpha + weight * (warped - alpha), np.float32)

    def _find_source(self, luma: Plane, previous: Plane) -> Array:
        """The position of each pixel in the previous frame: x and y, float32 (h, w, 2)."""
        height, width = luma.shape
        shrink = min(1.0, (_FLOW_AREA / (width * height)) ** 0.5)
        size = (max(MIN_SIDE, round(width * shrink)), max(MIN_SIDE, round(height * shrink)))
        small = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in (luma, previous)]
        flow = np.asarray(self._flow.calc(small[0], small[1], _NOTHING), np.float32)
        if kernels.library() is not None:
            return kernels.find_source(flow, (width, height))
        flow = np.asarray(cv2.resize(flow, (width, height)), np.float32)
        flow *= np.array([width / size[0], height / size[1]], np.float32)
        return np.asarray(flow + np.dstack(np.meshgrid(np.arange(width), np.arange(height))), np.float32)


def _warp(plane: Any, source: Array) -> Any:
    return cv2.remap(plane, source, _NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def _match(frame: Plane, previous: Plane, source: Array) -> Array:
    """How well the warped previous frame matches this one, 0..1, float32 (h, w)."""
    warped = _warp(np.dstack(list(previous)), source)
    difference = cv2.absdiff(np.dstack(list(frame)), warped).astype(np.float32).sum(axis=2)
    return np.asarray(np.exp(-np.square(cv2.blur(difference, _WINDOW) / _FALLOFF)), np.float32)
