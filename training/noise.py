"""Smooth noise in space: grain of skin and cloth, folds, strands."""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (N, 3)


class Noise:
    """Values about 0, mostly within -1..1, that repeat after `cells` units."""

    def __init__(self, rng: np.random.Generator, cells: int = 32) -> None:
        self._grid = rng.normal(0, 0.5, (cells, cells, cells)).astype(np.float32)

    def __call__(self, at: Points) -> NDArray[np.float32]:
        """Values (N,) at places; a unit is the size of a bump."""
        return _between(self._grid, np.ascontiguousarray(at, np.float64))

    def octaves(self, at: Points, count: int = 3) -> NDArray[np.float32]:
        """Noise of several sizes, each half as large as the one before and weaker."""
        return sum(self(at * 2.0**n + 7 * n) * np.float32(0.55**n) for n in range(count))  # type: ignore[return-value]


@numba.njit(cache=True)
def _between(grid: NDArray[np.float32], at: Points) -> NDArray[np.float32]:
    """The grid at places between its points, smoothly."""
    cells, values = grid.shape[0], np.empty(len(at), np.float32)
    cell, part = np.empty((2, 3), np.int64), np.empty((2, 3))
    for n in range(len(at)):
        for axis in range(3):
            low = np.floor(at[n, axis])
            share = at[n, axis] - low
            share = share * share * (3 - 2 * share)
            cell[0, axis], cell[1, axis] = int(low) % cells, (int(low) + 1) % cells
            part[0, axis], part[1, axis] = 1 - share, share
        total = 0.0
        for x in range(2):
            for y in range(2):
                for z in range(2):
                    corner = grid[cell[x, 0], cell[y, 1], cell[z, 2]]
                    total += corner * part[x, 0] * part[y, 1] * part[z, 2]
        values[n] = total
    return values
