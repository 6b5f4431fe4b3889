"""Features of pictures, for telling the parts of a clip apart: what the bundled network for any subject sees in them."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np

from alphareel.imaging.frame import Plane
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
_SCALE = 2  # of the picture, so that a cell is four of its pixels wide
_MULTIPLE = 32
_MEMORY_STRIDE = 16


@dataclass(frozen=True)
class FeatureExtractor:
    """Finds the features of small pictures. ``matrix``, ``full_range``: how their Y, U, V turn into R, G, B."""

    session: OnnxSession
    matrix: int
    full_range: bool

    def extract(self, picture: Plane) -> Array:
        """Features float32 (rows, columns, channels) of a picture, uint8 Y, U, V (h, w, 3). Cells are 4 pixels wide."""
        height, width = (max(_MULTIPLE, round(_SCALE * s / _MULTIPLE) * _MULTIPLE) for s in picture.shape[:2])
        enlarge = partial(cv2.resize, dsize=(width, height), interpolation=cv2.INTER_CUBIC)
        model_input = np.stack([np.asarray(enlarge(plane), np.uint8) for plane in cv2.split(picture)])
        rgb = to_rgb(model_input, matrix=self.matrix, full_range=self.full_range)
        channels = self.session.inputs["memory"][1]
        memory = np.zeros((1, channels or 1, height // _MEMORY_STRIDE, width // _MEMORY_STRIDE), np.float32)
        layers = [layer[0] for layer in self.session.run(_LAYERS, {"rgb": rgb[None], "memory": memory})]
        size = (layers[0].shape[2], layers[0].shape[1])
        planes: list[Any] = [cv2.resize(plane, size) for layer in layers for plane in layer]
        return np.stack([*planes, *_colors(picture, size)], axis=-1).astype(np.float32)


def load_features(runtime: Runtime, *, matrix: int, full_range: bool) -> FeatureExtractor:
    """Load the network. Raises ModelUnavailable or WeightsInvalid."""
    return FeatureExtractor(runtime.open(subject.PATH, outputs=_LAYERS), matrix, full_range)


def _colors(picture: Plane, size: tuple[int, int]) -> list[Array]:
    """The mean color of each cell, its squares and its products."""
    y, u, v = (
        np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32) / 64 - 2
        for plane in cv2.split(picture)
    )
    return [y, u, v, y * y, u * u, v * v, y * u, y * v, u * v]
