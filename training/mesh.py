"""Meshes that move with a body, and things to hold. Lengths are decimeters."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from body import Numbers, Points
from poses import rotation

if TYPE_CHECKING:
    from shading import Paint


@dataclass
class Mesh:
    """What is drawn: points that move with the body, triangles of them, and of each its stuff.

    `source` numbers the point of the body that a point moves with, `away` is how far (in dm) it lies off it along the
    normal; `place` is where it lies on the resting body, by which stuff is painted.
    """

    source: Numbers
    away: NDArray[np.float64]
    place: Points
    triangles: Numbers
    stuff: Numbers
    paints: list[Paint] = field(default_factory=list)


def joined(parts: list[tuple[Mesh, Paint]]) -> Mesh:
    """One mesh of all parts."""
    counts = np.cumsum([0, *(len(mesh.source) for mesh, _ in parts)])
    meshes = [mesh for mesh, _ in parts]
    return Mesh(
        np.concatenate([m.source for m in meshes]),
        np.concatenate([m.away for m in meshes]),
        np.concatenate([m.place for m in meshes]),
        np.concatenate([m.triangles + start for m, start in zip(meshes, counts, strict=False)]),
        np.concatenate([np.full(len(m.triangles), n) for n, m in enumerate(meshes)]),
        [paint for _, paint in parts],
    )


def handheld_object(rng: np.random.Generator) -> tuple[Points, Numbers]:
    """A stick, a board, a bag or a ball about the middle: points and triangles."""
    u, v = np.meshgrid(np.linspace(0, 2 * np.pi, 17)[:-1], np.linspace(-1, 1, 13))
    kind = rng.random()
    if kind < 0.6:  # a rod, thicker at one end now and then
        radius = rng.uniform(0.1, 0.3) * np.ones_like(v)
        radius[-3:] *= rng.choice((1.0, 1.0, 2.0, 5.0))
        points = np.stack([radius * np.cos(u), rng.uniform(2, 8) * v, radius * np.sin(u) * rng.uniform(0.3, 1)], -1)
    else:  # round or boxy
        power = rng.choice((1.0, 0.4))
        ring = np.sqrt(np.maximum(1 - v * v, 0)) ** power
        wide = rng.uniform(0.6, 2.2, 3)
        round_ = [np.sign(f) * np.abs(f) ** power for f in (np.cos(u), np.sin(u))]
        along = np.sign(v) * np.abs(v) ** power
        points = np.stack([ring * round_[0] * wide[0], along * wide[1], ring * round_[1] * wide[2]], -1)
        points[..., 1] -= wide[1]
    rows, columns = v.shape
    i, j = (grid.ravel() for grid in np.mgrid[: rows - 1, :columns])
    right = (j + 1) % columns
    a, b, c, d = i * columns + j, i * columns + right, (i + 1) * columns + right, (i + 1) * columns + j
    turn = rotation(rng.normal(0, 1, 3), rng.uniform(0, 180))
    return points.reshape(-1, 3) @ turn.T, np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])


def normals(points: Points, triangles: Numbers) -> Points:
    """Of each point the mean direction of its triangles."""
    a, b, c = (points[triangles[:, n]] for n in range(3))
    flat = np.cross(b - a, c - a)
    total = np.stack([np.bincount(triangles.ravel(), np.repeat(flat[:, n], 3), len(points)) for n in range(3)], 1)
    return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-9)
