"""Alpha as the luma of an ordinary video, for players that know no transparency, and back."""

import cv2
import numpy as np

from alphareel.imaging.frame import Plane

_LEVELS = np.arange(256, dtype=np.float32)
_LIMITED = np.rint(16 + _LEVELS * 219 / 255).astype(np.uint8)
_BACK = np.rint(np.clip((_LEVELS - 16) * 255 / 219, 0, 255)).astype(np.uint8)


def luma_of(alpha: Plane, *, full_range: bool) -> Plane:
    """Luma that a player shows as gray of exactly alpha's level: 16 + 219 a / 255, or a itself in full range."""
    return alpha if full_range else np.asarray(cv2.LUT(alpha, _LIMITED), np.uint8)


def alpha_of(luma: Plane, *, full_range: bool) -> Plane:
    """What ``luma_of`` was given."""
    return luma.copy() if full_range else np.asarray(cv2.LUT(luma, _BACK), np.uint8)
