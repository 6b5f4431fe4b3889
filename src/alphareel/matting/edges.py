"""Color decontamination: removes the old background's color from half-transparent pixels."""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging import kernels
from alphareel.imaging.frame import Frame, Plane

Array = NDArray[np.float32]

# Alpha outside (low, high) counts as transparent or opaque. Colors there stay as decoded.
_SOFT = (3, 251)
# Windows, in pixels of half the model input, over which opaque and transparent neighbors are averaged, with weights:
# distant pixels only matter where there are no close ones.
_WINDOWS = ((3, 1.0), (9, 1e-2), (31, 1e-4))
_OWN_WEIGHT = np.float32(1e-7)  # of the image's own color, where neither side is in reach
# Positions are passed to cv2.remap as an image of this width because OpenCV limits sides to 32767 pixels.
_REMAP_WIDTH = 1024


def decontaminate_edges(frame: Frame, alpha: Plane) -> Frame:
    """The frame with the foreground's color in its soft pixels (0 < alpha < 255). All other pixels are unchanged.

    Returns the same frame when there are no soft pixels. With f and b the smooth foreground and background colors,
    estimated from opaque and transparent neighbors, a soft pixel becomes
    f + alpha * (color - alpha * f - (1 - alpha) * b): Forte, "Approximate fast foreground color estimation"
    (ICIP 2021).
    """
    if frame.thumbnail is None:
        return frame
    planes = _decontaminate(frame, alpha) if kernels.library() is None else _decontaminate_compiled(frame, alpha)
    return frame if planes is None else replace(frame, y=planes[0], u=planes[1], v=planes[2], buffer_owner=None)


def _decontaminate_compiled(frame: Frame, alpha: Plane) -> tuple[Plane, Plane, Plane] | None:
    assert frame.thumbnail is not None
    half = kernels.halve(alpha, _SOFT)
    if half is None:
        return None
    planes, small = _shrink(frame.thumbnail, half)
    foreground = kernels.spread(planes, (small >= _SOFT[1]).astype(np.uint8), _WINDOWS, float(_OWN_WEIGHT))
    background = kernels.spread(planes, (small <= _SOFT[0]).astype(np.uint8), _WINDOWS, float(_OWN_WEIGHT))
    y = kernels.unmix(frame.y, alpha, foreground[0], background[0], _SOFT)
    u = kernels.unmix(frame.u, half, foreground[1], background[1], _SOFT)
    return y, u, kernels.unmix(frame.v, half, foreground[2], background[2], _SOFT)


def _decontaminate(frame: Frame, alpha: Plane) -> tuple[Plane, Plane, Plane] | None:
    """What ``_decontaminate_compiled`` computes, within two levels: here positions are rounded to 1/32 pixel."""
    assert frame.thumbnail is not None
    soft = _soft_positions(alpha)
    if soft.x.size == 0:
        return None
    half_size = (frame.u.shape[1], frame.u.shape[0])
    half = np.asarray(cv2.resize(alpha, half_size, interpolation=cv2.INTER_AREA), np.uint8)
    foreground, background = _estimate_sides(frame.thumbnail, half)
    half_soft = _soft_positions(half)
    planes = ((frame.y, alpha, soft), (frame.u, half, half_soft), (frame.v, half, half_soft))
    y, u, v = (
        _unmix(plane, matte, positions, np.dstack([foreground[i], background[i]]))
        for i, (plane, matte, positions) in enumerate(planes)
    )
    return y, u, v


class _Positions(NamedTuple):
    """Positions in a plane: columns and rows, int32 (n,)."""

    x: NDArray[np.int32]
    y: NDArray[np.int32]


def _soft_positions(alpha: Plane) -> _Positions:
    soft = cv2.inRange(alpha, _SOFT[0] + 1, _SOFT[1] - 1)
    left, top, width, height = cv2.boundingRect(soft)
    if not width:
        return _Positions(*np.zeros((2, 0), np.int32))
    points = np.asarray(cv2.findNonZero(soft[top : top + height, left : left + width]), np.int32)
    return _Positions(*(points.reshape(-1, 2).T + np.array([[left], [top]], np.int32)))


def _estimate_sides(model_input: Plane, half: Plane) -> tuple[list[Array], list[Array]]:
    """Smooth foreground and background planes at half the model input's size.

    They are spread from opaque and transparent pixels. Where none is in reach, a side takes the image's own color,
    which leaves the pixel unchanged.
    """
    shrunk, small = _shrink(model_input, half)
    planes = list(shrunk.astype(np.float32))
    foreground = _spread(planes, (small >= _SOFT[1]).astype(np.float32))
    background = _spread(planes, (small <= _SOFT[0]).astype(np.float32))
    return foreground, background


def _shrink(model_input: Plane, half: Plane) -> tuple[Plane, Plane]:
    """Planes and alpha at half the model input's size."""
    size = (max(1, model_input.shape[2] // 2), max(1, model_input.shape[1] // 2))
    planes = [cv2.resize(p, size, interpolation=cv2.INTER_AREA) for p in model_input]
    return np.asarray(np.stack(planes), np.uint8), np.asarray(cv2.resize(half, size, interpolation=cv2.INTER_AREA))


def _spread(planes: list[Array], known: Array) -> list[Array]:
    *sums, weight = _weighted_sums([*(plane * known for plane in planes), known])
    weight += _OWN_WEIGHT
    totals = (total + _OWN_WEIGHT * plane for total, plane in zip(sums, planes, strict=True))
    return [np.asarray(total / weight, np.float32) for total in totals]


def _weighted_sums(planes: list[Array]) -> list[Array]:
    """Weighted sums of each plane over the windows."""
    merged = cv2.merge(planes)
    total = np.zeros_like(merged)
    for side, weight in _WINDOWS:
        total = cv2.scaleAdd(cv2.blur(merged, (side, side), borderType=cv2.BORDER_REPLICATE), weight, total)
    return [np.asarray(p, np.float32) for p in cv2.split(total)]


def _unmix(plane: Plane, alpha: Plane, positions: _Positions, sides: Array) -> Plane:
    """A copy of the plane with the foreground's levels at ``positions``.

    Each level stays between the pixel's own and the foreground's. Unbounded, the formula is far off where the matte is
    wrong.
    """
    clean = np.array(plane, np.uint8, order="C")
    if positions.x.size == 0:
        return clean
    indices = positions.y * plane.shape[1] + positions.x
    foreground, background = _sample(sides, positions, plane.shape)
    share = alpha.reshape(-1).take(indices) * np.float32(1 / 255)
    level = clean.reshape(-1).take(indices).astype(np.float32)
    unmixed = foreground + share * (level - share * foreground - (1 - share) * background)
    unmixed = np.clip(unmixed, np.minimum(level, foreground), np.maximum(level, foreground))
    clean.reshape(-1)[indices] = (unmixed + 0.5).astype(np.uint8)
    return clean


def _sample(sides: Array, positions: _Positions, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Both channels of ``sides`` (h, w, 2), sampled bilinearly at positions in a plane of ``shape``."""
    x = _in_rows((positions.x + 0.5) * (sides.shape[1] / shape[1]) - 0.5)
    y = _in_rows((positions.y + 0.5) * (sides.shape[0] / shape[0]) - 0.5)
    sampled = cv2.remap(sides, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    foreground, background = np.asarray(sampled, np.float32).reshape(-1, 2)[: positions.x.size].T
    return foreground, background


def _in_rows(positions: NDArray[np.float64]) -> Array:
    return np.resize(positions, (-(-positions.size // _REMAP_WIDTH), _REMAP_WIDTH)).astype(np.float32)
