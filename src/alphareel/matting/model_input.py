"""The small picture a network sees: how large it should be, and from Y, U, V planes to RGB. No full-size pixels."""

import math
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.domain.clip import Clip
from alphareel.domain.errors import InternalError
from alphareel.imaging.color import yuv_to_rgb
from alphareel.imaging.frame import Frame, Plane

Picture = NDArray[np.float32]


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
    """Thumbnail size for a clip, whose frames are upright and have square pixels."""
    return fit_size(clip.width, clip.height, area=area, multiple=multiple)


def model_input_of(frame: Frame, size: tuple[int, int]) -> Plane:
    """The frame's thumbnail (3, height, width); InternalError when the reader made none or another size."""
    width, height = size
    if frame.thumbnail is None or frame.thumbnail.shape != (3, height, width):
        got = None if frame.thumbnail is None else frame.thumbnail.shape
        raise InternalError(f"The engine asked for thumbnails of {width}x{height} and got {got}.")
    return frame.thumbnail


def to_rgb(thumbnail: Plane, *, matrix: int, full_range: bool) -> Picture:
    """R, G, B as float32 (3, h, w) in 0..1, of uint8 Y, U, V (3, h, w) in this H.273 matrix and range."""
    scale, shift = yuv_to_rgb(matrix, full_range=full_range)
    y, u, v = thumbnail
    rgb = np.empty(thumbnail.shape, np.float32)
    # Row by row: a matrix product would wake the threads of BLAS, which then burn a core while they wait.
    for n, ((a, b, c), offset) in enumerate(zip(scale / 255, shift / 255, strict=True)):
        cv2.addWeighted(y, float(a), v, float(c), float(offset), dst=rgb[n], dtype=cv2.CV_32F)
        if b:  # red knows no U
            rgb[n] += b * u
    return np.asarray(np.clip(rgb, 0, 1, out=rgb), np.float32)
