"""The clean plate of a locked-off camera: the scene without a subject, given as an image or found in the clip.

Works on model inputs (Y, U, V (3, h, w), levels 0..255), never on full-size frames.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from alphareel.domain.errors import BadVideo
from alphareel.imaging.frame import Plane
from alphareel.matting.runtime import Array

# Number of frames of a clip that are compared.
SAMPLES = 24
# Two frames agree at a pixel when their levels (Y, U and V added) differ by less.
MAX_DIFFERENCE = 12.0
# Voting rounds. Frames with little in front of the scene gain weight. After three nothing changed on real clips.
_ROUNDS = 3
# The scene is known at a pixel where at least this many frames agree, and it may be unknown in this share of the frame.
MIN_AGREEING = 3
MAX_UNKNOWN = 0.25
_VOTE_SCALE = 4
_DEFAULT_NOISE = (2.0, 1.0)
MIN_NOISE = 0.6


@dataclass(frozen=True)
class CleanPlate:
    """``levels``: Y, U, V float32 (3, h, w). ``noise``: standard deviation of luma and of chroma, in levels."""

    levels: Array
    noise: tuple[float, float]


def plate_from_image(image: Plane) -> CleanPlate:
    """The plate from an image of the empty scene, uint8 (3, h, w). Its noise is an assumption."""
    return CleanPlate(image.astype(np.float32), _DEFAULT_NOISE)


def sample(images: Iterable[Plane], count: int = SAMPLES) -> list[Plane]:
    """Between ``count`` and twice as many of these images, evenly spread; all of them if there are fewer."""
    kept: list[Plane] = []
    stride = 1
    for index, image in enumerate(images):
        if index % stride == 0:
            kept.append(image)
        if len(kept) == 2 * count:
            kept = kept[::2]
            stride *= 2
    return kept


def find_plate(frames: Sequence[Plane]) -> CleanPlate:
    """Find the empty scene in frames uint8 (3, h, w) of a clip: at each pixel, the color that recurs most.

    At each pixel every frame gets a vote from each frame that looks the same there, and the one with the most votes
    wins. In the next round, frames that show much else have less weight, so that several visitors in black do not
    outvote the empty room. A median over time would show anyone who is there more than half of the time.
    Raises BadVideo when there are too few frames, or when too much of the frame never looks the same.
    """
    if len(frames) < MIN_AGREEING:
        raise BadVideo("The clip is too short to find a clean background in it.", hint=_HINT)
    stack = np.stack(frames)
    small = _shrink(stack)
    weights: Array = np.ones(len(frames), np.float32)
    for _ in range(_ROUNDS):
        agreeing, winner = _vote(small, weights)
        shares = 1 - (_difference(small, winner) < MAX_DIFFERENCE).mean(axis=(1, 2))
        weights = np.asarray(1 / np.square(shares + 0.02), np.float32)
        weights /= weights.max()
    known = agreeing.sum(axis=0) >= MIN_AGREEING
    if 1 - known.mean() > MAX_UNKNOWN:
        raise BadVideo("No clean background was found: most of the scene changes all the time.", hint=_HINT)
    return _mean_of(stack, agreeing, weights, fallback=winner)


_HINT = "Provide an image of the empty scene (plate), use a locked-off camera, or use the model human."


def _shrink(stack: Plane) -> Array:
    """(n, 3, h, w) at a quarter of the size, so that noise and fine texture do not count as differences."""
    height, width = stack.shape[2:]
    size = (max(1, width // _VOTE_SCALE), max(1, height // _VOTE_SCALE))
    return np.stack([[cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in m] for m in stack]).astype(np.float32)


def _difference(frames: Array, image: Array) -> Array:
    """Difference of each frame (n, 3, h, w) from an image, levels of the three planes added: (n, h, w)."""
    return np.asarray(np.abs(frames - image).sum(axis=1), np.float32)


def _vote(frames: Array, weights: Array) -> tuple[Array, Array]:
    """Which frames agree with the winner at each pixel, 0 or 1 (n, h, w), and the winner's levels (3, h, w)."""
    best = np.full(frames.shape[2:], -1, np.float32)
    agreeing = np.zeros((len(frames), *frames.shape[2:]), np.float32)
    winner = frames[0].copy()
    for candidate in frames:
        same = (_difference(frames, candidate) < MAX_DIFFERENCE).astype(np.float32)
        votes = np.tensordot(weights, same, axes=1)
        wins = votes > best
        best = np.where(wins, votes, best)
        np.copyto(agreeing, same, where=wins)
        np.copyto(winner, candidate, where=wins)
    return agreeing, winner


def _mean_of(stack: Plane, agreeing: Array, weights: Array, *, fallback: Array) -> CleanPlate:
    """The weighted mean of the agreeing pixels at the size of the model input, and their standard deviation."""
    height, width = stack.shape[2:]
    base = np.stack([cv2.resize(p, (width, height)) for p in fallback])
    total, share = base * 1e-3, np.full((height, width), 1e-3, np.float32)
    inner = [_upsample_mask(a, (width, height)) * w for a, w in zip(agreeing, weights, strict=True)]
    for frame, weight in zip(stack, inner, strict=True):
        total += frame * weight
        share += weight
    levels = np.asarray(total / share, np.float32)
    spread = np.zeros(3)
    for frame, weight in zip(stack, inner, strict=True):
        spread += (np.abs(frame - levels) * weight).sum(axis=(1, 2))
    luma, *chroma = 1.25 * spread / share.sum()  # from the mean absolute deviation of a normal distribution
    return CleanPlate(levels, (max(MIN_NOISE, float(luma)), max(MIN_NOISE, float(max(chroma)))))


def _upsample_mask(agrees: Array, size: tuple[int, int]) -> Array:
    """The mask of agreeing pixels at the size of the model input, shrunk by a margin for what is next to them."""
    return np.asarray(cv2.resize(cv2.erode(agrees, np.ones((3, 3), np.uint8)), size), np.float32)
