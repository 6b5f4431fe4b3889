"""Layers of networks as the kernels take them: C structures that point to weights in the kernels' order."""

import ctypes
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alphareel.imaging import kernels

Array: TypeAlias = NDArray[np.float32]
Layer: TypeAlias = Any  # a reference to a structure; the stubs have no public name for it

ACTIVATIONS = {"": 0, "Relu": 1, "Clip": 2, "Sigmoid": 3, "Tanh": 4}
_LANES = 16


class _PointwiseLayer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "scale", "bias")),
        *((name, ctypes.c_int32) for name in ("pairs", "chunk", "outputs", "activation")),
    )


class _DepthwiseLayer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("weights", "bias")),
        *((name, ctypes.c_int32) for name in ("side", "stride", "before", "activation")),
    )


class _PictureLayer(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("planes", "weights", "bias")),
        *((name, ctypes.c_float) for name in ("factor", "shift")),
        *((name, ctypes.c_int32) for name in ("height", "width", "side", "outputs", "activation")),
    )


_Packed: TypeAlias = tuple[ctypes.Structure, Sequence[NDArray[Any]]]  # a layer, and what it points to


class KernelLayers:
    """The layers of a network, for all of its plans and threads. What they point to lives as long as this object.

    ``name``: identifies the weights and their bias within the network. Weights are float32 as in the ONNX file, with
    one bias for each output, or None.
    """

    def __init__(self) -> None:
        self._layers: dict[Hashable, _Packed] = {}

    def pointwise(
        self, name: Hashable, weights: Array, bias: Array | None, *, inputs: int, activation: str, unfolded: int = 0
    ) -> Layer:
        """A convolution over so many channels; with ``unfolded`` channels of nine pixels each."""

        def make() -> _Packed:
            outputs = weights.shape[0]
            arranged = np.zeros((padded(outputs), inputs), np.float32)
            if unfolded:
                nine = arranged.reshape(-1, 9, unfolded)
                nine[:outputs, :, : weights.shape[1]] = weights.transpose(0, 2, 3, 1).reshape(outputs, 9, -1)
            else:
                arranged[:outputs, : weights.shape[1]] = weights[:, :, 0, 0]
            packed, scale = np.empty(arranged.size, np.int16), np.empty(arranged.shape[0], np.float32)
            chunk = kernels.library().alphareel_pack(*map(argument, (arranged, *arranged.shape, packed, scale)))
            kept = (packed, scale, _padded_bias(bias, outputs))
            addresses = (array.ctypes.data for array in kept)
            return _PointwiseLayer(*addresses, inputs // 2, chunk, arranged.shape[0], ACTIVATIONS[activation]), kept

        return self._once((name, inputs, activation), make)

    def depthwise(
        self, name: Hashable, weights: Array, bias: Array | None, *, stride: int, before: int, activation: str
    ) -> Layer:
        """A convolution within channels, with so many rows and columns of padding before the first."""

        def make() -> _Packed:
            channels, side = weights.shape[0], weights.shape[2]
            arranged = np.zeros((side, side, padded(channels)), np.float32)
            arranged[..., :channels] = weights[:, 0].transpose(1, 2, 0)
            kept = (arranged, _padded_bias(bias, channels))
            addresses = (array.ctypes.data for array in kept)
            return _DepthwiseLayer(*addresses, side, stride, before, ACTIVATIONS[activation]), kept

        return self._once((name, stride, before, activation), make)

    def _once(self, key: Hashable, make: Callable[[], _Packed]) -> Layer:
        if key not in self._layers:
            self._layers.setdefault(key, make())  # another thread may be first
        return ctypes.byref(self._layers[key][0])


def picture_layer(
    planes: Array, weights: Array, bias: Array | None, *, factor: float, shift: float, activation: str
) -> tuple[Layer, list[Any]]:
    """A convolution of ``planes`` (3, height, width) times ``factor`` minus ``shift``, and what the layer points to."""
    outputs, side = weights.shape[0], weights.shape[2]
    arranged = np.zeros((3, side, side, padded(outputs)), np.float32)
    arranged[..., :outputs] = weights.transpose(1, 2, 3, 0)
    arrays = (planes, arranged, _padded_bias(bias, outputs))
    layer = _PictureLayer(
        *(array.ctypes.data for array in arrays), factor, shift, *planes.shape[1:], side, padded(outputs),
        ACTIVATIONS[activation],
    )  # fmt: skip
    return ctypes.byref(layer), [*arrays, layer]


def padded(channels: int) -> int:
    """As many channels as the kernels compute instead."""
    return -(-channels // _LANES) * _LANES


def argument(value: Any) -> Any:
    """A value as the functions of the C library take it: arrays by their address."""
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_float(value) if isinstance(value, float) else value


def _padded_bias(bias: Array | None, outputs: int) -> Array:
    values = np.zeros(padded(outputs), np.float32)
    if bias is not None:
        values[:outputs] = bias
    return values
