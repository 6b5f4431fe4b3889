"""Where people stand in the frame: affine maps from a stored picture to a training view.

A matrix is (2, 3) and maps (x, y, 1) of the picture to (x, y) of the view; sizes are (height, width) in pixels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from shards import Image, Sample

Matrix = NDArray[np.float64]
Size = tuple[int, int]
SMALLEST = 90  # pixels of the picture that a view is at least high


class Box(NamedTuple):
    """Person's extent in pixels, x of the head, and whether the picture's lower edge cuts the person."""

    top: float
    bottom: float
    left: float
    right: float
    head: float
    cut: bool


@dataclass(frozen=True)
class Framing:
    """How a person is shown: `style`, and whether the view stays `inside` the picture."""

    style: str
    inside: bool

    @classmethod
    def draw(cls, rng: np.random.Generator, *, inside: bool, person: bool = True) -> Framing:
        """Head and shoulders as before a webcam, most of the body, small and far away, or the picture as it is.

        What is no `person` has no head to hang a view from.
        """
        shares = (0.30, 0.40, 0.0, 0.30) if inside else (0.28, 0.42, 0.20, 0.10)
        if not person:
            shares = (0.0, 0.35, 0.0, 0.65) if inside else (0.0, 0.65, 0.25, 0.10)
        return cls(str(rng.choice(("webcam", "body", "small", "whole"), p=shares)), inside)


def find_box(alpha: Image) -> Box | None:
    """Box of the person in an alpha; None where there is hardly one."""
    solid = alpha[::2, ::2] > 128
    ys, xs = np.flatnonzero(solid.any(axis=1)), np.flatnonzero(solid.any(axis=0))
    if len(ys) < 6 or len(xs) < 6:
        return None
    top = solid[ys[0] : ys[0] + max(2, len(ys) // 8)]
    head = 2 * float(np.flatnonzero(top.any(axis=0)).mean())
    return Box(2 * ys[0], 2 * ys[-1], 2 * xs[0], 2 * xs[-1], head, 2 * ys[-1] >= alpha.shape[0] - 6)


def is_cut(alpha: Image) -> bool:
    """Whether the lower edge of the picture cuts the person, or there is hardly one."""
    box = find_box(alpha)
    return box is None or box.cut


def touches_sides(alpha: Image) -> bool:
    """Whether another edge of the picture than the lower one cuts the subject off: it cannot stand in the open."""
    edges = alpha[:2].ravel(), alpha[:, :2].ravel(), alpha[:, -2:].ravel()
    return any((edge > 128).mean() > 0.03 for edge in edges)


def frame_person(item: Sample, size: Size, framing: Framing, rng: np.random.Generator) -> Matrix:
    """A view of the person in the picture."""
    box = find_box(item.alpha)
    if box is None or framing.style == "whole":
        return frame_whole(item, size, rng, tight=False)
    aspect = size[1] / size[0]
    center, height = _view(box, aspect, framing, rng)
    height = max(height, SMALLEST)
    if box.cut and not framing.inside:  # nobody ends in mid-air
        lowest = box.bottom - height / 2
        center[1] = lowest if framing.style == "small" else min(center[1], lowest)
    if framing.inside:
        center, height = _keep_inside(center, height, aspect, item.alpha.shape)
    return _matrix(center, height, size, rng)


def _view(box: Box, aspect: float, framing: Framing, rng: np.random.Generator) -> tuple[NDArray[np.float64], float]:
    """Centre and height of the view, in pixels of the picture."""
    tall, wide = box.bottom - box.top, box.right - box.left
    middle = np.array([(box.left + box.right) / 2, (box.top + box.bottom) / 2])
    if framing.style == "webcam":  # hung from the head, cut off at the chest or the hips
        unit = min(tall, 1.6 * wide) if box.cut else tall * rng.uniform(0.22, 0.6)
        height = unit * rng.uniform(1.0, 1.35)
        y = box.top - rng.uniform(0.03, 0.3) * height + height / 2
        return np.array([box.head + rng.normal(0, 0.18) * height * aspect, y]), height
    if framing.style == "small":
        height = tall / rng.uniform(0.12, 0.45)
    else:
        height = max(tall, wide / aspect) * np.exp(rng.uniform(np.log(0.55), np.log(1.8)))
    room = np.maximum(np.array([height * aspect - wide, height - tall]), 0.3 * np.array([wide, tall]))
    return middle + rng.uniform(-0.45, 0.45, 2) * room, height


def _keep_inside(
    center: NDArray[np.float64], height: float, aspect: float, shape: tuple[int, ...]
) -> tuple[NDArray[np.float64], float]:
    """Move the view into the picture, and shrink it where it is much larger."""
    limits = np.array(shape[1::-1], np.float64)
    height = min(height, 1.15 * limits[1], 1.3 * limits[0] / aspect)
    half = np.minimum(np.array([height * aspect, height]), limits) / 2
    return np.clip(center, half, limits - half), height


def standing(item: Sample, x: float, foot: float, tall: float, rng: np.random.Generator) -> Matrix:
    """The map that shows somebody `tall` pixels high, with the feet at (x, foot), mirrored half of the time."""
    box = find_box(item.alpha)
    assert box is not None, "nobody is there"
    scale = tall / (box.bottom - box.top)
    flip = -scale if rng.random() < 0.5 else scale
    return np.array([[flip, 0, x - flip * (box.left + box.right) / 2], [0, scale, foot - scale * box.bottom]])


def frame_whole(item: Sample, size: Size, rng: np.random.Generator, *, tight: bool = True) -> Matrix:
    """A random part of the picture (`tight`), or about all of it."""
    h, w = item.alpha.shape
    aspect = size[1] / size[0]
    fit = min(h, w / aspect) if tight else max(h, w / aspect)
    height = fit * (rng.uniform(0.5, 1.0) if tight else rng.uniform(0.75, 1.05))
    room = np.maximum(np.array([w - height * aspect, h - height]), 0)
    center = np.array([w, h]) / 2 + rng.uniform(-0.5, 0.5, 2) * room
    return _matrix(center, height, size, rng)


def _matrix(center: NDArray[np.float64], height: float, size: Size, rng: np.random.Generator) -> Matrix:
    """Map the view of this center and height to `size`, slightly stretched, turned, and mirrored half of the time."""
    scale, stretch = size[0] / height, np.exp(rng.uniform(-0.15, 0.15))
    turn = np.deg2rad(rng.normal(0, 5)) if rng.random() < 0.5 else 0.0
    flip = -1.0 if rng.random() < 0.5 else 1.0
    c, s = np.cos(turn), np.sin(turn)
    linear = scale * np.array([[c * stretch * flip, -s], [s * stretch * flip, c]])
    shift = np.array(size[::-1]) / 2 - linear @ center
    return np.column_stack([linear, shift])


def moved(
    matrix: Matrix, size: Size, shift: NDArray[np.float64] | None = None, zoom: float = 1.0, angle: float = 0.0
) -> Matrix:
    """The map followed by a turn (degrees), a zoom about the middle of the view, and a shift (x, y) in pixels."""
    turn = cv2.getRotationMatrix2D((size[1] / 2, size[0] / 2), angle, zoom)
    turn[:, 2] += 0 if shift is None else shift  # type: ignore[arg-type]
    return turn[:, :2] @ matrix + np.column_stack([np.zeros((2, 2)), turn[:, 2]])


def wander(matrix: Matrix, size: Size, length: int, rng: np.random.Generator, *, pace: float = 1.0) -> list[Matrix]:
    """The map on each frame of a sequence: a steady drift, zoom and turn, `pace` times as fast, with some tremble."""
    if length == 1:
        return [matrix]
    still = rng.random() < 0.3
    speed = np.zeros(2) if still else rng.normal(0, 0.02 * pace, 2) * np.array(size[::-1])
    zoom, angle = (0.0, 0.0) if still else (rng.normal(0, 0.008 * pace), rng.normal(0, 0.7 * pace))
    tremble = rng.normal(0, 0.3 * (rng.random() < 0.5), (length, 2))
    bend = rng.normal(0, 0.3)
    times = [n * (1 + bend * n / length) for n in range(length)]
    return [
        moved(matrix, size, speed * t + shake, float(np.exp(zoom * t)), angle * t)
        for t, shake in zip(times, tremble, strict=True)
    ]


def onwards(drift: list[Matrix], other: Matrix | None = None) -> list[Matrix]:
    """What moves the first view of a sequence onto each; or the map of `other` that moves along."""
    full = [np.vstack([matrix, (0, 0, 1)]) for matrix in drift]
    base = np.eye(3) if other is None else np.vstack([other, (0, 0, 1)])
    return [(matrix @ np.linalg.inv(full[0]) @ base)[:2] for matrix in full]
