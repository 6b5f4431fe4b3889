"""Surfaces under light: what color each pixel of a drawn scene has.

Lengths are decimeters, colors linear RGB. Sun or lamp with shadows, sky and ground as ambient light, a highlight
(Blinn 1977), light that goes around soft things, and a brighter rim where a surface turns away.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from body import Numbers, Points
from noise import Noise
from poses import rotation
from rasterizer import draw
from shards import Image

FINE = 2  # how many times finer a picture is drawn than it is kept
GAMMA = 2.2


@dataclass(frozen=True)
class Paint:
    """A surface: color (linear RGB), pattern, how strongly it varies and bulges, and how it shines."""

    color: Points
    pattern: Image | None = None
    grain: float = 0.1
    scale: float = 1.0
    bumps: float = 0.0
    shine: float = 0.1
    soft: float = 0.0  # light that goes around, as in skin
    brows: Points | None = None  # color of the brows, on a face


@dataclass(frozen=True)
class Scene:
    """All that is drawn on one frame."""

    points: Points
    place: Points
    normals: Points
    triangles: Numbers
    stuff: Numbers
    paints: list[Paint]
    noise: Noise


@dataclass(frozen=True)
class Light:
    """Sun or lamp (towards it, and its color), sky and ground."""

    towards: Points
    key: Points
    sky: Points
    ground: Points
    shadows: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Light:
        """From anywhere, mostly from above and before; faint or glaring, warm or cold."""
        towards = rng.normal(0, 1, 3) + np.array([0, 0.7, 0.4])
        warm = rng.normal(0, 0.12)
        tint = np.array([1 + warm, 1.0, 1 - warm])
        strength = rng.uniform(0.2, 2.2)
        sky, ground = rng.uniform(0.3, 0.8) * rng.normal(1, 0.1, 3), rng.uniform(0.1, 0.5) * rng.normal(1, 0.12, 3)
        return cls(towards / np.linalg.norm(towards), strength * tint, sky, ground, bool(rng.random() < 0.8))

    def exposed(self, gain: float) -> Light:
        """As a camera with that exposure sees it."""
        return replace(self, key=gain * self.key, sky=gain * self.sky, ground=gain * self.ground)


def look_at(points: Points, eye: Points, center: Points, roll: float) -> Points:
    """Points in the eye's own axes: x right, y down, z away from it."""
    ahead = (center - eye) / np.linalg.norm(center - eye)
    right = np.cross(ahead, (0, 1, 0))
    right = rotation(ahead, roll) @ (right / np.linalg.norm(right))
    return (points - eye) @ np.stack([right, np.cross(ahead, right), ahead], 1)


def shade(shown: Numbers, shares: Points, scene: Scene, light: Light, eye: Points) -> Points:
    """Linear colors (N, 3) of the pixels that show something."""
    corners = scene.triangles[shown]
    at, place, normal = (
        np.einsum("nk,nki->ni", shares, values[corners]) for values in (scene.points, scene.place, scene.normals)
    )
    color, normal, soft, shine = surfaces(scene, scene.stuff[shown], place, normal)
    view = unit(eye - at)
    facing = np.einsum("ni,ni->n", normal, view)
    normal *= np.where(facing < 0, -1, 1)[:, None]
    lit = np.clip((normal @ light.towards + soft) / (1 + soft), 0, 1)
    gloss = shine * np.clip(np.einsum("ni,ni->n", normal, unit(light.towards + view)), 0, 1) ** 24
    if light.shadows:
        bright = 1 - in_shadow(at, scene, light)
        lit, gloss = lit * bright, gloss * bright
    up = (0.5 + 0.5 * normal[:, 1])[:, None]
    ambient = up * light.sky + (1 - up) * light.ground
    rim = (shine * (1 - np.abs(facing)) ** 4)[:, None] * light.sky
    return color * (ambient + lit[:, None] * light.key) + gloss[:, None] * light.key + rim


def surfaces(scene: Scene, stuff: Numbers, place: Points, normal: Points) -> tuple[Points, Points, Points, Points]:
    """Of pixels their color, their normal with its bumps, how far light goes around, and how they shine."""
    color, normal = np.zeros_like(place), normal.copy()
    for n, paint in enumerate(scene.paints):
        here = np.flatnonzero(stuff == n)
        if not len(here):
            continue
        color[here] = painted(paint, place[here], scene.noise)
        if paint.bumps:
            slope = [scene.noise(place[here] * 4 * paint.scale + 11 * k) for k in range(3)]
            normal[here] += 0.5 * paint.bumps * np.stack(slope, 1)
    soft, shine = (np.array([getattr(paint, name) for paint in scene.paints])[stuff] for name in ("soft", "shine"))
    return color, unit(normal), soft, shine


def unit(vectors: Points) -> Points:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


def painted(paint: Paint, place: Points, noise: Noise) -> Points:
    """A surface's own color at places of the resting body."""
    base = np.broadcast_to(paint.color, place.shape)
    if paint.pattern is not None:
        u = (place[:, 0] + 0.8 * place[:, 2]) * 8 * paint.scale
        v = -place[:, 1] * 8 * paint.scale
        h, w = paint.pattern.shape[:2]
        base = (paint.pattern[v.astype(int) % h, u.astype(int) % w] / 255.0) ** GAMMA
    if paint.brows is not None:
        base = made_up(base, place, paint.brows)
    grain = noise.octaves(place * 1.3 * paint.scale)[:, None] * paint.grain
    return np.clip(base * (1 + grain), 0, 1)


def made_up(base: Points, place: Points, brows: Points) -> Points:
    """A face's own colors: brows, irises, lips."""
    x, y, z = np.abs(place[:, 0]), place[:, 1], place[:, 2]
    brow = np.clip(1.5 - np.abs(y - 7.57 + 0.25 * (x - 0.35) ** 2) / 0.05, 0, 1) * (x > 0.1) * (x < 0.58) * (z > 0.9)
    iris = np.clip(1.6 - np.hypot(x - 0.31, y - 7.285) / 0.055, 0, 1) * (z > 1.25)
    lips = np.clip(1.5 - np.hypot(x / 2.6, y - 6.68) / 0.1, 0, 1) * (z > 1.2)
    base = base * (1 - lips[:, None] * np.array([0.15, 0.5, 0.45]))
    for share, color in ((0.8 * brow, brows), (iris, 0.3 * brows)):
        base = base + share[:, None] * (color - base)
    return base


def in_shadow(at: Points, scene: Scene, light: Light, side: int = 384) -> NDArray[np.float64]:
    """How much of the key light is kept from places: depth as the light sees it (Williams 1978), softened."""
    low, high = scene.points.min(0), scene.points.max(0)
    center, reach = (low + high) / 2, np.linalg.norm(high - low) / 2 + 0.1
    flat = look_at(np.concatenate([scene.points, at]), center + light.towards * 2 * reach, center, 0.0)
    flat[:, :2] = (flat[:, :2] / reach + 1) * side / 2
    _, _, depth = draw(flat[: len(scene.points)], scene.triangles, (side, side))
    own = flat[len(scene.points) :]
    x, y = np.clip(own[:, :2].astype(int), 0, side - 1).T
    return np.clip((own[:, 2] - depth[y, x] - 0.12) / 0.25, 0, 1)


def tone_map(shown: Numbers, shares: Points, scene: Scene, light: Light, eye: Points) -> tuple[Image, Image]:
    """Pixels to a picture and its alpha; past the outline the figure's colors go on."""
    solid = shown >= 0
    colors = shade(shown[solid], shares[solid].astype(float), scene, light, eye)
    fine = np.zeros((*shown.shape, 4), np.float32)
    fine[solid, :3], fine[solid, 3] = np.clip(colors, 0, 1) ** (1 / GAMMA), 1
    small = cv2.resize(fine, None, fx=1 / FINE, fy=1 / FINE, interpolation=cv2.INTER_AREA)
    alpha, spread = small[..., 3:], cv2.GaussianBlur(small, (0, 0), 3)
    outside = spread[..., :3] / np.maximum(spread[..., 3:], 1e-3)
    rgb = np.where(alpha > 0.02, small[..., :3] / np.maximum(alpha, 0.02), outside)
    return (np.clip(rgb, 0, 1) * 255 + 0.5).astype(np.uint8), (alpha[..., 0] * 255 + 0.5).astype(np.uint8)
