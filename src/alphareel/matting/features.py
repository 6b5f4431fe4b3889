"""Features of pictures: what the bundled network for any subject sees in them, and their colors."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from alphareel.imaging.frame import Frame, Plane
from alphareel.matting.correction import SmallFrame
from alphareel.matting.model_input import to_rgb
from alphareel.matting.models import subject
from alphareel.matting.runtime import Array, OnnxSession, Runtime

# Layers of the network at 1/8, 1/16, 1/16 and 1/8 of its input, none of which depends on frames before.
_LAYERS = (
    "/matte/encoder/stages.2/stages.2.1/Add_output_0",
    "/matte/encoder/stages.4/stages.4.2/Add_output_0",
    "/matte/up4/mix/mix.5/Relu_output_0",
    "/matte/up3/mix/mix.5/Relu_output_0",
)
PATH = subject.PATH
"""The network's weights."""

_SCALE = 2  # of the picture, so that a cell is four of its pixels wide
_MULTIPLE = 32
_MEMORY_STRIDE = 16


@dataclass(frozen=True)
class FeatureExtractor:
    """Finds the features of small frames. ``matrix``, ``full_range``: how their Y, U, V turn into R, G, B."""

    session: OnnxSession
    matrix: int
    full_range: bool

    def extract(self, frame: SmallFrame) -> Array:
        """Features float32 (rows, columns, channels) of a frame. A cell is four pixels of its picture wide."""
        picture = frame.picture
        width, height = input_size(picture)
        detail = tuple(cv2.split(picture)) if frame.detail is None else frame.detail
        enlarge = partial(cv2.resize, dsize=(width, height), interpolation=cv2.INTER_CUBIC)
        model_input = np.stack([np.asarray(enlarge(plane), np.uint8) for plane in detail])
        rgb = to_rgb(model_input, matrix=self.matrix, full_range=self.full_range)
        channels = self.session.inputs["memory"][1]
        memory = np.zeros((1, channels or 1, height // _MEMORY_STRIDE, width // _MEMORY_STRIDE), np.float32)
        layers = [layer[0] for layer in self.session.run(_LAYERS, {"rgb": rgb[None], "memory": memory})]
        size = (layers[0].shape[2], layers[0].shape[1])
        planes: list[Any] = [cv2.resize(plane, size) for layer in layers for plane in layer]
        return np.stack([*planes, *_colors(picture, size)], axis=-1).astype(np.float32)


def input_size(picture: Plane) -> tuple[int, int]:
    """The size (width, height) of the network's input for small pictures of this size."""
    height, width = (max(_MULTIPLE, round(_SCALE * side / _MULTIPLE) * _MULTIPLE) for side in picture.shape[:2])
    return width, height


def detail_of(frame: Frame, picture: Plane) -> tuple[Plane, Plane, Plane]:
    """The frame at the size of the network's input, chroma at half of it. ``picture``: the small one."""
    width, height = input_size(picture)
    sizes = ((width, height), (width // 2, height // 2), (width // 2, height // 2))
    planes = zip((frame.y, frame.u, frame.v), sizes, strict=True)
    y, u, v = (np.asarray(cv2.resize(p, s, interpolation=cv2.INTER_AREA), np.uint8) for p, s in planes)
    return y, u, v


def load_features(runtime: Runtime, *, matrix: int, full_range: bool) -> FeatureExtractor:
    """Load the network. Raises ModelUnavailable or WeightsInvalid."""
    return FeatureExtractor(runtime.open(PATH, outputs=_LAYERS), matrix, full_range)


def _colors(picture: Plane, size: tuple[int, int]) -> list[Array]:
    """The mean color of each cell, its squares and its products."""
    y, u, v = (
        np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32) / np.float32(64) - np.float32(2)
        for plane in cv2.split(picture)
    )
    return [np.asarray(plane, np.float32) for plane in (y, u, v, y * y, u * u, v * v, y * u, y * v, u * v)]
