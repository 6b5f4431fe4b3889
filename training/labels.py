"""Alphas from human masks, and from a teacher whose two looks at a picture agree.

Pictures are RGB uint8 (H, W, 3), alphas float32 (H, W) in 0..1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from shards import Image

Alpha = NDArray[Any]  # of float32; the stubs of OpenCV lose the type
Teacher = Callable[[list[Image]], list[Alpha]]
AGREE = 0.72  # IoU of two looks at a picture below which neither is believed
LEAST, MOST = 0.01, 0.9  # parts of the frame that a subject covers
SOFT = 0.2  # half-transparent pixels to sure ones: more are a guess


def iou(one: Alpha, other: Alpha) -> float:
    """Soft intersection over union."""
    return float(np.minimum(one, other).sum() / max(float(np.maximum(one, other).sum()), 1.0))


def guided(rgb: Image, alpha: Alpha, radius: int = 5, tolerance: float = 2e-4) -> Alpha:
    """The alpha with its edges where the picture has them: He et al., *Guided Image Filtering* (2010), on luminance."""
    guide = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    box = (2 * radius + 1, 2 * radius + 1)
    mean, level = cv2.blur(guide, box), cv2.blur(alpha, box)
    slope = (cv2.blur(guide * alpha, box) - mean * level) / (cv2.blur(guide * guide, box) - mean * mean + tolerance)
    offset = level - slope * mean
    return np.clip(cv2.blur(slope, box) * guide + cv2.blur(offset, box), 0, 1)


def sharpened(rgb: Image, alpha: Alpha) -> Alpha:
    """A saliency as an alpha: what is nearly sure is sure, and edges follow the picture."""
    firm = np.clip((alpha - 0.15) / 0.7, 0, 1)
    edge = cv2.dilate(((firm > 0.02) & (firm < 0.98)).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return np.where(edge, guided(rgb, firm), firm).astype(np.float32)


def from_mask(rgb: Image, mask: Image) -> Alpha:
    """A human mask with an edge as soft as that of the picture."""
    solid = cv2.resize((mask > 127).astype(np.float32), rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
    soft = guided(rgb, cv2.GaussianBlur(solid, (0, 0), 0.8), radius=2)
    band = cv2.dilate(cv2.Canny((solid * 255).astype(np.uint8), 50, 150), np.ones((5, 5), np.uint8)) > 0
    return np.where(band, soft, solid).astype(np.float32)


def second_look(alpha: Alpha) -> tuple[slice, slice]:
    """The part of the picture around what was found, a quarter wider."""
    h, w = alpha.shape
    ys, xs = np.flatnonzero((alpha > 0.4).any(axis=1)), np.flatnonzero((alpha > 0.4).any(axis=0))
    if not len(ys):
        return slice(0, h), slice(0, w)
    dy, dx = (int(0.2 * (v[-1] - v[0])) + 12 for v in (ys, xs))
    return slice(max(0, ys[0] - dy), ys[-1] + dy), slice(max(0, xs[0] - dx), xs[-1] + dx)


def is_promising(first: Alpha) -> bool:
    """Whether a second look at a picture may make a label of it: something is found, and most of it surely."""
    sure, unsure = float((first > 0.7).mean()), float(((first > 0.2) & (first < 0.7)).mean())
    return LEAST / 2 < sure < MOST and unsure < sure


def agreed(teacher: Teacher, pictures: list[Image]) -> list[Alpha | None]:
    """Alphas on which two looks agree: at the whole picture, and at a mirrored part around what the first one found."""
    answers: list[Alpha | None] = [None] * len(pictures)
    firsts = teacher(pictures)
    looks = [(n, second_look(first)) for n, first in enumerate(firsts) if is_promising(first)]
    seconds = teacher([np.ascontiguousarray(pictures[n][part][:, ::-1]) for n, part in looks])
    for (n, part), mirrored in zip(looks, seconds, strict=True):
        first, second = firsts[n], np.zeros_like(firsts[n])
        second[part] = mirrored[:, ::-1]
        both = np.where(np.abs(first - second) < 0.5, 0.3 * first + 0.7 * second, (first + second) / 2)
        alpha = sharpened(pictures[n], both)
        sure, unsure = (alpha > 0.9).mean(), ((alpha > 0.1) & (alpha < 0.9)).mean()
        if iou(first, second) > AGREE and LEAST < sure < MOST and unsure < SOFT * sure + 0.01:
            answers[n] = alpha
    return answers
