"""255 colors for a GIF frame, by median cut (Heckbert, 1982), and the way from any color to its nearest."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.frame import Plane

COLORS = 255
TRANSPARENT = 255  # the index left over
_SAMPLES = 8192
_BITS = 5  # of each channel in the lookup table
_STRENGTH = 16  # levels that the dither spans: two steps of the lookup table
# Bayer's 4x4 matrix
_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.uint8)

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Palette:
    """``colors``: (255, 3) RGB. ``nearest``: index of the nearest color for each 15-bit RGB."""

    colors: Rgb
    nearest: Plane

    def indices(self, rgb: Rgb) -> Plane:
        """(H, W) palette indices of an (H, W, 3) picture, with an ordered dither that never moves."""
        height, width = rgb.shape[:2]
        pattern = np.tile(_BAYER * (_STRENGTH // 16), (height // 4 + 1, width // 4 + 1))[:height, :width]
        lifted = cv2.add(rgb, cv2.merge([pattern] * 3))
        middle = np.full_like(lifted, _STRENGTH // 2)
        coarse = np.asarray(cv2.subtract(lifted, middle), np.uint8) >> (8 - _BITS)
        red, green, blue = (coarse[..., n].astype(np.uint16) for n in range(3))
        return np.asarray(self.nearest[(red << 2 * _BITS) | (green << _BITS) | blue], np.uint8)


def palette_of(pixels: Rgb) -> Palette:
    """A palette for (N, 3) RGB pixels; a stride of them is looked at. Gray for none."""
    chosen = pixels[:: max(1, len(pixels) // _SAMPLES)]
    if not len(chosen):
        chosen = np.full((1, 3), 128, np.uint8)
    colors = _median_cut(chosen.astype(np.int16))
    levels = np.arange(1 << _BITS, dtype=np.float32) * (1 << (8 - _BITS)) + (1 << (7 - _BITS))
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    as_float = colors.astype(np.float32)
    distances = (as_float * as_float).sum(axis=1) - 2 * grid @ as_float.T
    return Palette(colors, distances.argmin(axis=1).astype(np.uint8))


def _median_cut(pixels: NDArray[np.int16]) -> Rgb:
    """Means of boxes, the one with the widest spread and most pixels being halved until there are enough."""
    boxes = [pixels]
    weights = [_weight(pixels)]
    while len(boxes) < COLORS and max(weights) > 0:
        at = weights.index(max(weights))
        box = boxes[at]
        axis = int(np.ptp(box, axis=0).argmax())
        ordered = box[box[:, axis].argsort(kind="stable")]
        halves = ordered[: len(box) // 2], ordered[len(box) // 2 :]
        boxes[at : at + 1] = halves
        weights[at : at + 1] = [_weight(half) for half in halves]
    colors = np.zeros((COLORS, 3), np.uint8)
    colors[: len(boxes)] = [np.rint(box.mean(axis=0)) for box in boxes]
    return colors


def _weight(box: NDArray[np.int16]) -> int:
    return int(np.ptp(box, axis=0).max()) * len(box) if len(box) > 1 else 0
