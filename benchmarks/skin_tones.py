"""Ground truth of drawn people who differ in the tone of their skin alone.

``training/draw_skin_tones.py`` draws them: FOLDER/PERSON/NN-RRGGBB.png, RGBA with exact straight alpha; NN is the
number of the tone and RRGGBB its color. Each is shown before three walls that are the same for all, light, wooden and
dark, and before one in the color of the tone, so that every tone has a wall from which it hardly stands out.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.frame import Frame
from alphareel.testing.frames import frame_of

Picture = NDArray[np.uint8]
Alpha = NDArray[np.float32]

_COLORS: Mapping[str, tuple[int, int, int]] = {"light": (226, 222, 214), "wood": (150, 104, 66), "dark": (44, 44, 48)}
WALLS = (*_COLORS, "own tone")
_PLANK = 90  # rows of a plank of the wooden wall
_NOISE = 2.0  # standard deviation in levels


def pictures(folder: Path) -> list[Path]:
    """The drawn pictures, by tone from light to dark, then by person."""
    return sorted(folder.glob("*/[0-9][0-9]-*.png"), key=lambda path: (path.stem, path.parent.name))


def size(path: Path) -> tuple[int, int]:
    """(width, height) of a drawn picture."""
    height, width = _read(path).shape[:2]
    return width, height


def frames(path: Path, wall: str, count: int) -> Callable[[tuple[int, int] | None], Iterator[Frame]]:
    """A function that makes ``count`` same frames of the person before a wall of ``WALLS``, each with a model input."""

    def make(model_input_size: tuple[int, int] | None) -> Iterator[Frame]:
        rgba = _read(path)
        share = rgba[..., 3:].astype(np.float32) / 255
        background = draw_wall(wall, rgba.shape[0], rgba.shape[1], tone=path.stem[-6:])
        picture = np.asarray(rgba[..., :3] * share + background * (1 - share) + 0.5, np.uint8)
        for index in range(count):
            yield frame_of(picture, model_input_size, index=index)

    return make


def alphas(path: Path, count: int) -> Callable[[], Iterator[Alpha]]:
    """A function that makes the exact alpha, ``count`` times."""

    def make() -> Iterator[Alpha]:
        alpha = np.asarray(_read(path)[..., 3].astype(np.float32) / 255, np.float32)
        for _ in range(count):
            yield alpha

    return make


def draw_wall(name: str, height: int, width: int, *, tone: str) -> Alpha:
    """A wall of ``WALLS``, float32 (H, W, 3) in 0..255, somewhat darker to the right and below, with fine noise.

    It is the same each time. ``tone``: the color (RRGGBB) of the wall ``own tone``.
    """
    color = _COLORS.get(name) or tuple(bytes.fromhex(tone))
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    brightness = 1.04 - 0.12 * columns / width - 0.1 * rows / height
    rng = np.random.default_rng(3)
    if name == "wood":
        planks = rng.uniform(0.85, 1.12, height // _PLANK + 1)[rows // _PLANK]
        grain = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), sigmaX=40, sigmaY=1)
        brightness = brightness * planks * (1 + 1.2 * grain) * np.where(rows % _PLANK < 3, 0.6, 1.0)
    wall = brightness[..., None] * color + rng.normal(0, _NOISE, (height, width, 1))
    return np.asarray(np.clip(wall, 0, 255), np.float32)


def _read(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if picture is None or picture.ndim != 3 or picture.shape[2] != 4:
        raise SystemExit(f"{path} is not a picture with alpha. Draw it again with training/draw_skin_tones.py.")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGRA2RGBA), np.uint8)
