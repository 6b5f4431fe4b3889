"""The caller's wishes for the outline of a finished matte, the same for every engine: larger, smaller, softer."""

import cv2
import numpy as np

from alphareel.imaging.frame import Plane


def choke_and_feather(alpha: Plane, *, grow: float, feather: float) -> Plane:
    """Alpha uint8 (H, W), its outline moved out by ``grow`` pixels (in, where negative) and softer by ``feather``.

    Parts of a pixel are mixed from the whole ones on both sides. ``feather`` is the standard deviation of the blur.
    """
    moved = _moved(alpha, abs(grow), outwards=grow > 0)
    return _feathered(moved, feather) if feather else moved


def _moved(alpha: Plane, by: float, *, outwards: bool) -> Plane:
    if not by:
        return alpha
    whole, part = int(by), by - int(by)
    near = _shifted(alpha, whole, outwards=outwards)
    if not part:
        return near
    return np.asarray(cv2.addWeighted(near, 1 - part, _shifted(alpha, whole + 1, outwards=outwards), part, 0), np.uint8)


def _shifted(alpha: Plane, radius: int, *, outwards: bool) -> Plane:
    if not radius:
        return alpha
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(alpha, disc) if outwards else cv2.erode(alpha, disc), np.uint8)


def _feathered(alpha: Plane, sigma: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)
