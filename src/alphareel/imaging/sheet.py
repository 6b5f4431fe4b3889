"""Sheets of pictures: labeled, side by side, transparent ones over a checkerboard. All pictures are RGB (h, w, 3)."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.frame import Plane

Picture = NDArray[np.uint8]

_GAP = 6  # pixels
_SQUARE = 10
_STRIP = 20
_PAPER = (24, 24, 24)
_INK = (220, 220, 220)


def over_checkers(rgb: Picture, alpha: Plane) -> Picture:
    """``rgb`` (H, W, 3) over gray squares of two shades; ``alpha`` is straight."""
    height, width = alpha.shape
    rows, columns = np.mgrid[0:height, 0:width] // _SQUARE
    board = np.where((rows + columns) % 2, 200, 150).astype(np.float32)[..., None]
    share = alpha.astype(np.float32)[..., None] / 255
    return (rgb * share + board * (1 - share)).astype(np.uint8)


def labeled(picture: Picture, text: str) -> Picture:
    """The picture under a strip of paper that carries the text."""
    strip = np.full((_STRIP, picture.shape[1], 3), _PAPER, np.uint8)
    cv2.putText(strip, text, (4, _STRIP - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _INK, 1, cv2.LINE_AA)
    return np.concatenate([strip, picture])


def blank(picture: Picture) -> Picture:
    """Paper of the size of a picture."""
    return np.full(picture.shape, _PAPER, np.uint8)


def stacked(pictures: Sequence[Picture], *, axis: int) -> Picture:
    """Pictures side by side (axis 1) or below each other (axis 0), a gap between, padded to one size."""
    across = 1 - axis
    extent = max(p.shape[across] for p in pictures)
    pieces: list[Picture] = []
    for picture in pictures:
        shape = [extent, extent, 3]
        shape[axis] = picture.shape[axis] + _GAP
        piece = np.full(shape, _PAPER, np.uint8)
        piece[: picture.shape[0], : picture.shape[1]] = picture
        pieces.append(piece)
    return np.concatenate(pieces, axis=axis)


def png(picture: Picture) -> bytes:
    """The bytes of a PNG file of ``picture`` (H, W, 3), RGB."""
    return bytes(cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes())
