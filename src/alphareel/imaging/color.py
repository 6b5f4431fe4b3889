"""Matrices between YUV and RGB, numbered as in ITU-T H.273."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from alphareel.domain.clip import Color
from alphareel.domain.color import Rgb

# (Kr, Kb) of each matrix: 1 BT.709; 4, 5, 6 BT.601 in its variants; 7 SMPTE 240M; 9, 10 BT.2020.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}


@cache
def rgb_to_yuv(matrix: int, *, full_range: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3, 3) matrix and (3,) offset from R, G, B to Y, U, V, both 0 to 255.

    Unknown matrices count as BT.601, as in FFmpeg.
    """
    red, blue = _LUMA_WEIGHTS.get(matrix, _LUMA_WEIGHTS[6])
    luma = np.array([red, 1 - red - blue, blue])
    u = (np.array([0, 0, 1]) - luma) / (2 * (1 - blue))
    v = (np.array([1, 0, 0]) - luma) / (2 * (1 - red))
    coefficients = np.stack([luma, u, v])
    offset = np.array([0.0, 128.0, 128.0])
    if not full_range:
        coefficients *= np.array([219, 224, 224])[:, None] / 255
        offset[0] = 16
    return coefficients.astype(np.float32), offset.astype(np.float32)


@cache
def yuv_to_rgb(matrix: int, *, full_range: bool) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(3, 3) matrix and (3,) offset from Y, U, V to R, G, B, both 0 to 255, unclipped."""
    forward, offset = rgb_to_yuv(matrix, full_range=full_range)
    inverse = np.linalg.inv(forward.astype(np.float64))
    return inverse.astype(np.float32), (-inverse @ offset).astype(np.float32)


def color_in_yuv(rgb: Rgb, color: Color, height: int) -> tuple[int, int, int]:
    """Y, U, V (0 to 255) of an RGB color, for pictures tagged ``color`` with ``height`` lines."""
    matrix, offset = rgb_to_yuv(color.resolved_matrix(height), full_range=color.full_range)
    y, u, v = np.clip(np.rint(matrix @ np.array(rgb, np.float32) + offset), 0, 255).astype(int)
    return int(y), int(u), int(v)
