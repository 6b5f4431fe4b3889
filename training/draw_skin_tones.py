"""The same people in ten skin tones, so that nothing else differs: ground truth of `./dev bench quality --skin OUT`.

    python draw_skin_tones.py --out runs/skin

Pose, clothes, hair, light and camera of a person are the same in every tone. Writes OUT/PERSON/NN-RRGGBB.png with the
number and the color of the tone: RGBA with straight alpha, `WIDTH` x `HEIGHT`, empty around the person.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np

from body import Body
from clothing import Fabrics, Regions
from mesh import Mesh
from shading import GAMMA, Light, unit
from shards import Image
from synthetic_people import Eye, SyntheticPerson, scene_of, seen

WIDTH, HEIGHT = 1280, 720
HEADROOM = 40  # rows above the person
# sRGB of the Monk Skin Tone Scale (Ellis Monk, skintone.google), from light to dark.
TONES = (
    "f6ede4", "f3e7db", "f7ead0", "eadaba", "d7bd96", "a07e56", "825c43", "604134", "3a312a", "292420",
)  # fmt: skip
LIGHT = Light(
    towards=unit(np.array([[0.35, 0.75, 0.56]]))[0],
    key=np.full(3, 0.6),
    sky=np.full(3, 0.45),
    ground=np.full(3, 0.3),
    shadows=True,
)
EYE = Eye(turn=0.25, rise=0.05, distance=45)


@dataclass(frozen=True)
class Sitter:
    """A person to draw: its name, the seed that it comes from, and how much of its height the picture shows."""

    name: str
    seed: int
    shown: float


SITTERS = (
    Sitter("woman, whole", 27, 1.0),
    Sitter("man, whole", 39, 1.0),
    Sitter("woman, to the hips", 24, 0.5),
    Sitter("man, to the hips", 45, 0.5),
    Sitter("woman, head and shoulders", 30, 0.3),
    Sitter("man, head and shoulders", 16, 0.3),
)


def in_tone(mesh: Mesh, tone: str) -> Mesh:
    """The same mesh with skin, which is its first paint, in a color (RRGGBB) that it shows in full light."""
    color = (np.frombuffer(bytes.fromhex(tone), np.uint8) / 255) ** GAMMA
    skin, *others = mesh.paints
    return replace(mesh, paints=[replace(skin, color=color), *others])


def framed(rgb: Image, alpha: Image, shown: float) -> Image:
    """RGBA (HEIGHT, WIDTH, 4): the upper `shown` of the person, in the middle, from the headroom to the lower edge."""
    rows, columns = (np.flatnonzero(alpha.any(axis)) for axis in (1, 0))
    person = np.dstack([rgb, alpha])[rows[0] : rows[0] + round(shown * len(rows)), columns[0] : columns[-1] + 1]
    scale = (HEIGHT - HEADROOM) / person.shape[0]
    size = round(person.shape[1] * scale), HEIGHT - HEADROOM
    layers = [cv2.resize(person[..., n], size, interpolation=cv2.INTER_AREA) for n in range(4)]
    canvas = np.zeros((HEIGHT, max(WIDTH, size[0]), 4), np.uint8)
    left = (canvas.shape[1] - size[0]) // 2
    canvas[HEADROOM:, left : left + size[0]] = np.dstack(layers)
    off = (canvas.shape[1] - WIDTH) // 2
    return canvas[:, off : off + WIDTH]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/skin"), help="folder for the pictures")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    body = Body()
    regions, fabrics = Regions(body), Fabrics(None)
    for sitter in SITTERS:
        person = SyntheticPerson(body, regions, fabrics, np.random.default_rng((61, sitter.seed)))
        person.held = None
        mesh, folder = person.mesh, options.out / sitter.name
        folder.mkdir(parents=True, exist_ok=True)
        for number, tone in enumerate(TONES, 1):
            person.mesh = in_tone(mesh, tone)
            ((rgb, alpha),) = seen([scene_of(person, 0)], EYE, LIGHT, side=round(HEIGHT / sitter.shown))
            picture = framed(rgb, alpha, sitter.shown)
            cv2.imwrite(str(folder / f"{number:02}-{tone}.png"), cv2.cvtColor(picture, cv2.COLOR_RGBA2BGRA))
        print(f"{sitter.name}: {len(TONES)} tones", flush=True)


if __name__ == "__main__":
    main()
