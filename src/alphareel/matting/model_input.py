"""The model input: the small Y, U, V image that a network sees. Its size, and its conversion to RGB."""

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
    """(width, height), both multiples of ``multiple``, near ``area`` pixels and near the aspect ratio of the arguments.

    An error in aspect ratio costs four times an error in area, so 16:9, 4:3, square and portrait stay within a few
    percent. Extreme aspect ratios get the nearest one within 1.5 times ``area``.
    """
    ratio = width / height
    max_cells = max(1, 3 * area // 2 // multiple**2)
    min_cost, size = math.inf, (multiple, multiple)
    for rows in range(1, min(max_cells, 2 * math.ceil(math.sqrt(area / ratio) / multiple) + 1) + 1):
        columns = min(max(1, round(rows * ratio)), max(1, max_cells // rows))
        ratio_error = abs(math.log(columns / rows / ratio))
        cost = 4 * ratio_error + abs(math.log(columns * rows * multiple**2 / area))
        if cost < min_cost:
            min_cost, size = cost, (columns * multiple, rows * multiple)
    return size


def size_for(clip: Clip, *, area: int, multiple: int) -> tuple[int, int]:
    """Model input size (width, height) for a clip. See ``fit_size``."""
    return fit_size(clip.width, clip.height, area=area, multiple=multiple)


def model_input_of(frame: Frame, size: tuple[int, int]) -> Plane:
    """The frame's model input, uint8 (3, height, width). Raises InternalError if it is missing or of another size."""
    width, height = size
    if frame.thumbnail is None or frame.thumbnail.shape != (3, height, width):
        shape = None if frame.thumbnail is None else frame.thumbnail.shape
        raise InternalError(f"The engine needs a model input of {width}x{height}, but the frame has {shape}.")
    return frame.thumbnail


def make_model_input(frame: Frame, size: tuple[int, int]) -> Plane:
    """A model input of another size than the frame carries, uint8 (3, height, width), from its full-size planes."""
    planes = (np.ascontiguousarray(plane) for plane in (frame.y, frame.u, frame.v))
    return np.stack([np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8) for plane in planes])


def to_rgb(model_input: Plane, *, matrix: int, full_range: bool) -> Picture:
    """R, G, B float32 (3, h, w) in 0..1 from uint8 Y, U, V (3, h, w) with this H.273 matrix and range."""
    scale, shift = yuv_to_rgb(matrix, full_range=full_range)
    y, u, v = model_input
    rgb = np.empty(model_input.shape, np.float32)
    # Row by row: a matrix product would start the threads of BLAS, which spin while they wait.
    for n, ((a, b, c), offset) in enumerate(zip(scale / 255, shift / 255, strict=True)):
        cv2.addWeighted(y, float(a), v, float(c), float(offset), dst=rgb[n], dtype=cv2.CV_32F)
        if b:  # red does not depend on U
            rgb[n] += b * u
    return np.asarray(np.clip(rgb, 0, 1, out=rgb), np.float32)
