"""Clean color at the soft edge: the old background that shines through a half-transparent pixel is taken out."""

from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.frame import Frame, Plane

Array = NDArray[np.float32]

# Alpha outside (low, high) is as good as transparent or opaque: there the decoder's color stays.
_SOFT = (3, 251)
# Windows, in pixels of half a thumbnail, over which surely opaque and surely transparent neighbors are averaged:
# near ones count most, far ones only where there are no near ones.
_WINDOWS = ((3, 1.0), (9, 1e-2), (31, 1e-4))
_OWN = np.float32(1e-7)
# Positions are sampled as a picture of this width, since OpenCV takes no side above 32767.
_ROW = 1024


def decontaminate_edges(frame: Frame, alpha: Plane) -> Frame:
    """The frame with foreground color in its soft pixels (0 < alpha < 255), the same frame when there are none.

    From smooth estimates f and b of the colors on both sides, made from what is surely opaque
    and surely transparent, each soft pixel's own color is
    f + alpha * (color - alpha * f - (1 - alpha) * b): Forte, "Approximate fast foreground color estimation"
    (ICIP 2021). Pixels outside the soft edge are never touched.
    """
    if frame.thumbnail is None:
        return frame
    soft = _spots(alpha)
    if soft.x.size == 0:
        return frame
    half_size = (frame.u.shape[1], frame.u.shape[0])
    half = np.asarray(cv2.resize(alpha, half_size, interpolation=cv2.INTER_AREA), np.uint8)
    foreground, background = _two_sides(frame.thumbnail, half)
    half_soft = _spots(half)
    planes = ((frame.y, alpha, soft), (frame.u, half, half_soft), (frame.v, half, half_soft))
    y, u, v = (
        _unmix(plane, matte, spots, np.dstack([foreground[i], background[i]]))
        for i, (plane, matte, spots) in enumerate(planes)
    )
    return replace(frame, y=y, u=u, v=v, buffer_owner=None)


class _Spots(NamedTuple):
    """Positions in a plane: columns and rows, int32 (n,)."""

    x: NDArray[np.int32]
    y: NDArray[np.int32]


def _spots(alpha: Plane) -> _Spots:
    """Where alpha is soft."""
    soft = cv2.inRange(alpha, _SOFT[0] + 1, _SOFT[1] - 1)
    left, top, width, height = cv2.boundingRect(soft)
    if not width:
        return _Spots(*np.zeros((2, 0), np.int32))
    found = np.asarray(cv2.findNonZero(soft[top : top + height, left : left + width]), np.int32)
    return _Spots(*(found.reshape(-1, 2).T + np.array([[left], [top]], np.int32)))


def _two_sides(thumbnail: Plane, half: Plane) -> tuple[list[Array], list[Array]]:
    """Smooth planes in front and behind, half the thumbnail's size, spread from what is surely opaque or transparent.

    Where neither is within reach a side takes the picture's own color, which changes nothing.
    """
    size = (max(1, thumbnail.shape[2] // 2), max(1, thumbnail.shape[1] // 2))
    small = cv2.resize(half, size, interpolation=cv2.INTER_AREA)
    planes = [cv2.resize(p, size, interpolation=cv2.INTER_AREA).astype(np.float32) for p in thumbnail]
    front = _spread(planes, (small >= _SOFT[1]).astype(np.float32))
    behind = _spread(planes, (small <= _SOFT[0]).astype(np.float32))
    return front, behind


def _spread(planes: list[Array], known: Array) -> list[Array]:
    *sums, weight = _reach([*(plane * known for plane in planes), known])
    weight += _OWN
    return [np.asarray((total + _OWN * plane) / weight, np.float32) for total, plane in zip(sums, planes, strict=True)]


def _reach(planes: list[Array]) -> list[Array]:
    """Sums of each plane over the windows, by weight."""
    merged = cv2.merge(planes)
    total = np.zeros_like(merged)
    for side, weight in _WINDOWS:
        total = cv2.scaleAdd(cv2.blur(merged, (side, side), borderType=cv2.BORDER_REPLICATE), weight, total)
    return [np.asarray(p, np.float32) for p in cv2.split(total)]


def _unmix(plane: Plane, alpha: Plane, spots: _Spots, sides: Array) -> Plane:
    """A copy of the plane with foreground levels at ``spots``.

    The result stays between the pixel's level and the opaque side's: where the matte is wrong, an unbounded
    solution would throw colors far off.
    """
    clean = np.array(plane, np.uint8, order="C")
    if spots.x.size == 0:
        return clean
    places = spots.y * plane.shape[1] + spots.x
    front, behind = _sample(sides, spots, plane.shape)
    share = alpha.reshape(-1).take(places) * np.float32(1 / 255)
    level = clean.reshape(-1).take(places).astype(np.float32)
    pure = front + share * (level - share * front - (1 - share) * behind)
    pure = np.clip(pure, np.minimum(level, front), np.maximum(level, front))
    clean.reshape(-1)[places] = (pure + 0.5).astype(np.uint8)
    return clean


def _sample(sides: Array, spots: _Spots, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Both channels of ``sides`` (h, w, 2), bilinear, at positions in a plane of ``shape``."""
    x = _row_wise((spots.x + 0.5) * (sides.shape[1] / shape[1]) - 0.5)
    y = _row_wise((spots.y + 0.5) * (sides.shape[0] / shape[0]) - 0.5)
    found = cv2.remap(sides, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    front, behind = np.asarray(found, np.float32).reshape(-1, 2)[: spots.x.size].T
    return front, behind


def _row_wise(positions: NDArray[np.float64]) -> Array:
    return np.resize(positions, (-(-positions.size // _ROW), _ROW)).astype(np.float32)
