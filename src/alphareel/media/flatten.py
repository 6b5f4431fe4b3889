"""Invisible background becomes one color, so that encoders spend no bits on it."""

import cv2
import numpy as np

from alphareel.imaging.frame import Plane

_BLOCK = 8  # pixels of a mask cell; the margin around visible pixels is one cell at least


def flatten(
    planes: tuple[Plane, Plane, Plane], alpha: Plane, *, color: tuple[int, int, int]
) -> tuple[Plane, Plane, Plane]:
    """New Y, U, V planes: ``color`` wherever ``alpha`` is 0 for 8 pixels around, the picture elsewhere.

    ``planes`` are not written to. Pixels with any alpha, and their neighbors that chroma or a scaler would mix in,
    stay as they are.
    """
    visible = _visible(alpha)
    y, u, v = (_covered(plane, visible, value) for plane, value in zip(planes, color, strict=True))
    return y, u, v


def _visible(alpha: Plane) -> Plane:
    """A mask of cells, 255 where the cell or one beside it holds a pixel that is not fully transparent."""
    height, width = alpha.shape
    shown = cv2.threshold(alpha, 0, 255, cv2.THRESH_BINARY)[1]
    # the mean of a cell with one visible pixel is 255/64: never rounded to zero
    cells = cv2.resize(shown, (-(-width // _BLOCK), -(-height // _BLOCK)), interpolation=cv2.INTER_AREA)
    grown = cv2.dilate(cells, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.threshold(grown, 0, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _covered(plane: Plane, visible: Plane, value: int) -> Plane:
    height, width = plane.shape
    mask = cv2.resize(visible, (width, height), interpolation=cv2.INTER_NEAREST)
    made = np.full((height, width), value, np.uint8)
    cv2.copyTo(plane, mask, made)
    return made
