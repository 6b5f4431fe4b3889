"""Places without people: photos whose people were taken out, folds and grain that nobody photographed, plain colors.

Images are RGB uint8 (H, W, 3), sizes (height, width).
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crops import Matrix, Size, find_box
from datasets import Kind
from shards import Image, Sample


def remove_people(rgb: Image, alpha: Image, rng: np.random.Generator) -> Sample:
    """The place in a photo of people: what is beside them stands where they were, or what is around runs together."""
    gone = cv2.dilate((alpha > 5).astype(np.uint8), np.ones((13, 13), np.uint8))
    aside = int(rgb.shape[1] * rng.uniform(0.25, 0.75))
    other, taken = np.roll(rgb, aside, axis=1), np.roll(gone, aside, axis=1)
    cover = cv2.GaussianBlur((gone & (1 - taken)).astype(np.float32), (0, 0), 2)[..., None]  # type: ignore[operator]
    filled = run_together(rgb, gone)
    filled += cover * (other - filled)
    kept = cv2.GaussianBlur(1 - gone.astype(np.float32), (0, 0), 1.5)[..., None]
    place = np.clip(filled + kept * (rgb - filled), 0, 255).astype(np.uint8)
    return Sample(place, np.zeros_like(alpha), Kind.INPAINTED)


def run_together(rgb: Image, gone: Image) -> NDArray[np.float32]:
    """Colors of the rest of the picture where something is gone: of the nearest scale at which there are any."""
    known = (1 - gone).astype(np.float32)
    filled = np.zeros(rgb.shape, np.float32)
    lack = np.ones_like(known)
    for n in range(2, 9):
        size = tuple(max(1, side >> n) for side in rgb.shape[1::-1])
        share = cv2.resize(known, size, interpolation=cv2.INTER_AREA)
        colors = cv2.resize(rgb * known[..., None], size, interpolation=cv2.INTER_AREA) / (share[..., None] + 1e-4)
        weight = lack * np.clip(3 * cv2.resize(share, rgb.shape[1::-1]), 0, 1)
        filled += weight[..., None] * cv2.resize(colors, rgb.shape[1::-1])
        lack -= weight
    return filled + lack[..., None] * rgb.mean((0, 1), dtype=np.float32)


def plain(size: Size, rng: np.random.Generator) -> Image:
    """One color, or a ramp between two."""
    first, last = rng.integers(0, 256, (2, 3)) if rng.random() < 0.5 else [rng.integers(0, 256, 3)] * 2
    ramp = np.linspace(0, 1, size[1], dtype=np.float32)[None, :, None]
    return np.ascontiguousarray(np.broadcast_to(first * (1 - ramp) + last * ramp, (*size, 3)).astype(np.uint8))


def folds(size: Size, rng: np.random.Generator) -> Sample:
    """A picture of nothing: noise of all sizes, bent by noise, in a few colors. Like rock, cloth, smoke or foliage."""
    h, w = size
    bend = octaves(size, rng, 0.45) * rng.uniform(0, 0.5) * h
    turn = rng.uniform(0, np.pi)
    y, x = np.mgrid[:h, :w].astype(np.float32)
    x, y = x + bend * np.float32(np.cos(turn)), y + bend * np.float32(np.sin(turn))
    height = octaves(size, rng, rng.uniform(0.3, 0.65))
    height = cv2.remap(height, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)  # type: ignore[assignment]
    if rng.random() < 0.5:  # layers, as in sandstone and wood
        height = np.abs(np.mod(height * rng.uniform(0.7, 3), 2) - 1)
    shade = (height - height.min()) / (np.ptp(height) + 1e-3)
    colors = np.clip(rng.normal(rng.uniform(40, 215, 3), 45, (5, 3)), 0, 255)
    place = np.linspace(0, 1, len(colors))
    rgb = np.stack([np.interp(shade, place, channel) for channel in colors.T], axis=-1)
    return Sample(rgb.astype(np.uint8), np.zeros(size, np.uint8), Kind.BACKGROUND)


def octaves(size: Size, rng: np.random.Generator, roughness: float) -> NDArray[np.float32]:
    """Noise (H, W) about 0: each octave is half as wide as the one before and weaker by `roughness`."""
    total, cells, strength = np.zeros(size, np.float32), 2, 1.0
    while cells < min(size):
        grid = rng.normal(0, strength, (cells, cells)).astype(np.float32)
        total += cv2.resize(grid, size[::-1], interpolation=cv2.INTER_CUBIC)
        cells, strength = 2 * cells, strength * roughness
    return total


def likeness(place: Image, rgb: Image, alpha: Image, rng: np.random.Generator) -> Image | None:
    """The table (1, 256, 3) that gives a place the colors of a band across the person; None if that is too small.

    Mean and spread of each channel for itself: Reinhard et al., *Color Transfer between Images* (2001), in RGB.
    """
    person = rgb[band(alpha, rng)]
    if len(person) < 100:
        return None
    mean, spread = person.mean(0), person.std(0)
    own, width = place.mean((0, 1)), place.std((0, 1)) + 4
    gain = np.clip(spread / width, 0.3, 2.5)
    levels = np.arange(256)[:, None]
    return np.clip((levels - own) * gain + mean, 0, 255).astype(np.uint8)[None]


def band(alpha: Image, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The pixels of a person between two heights: a naked chest, a skirt, or all of them."""
    solid = alpha > 128
    rows = np.flatnonzero(solid.any(axis=1))
    if not len(rows):
        return solid
    share = rng.uniform(0.15, 1.0)
    top = rows[0] + rng.uniform(0, 1 - share) * len(rows)
    inside = np.arange(len(alpha))
    return solid & ((inside >= top) & (inside <= top + share * len(rows)))[:, None]


def patches(size: Size, rng: np.random.Generator) -> NDArray[np.float32]:
    """Shapes like those of clouds and rocks, 1 within and 0 without."""
    height = octaves(size, rng, rng.uniform(0.3, 0.5))
    shapes = (height > np.quantile(height, rng.uniform(0.35, 0.75))).astype(np.float32)
    return cv2.GaussianBlur(shapes, (0, 0), float(rng.uniform(0.5, 3)))  # type: ignore[return-value]


def island(alpha: Image, rng: np.random.Generator) -> NDArray[np.float32]:
    """One shape about a point of the person, 1 within and 0 without: what stands behind may look like a cape."""
    box = find_box(alpha)
    if box is None:
        return patches(alpha.shape, rng)
    h, w = alpha.shape
    tall, wide = max(box.bottom - box.top, 0.15 * h), max(box.right - box.left, 0.15 * w)
    x0, y0 = rng.uniform(box.left, box.right), box.top + rng.uniform(0.05, 0.95) * tall
    reach = rng.uniform(0.25, 0.9, 2) * (max(wide, 0.4 * tall), tall)
    y, x = np.mgrid[:h, :w].astype(np.float32)
    away = np.hypot((x - x0) / reach[0], (y - y0) / reach[1]).astype(np.float32)
    rough = octaves((h, w), rng, rng.uniform(0.3, 0.55))
    height = rng.uniform(0.15, 0.5) * rough / (rough.std() + 1e-3) - away
    shape = (height > -1).astype(np.float32)
    return cv2.GaussianBlur(shape, (0, 0), float(rng.uniform(0.5, 2.5)))


def blended(places: list[Image], others: list[Image], here: NDArray[np.float32], paths: list[Matrix]) -> list[Image]:
    """The other places where `here` is 1 in the first view; the shape moves along."""
    mixed = []
    for place, other, path in zip(places, others, paths, strict=True):
        share = cv2.warpAffine(here, path, here.shape[::-1], borderMode=cv2.BORDER_REFLECT_101)[..., None]
        mixed.append((place + share * (other - place.astype(np.float32))).astype(np.uint8))
    return mixed
