"""Grows, shrinks (chokes) and feathers the outline of a finished matte."""

import cv2
import numpy as np

from alphareel.imaging.frame import Plane


def choke_and_feather(alpha: Plane, *, grow: float, feather: float) -> Plane:
    """Alpha uint8 (H, W) with its outline moved outward by ``grow`` pixels (inward if negative) and then blurred.

    A fractional ``grow`` blends the results for the whole pixels on both sides. ``feather`` is the standard deviation
    of the Gaussian blur in pixels.
    """
    grown = _grow(alpha, abs(grow), outward=grow > 0)
    return _feather(grown, feather) if feather else grown


def _grow(alpha: Plane, pixels: float, *, outward: bool) -> Plane:
    if not pixels:
        return alpha
    whole, fraction = int(pixels), pixels - int(pixels)
    inner = _shift(alpha, whole, outward=outward)
    if not fraction:
        return inner
    outer = _shift(alpha, whole + 1, outward=outward)
    return np.asarray(cv2.addWeighted(inner, 1 - fraction, outer, fraction, 0), np.uint8)


def _shift(alpha: Plane, radius: int, *, outward: bool) -> Plane:
    if not radius:
        return alpha
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(alpha, disc) if outward else cv2.erode(alpha, disc), np.uint8)


def _feather(alpha: Plane, sigma: float) -> Plane:
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.uint8)
