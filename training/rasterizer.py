"""Triangles to pixels: which triangle each pixel shows, and where in it the pixel lies."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]


@numba.njit(cache=True)
def draw(
    corners: Floats, triangles: Numbers, size: tuple[int, int]
) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
    """Corners (N, 3): x and y in pixels, and depth, which grows away from the eye; triangles (T, 3).

    Returns, each of the size (height, width): number of the nearest triangle or -1; shares (..., 3) of its corners
    in the plane of the picture; depth (infinite where there is nothing).
    """
    height, width = size
    shown = np.full((height, width), -1, np.int32)
    shares = np.zeros((height, width, 3), np.float32)
    depths = np.full((height, width), np.inf, np.float32)
    for t in range(triangles.shape[0]):
        a, b, c = corners[triangles[t, 0]], corners[triangles[t, 1]], corners[triangles[t, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if abs(area) < 1e-9 or min(a[2], b[2], c[2]) <= 0:
            continue
        left = max(0, int(np.ceil(min(a[0], b[0], c[0]) - 0.5)))
        right = min(width - 1, int(np.floor(max(a[0], b[0], c[0]) - 0.5)))
        top = max(0, int(np.ceil(min(a[1], b[1], c[1]) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(a[1], b[1], c[1]) - 0.5)))
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                px, py = x + 0.5, y + 0.5
                wa = ((b[0] - px) * (c[1] - py) - (b[1] - py) * (c[0] - px)) / area
                wb = ((c[0] - px) * (a[1] - py) - (c[1] - py) * (a[0] - px)) / area
                wc = 1 - wa - wb
                if wa < 0 or wb < 0 or wc < 0:
                    continue
                depth = wa * a[2] + wb * b[2] + wc * c[2]
                if depth < depths[y, x]:
                    depths[y, x], shown[y, x] = depth, t
                    shares[y, x, 0], shares[y, x, 1], shares[y, x, 2] = wa, wb, wc
    return shown, shares, depths
