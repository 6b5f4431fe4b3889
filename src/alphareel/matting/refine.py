"""Upsamples the network's small matte to the clip's full size, guided by the frame's planes."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging import kernels
from alphareel.imaging.frame import Frame, Plane

Array: TypeAlias = NDArray[np.float32]

# Chosen by measurement: docs/decisions/0005-refine.md.
_RADIUS = 1
_EPS = 1e-4
_CERTAIN = 0.02
# Below this magnification the guided filter has nothing to add to the small matte.
MIN_SCALE = 1.25
# Margin in small pixels: two windows of the fit and one pixel of interpolation.
_MARGIN = 2 * _RADIUS + 1
# Rows of the small matte that are processed at once. Strips make the windows of soft pixels narrow and keep
# intermediate results in the processor's cache.
_STRIP_ROWS = 96


@dataclass(frozen=True)
class _Span:
    """A range of rows or columns, with a margin: in ``small`` pixels, and as ``half``-size and ``full``-size pixels.

    Without the margin it is ``kept`` in the frame's pixels, and ``inner`` relative to ``full.start``.
    """

    small: slice
    half: slice
    full: slice
    kept: slice
    inner: slice


def refine(small: Array, frame: Frame) -> Plane:
    """Full-size alpha uint8 (H, W) from alpha float32 (h, w) in 0..1, which belongs to the frame's model input.

    Fast guided filter (He and Sun, arXiv:1505.00996) with the three planes as guide: alpha = aY*Y + aU*U + aV*V + b,
    fitted in windows of 3x3 small pixels and applied at full size, with the chroma terms at half size. Unlike in the
    paper, b is chosen so that each small pixel keeps the network's alpha: the paper's b blurs. The frame thus only adds
    detail, and none where its colors do not separate the sides. Where the network is certain, except within one
    pixel of an edge, a is 0, so that texture does not cut holes into the matte.
    """
    assert frame.thumbnail is not None
    certain = (small <= _CERTAIN) | (small >= 1 - _CERTAIN)
    small = np.where(certain, np.round(small), small).astype(np.float32)
    enlarges = min(frame.height / small.shape[0], frame.width / small.shape[1]) >= MIN_SCALE
    if not enlarges:
        return _resize(small, frame, cv2.INTER_AREA)
    if kernels.library() is not None:
        return kernels.refine(small, certain, frame, eps=_EPS)
    return _refine(small, certain, frame)


def _refine(small: Array, certain: NDArray[np.bool_], frame: Frame) -> Plane:
    """What ``kernels.refine`` computes within one level, in strips."""
    assert frame.thumbnail is not None
    upsampled = _resize(small, frame, cv2.INTER_LINEAR)
    soft = _soft_mask(small, certain)
    if not soft.any():
        return upsampled
    for down, across in _windows(soft, frame):
        window = small[down.small, across.small]
        guide = frame.thumbnail[:, down.small, across.small]
        guided = _apply(_fit(window, guide, soft[down.small, across.small]), frame, down, across)
        upsampled[down.kept, across.kept] = _clamp(guided, window)[down.inner, across.inner]
    return upsampled


def _resize(small: Array, frame: Frame, interpolation: int) -> Plane:
    levels = (small * 255 + 0.5).astype(np.uint8)
    return np.asarray(cv2.resize(levels, (frame.width, frame.height), interpolation=interpolation), np.uint8)


def _soft_mask(small: Array, certain: NDArray[np.bool_]) -> Plane:
    """1 where the small matte is soft or steps from 0 to 1, with one pixel of margin; else 0."""
    soft = ~certain
    soft[:-1] |= small[:-1] != small[1:]
    soft[:, :-1] |= small[:, :-1] != small[:, 1:]
    return np.asarray(cv2.dilate(soft.astype(np.uint8), np.ones((3, 3), np.uint8)), np.uint8)


def _windows(soft: Plane, frame: Frame) -> Iterator[tuple[_Span, _Span]]:
    """Rows and columns of the windows that cover all soft pixels: one window for each strip that has any."""
    height, width = soft.shape
    pitch = _pitch(height, frame.height)
    strip = pitch * max(1, round(_STRIP_ROWS / pitch))
    for top in range(0, height, strip):
        bottom = min(height, top + strip)
        left, _, columns, _ = cv2.boundingRect(soft[top:bottom])
        if columns:
            right = left + columns
            across = _span(left, right, _pitch(width, frame.width), width, frame.width)
            yield _span(top, bottom, pitch, height, frame.height), across


def _pitch(small: int, full: int) -> int:
    """The smallest number of small pixels that covers a whole number of half-size pixels."""
    return small // math.gcd(small, full // 2)


def _span(start: int, stop: int, pitch: int, small: int, full: int) -> _Span:
    start, stop = start // pitch * pitch, min(small, -(-stop // pitch) * pitch)
    margin = -(-_MARGIN // pitch) * pitch
    first, last = max(0, start - margin), min(small, stop + margin)
    to_half = full // 2 / small
    half = slice(round(first * to_half), round(last * to_half))
    kept = slice(2 * round(start * to_half), 2 * round(stop * to_half))
    inner = slice(kept.start - 2 * half.start, kept.stop - 2 * half.start)
    return _Span(slice(first, last), half, slice(2 * half.start, 2 * half.stop), kept, inner)


def _fit(alpha: Array, guide: Plane, soft: Plane) -> Array:
    """The terms aY, aU, aV (alpha in 0..255 for one level of the plane) and b (0..255), float32 (4, h, w)."""
    planes = guide.astype(np.float32) / 255
    means = [_mean(p) for p in planes]
    alpha_mean = _mean(alpha)
    spread = {
        (i, j): _mean(planes[i] * planes[j]) - means[i] * means[j] + np.float32(_EPS if i == j else 0)
        for i, j in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    }
    joint = [_mean(p * alpha) - m * alpha_mean for p, m in zip(planes, means, strict=True)]
    slopes = [_mean(s) for s in _solve_symmetric(spread, joint)]
    offset = alpha - sum(s * p for s, p in zip(slopes, planes, strict=True))
    terms = np.stack([*(s * soft for s in slopes), np.where(soft, offset, alpha) * 255])
    return np.asarray(terms, np.float32)


def _mean(plane: Array) -> Array:
    side = 2 * _RADIUS + 1
    return np.asarray(cv2.blur(plane, (side, side), borderType=cv2.BORDER_REPLICATE), np.float32)


def _solve_symmetric(m: dict[tuple[int, int], Array], right: list[Array]) -> list[Array]:
    """Solve m x = right for a symmetric 3x3 matrix at each pixel, by Cramer's rule."""
    c00 = m[1, 1] * m[2, 2] - m[1, 2] * m[1, 2]
    c01 = m[0, 2] * m[1, 2] - m[0, 1] * m[2, 2]
    c02 = m[0, 1] * m[1, 2] - m[0, 2] * m[1, 1]
    c11 = m[0, 0] * m[2, 2] - m[0, 2] * m[0, 2]
    c12 = m[0, 1] * m[0, 2] - m[0, 0] * m[1, 2]
    c22 = m[0, 0] * m[1, 1] - m[0, 1] * m[0, 1]
    scale = np.float32(1) / (m[0, 0] * c00 + m[0, 1] * c01 + m[0, 2] * c02)
    rows = ((c00, c01, c02), (c01, c11, c12), (c02, c12, c22))
    return [(row[0] * right[0] + row[1] * right[1] + row[2] * right[2]) * scale for row in rows]


def _apply(terms: Array, frame: Frame, down: _Span, across: _Span) -> Plane:
    """Alpha uint8 of a window: chroma terms and b computed at half size, the luma term at full size."""
    luma, u, v = frame.y[down.full, across.full], frame.u[down.half, across.half], frame.v[down.half, across.half]
    half, full = (u.shape[1], u.shape[0]), (luma.shape[1], luma.shape[0])
    total = cv2.resize(terms[3], half)
    for term, plane in ((terms[1], u), (terms[2], v)):
        part = cv2.resize(term, half)
        cv2.multiply(part, plane, dst=part, dtype=cv2.CV_32F)
        cv2.add(total, part, dst=total)
    total = cv2.resize(total, full)
    alpha = cv2.resize(terms[0], full)
    cv2.multiply(alpha, luma, dst=alpha, dtype=cv2.CV_32F)
    return np.asarray(cv2.add(alpha, total, dtype=cv2.CV_8U), np.uint8)


def _clamp(guided: Plane, small: Array) -> Plane:
    """Clamp guided alpha to the network's minimum and maximum within one small pixel.

    Without this bound, texture next to an edge leaves a faint line beside it.
    """
    size, cross = (guided.shape[1], guided.shape[0]), np.ones((3, 3), np.uint8)
    rounded = (small * 255 + 0.5).astype(np.uint8)
    lowest = cv2.resize(cv2.erode(rounded, cross), size)
    highest = cv2.resize(cv2.dilate(rounded, cross), size)
    return np.asarray(cv2.min(cv2.max(guided, lowest), highest), np.uint8)
