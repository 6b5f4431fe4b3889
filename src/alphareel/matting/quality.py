"""Measures a matte without ground truth: where it is uncertain, where it flickers, how much it covers.

Pictures are small: uint8 Y, U, V (h, w, 3); alphas are float32 (h, w) in 0..1.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from alphareel.imaging.frame import Plane
from alphareel.matting.cuts import CutDetector
from alphareel.matting.runtime import Array

AREA = 192 * 108  # of the small pictures, about
_FALLOFF = 24.0
_BAND = np.ones((3, 3), np.uint8)
_NOTHING: Any = None  # OpenCV asks for None where its type stubs want an array


@dataclass(frozen=True)
class FrameQuality:
    """One frame, all from 0 to 1.

    ``coverage``: share of the picture that is kept. ``uncertainty``: share that is neither kept nor removed, without
    the thin soft outline that every matte has. ``flicker``: mean change along the motion, where the picture itself did
    not change. ``error``: the estimated error, for comparing frames of one clip.
    """

    coverage: float
    uncertainty: float
    flicker: float
    error: float
    is_cut: bool = False


class QualityMeter:
    """Measures consecutive frames."""

    def __init__(self) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._cuts = CutDetector()
        self._before: tuple[Plane, Array] | None = None

    def add(self, picture: Plane, alpha: Array) -> FrameQuality:
        """Measure the next frame."""
        is_cut = self._cuts.is_cut(picture.transpose(2, 0, 1))
        softness = 4 * alpha * (1 - alpha)
        uncertainty = float(cv2.erode(softness, _BAND).mean())
        flicker = 0.0 if self._before is None or is_cut else self._flicker(picture, alpha)
        self._before = (picture, alpha)
        error = uncertainty + flicker + 0.25 * float(softness.mean())
        return FrameQuality(float(alpha.mean()), uncertainty, flicker, error, is_cut)

    def _flicker(self, picture: Plane, alpha: Array) -> float:
        assert self._before is not None
        before, before_alpha = self._before
        now, then = (np.ascontiguousarray(p[..., 0]) for p in (picture, before))
        height, width = now.shape
        grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
        source = np.asarray(self._flow.calc(now, then, _NOTHING) + grid, np.float32)
        warped = cv2.remap(before, source, _NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference = cv2.absdiff(picture, warped).astype(np.float32).sum(axis=2)
        match = np.exp(-np.square(cv2.blur(difference, (5, 5)) / _FALLOFF))
        moved = cv2.remap(before_alpha, source, _NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return float((np.abs(alpha - moved) * match).mean())
