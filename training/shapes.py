"""Flat shapes on plain grounds, as in logos, drawings and slides; and what stands about in streets and stadiums.

Whatever is plain everywhere teaches that nothing is in front: these teach that a flat shape on a plain ground is.
Rails, banners, fences and road marks are lines and areas with sharp edges that are part of the place.
Images are RGB uint8 (H, W, 3), alphas uint8 (H, W), sizes (height, width).
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crops import Size, moved, wander
from shards import Image

Outline = NDArray[Any]  # of float64, (N, 2) of x and y, about the middle of a shape of radius 1
FINE = 4  # bits after the point of a coordinate
BESIDE = np.array([[1.0, 0, 4], [0, 1, 6]])  # where the shadow of a shape falls
CONTRAST = 60.0  # least distance in RGB between a shape and its ground
LETTERS = "ABCDEFGHKLMNOPRSTUVXYZ0123456789"


def ground(size: Size, rng: np.random.Generator) -> Image:
    """One color, a ramp between two, or a wall above a table."""
    first, last = rng.integers(0, 256, (2, 3)).astype(np.float32)
    manner = rng.random()
    if manner < 0.45:
        share = np.zeros((size[0], 1, 1), np.float32)
    elif manner < 0.7:
        share = np.linspace(0, 1, size[0], dtype=np.float32)[:, None, None]
    else:
        share = (np.arange(size[0]) > size[0] * rng.uniform(0.4, 0.85)).astype(np.float32)[:, None, None]
        last = np.clip(first + rng.normal(0, 40, 3), 0, 255).astype(np.float32)
    return np.ascontiguousarray(np.broadcast_to(first * (1 - share) + last * share, (*size, 3))).astype(np.uint8)


def outline(rng: np.random.Generator) -> Outline:
    """An ellipse, a box, a polygon, a star, or a blob."""
    kind = rng.choice(5, p=(0.3, 0.3, 0.15, 0.1, 0.15))
    count = 48 if kind in (0, 4) else 4 if kind == 1 else int(rng.integers(3, 9))
    angles = np.linspace(0, 2 * np.pi, count, endpoint=False) + np.pi / 4
    reach = np.ones(count)
    if kind == 3:
        angles = np.linspace(0, 2 * np.pi, 2 * count, endpoint=False)
        reach = np.where(np.arange(2 * count) % 2, rng.uniform(0.35, 0.75), 1.0)
    if kind == 4:
        waves = rng.normal(0, 0.14, (2, 3))
        reach = 1 + sum(
            w[0] * np.sin((n + 2) * angles) + w[1] * np.cos((n + 2) * angles) for n, w in enumerate(waves.T)
        )
    points = np.column_stack([np.cos(angles), np.sin(angles)]) * reach[:, None]
    return points * np.exp(rng.uniform(-0.5, 0.5) * np.array([1, -1]))


def fill(canvas: Image, points: Outline, level: int = 255) -> None:
    """Paint a shape with smooth edges into a picture of one channel."""
    corners = np.round(points * 2**FINE).astype(np.int32)
    cv2.fillPoly(canvas, [corners], (float(level),), cv2.LINE_AA, FINE)


def color_on(rgb: Image, rng: np.random.Generator) -> NDArray[np.float64]:
    """A color that can be told from those of the ground."""
    grounds = rgb[:: max(1, rgb.shape[0] // 8), 0].astype(np.float64)
    for _ in range(20):
        color = rng.integers(0, 256, 3).astype(np.float64)
        if np.linalg.norm(grounds - color, axis=1).min() > CONTRAST:
            return color
    return np.where(grounds[0] < 128, 255.0, 0.0)


def flat_shapes(size: Size, length: int, rng: np.random.Generator) -> list[tuple[Image, Image]]:
    """Frames and alphas of one to three shapes in one color or with a pattern, alone on a plain ground."""
    place = ground(size, rng)
    color, other = color_on(place, rng), color_on(place, rng)
    h, w = size
    middle, radius = np.array([w, h]) * rng.uniform(0.3, 0.7, 2), min(size) * rng.uniform(0.15, 0.42)
    shapes = []
    for n in range(int(rng.choice((1, 2, 3), p=(0.7, 0.2, 0.1)))):
        away = rng.normal(0, 0.5, 2) * radius if n else np.zeros(2)
        turned = moved(np.eye(2, 3), (2, 2), angle=float(rng.normal(0, 25)))[:, :2]
        shapes.append(outline(rng) @ turned.T * radius * (1 if n == 0 else rng.uniform(0.3, 0.8)) + middle + away)
    pattern = [bar(shapes[0], at, rng.uniform(0.05, 0.12)) for at in np.arange(-0.8, 0.9, rng.uniform(0.25, 0.6))]
    pattern = pattern if rng.random() < 0.35 else [0.5 * (shapes[0] - middle) + middle] if rng.random() < 0.3 else []
    shadow = float(rng.uniform(0.2, 0.6)) if rng.random() < 0.3 else 0.0
    frames = []
    for matrix in wander(np.eye(2, 3), size, length, rng, pace=3.0):
        rgb, alpha, inner = place.copy(), np.zeros(size, np.uint8), np.zeros(size, np.uint8)
        for shape in shapes:
            fill(alpha, shape @ matrix[:, :2].T + matrix[:, 2])
        for shape in pattern:
            fill(inner, shape @ matrix[:, :2].T + matrix[:, 2])
        if shadow:
            under = cv2.GaussianBlur(cv2.warpAffine(alpha, BESIDE, (w, h)), (0, 0), 5)
            rgb = (rgb * (1 - shadow / 255 * under[..., None])).astype(np.uint8)
        for cover, paint in ((alpha, color), (cv2.min(inner, alpha), other)):
            share = cover[..., None].astype(np.float32) / 255
            rgb = (rgb + share * (paint - rgb)).astype(np.uint8)
        frames.append((rgb, alpha))
    return frames


def bar(shape: Outline, at: float, half: float) -> Outline:
    """A bar across a shape at a height in -1..1 of its own."""
    middle, reach = (shape.min(0) + shape.max(0)) / 2, np.ptp(shape, axis=0) / 2
    x, y = np.array([-1.0, 1, 1, -1]), at + np.array([-half, -half, half, half])
    corners: Outline = np.column_stack([x, y]) * reach + middle
    return corners


def street(size: Size, rng: np.random.Generator) -> tuple[Image, Image]:
    """Rails, a banner, a fence or road marks across the whole view: colors, and where they are (0..255)."""
    paint, ink = rng.integers(0, 256, (2, 3)).astype(np.float32)
    draw = (_rails, _fence, _marks)
    number = int(rng.integers(len(draw) + 1))
    cover, letters = (draw[number](size, rng), None) if number < len(draw) else _banner(size, rng)
    rgb = np.empty((*size, 3), np.float32)
    rgb[:] = paint
    if letters is not None:
        rgb += letters[..., None] * ((ink - paint) / 255)
    return np.clip(rgb, 0, 255).astype(np.uint8), cover


def _rails(size: Size, rng: np.random.Generator) -> Image:
    """Lines that meet at a point, with sleepers."""
    (h, w), cover = size, np.zeros(size, np.uint8)
    end = np.array([w * rng.uniform(-0.3, 1.3), h * rng.uniform(0.1, 0.5)])
    feet = w * (rng.uniform(-0.2, 0.8) + np.cumsum(rng.uniform(0.1, 0.4, int(rng.integers(2, 6)))))
    for foot in feet:
        near = rng.uniform(0.008, 0.03) * w
        fill(cover, np.array([end, [foot - near, h], [foot + near, h]]))
    if rng.random() < 0.5:
        for depth in np.linspace(0.25, 1, int(rng.integers(4, 12))) ** 2:
            left, right = (end + (np.array([x, h]) - end) * depth for x in (feet[0], feet[-1]))
            thick = np.array([0, max(1.0, 0.03 * h * depth)])
            fill(cover, np.array([left - thick, right - thick, right + thick, left + thick]), 200)
    return cover


def _banner(size: Size, rng: np.random.Generator) -> tuple[Image, Image]:
    """A strip from side to side with letters."""
    (h, w), cover = size, np.zeros(size, np.uint8)
    top, tall = h * rng.uniform(0.05, 0.75), h * rng.uniform(0.1, 0.35)
    tilt = h * rng.normal(0, 0.06, 2)
    fill(cover, np.array([[-9, top], [w + 9, top + tilt[0]], [w + 9, top + tilt[1] + tall], [-9, top + tall]]))
    letters, scale = np.zeros(size, np.uint8), tall / 40
    x = w * rng.uniform(-0.1, 0.3)
    while x < w:
        text = "".join(rng.choice(list(LETTERS), int(rng.integers(2, 9))))
        at = (int(x), int(top + 0.75 * tall + tilt.mean() * x / w))
        cv2.putText(letters, text, at, cv2.FONT_HERSHEY_DUPLEX, scale, 255, max(1, int(2 * scale)), cv2.LINE_AA)
        x += (len(text) + 1) * 20 * scale + w * rng.uniform(0, 0.3)
    return cover, letters


def _fence(size: Size, rng: np.random.Generator) -> Image:
    """Bars or a grid, over all of the height or a part."""
    (h, w), cover = size, np.zeros(size, np.uint8)
    top, bottom = h * rng.uniform(-0.1, 0.6), h * rng.uniform(0.7, 1.1)
    step, thick = w * rng.uniform(0.02, 0.15), max(0.6, w * rng.uniform(0.001, 0.012))
    lean = rng.normal(0, 0.3) * (rng.random() < 0.4) * (bottom - top)
    for x in np.arange(-0.3 * w, 1.3 * w, step):
        fill(cover, np.array([[x, top], [x + thick, top], [x + thick + lean, bottom], [x + lean, bottom]]))
    if lean:
        for x in np.arange(-0.3 * w, 1.3 * w, step):
            fill(cover, np.array([[x, top], [x + thick, top], [x + thick - lean, bottom], [x - lean, bottom]]))
    for y in (top, rng.uniform(top, bottom), bottom):
        fill(cover, np.array([[-9, y], [w + 9, y], [w + 9, y + 2 * thick], [-9, y + 2 * thick]]))
    return cover


def _marks(size: Size, rng: np.random.Generator) -> Image:
    """Stripes on the road, with the curb."""
    (h, w), cover = size, np.zeros(size, np.uint8)
    horizon, count = h * rng.uniform(0.3, 0.7), int(rng.integers(3, 9))
    end = np.array([w * rng.uniform(0, 1), horizon])
    for n in range(count):
        x = w * (2 * n / count - 0.5)
        corners = np.array([[x, h * 1.1], [x + w / count, h * 1.1]])
        near, far = rng.uniform(0, 0.3), rng.uniform(0.5, 0.95)
        there = [corners + (end - corners) * part for part in (near, far)]
        fill(cover, np.array([*there[0], *there[1][::-1]]), 230)
    fill(cover, np.array([[-9, horizon], [w + 9, horizon], [w + 9, horizon + 0.02 * h], [-9, horizon + 0.02 * h]]))
    return cover
