"""Spreads a correction from its frame to the frames around it.

Three kinds of evidence say what belongs to the subject in the next frame: the optical flow, which carries the former
result there, an appearance model, which has learned from the corrected frame, and the colors on both sides of the
outline. Together with the engine's own matte they give a probability for each pixel. Where it contradicts the engine
more than the engine is sure, the matte is corrected; everywhere else it stays as it is, unless the corrected frame
has harder outlines.

All pictures are small: uint8 Y, U, V (h, w, 3); alphas are float32 (h, w) in 0..1. Measurements:
docs/decisions/0050-spreading.md.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np

from alphareel.imaging.frame import Plane
from alphareel.matting.correction import FramePatch, SmallFrame, make_patch
from alphareel.matting.cuts import CutDetector
from alphareel.matting.runtime import Array

# Features float32 (rows, columns, channels) of a frame. See ``matting.features``.
Extract: TypeAlias = Callable[[SmallFrame], Array]

MAX_FRAMES = 200  # to which a correction spreads in each direction
# Of the evidence (see ``_weigh``), in its order. Fitted by ``python -m benchmarks.corrections --fit``.
WEIGHTS = (1.23, 0.76, 0.17, -0.35, 0.77, -0.15, 0.89, 1.11, 0.97, 0.42, -0.11, 0.09, -0.68, 0.43, 0.05)
_SECOND = 24  # frames. The appearance counts most then, and the engine more and more from then on
_CAUTION = 1.5  # how much more the engine is believed two seconds after the correction
_HARDNESSES = (1.5, 2, 3, 4, 6, 10)  # factors of the contrast of an outline, tried in this order
_MIN_HARDNESS = 1.5  # of a corrected outline
_RIDGE = 0.003
_NOVELTY = 0.1  # share of a frame in what the appearance model learns after the corrected frame
_LEARN_EVERY = 2  # frames
# A correction of less than this share of the subject changes nothing far from what it touched, unless it touched most
# of the outline, as a painted mask of the whole subject does.
_SMALL = 0.12
_WHOLE = 0.6
_REACH = 13  # pixels around that which it may change
_AGREED = 12  # frames without anything to correct, after which the engine is right again
_MIN_CHANGE = 0.002  # of the subject
_FALLOFF = 24.0
_WINDOW = (21, 21)
_NOISE = 40.0  # variance of a color, in levels squared, that says nothing
_NOTHING: Any = None  # OpenCV asks for None where its type stubs want an array


def spread(
    start: SmallFrame, corrected: Array, following: Iterable[SmallFrame], extract: Extract
) -> Iterator[tuple[int, FramePatch]]:
    """Patches of the frames after ``start`` (in either direction), until a cut or until the engine is right again.

    ``corrected``: the corrected alpha of ``start``. Yields (pts, patch).
    """
    for evidence in gather(start, corrected, following, extract):
        result = evidence.judge(WEIGHTS)
        yield evidence.pts, make_patch(evidence.alpha, result)


@dataclass
class Evidence:
    """What speaks for and against each pixel of a frame. ``signs``: float32 (h, w, 15), about -1 to 1 each.

    ``alpha``: the engine's. ``caution``: how much more than its evidence counts for it. Call ``judge`` before
    requesting the next frame's evidence, which builds on its result.
    """

    pts: int
    alpha: Array
    signs: Array
    allowed: Array
    hardness: float
    caution: float
    result: Array
    certainty: Array

    def judge(self, weights: tuple[float, ...]) -> Array:
        """The corrected alpha of the frame."""
        vote = _multiply(self.signs.reshape(-1, len(weights)), np.array(weights, np.float32)).reshape(self.alpha.shape)
        vote += self.caution * (2 * self.alpha - 1)
        probability = np.asarray(1 / (1 + np.exp(-vote)), np.float32)
        both = np.asarray((probability + self.alpha) / 2, np.float32)
        contradicted = (np.abs(probability - self.alpha) > 0.5) | ((both > 0.5) != (self.alpha > 0.5))
        own = harden(both, self.hardness) if self.hardness > 1 else self.alpha
        result = np.where(contradicted, harden(probability, max(self.hardness, _MIN_HARDNESS)), own)
        self.result = np.asarray(np.where(self.allowed > 0.5, result, self.alpha), np.float32)
        self.certainty = np.asarray(np.square(2 * probability - 1), np.float32)
        return self.result


def gather(
    start: SmallFrame, corrected: Array, following: Iterable[SmallFrame], extract: Extract
) -> Iterator[Evidence]:
    """The evidence for each frame after ``start``. Each builds on the ``result`` of the one before."""
    changed = (np.abs(corrected - start.alpha) > 0.1).astype(np.float32)
    if not changed.any():
        return
    motion = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    appearance = _Appearance(extract(start), corrected)
    initial, hardness = disagreement(start.alpha, corrected), find_hardness(start.alpha, corrected)
    is_small = initial < _SMALL and not _covers(changed, corrected)
    touched = _widen(changed, _REACH) if is_small else np.ones_like(corrected)
    before, current, cuts, quiet = start, corrected, CutDetector(), 0
    cuts.is_cut(start.picture.transpose(2, 0, 1))
    for count, frame in enumerate(following, 1):
        if cuts.is_cut(frame.picture.transpose(2, 0, 1)):
            return
        features = extract(frame)
        link = _link(motion, frame.picture, before.picture)
        moved = _warp(current, link.source)
        touched = _widen(_warp(touched, link.source), 3) if is_small else touched
        signs = _weigh(
            link,
            moved,
            frame.alpha,
            _warp(before.alpha, link.source),
            appearance=appearance.vote(features, moved.shape),
            color=_color_vote(frame.picture, before.picture, current, link),
            wrong=min(1.0, initial),
            count=count,
        )
        caution = _CAUTION * min(1.0, max(0, count - _SECOND) / _SECOND)
        evidence = Evidence(frame.pts, frame.alpha, signs, touched, hardness, caution, frame.alpha, np.ones_like(moved))
        yield evidence
        current, before = evidence.result, frame
        if count % _LEARN_EVERY == 0:
            appearance.learn(features, current, evidence.certainty)
        quiet = quiet + 1 if disagreement(frame.alpha, current) < _MIN_CHANGE and hardness == 1 else 0
        if quiet >= _AGREED:
            return


@dataclass(frozen=True)
class _Link:
    """From a frame to the one before. ``source``: where each pixel was, x and y, float32 (h, w, 2).

    ``match``: how well the pictures match there; ``consistent``: whether the flow back leads to the same place. 0..1.
    """

    source: Array
    match: Array
    consistent: Array


class _Appearance:
    """Which features the subject has: ridge regression, learned from the corrected frame and less from later ones."""

    def __init__(self, features: Array, alpha: Array) -> None:
        flat = features.reshape(-1, features.shape[-1])
        self._mean, self._scale = flat.mean(axis=0), 1 / (flat.std(axis=0) + 1e-3)
        self._first = self._newer = self._sums(features, alpha, np.ones_like(alpha))
        self._weights = self._solve()

    def vote(self, features: Array, shape: tuple[int, ...]) -> Array:
        """About 1 in the subject and -1 outside, float32 of this shape (h, w)."""
        votes = _multiply(self._normalized(features), self._weights).reshape(features.shape[:2])
        size = (shape[1], shape[0])
        return np.asarray(cv2.resize(votes.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), np.float32)

    def learn(self, features: Array, alpha: Array, certainty: Array) -> None:
        """Learn from a frame, most where its alpha is certain."""
        sums = self._sums(features, alpha, certainty)
        self._newer = np.asarray((1 - _NOVELTY) * self._newer + _NOVELTY * sums, np.float32)
        self._weights = self._solve()

    def _normalized(self, features: Array) -> Array:
        flat = (features.reshape(-1, features.shape[-1]) - self._mean) * self._scale
        return np.asarray(np.concatenate([flat, np.ones((len(flat), 1), np.float32)], axis=1), np.float32)

    def _sums(self, features: Array, alpha: Array, certainty: Array) -> Array:
        """The normal equations, (n, n + 1): both sides count the same, however small the subject is."""
        size = (features.shape[1], features.shape[0])
        inside, certain = (
            np.asarray(cv2.resize(a, size, interpolation=cv2.INTER_AREA), np.float32).ravel()
            for a in (alpha, certainty)
        )
        share = min(0.98, max(0.02, float(inside.mean())))
        weight = np.where(inside > 0.5, 0.5 / share, 0.5 / (1 - share)) * certain / len(inside)
        known = self._normalized(features)
        weighted = known * weight[:, None].astype(np.float32)
        right = np.concatenate([known, 2 * inside[:, None] - 1], axis=1)
        return np.asarray(cv2.gemm(weighted, right, 1, _NOTHING, 0, flags=cv2.GEMM_1_T), np.float32)

    def _solve(self) -> Array:
        sums = 0.5 * self._first + 0.5 * self._newer
        left = sums[:, :-1] + _RIDGE * np.eye(len(sums), dtype=np.float32)
        right = np.ascontiguousarray(sums[:, -1:])
        return np.asarray(cv2.solve(left, right, flags=cv2.DECOMP_CHOLESKY)[1], np.float32).ravel()


def _weigh(
    link: _Link,
    moved: Array,
    alpha: Array,
    alpha_before: Array,
    *,
    appearance: Array,
    color: Array,
    wrong: float,
    count: int,
) -> Array:
    """The evidence for each pixel, float32 (h, w, 15).

    ``moved``: the result of the frame before, ``alpha_before``: the engine's matte there, both moved along the flow.
    ``wrong``: how wrong the engine was in the corrected frame, 0..1. ``count``: frames since then.
    """
    appearance = np.clip(appearance, -1.5, 1.5)
    carried, engine, trust = 2 * moved - 1, 2 * alpha - 1, link.match * link.consistent
    unchanged = np.clip(1 - 3 * np.abs(alpha_before - alpha), 0, 1)  # what was wrong there is wrong still
    was_right = np.clip(1 - 2 * np.abs(alpha_before - moved), 0, 1)
    inside = (moved > 0.5).astype(np.uint8)
    depth = cv2.distanceTransform(inside, cv2.DIST_L2, 3) - cv2.distanceTransform(1 - inside, cv2.DIST_L2, 3)
    depth = np.clip(depth, -20, 20) / 20
    signs = (
        appearance,
        carried * trust,
        carried * link.match * (1 - link.consistent),
        carried * (1 - link.match),
        engine,
        engine * wrong,
        carried * unchanged * trust,
        engine * was_right,
        depth,
        appearance * min(count, _SECOND) / _SECOND,
        engine * was_right * (1 - link.match),
        np.maximum(appearance, 0) * np.maximum(-depth, 0),
        np.ones_like(moved),
        color,
        color * (1 - np.abs(engine)),
    )
    return np.stack(signs, axis=-1).astype(np.float32)


def _color_vote(picture: Plane, before: Plane, result: Array, link: _Link) -> Array:
    """Whether a pixel has the colors inside (1) or outside (-1) of the outline nearby, float32 (h, w).

    The colors are those of windows of the frame before, weighted by its ``result``. Zero where one side is too small.
    """
    colors = before.astype(np.float32)
    distances, shares = [], []
    for side in (result, 1 - result):
        share = cv2.blur(side, _WINDOW)
        mean = cv2.blur(colors * side[..., None], _WINDOW) / (share[..., None] + 1e-3)
        square = cv2.blur(np.square(colors) * side[..., None], _WINDOW) / (share[..., None] + 1e-3)
        variance = np.maximum(square - np.square(mean), 0) + _NOISE
        mean, variance = _warp(np.asarray(mean), link.source), _warp(np.asarray(variance), link.source)
        distances.append((np.square(picture - mean) / variance + np.log(variance)).sum(axis=2))
        shares.append(_warp(np.asarray(share), link.source))
    vote = np.clip((distances[1] - distances[0]) / 6, -1, 1)
    return np.asarray(np.where(np.minimum(*shares) > 0.05, vote, 0), np.float32)


def harden(alpha: Array, hardness: float) -> Array:
    """The alpha with its contrast around one half multiplied."""
    return np.asarray(np.clip((alpha - 0.5) * hardness + 0.5, 0, 1), np.float32) if hardness != 1 else alpha


def find_hardness(alpha: Array, corrected: Array) -> float:
    """How much harder the outlines of ``corrected`` are than the engine's: a factor of contrast.

    One unless that explains them clearly better, and so for clicks, which leave other outlines as they are.
    """
    soft = (alpha > 0.04) & (alpha < 0.96) & (np.abs(alpha - corrected) < 0.6)
    if soft.sum() < 50:
        return 1.0
    errors = {h: float(np.abs(harden(alpha, h) - corrected)[soft].mean()) for h in _HARDNESSES}
    best = min(errors, key=lambda h: errors[h])
    return float(best) if errors[best] < 0.97 * float(np.abs(alpha - corrected)[soft].mean()) else 1.0


def disagreement(alpha: Array, other: Array) -> float:
    """Sum of the difference, without a band along the outline of ``other``, as a share of the area of ``other``."""
    inside = (other > 0.5).astype(np.uint8)
    square = np.ones((5, 5), np.uint8)
    band = cv2.dilate(inside, square) != cv2.erode(inside, square)
    return float(np.abs(alpha - other)[~band].sum()) / max(20, int(inside.sum()))


def _covers(changed: Array, corrected: Array) -> bool:
    """Whether the change touches most of the outline."""
    inside = (corrected > 0.5).astype(np.uint8)
    outline = cv2.dilate(inside, np.ones((3, 3), np.uint8)) != inside
    return bool(outline.any()) and float(_widen(changed, 3)[outline].mean()) > _WHOLE


def _multiply(rows: Array, weights: Array) -> Array:
    """The weighted sum of each row. By OpenCV, because threads of BLAS spin while they wait, here and below."""
    return np.asarray(cv2.gemm(rows, weights[:, None], 1, _NOTHING, 0), np.float32)


def _link(motion: Any, picture: Plane, before: Plane) -> _Link:
    now, then = (np.ascontiguousarray(p[..., 0]) for p in (picture, before))
    back, forth = motion.calc(now, then, _NOTHING), motion.calc(then, now, _NOTHING)
    height, width = now.shape
    grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
    source = np.asarray(back + grid, np.float32)
    there: Any = cv2.remap(forth, source, _NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    missed = np.square(back + there).sum(axis=2)
    length = np.square(back).sum(axis=2) + np.square(there).sum(axis=2)
    consistent = np.exp(-missed / (0.02 * length + 1))
    warped: Any = cv2.remap(before, source, _NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    difference = cv2.absdiff(picture, warped).astype(np.float32).sum(axis=2)
    match = np.exp(-np.square(cv2.blur(difference, (5, 5)) / _FALLOFF))
    return _Link(source, np.asarray(match, np.float32), np.asarray(consistent, np.float32))


def _warp(values: Array, source: Array) -> Array:
    return np.asarray(
        cv2.remap(values, source, _NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float32
    )


def _widen(mask: Array, side: int) -> Array:
    return np.asarray(cv2.dilate(mask, np.ones((side, side), np.uint8)), np.float32)
