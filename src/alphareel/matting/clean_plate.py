"""The clean plate of a locked camera: what the scene looks like without a subject, given or found in the clip itself.

Works on thumbnails (Y, U, V, float32 (3, h, w), levels 0-255), never on full-size frames.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from alphareel.domain.errors import BadVideo
from alphareel.imaging.frame import Plane
from alphareel.matting.runtime import Array

# Moments of a clip that are compared.
MOMENTS = 24
# Two moments show the same at a place when their levels (Y, U and V together) differ by less.
_SAME = 12.0
# Rounds in which the emptiest moments gain weight; after three nothing changed any more on real clips.
_ROUNDS = 3
# A place is known when at least so many moments agree on it; a plate may leave so much of the frame unknown.
_LEAST_AGREEING = 3
_MOST_UNKNOWN = 0.25
_REDUCE = 4
_GIVEN_NOISE = (2.0, 1.0)
_LEAST_NOISE = 0.6


@dataclass(frozen=True)
class CleanPlate:
    """``levels``: Y, U, V float32 (3, h, w); ``noise``: how far luma and chroma of an unchanged pixel scatter."""

    levels: Array
    noise: tuple[float, float]


def plate_of(thumbnail: Plane) -> CleanPlate:
    """The plate of one picture, (3, h, w) uint8; how noisy the clip is shows later."""
    return CleanPlate(thumbnail.astype(np.float32), _GIVEN_NOISE)


def sample(thumbnails: Iterable[Plane], count: int = MOMENTS) -> list[Plane]:
    """Between ``count`` and twice as many thumbnails, evenly spread, from as many as come; fewer from a short clip."""
    kept: list[Plane] = []
    stride = 1
    for index, thumbnail in enumerate(thumbnails):
        if index % stride == 0:
            kept.append(thumbnail)
        if len(kept) == 2 * count:
            kept = kept[::2]
            stride *= 2
    return kept


def find_plate(moments: Sequence[Plane]) -> CleanPlate:
    """The scene that keeps coming back at each place; moments that show more of it weigh more.

    A median over time would show whoever stands there more often than not. Here, at each place, every moment counts the
    moments that look the same; the one with most votes wins. In the next round the votes of moments with much
    else in them count less, so that a row of visitors in black does not outvote the empty room.
    Raises BadVideo when there are too few moments, or too much of the frame never looks the same.
    """
    if len(moments) < _LEAST_AGREEING:
        raise BadVideo("The clip is too short to find a clean background in it.", hint=_HINT)
    stack = np.stack(moments)
    small = _reduced(stack)
    weights: Array = np.ones(len(moments), np.float32)
    for _ in range(_ROUNDS):
        agreeing, chosen = _vote(small, weights)
        shares = 1 - (_apart(small, chosen) < _SAME).mean(axis=(1, 2))
        weights = np.asarray(1 / np.square(shares + 0.02), np.float32)
        weights /= weights.max()
    known = agreeing.sum(axis=0) >= _LEAST_AGREEING
    if 1 - known.mean() > _MOST_UNKNOWN:
        raise BadVideo("No clean background can be found: the scene never looks the same twice.", hint=_HINT)
    return _mean_of(stack, agreeing, weights, fallback=chosen)


_HINT = "Give a picture of the empty scene (plate), use a locked camera, or take the model human."


def _reduced(stack: Plane) -> Array:
    """(n, 3, h, w) at a quarter of the size: noise and the finest texture are no reason to differ."""
    height, width = stack.shape[2:]
    size = (max(1, width // _REDUCE), max(1, height // _REDUCE))
    return np.stack([[cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in m] for m in stack]).astype(np.float32)


def _apart(moments: Array, picture: Array) -> Array:
    """How far each moment (n, 3, h, w) is from one picture, levels of the three planes together: (n, h, w)."""
    return np.asarray(np.abs(moments - picture).sum(axis=1), np.float32)


def _vote(moments: Array, weights: Array) -> tuple[Array, Array]:
    """Which moments agree with the winner of each place, 0 or 1 (n, h, w), and the winner's levels (3, h, w)."""
    best = np.full(moments.shape[2:], -1, np.float32)
    agreeing = np.zeros((len(moments), *moments.shape[2:]), np.float32)
    chosen = moments[0].copy()
    for candidate in moments:
        same = (_apart(moments, candidate) < _SAME).astype(np.float32)
        votes = np.tensordot(weights, same, axes=1)
        wins = votes > best
        best = np.where(wins, votes, best)
        np.copyto(agreeing, same, where=wins)
        np.copyto(chosen, candidate, where=wins)
    return agreeing, chosen


def _mean_of(stack: Plane, agreeing: Array, weights: Array, *, fallback: Array) -> CleanPlate:
    """The mean of what agrees, at full thumbnail size, and how far that scatters around it."""
    height, width = stack.shape[2:]
    base = np.stack([cv2.resize(p, (width, height)) for p in fallback])
    total, share = base * 1e-3, np.full((height, width), 1e-3, np.float32)
    inner = [_grown(a, (width, height)) * w for a, w in zip(agreeing, weights, strict=True)]
    for moment, weight in zip(stack, inner, strict=True):
        total += moment * weight
        share += weight
    levels = np.asarray(total / share, np.float32)
    spread = np.zeros(3)
    for moment, weight in zip(stack, inner, strict=True):
        spread += (np.abs(moment - levels) * weight).sum(axis=(1, 2))
    luma, *chroma = 1.25 * spread / share.sum()  # the standard deviation of a normal spread, from its mean
    return CleanPlate(levels, (max(_LEAST_NOISE, float(luma)), max(_LEAST_NOISE, float(max(chroma)))))


def _grown(agrees: Array, size: tuple[int, int]) -> Array:
    """Where a moment agrees, at full thumbnail size, less a margin in which something else may reach in."""
    return np.asarray(cv2.resize(cv2.erode(agrees, np.ones((3, 3), np.uint8)), size), np.float32)
