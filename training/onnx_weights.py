"""The weights in an exported file, under their former names, to go on learning from; how large a norm may be there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

Array = NDArray[Any]  # of float32; the stubs of OpenCV lose the type
PREFIX = "matte."  # of what kept its name
SILENT = 1e-4  # variance of a channel that hardly ever changes
EPSILON = 1e-5  # that torch's norms add to a variance


def widened(model: onnx.ModelProto) -> Iterator[tuple[str, Array]]:
    """Names and values of all weights, as a runtime widens them."""
    held = {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer}
    for name, values in held.items():
        if name.endswith(".steps"):
            yield name.removesuffix(".steps"), values * held[name.replace(".steps", ".scale")]
        elif not name.endswith(".scale") and values.dtype in (np.float16, np.float32):
            yield name.removesuffix(".half"), values.astype(np.float32)


def folded(arrays: dict[str, Array]) -> Iterator[tuple[Array, Array]]:
    """Weights and biases of the convolutions whose names were lost as they took in their norms, in order of use."""
    joined = {name: values for name, values in arrays.items() if not name.startswith(PREFIX)}
    for name in [name for name in joined if name.endswith(".features")]:
        near, far = joined.pop(name), joined.pop(name.replace(".features", ".picture"))
        joined[name.removesuffix(".features")] = np.concatenate([near, far.reshape(len(far), -1, 1, 1)], axis=1)
    numbers = sorted(joined, key=lambda name: int(name.rsplit("_", 1)[1]))
    yield from ((joined[w], joined[b]) for w, b in zip(numbers[::2], numbers[1::2], strict=True))


def bounded_scale(scale: Array, variance: Array) -> Array:
    """The scale (C,) of a norm, such that it amplifies no channel of almost no variance (C,).

    The file keeps ``scale / sqrt(variance + EPSILON)`` times the weights before the norm, in half precision.
    """
    most = np.sqrt(variance + np.float32(EPSILON))
    return np.where(variance < SILENT, np.clip(scale, -most, most), scale).astype(np.float32)
