"""3D models from binary glTF files, with their skins and animations: points and triangles at a moment.

Khronos Group, *glTF 2.0 Specification*. Textures, morph targets and compressed meshes are not read.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Numbers = NDArray[np.int64]
TYPES = {5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32}
WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}
TRIANGLES = 4


@dataclass(frozen=True)
class Part:
    """Points (N, 3), perhaps with bones and weights; triangles; the node that carries them, their skin and material."""

    points: Floats
    triangles: Numbers
    bones: Numbers | None
    weights: Floats | None
    node: int
    skin: int | None
    material: int


class Model:
    """One file."""

    def __init__(self, path: Path) -> None:
        data = path.read_bytes()
        (length,) = struct.unpack_from("<I", data, 12)
        self._json: dict[str, Any] = json.loads(data[20 : 20 + length])
        self._binary = data[28 + length :]
        self._parents = {c: n for n, node in enumerate(self._json["nodes"]) for c in node.get("children", ())}
        self.parts = [part for n, node in enumerate(self._json["nodes"]) for part in self._parts(n, node)]
        self.animations = self._json.get("animations", [])
        self._skins = [
            (skin["joints"], self._array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).transpose(0, 2, 1))
            for skin in self._json.get("skins", ())
        ]

    def colors(self) -> Floats:
        """Linear RGB (M, 3) of the materials."""
        facts = [material.get("pbrMetallicRoughness", {}) for material in self._json.get("materials", [{}])]
        return np.array([fact.get("baseColorFactor", (0.8, 0.8, 0.8, 1))[:3] for fact in facts], np.float64)

    def duration(self, animation: int) -> float:
        """Seconds that it takes."""
        samplers = self.animations[animation]["samplers"]
        return max(float(self._json["accessors"][s["input"]]["max"][0]) for s in samplers)

    def at(self, animation: int | None, time: float) -> list[Floats]:
        """Points of each part at a moment of an animation, or at rest."""
        moved = {} if animation is None else self._channels(animation, time)
        local = [self._matrix(node, moved.get(n, {})) for n, node in enumerate(self._json["nodes"])]
        whole: dict[int, Floats] = {}
        posed = []
        for part in self.parts:
            flat = np.column_stack([part.points, np.ones(len(part.points))])
            if part.skin is None or part.bones is None or part.weights is None:
                posed.append((flat @ self._whole(part.node, local, whole).T)[:, :3])
                continue
            joints, binds = self._skins[part.skin]
            maps = np.stack([self._whole(j, local, whole) for j in joints]) @ binds
            mixed = np.einsum("nk,nkij->nij", part.weights, maps[part.bones])
            posed.append(np.einsum("nij,nj->ni", mixed, flat)[:, :3])
        return posed

    def _parts(self, number: int, node: dict[str, Any]) -> list[Part]:
        if "mesh" not in node:
            return []
        found = []
        for shape in self._json["meshes"][node["mesh"]]["primitives"]:
            if shape.get("mode", TRIANGLES) != TRIANGLES or "KHR_draco_mesh_compression" in shape.get("extensions", ()):
                continue
            names = shape["attributes"]
            points = self._array(names["POSITION"])
            order = self._array(shape["indices"]).ravel() if "indices" in shape else np.arange(len(points))
            bones = self._array(names["JOINTS_0"]).astype(np.int64) if "JOINTS_0" in names else None
            weights = self._array(names["WEIGHTS_0"]) if "WEIGHTS_0" in names else None
            if weights is not None:
                weights = weights / np.maximum(weights.sum(1, keepdims=True), 1e-9)
            triangles = order.astype(np.int64).reshape(-1, 3)
            found.append(Part(points, triangles, bones, weights, number, node.get("skin"), shape.get("material", 0)))
        return found

    def _array(self, number: int) -> Floats:
        """The values of an accessor."""
        accessor = self._json["accessors"][number]
        view = self._json["bufferViews"][accessor["bufferView"]]
        kind, width, count = np.dtype(TYPES[accessor["componentType"]]), WIDTHS[accessor["type"]], accessor["count"]
        start = view.get("byteOffset", 0) + accessor.get("byteOffset", 0)
        stride = view.get("byteStride", kind.itemsize * width)
        raw = np.frombuffer(self._binary, np.uint8, (count - 1) * stride + kind.itemsize * width, start)
        rows = np.lib.stride_tricks.as_strided(raw, (count, kind.itemsize * width), (stride, 1))
        values = np.ascontiguousarray(rows).view(kind).astype(np.float64)
        return values / np.iinfo(kind).max if accessor.get("normalized") else values  # type: ignore[type-var]

    def _channels(self, animation: int, time: float) -> dict[int, dict[str, Floats]]:
        """Of each node that moves what replaces its own translation, rotation and scale."""
        facts, moved = self.animations[animation], {}
        for channel in facts["channels"]:
            target, sampler = channel["target"], facts["samplers"][channel["sampler"]]
            if target["path"] == "weights" or "node" not in target:
                continue
            times, values = self._array(sampler["input"]).ravel(), self._array(sampler["output"])
            if sampler.get("interpolation") == "CUBICSPLINE":
                values = values.reshape(len(times), 3, -1)[:, 1]
            after = int(np.clip(np.searchsorted(times, time), 1, max(1, len(times) - 1)))
            if len(times) == 1:
                value = values[0]
            else:
                share = np.clip((time - times[after - 1]) / max(times[after] - times[after - 1], 1e-9), 0, 1)
                first, last = values[after - 1], values[after]
                if target["path"] == "rotation" and first @ last < 0:
                    last = -last
                value = first + share * (last - first)
            moved.setdefault(target["node"], {})[target["path"]] = value
        return moved

    @staticmethod
    def _matrix(node: dict[str, Any], moved: dict[str, Floats]) -> Floats:
        if "matrix" in node and not moved:
            return np.array(node["matrix"], np.float64).reshape(4, 4).T
        x, y, z, w = np.array(moved.get("rotation", node.get("rotation", (0, 0, 0, 1))), np.float64)
        x, y, z, w = np.array((x, y, z, w)) / max(float(np.sqrt(x * x + y * y + z * z + w * w)), 1e-9)
        turn = np.array(
            [
                [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
                [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
                [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
            ]
        )
        matrix = np.eye(4)
        matrix[:3, :3] = turn * np.array(moved.get("scale", node.get("scale", (1, 1, 1))), np.float64)
        matrix[:3, 3] = moved.get("translation", node.get("translation", (0, 0, 0)))
        return matrix

    def _whole(self, number: int, local: list[Floats], known: dict[int, Floats]) -> Floats:
        """From a node's own axes to those of the scene."""
        if number not in known:
            parent = self._parents.get(number)
            known[number] = local[number] if parent is None else self._whole(parent, local, known) @ local[number]
        return known[number]
