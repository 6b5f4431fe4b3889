"""Corrections of a matte on one frame, from clicks, a box or a painted mask. ``spread`` carries them to other frames.

All pictures are small: uint8 Y, U, V (h, w, 3); alphas are float32 (h, w) in 0..1. Measurements:
docs/decisions/0030-corrections.md.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.frame import Frame, Plane
from alphareel.matting.refine import refine
from alphareel.matting.runtime import Array

AREA = 320 * 180  # of the small pictures, about
_KEEP, _REMOVE = 1.0, 0.0
_FLOOD_STEPS = (14, 10, 7, 5, 3, 2)  # levels by which neighbors of one region may differ, tried in this order
_MAX_REGION = 0.15  # share of the picture that one click may change
# How far from a click its region reaches, in distances from the edge of its side; at least and (to keep)
# at most these shares of the picture's width. More takes what was right.
_DEPTHS, _MIN_RADIUS, _MAX_RADIUS = 2, 0.02, 0.06
_KNOWN, _SLACK = 0.02, 0.1  # share of a box that is a matte; of its longer side, by which a region must reach farther
_REACH = 7  # pixels around a region in which its outline is sought
_BAND = np.ones((5, 5), np.uint8)
_CROSS = np.ones((3, 3), np.uint8)
_NOTHING: Any = None  # OpenCV asks for None where its type stubs want an array


@dataclass(frozen=True)
class Click:
    """A position in small pixels, and whether the thing there is kept."""

    x: float
    y: float
    keep: bool


@dataclass(frozen=True)
class FramePatch:
    """The corrected alpha of one frame, uint8 (h, w), and where it applies, 0 to 255 (h, w).

    ``exact``: the alpha of the frame's full size (H, W), where the user gave it; None elsewhere.
    """

    alpha: Plane
    weight: Plane
    exact: Plane | None = None

    def apply(self, frame: Frame, alpha: Plane) -> Plane:
        """The frame's alpha uint8 (H, W) with the patch."""
        if self.exact is not None:
            return self.exact
        if not self.weight.any():
            return alpha
        height, width = self.alpha.shape
        planes = (frame.y, frame.u, frame.v)
        small = [cv2.resize(p, (width, height), interpolation=cv2.INTER_AREA) for p in planes]
        guide = Frame(*planes, frame.pts, thumbnail=np.asarray(np.stack(small), np.uint8))
        refined = refine(np.asarray(self.alpha / np.float32(255), np.float32), guide)
        weight = cv2.resize(self.weight, (frame.width, frame.height), interpolation=cv2.INTER_LINEAR)
        share = weight.astype(np.float32) / 255
        return np.asarray(alpha + (refined - alpha.astype(np.float32)) * share + 0.5, np.uint8)


@dataclass(frozen=True)
class SmallFrame:
    """A frame of the clip as corrections see it. ``pts``: ticks.

    ``detail``: the picture at about twice the size, uint8 Y (2h, 2w) and U, V (h, w), or None.
    """

    pts: int
    picture: Plane
    alpha: Array
    detail: tuple[Plane, Plane, Plane] | None = None


def correct_by_clicks(
    picture: Plane, alpha: Array, clicks: Sequence[Click], box: tuple[float, float, float, float] | None
) -> Array:
    """The alpha with the thing at each click kept or removed. ``box``: x, y, width, height that bound the change.

    The region of similar colors around a click (flood fill), on the side of the matte that it changes, says roughly
    what is meant. GrabCut (Rother et al., SIGGRAPH 2004) finds its outline, with the colors of both sides. A click to
    keep takes nothing away, one to remove adds nothing, and all other pixels keep their side.
    """
    allowed = _inside(box, alpha.shape)
    subject = alpha > 0.5
    changeable = {keep: np.zeros(alpha.shape, np.bool_) for keep in (True, False)}
    labels = np.where(alpha > 0.5, cv2.GC_FGD, cv2.GC_BGD).astype(np.uint8)
    seeds = np.zeros(alpha.shape, np.uint8)
    for click in clicks:
        region = _region(picture, click, clicks, allowed & (subject != click.keep))
        reach = np.ones((2 * _REACH + 1, 2 * _REACH + 1), np.uint8)
        near = np.asarray(cv2.dilate(region, reach), np.uint8) & allowed
        probable = np.where(alpha > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
        labels = np.where((near > 0) & (seeds == 0), probable, labels)
        labels[region > 0] = cv2.GC_PR_FGD if click.keep else cv2.GC_PR_BGD
        seeds |= region
        changeable[click.keep] |= near > 0
    for click in clicks:
        _disc(labels, click, int(cv2.GC_FGD if click.keep else cv2.GC_BGD))
    foreground = _grab_cut(picture, labels) > 0.5
    added, removed = foreground & ~subject & changeable[True], ~foreground & subject & changeable[False]
    return _merge(alpha, np.asarray((subject | added) & ~removed, np.float32))


def correct_by_box(picture: Plane, alpha: Array, box: tuple[float, float, float, float]) -> Array:
    """The alpha with the thing that the box encloses kept (GrabCut, with the box's surroundings as background).

    A box says how far the thing reaches. Regions that do not reach farther than the matte inside the box are not added.
    """
    inside, subject = _inside(box, alpha.shape), alpha > 0.5
    labels = np.where(inside > 0, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
    added = (_grab_cut(picture, labels) > 0.5) & ~subject
    known = np.asarray(subject & (inside > 0), np.uint8)
    if known.sum() >= _KNOWN * inside.sum():
        left, top, width, height = cv2.boundingRect(known)
        slack = max(2.0, _SLACK * max(box[2], box[3]))
        _, regions, boxes, _ = cv2.connectedComponentsWithStats(added.astype(np.uint8))
        farther = [
            x < left - slack or y < top - slack or x + w > left + width + slack or y + h > top + height + slack
            for x, y, w, h, _ in boxes
        ]
        added &= np.array(farther)[regions]
    return _merge(alpha, np.asarray(subject | added, np.float32))


def make_patch(alpha: Array, corrected: Array, exact: Plane | None = None) -> FramePatch:
    """The patch that turns ``alpha`` into ``corrected``; both (h, w), 0 to 1. It changes only what differs."""
    changed = cv2.dilate((np.abs(corrected - alpha) > 1 / 64).astype(np.float32), _BAND)
    weight = cv2.blur(changed, (3, 3)) * 255
    return FramePatch(_levels(corrected), np.asarray(weight + 0.5, np.uint8), exact)


def _grab_cut(picture: Plane, labels: Plane) -> Array:
    """One where the foreground is. Without both sides, the labels themselves."""
    sides = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD))
    if sides.sum() < 5 or (~sides).sum() < 5 or not np.isin(labels, (cv2.GC_PR_FGD, cv2.GC_PR_BGD)).any():
        return sides.astype(np.float32)
    cv2.setRNGSeed(0)  # the same clicks give the same matte
    result = labels.copy()
    models = np.zeros((1, 65)), np.zeros((1, 65))
    try:
        cv2.grabCut(np.ascontiguousarray(picture), result, _NOTHING, *models, 2, cv2.GC_INIT_WITH_MASK)
    except cv2.error:  # too few pixels for its color models
        return sides.astype(np.float32)
    return np.isin(result, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)


def _merge(alpha: Array, foreground: Array) -> Array:
    """``foreground`` where it was sought and differs from the side of ``alpha``; its outline is softened."""
    soft = cv2.GaussianBlur(foreground, (0, 0), 0.8)
    changed = (foreground > 0.5) != (alpha > 0.5)
    near = cv2.dilate(changed.astype(np.uint8), _CROSS) > 0
    return np.asarray(
        np.where(
            near, np.where(changed, foreground * 0.5 + soft * 0.5, np.maximum(alpha * (foreground > 0.5), soft)), alpha
        ),
        np.float32,
    )


def _region(picture: Plane, click: Click, clicks: Sequence[Click], allowed: Plane) -> Plane:
    """1 in the region of similar colors around a click that holds no click of the other kind."""
    height, width = allowed.shape
    smooth = cv2.GaussianBlur(picture, (3, 3), 0)
    seed = (min(width - 1, max(0, int(click.x))), min(height - 1, max(0, int(click.y))))
    around = np.zeros((height, width), np.uint8)
    cv2.circle(
        around, seed, _radius(click, float(cv2.distanceTransform(allowed, cv2.DIST_L2, 3)[seed[::-1]]), width), 1, -1
    )
    allowed = allowed & around
    others = [c for c in clicks if c.keep != click.keep]
    region = np.zeros((height, width), np.uint8)
    for step in _FLOOD_STEPS:
        mask = np.zeros((height + 2, width + 2), np.uint8)
        mask[1:-1, 1:-1] = allowed == 0
        flags = 4 | cv2.FLOODFILL_MASK_ONLY | cv2.FLOODFILL_FIXED_RANGE | (2 << 8)
        cv2.floodFill(smooth.copy(), mask, seed, (0, 0, 0), (3 * step,) * 3, (3 * step,) * 3, flags)
        region = (mask[1:-1, 1:-1] == 2).astype(np.uint8)
        crossed = any(region[min(height - 1, int(c.y)), min(width - 1, int(c.x))] for c in others)
        if region.mean() <= _MAX_REGION and not crossed:
            break
    closed = np.asarray(cv2.morphologyEx(region, cv2.MORPH_CLOSE, _BAND), np.uint8)
    return np.asarray((closed & allowed) | _dot(seed, region.shape), np.uint8)


def _radius(click: Click, depth: float, width: int) -> int:
    """How far the region of a click may reach. ``depth``: from the click to the edge of the side that it changes.

    What is to be removed is about as large as the place where it was taken; what is missing may be much smaller than
    the background around it.
    """
    reach = _DEPTHS * depth if not click.keep else min(_DEPTHS * depth, _MAX_RADIUS * width)
    return round(max(4, _MIN_RADIUS * width, reach))


def _dot(seed: tuple[int, int], shape: tuple[int, ...]) -> Plane:
    dot = np.zeros(shape, np.uint8)
    cv2.circle(dot, seed, 3, 1, -1)
    return dot


def _disc(labels: Plane, click: Click, value: int) -> None:
    cv2.circle(labels, (int(click.x), int(click.y)), 2, value, -1)


def _inside(box: tuple[float, float, float, float] | None, shape: tuple[int, ...]) -> Plane:
    if box is None:
        return np.ones(shape, np.uint8)
    x, y, width, height = box
    inside = np.zeros(shape, np.uint8)
    inside[int(y) : int(np.ceil(y + height)), int(x) : int(np.ceil(x + width))] = 1
    return inside


def _levels(alpha: NDArray[np.float32]) -> Plane:
    return np.asarray(np.clip(alpha, 0, 1) * 255 + 0.5, np.uint8)
