"""People who never lived, in motion, with exact alpha: little on or much, in any pose, under any light.

    python synthetic_people.py --shards runs/shards

Street photos show people who stand upright and are dressed; these bend, kick, sit and turn over, half of them with
bare arms, legs or bodies, a third with something in a hand. Each clip is `FRAMES` frames of one person; its colors are
carried past its outline. Some of their clothes are cut from those of the shards' photos.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from body import Body, Numbers, Points
from clothing import Fabrics, Outfit, Regions
from datasets import Kind
from mesh import handheld_object, joined, normals
from noise import Noise
from poses import MANNERS, SHARES, draw_pose, joint_rotations, mixed
from rasterizer import draw
from shading import FINE, Light, Scene, look_at, tone_map
from shards import Image, Sample, ShardDataset, ShardWriter

FRAMES = 6
SIDE = 448  # long side of a stored picture
MARGIN = 10  # pixels around the person
FAST = 0.35  # part of the clips that cross from pose to pose in six to twelve frames, as dancers do
FIRST_CLIP = 1000  # numbers of clips from here on are figures


@dataclass(frozen=True)
class Eye:
    """Where the scene is seen from: turn and rise about its middle in radians, distance in dm; roll in degrees."""

    turn: float
    rise: float
    distance: float
    roll: float = 0.0

    @property
    def direction(self) -> Points:
        """From the middle of the scene to the eye, of length 1."""
        level = np.cos(self.rise)
        return np.array([np.sin(self.turn) * level, np.sin(self.rise), np.cos(self.turn) * level])


class SyntheticPerson:
    """Somebody with a shape, clothes, hair, and perhaps a thing in one hand."""

    def __init__(self, body: Body, regions: Regions, fabrics: Fabrics, rng: np.random.Generator) -> None:
        self.body, self.noise = body, Noise(rng)
        self.sex = str(rng.choice(("male", "female")))
        self.points = body.shaped(self.sex, rng)
        self.heads, self.tails = body.heads(self.points), body.tails(self.points)
        self.mesh = joined(Outfit(body, regions, fabrics, self.noise).draw(self.sex, rng))
        self.held: tuple[Points, Numbers] | None = handheld_object(rng) if rng.random() < 0.3 else None
        self.held_paint = fabrics.cloth(rng)
        self.hand = str(rng.choice(("hand_l", "hand_r")))
        self.manner = str(rng.choice(MANNERS, p=SHARES))
        self.first, self.last = draw_pose(self.manner, rng), draw_pose(self.manner, rng)

    def at(self, share: float) -> tuple[Points, Points]:
        """Points of the mesh on the way from the first pose to the last, and the map (3, 4) of the hand that holds."""
        pose = mixed(self.first, self.last, share)
        lifted, maps = self.body.posed(
            self.points, self.heads, joint_rotations(pose, self.body, self.heads, self.tails)
        )
        base = lifted[self.mesh.source]
        return base + self.mesh.away[:, None] * normals(base, self.mesh.triangles), maps[self.body.number[self.hand]]


def scene_of(person: SyntheticPerson, share: float) -> Scene:
    """The person on the way between its poses, with what it holds."""
    points, hand = person.at(share)
    mesh, paints = person.mesh, person.mesh.paints
    place, triangles, stuff = mesh.place, mesh.triangles, mesh.stuff
    if person.held is not None:
        shape, faces = person.held
        grip = person.tails[person.body.number[person.hand]]
        held = (shape + grip) @ hand[:, :3].T + hand[:, 3]
        triangles = np.concatenate([triangles, faces + len(points)])
        stuff = np.concatenate([stuff, np.full(len(faces), len(paints))])
        points, place = np.concatenate([points, held]), np.concatenate([place, shape])
        paints = [*paints, person.held_paint]
    return Scene(points, place, normals(points, triangles), triangles, stuff, paints, person.noise)


def motion(rng: np.random.Generator) -> tuple[float, float]:
    """Where on the way between the poses a clip starts, and the part of the way from frame to frame: some are fast."""
    if rng.random() < FAST:
        return rng.uniform(-0.1, 0.3), rng.uniform(0.08, 0.16)
    return rng.uniform(0, 0.6), abs(rng.normal(0, 0.06))


def film(person: SyntheticPerson, rng: np.random.Generator, frames: int = FRAMES) -> list[tuple[Image, Image]]:
    """Pictures and alphas of a person in motion before an eye at rest."""
    light, (start, pace) = Light.draw(rng), motion(rng)
    scenes = [scene_of(person, start + pace * n) for n in range(frames)]
    turn, rise = rng.uniform(0, 2 * np.pi) if rng.random() < 0.4 else rng.normal(0, 0.7), rng.normal(0, 0.25)
    eye = Eye(
        turn, rise, rng.uniform(22, 60), float(rng.normal(0, 4) if rng.random() < 0.8 else rng.uniform(-180, 180))
    )
    return seen(scenes, eye, light.exposed(rng.uniform(0.75, 1.25)))


def seen(scenes: Sequence[Scene], eye: Eye, light: Light, *, side: int = SIDE) -> list[tuple[Image, Image]]:
    """Pictures and alphas of scenes, cut to what they show with a margin; `side`: pixels of their long side."""
    every = np.concatenate([scene.points for scene in scenes])
    center = (every.min(0) + every.max(0)) / 2
    place = center + eye.distance * eye.direction
    views = [look_at(scene.points, place, center, eye.roll) for scene in scenes]
    flat = [view[:, :2] / view[:, 2:] for view in views]
    low, high = np.min([f.min(0) for f in flat], 0), np.max([f.max(0) for f in flat], 0)
    zoom = FINE * (side - 2 * MARGIN) / (high - low).max()
    width, height = (int(2 * FINE * np.ceil(v / (2 * FINE))) for v in (high - low) * zoom + 2 * MARGIN * FINE)
    pictures = []
    for scene, view, points in zip(scenes, views, flat, strict=True):
        corners = np.column_stack([(points - low) * zoom + MARGIN * FINE, view[:, 2]])
        pictures.append(tone_map(*draw(corners, scene.triangles, (height, width))[:2], scene, light, place))  # type: ignore[call-arg]
    return pictures


class Studio:
    """What every person is made of; one a process."""

    def __init__(self, shards: Path) -> None:
        self.body, self.fabrics = Body(), Fabrics(ShardDataset(shards))
        self.regions = Regions(self.body)

    def clip(self, number: int) -> list[Sample]:
        """The clip of that number: the same each time, over the same shards."""
        rng = np.random.default_rng((41, number))
        person = SyntheticPerson(self.body, self.regions, self.fabrics, rng)
        return [Sample(rgb, alpha, Kind.SYNTHETIC, FIRST_CLIP + number) for rgb, alpha in film(person, rng)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--shards", type=Path, default=Path("runs/shards"), help="whose clothes are worn, and where clips go"
    )
    parser.add_argument("--clips", type=int, default=1472)
    parser.add_argument("--first", type=int, default=0, help="number of the first one: several processes may share")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    studio, start = Studio(options.shards), time.monotonic()
    writer = ShardWriter(options.shards, stem=f"synthetic-{options.first}-")
    for done in range(1, options.clips + 1):
        writer.add(studio.clip(options.first + done - 1))
        if done % 50 == 0 or done == options.clips:
            print(f"{done}/{options.clips} {time.monotonic() - start:.0f} s", flush=True)
    writer.flush()


if __name__ == "__main__":
    main()
