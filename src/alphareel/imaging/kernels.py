"""The compiled pixel loops of ``alphareel-kernels``, through ctypes, which releases the GIL during a call.

Without that package the callers compute the same with NumPy and OpenCV. Why the loops are in C:
docs/decisions/0033-kernels.md.
"""

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alphareel.domain.errors import OutOfMemory
from alphareel.imaging.frame import Frame, Plane

Array = NDArray[np.float32]

_VERSION = 3  # of the functions in kernels.c and network.c


@cache
def library() -> Any:
    """The C library, None where it is not installed or is of another version than this module."""
    try:
        import alphareel_kernels  # noqa: PLC0415 - an optional package
    except ModuleNotFoundError:
        return None
    path = alphareel_kernels.library_path()
    if path is None:
        return None
    loaded = ctypes.CDLL(str(path))
    return loaded if hasattr(loaded, "alphareel_version") and loaded.alphareel_version() == _VERSION else None


def refine(small: Array, certain: NDArray[np.bool_], frame: Frame, *, eps: float) -> Plane:
    """Like ``matting.refine.refine``, of a matte whose ``certain`` pixels are 0 or 1 and which enlarges."""
    assert frame.thumbnail is not None
    height, width = small.shape
    alpha = np.empty((frame.height, frame.width), np.uint8)
    guide = np.ascontiguousarray(frame.thumbnail)
    small, certain = np.ascontiguousarray(small), np.ascontiguousarray(certain)
    _call("refine", small, certain, guide, width, height, *_strided(frame.y), *_strided(frame.u), *_strided(frame.v),
          frame.width, frame.height, ctypes.c_float(eps), alpha)  # fmt: skip
    return alpha


def halve(alpha: Plane, soft: tuple[int, int]) -> Plane | None:
    """Alpha at half size, rounded means of 2x2 pixels. None when no pixel lies between the bounds ``soft``."""
    height, width = alpha.shape
    half = np.empty((height // 2, width // 2), np.uint8)
    has_soft = _function("halve")(*map(_argument, (*_strided(alpha), width, height, soft[0] + 1, soft[1] - 1, half)))
    return half if has_soft else None


def spread(planes: Plane, known: Plane, windows: Sequence[tuple[int, float]], own_weight: float) -> Array:
    """Weighted mean of ``planes`` uint8 (3, h, w) over the pixels that are ``known`` (0 or 1), float32 (3, h, w)."""
    means = np.empty(planes.shape, np.float32)
    sides = np.array([side for side, _ in windows], np.int32)
    weights = np.array([weight for _, weight in windows], np.float32)
    height, width = known.shape
    _call("spread", planes, known, width, height, sides, weights, len(windows), ctypes.c_float(own_weight), means)
    return means


def unmix(plane: Plane, alpha: Plane, foreground: Array, background: Array, soft: tuple[int, int]) -> Plane:
    """A copy of the plane with the foreground's levels where alpha lies between the bounds ``soft``."""
    clean = np.empty(plane.shape, np.uint8)
    height, width = plane.shape
    _call("unmix", *_strided(plane), *_strided(alpha), width, height, foreground, background, foreground.shape[1],
          foreground.shape[0], soft[0] + 1, soft[1] - 1, clean)  # fmt: skip
    return clean


def find_source(flow: Array, size: tuple[int, int]) -> Array:
    """The position of each pixel in the previous frame, x and y float32 (h, w, 2), from a flow of another size."""
    source = np.empty((size[1], size[0], 2), np.float32)
    _call("source", np.ascontiguousarray(flow), flow.shape[1], flow.shape[0], *size, source)
    return source


def match(picture: Plane, other: Plane, weights: Array) -> Array:
    """A weight float32 (h, w) for each pixel, by how well two pictures uint8 (3, h, w) match around it.

    ``weights``: by the sum of differences over 3 planes and 5x5 pixels; see ``match_weights``.
    """
    matched = np.empty(picture.shape[1:], np.float32)
    _call("match", np.ascontiguousarray(picture), np.ascontiguousarray(other), weights, *matched.shape[::-1], matched)
    return matched


@cache
def match_weights(largest: float, falloff: float) -> Array:
    """``largest`` times exp(-(d / falloff)^2) for every sum that ``match`` meets, where d is the mean difference."""
    differences = np.arange(3 * 255 * 25 + 1, dtype=np.float32) / 25
    return np.asarray(largest * np.exp(-np.square(differences / falloff)), np.float32)


def accumulate(
    alpha: Array, logit: Array, neighbor: Array, *, count: float, flow: Array, weight: Array, least: float
) -> Array:
    """The sums of ``matting.offline_smoothing`` for a frame and its neighbor, float32 (h, w, 3)."""
    total = np.empty((*alpha.shape, 3), np.float32)
    _call("accumulate", np.ascontiguousarray(alpha), np.ascontiguousarray(logit), ctypes.c_float(count),
          np.ascontiguousarray(flow), weight, ctypes.c_float(least), flow.shape[1], flow.shape[0],
          np.ascontiguousarray(neighbor), alpha.shape[1], alpha.shape[0], total)  # fmt: skip
    return total


def settle(
    past: Array, future: Array, alpha: Array, logit: Array, count: float, *, share: float, certain: float
) -> Array:
    """The matte float32 (h, w) of two sums, of which both count the frame itself ``count`` times."""
    matte = np.empty(alpha.shape, np.float32)
    _call("settle", past, future, np.ascontiguousarray(alpha), np.ascontiguousarray(logit), ctypes.c_float(count),
          ctypes.c_float(share), ctypes.c_float(certain), matte.size, matte)  # fmt: skip
    return matte


def visible_cells(alpha: Plane) -> Plane:
    """A mask of 8x8 cells: 255 where the cell or a neighboring one has a pixel above zero. Sides are multiples of 8."""
    height, width = alpha.shape
    cells = np.empty((height // 8, width // 8), np.uint8)
    _call("cells", *_strided(alpha), width, height, cells)
    return cells


def fill_hidden(plane: Plane, cells: Plane, value: int) -> Plane:
    """A copy of the plane with ``value`` where its cell, of a grid over the whole plane, is zero."""
    filled = np.empty(plane.shape, np.uint8)
    _call("fill", *_strided(plane), *plane.shape[::-1], np.ascontiguousarray(cells), *cells.shape[::-1], value, filled)
    return filled


def _function(name: str) -> Any:
    return getattr(library(), f"alphareel_{name}")


def _call(name: str, *arguments: Any) -> None:
    if _function(name)(*map(_argument, arguments)):
        raise OutOfMemory("There is not enough memory for a frame.", hint="Use a smaller clip.")


def _argument(value: Any) -> Any:
    return ctypes.c_void_p(value.ctypes.data) if isinstance(value, np.ndarray) else value


def _strided(plane: Plane) -> tuple[Plane, int]:
    """The plane and its stride in bytes. Copies only what has no contiguous rows."""
    if plane.strides[1] != 1 or plane.strides[0] < 0:
        plane = np.ascontiguousarray(plane)
    return plane, plane.strides[0]
