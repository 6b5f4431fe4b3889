"""The small picture a network sees: how large it should be, and from Y, U, V planes to RGB. No full-size pixels."""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from alphareel.domain.clip import Clip
from alphareel.domain.errors import InternalError
from alphareel.frame import Frame, Plane

Picture = NDArray[np.float32]

# ITU-T H.273 matrix number -> (Kr, Kb). Numbers not listed are read as BT.709.
_WEIGHTS: dict[int, tuple[float, float]] = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}


@lru_cache(maxsize=256)
def fit_size(width: int, height: int, *, area: int, multiple: int) -> tuple[int, int]:
    """(width, height), multiples of ``multiple``, near ``area`` pixels, in nearly the shape of ``width`` x ``height``.

    A wrong shape weighs four times a wrong area, so that 16:9, 4:3, square and portrait stay within a few percent;
    extreme strips get the nearest shape that ``area`` and a half allows.
    """
    ratio = width / height
    most = max(1, 3 * area // 2 // multiple**2)
    best, found = math.inf, (multiple, multiple)
    for rows in range(1, min(most, 2 * math.ceil(math.sqrt(area / ratio) / multiple) + 1) + 1):
        columns = min(max(1, round(rows * ratio)), max(1, most // rows))
        shape = abs(math.log(columns / rows / ratio))
        cost = 4 * shape + abs(math.log(columns * rows * multiple**2 / area))
        if cost < best:
            best, found = cost, (columns * multiple, rows * multiple)
    return found


def size_for(clip: Clip, *, area: int, multiple: int) -> tuple[int, int]:
    """Thumbnail size for a clip as it is displayed: pixels that are not square are allowed for."""
    aspect = min(max(float(clip.sample_aspect), 0.25), 4.0) if clip.sample_aspect > 0 else 1.0
    return fit_size(max(1, round(clip.width * aspect)), clip.height, area=area, multiple=multiple)


def thumbnail_of(frame: Frame, size: tuple[int, int]) -> Plane:
    """The frame's thumbnail (3, height, width); InternalError when the reader made none or another size."""
    width, height = size
    if frame.thumbnail is None or frame.thumbnail.shape != (3, height, width):
        got = None if frame.thumbnail is None else frame.thumbnail.shape
        raise InternalError(f"The engine asked for thumbnails of {width}x{height} and got {got}.")
    return frame.thumbnail


def to_rgb(thumbnail: Plane, *, matrix: int, full_range: bool) -> Picture:
    """R, G, B as float32 (3, h, w) in 0..1, of uint8 Y, U, V (3, h, w) in this H.273 matrix and range."""
    scale, shift = _coefficients(matrix, full_range)
    flat = thumbnail.reshape(3, -1).astype(np.float32)
    rgb = scale @ flat
    rgb += shift
    np.clip(rgb, 0, 1, out=rgb)
    return np.asarray(rgb.reshape(thumbnail.shape), np.float32)


@lru_cache(maxsize=32)
def _coefficients(matrix: int, full_range: bool) -> tuple[Picture, Picture]:  # noqa: FBT001 - a cache key
    """3x3 matrix and 3x1 offset from 8-bit Y, U, V to R, G, B in 0..1 (ITU-T H.273, equations for Kr and Kb)."""
    red, blue = _WEIGHTS.get(matrix, _WEIGHTS[1])
    green = 1 - red - blue
    luma, chroma, floor = (255.0, 255.0, 0.0) if full_range else (219.0, 224.0, 16.0)
    rows = np.array(
        [
            [1, 0, 2 * (1 - red)],
            [1, -2 * blue * (1 - blue) / green, -2 * red * (1 - red) / green],
            [1, 2 * (1 - blue), 0],
        ]
    ) / np.array([luma, chroma, chroma])
    shift = -rows @ np.array([[floor], [128.0], [128.0]])
    return rows.astype(np.float32), shift.astype(np.float32)
