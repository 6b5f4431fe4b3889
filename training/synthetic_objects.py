"""Animals, vehicles, furniture and other things from 3D models, in motion, with exact alpha.

    python synthetic_objects.py --models DIR --shards runs/subject

Those that have an animation play a part of it; the others turn. Their materials keep their colors, have them turned, or
become cloth of the shards' photos. Drawn and lit as synthetic people are.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from clothing import Fabrics
from datasets import Kind
from gltf import Floats, Model
from mesh import normals
from noise import Noise
from poses import rotation
from rasterizer import draw
from shading import FINE, Light, Paint, Scene, look_at, tone_map
from shards import Image, Sample, ShardDataset, ShardWriter

FRAMES = 6
SIDE, MARGIN = 448, 10  # long side of a stored picture, and pixels around the object
SIZE = 18.0  # dm, the diagonal of every object: shadows are made for that
FIRST_CLIP = 5000
# How often each folder is drawn from.
SHARES = {
    "animals_pack": 8, "dinosaurs_pack": 2, "easy_enemies_pack": 2, "fish_pack": 2, "cute_fish_pack": 2, "mech_pack": 1,
    "modular_men": 2, "modular_women": 2, "ships_pack": 2, "spaceships_pack": 1.5, "tank_pack": 1.5, "street_pack": 1,
    "house_interior_pack": 3, "survival_pack": 2.5, "rpg_items_pack": 2, "medieval_weapons_pack": 1, "crops_pack": 2,
    "nature_pack": 1,
}  # fmt: skip


def paints(model: Model, fabrics: Fabrics, rng: np.random.Generator) -> list[Paint]:
    """A paint for each material."""
    made, turn, dye = [], rng.permutation(3), rng.random()
    for color in model.colors():
        if rng.random() < 0.3:
            made.append(fabrics.cloth(rng))
            continue
        own = color[turn] if dye < 0.4 else color
        own = np.clip(own * rng.normal(1, 0.15, 3) + 0.01, 0.005, 0.95)
        bumps = rng.uniform(0, 0.6)
        made.append(Paint(own, None, rng.uniform(0.03, 0.5), rng.uniform(0.6, 4), bumps, rng.uniform(0, 0.6)))
    return made


class Object:
    """A model with paints and a way to move."""

    def __init__(self, path: Path, fabrics: Fabrics, rng: np.random.Generator) -> None:
        self.model, self.noise = Model(path), Noise(rng)
        self.paints = paints(self.model, fabrics, rng)
        count = len(self.model.animations)
        self.animation = int(rng.integers(count)) if count and rng.random() < 0.9 else None
        length = self.model.duration(self.animation) if self.animation is not None else 1.0
        self.start, self.pace = rng.uniform(0, length), rng.uniform(0.5, 1.6) / 24
        self.length = max(length, 1e-3)
        self.spin = rng.normal(0, 1.5) if self.animation is not None else rng.normal(0, 4)
        self.upright = bool(rng.random() < 0.75)
        self.lean = rotation(rng.normal(0, 1, 3), float(rng.uniform(0, 180)))
        rest = np.concatenate(self.model.at(self.animation, self.start % self.length))
        self.middle = (rest.min(0) + rest.max(0)) / 2
        self.scale = SIZE / max(float(np.linalg.norm(rest.max(0) - rest.min(0))), 1e-6)
        counts = np.cumsum([0, *(len(part.points) for part in self.model.parts)])
        shapes = zip(self.model.parts, counts, strict=False)
        self.triangles = np.concatenate([part.triangles + first for part, first in shapes])
        self.stuff = np.concatenate([np.full(len(part.triangles), part.material) for part in self.model.parts])
        self.place = (np.concatenate(self.model.at(None, 0)) - self.middle) * self.scale
        keys = np.round(self.place / (0.02 if rng.random() < 0.6 else 1e-6), 0)
        self.joined = np.unique(keys, axis=0, return_inverse=True)[1].ravel()

    def at(self, frame: int) -> Scene:
        """What is drawn on a frame."""
        moment = (self.start + self.pace * frame) % self.length
        points = (np.concatenate(self.model.at(self.animation, moment)) - self.middle) * self.scale
        points = points @ rotation(np.array([0.0, 1.0, 0.0]), self.spin * frame).T
        points = points if self.upright else points @ self.lean.T
        return Scene(points, self.place, self._normals(points), self.triangles, self.stuff, self.paints, self.noise)

    def _normals(self, points: Floats) -> Floats:
        """Normals that do not break where the file has one place twice."""
        welded = np.zeros((self.joined.max() + 1, 3))
        welded[self.joined] = points
        return normals(welded, self.joined[self.triangles])[self.joined]


def film(thing: Object, rng: np.random.Generator, frames: int = FRAMES) -> list[tuple[Image, Image]]:
    """Pictures and alphas of an object in motion before an eye at rest."""
    light, scenes = Light.draw(rng), [thing.at(n) for n in range(frames)]
    every = np.concatenate([scene.points for scene in scenes])
    center = (every.min(0) + every.max(0)) / 2
    turn, rise = rng.uniform(0, 2 * np.pi), float(np.clip(rng.normal(0.25, 0.3), -0.4, 1.2))
    aside = np.array([np.sin(turn) * np.cos(rise), np.sin(rise), np.cos(turn) * np.cos(rise)])
    eye = center + rng.uniform(22, 60) * aside
    roll = float(rng.normal(0, 4))
    views = [look_at(scene.points, eye, center, roll) for scene in scenes]
    flat = [view[:, :2] / view[:, 2:] for view in views]
    low, high = np.min([f.min(0) for f in flat], 0), np.max([f.max(0) for f in flat], 0)
    zoom = FINE * (SIDE - 2 * MARGIN) / (high - low).max()
    width, height = (int(2 * FINE * np.ceil(v / (2 * FINE))) for v in (high - low) * zoom + 2 * MARGIN * FINE)
    light, pictures = light.exposed(rng.uniform(0.75, 1.25)), []
    for scene, view, points in zip(scenes, views, flat, strict=True):
        corners = np.column_stack([(points - low) * zoom + MARGIN * FINE, view[:, 2]])
        pictures.append(tone_map(*draw(corners, scene.triangles, (height, width))[:2], scene, light, eye))  # type: ignore[call-arg]
    return pictures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=Path, required=True, help="folder of the folders in `SHARES`")
    parser.add_argument("--shards", type=Path, default=Path("runs/subject"))
    parser.add_argument("--clips", type=int, default=240)
    parser.add_argument("--first", type=int, default=0, help="number of the first one: several processes may share")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    fabrics, start = Fabrics(ShardDataset(options.shards)), time.monotonic()
    folders = {
        name: sorted(file for file in (options.models / name).glob("*.glb") if not file.stem.endswith("_all"))
        for name in SHARES
    }
    folders = {name: files for name, files in folders.items() if files}
    shares = np.array([SHARES[name] for name in folders])
    writer = ShardWriter(options.shards, size=120, stem=f"objects-{options.first}-")
    for number in range(options.first, options.first + options.clips):
        rng = np.random.default_rng((43, number))
        files = folders[str(rng.choice(list(folders), p=shares / shares.sum()))]
        thing = Object(files[rng.integers(len(files))], fabrics, rng)
        if not np.isfinite(thing.place).all():  # one file has points that are nowhere
            continue
        shown = film(thing, rng)
        writer.add([Sample(rgb, alpha, Kind.SYNTHETIC, FIRST_CLIP + number) for rgb, alpha in shown])
        if (number - options.first) % 20 == 0:
            print(f"{number} {time.monotonic() - start:.0f} s", flush=True)
    writer.flush()


if __name__ == "__main__":
    main()
