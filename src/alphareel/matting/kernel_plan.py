"""Plans how the compiled kernels run a network at one size: which kernel computes which nodes, on which arrays.

It knows the operations that the networks of alphareel use, and refuses every other one.
"""

import ctypes
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from alphareel.imaging import kernels
from alphareel.matting.kernel_layers import ACTIVATIONS, KernelLayers, Layer, argument, padded, picture_layer
from alphareel.matting.onnx_file import OnnxFile, OnnxNode, fold

Array: TypeAlias = NDArray[np.float32]

_KEEPS_ZERO = ("", "Relu", "Clip", "Tanh")
_COMBINATIONS = {"Add": 0, "Mul": 1, "Sub": 2}


class UnknownOperation(Exception):
    """The network has an operation, or a combination of them, that no kernel computes."""


@dataclass(frozen=True)
class _Values:
    """Values of one node: float32 (height * width, padded channels), zero in the padding."""

    array: Array
    height: int
    width: int
    channels: int

    @property
    def padded(self) -> int:
        return int(self.array.shape[1])

    @property
    def even(self) -> int:
        """Channels, with one more if they are odd."""
        return self.channels + self.channels % 2

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class _Picture:
    """The input ``rgb``, times ``factor``, minus ``shift``."""

    array: Array
    factor: float = 1.0
    shift: float = 0.0


@dataclass(frozen=True, eq=False)
class Plan:
    """The calls that run a network at one size, and the arrays that they read and write.

    ``kept``: what the calls know the addresses of.
    """

    rgb: Array
    memory: _Values
    alpha: Array
    memory_out: _Values
    calls: Sequence[Callable[[], int]]
    kept: Sequence[Any]


class Planner:
    """Makes a plan: goes through the nodes in order and joins those that one kernel computes."""

    def __init__(self, file: OnnxFile, layers: KernelLayers, height: int, width: int) -> None:
        self._library = kernels.library()
        self._layers = layers
        self._calls: list[Callable[[], int]] = []
        self._joined: set[int] = set()
        self._kept: list[Any] = []  # whose addresses the calls have
        self._pending: dict[str, tuple[OnnxNode, _Values]] = {}  # convolutions that are added to one of the picture
        self._makers = {name: node for node in file.nodes for name in node.outputs}
        self._readers: dict[str, list[OnnxNode]] = defaultdict(list)
        for node in file.nodes:
            for name in node.inputs:
                self._readers[name].append(node)
        if set(file.inputs) != {"rgb", "memory"} or set(file.outputs) != {"alpha", "memory_out"}:
            raise UnknownOperation("inputs or outputs")
        self._known: dict[str, Any] = dict(file.constants)
        channels = file.inputs["memory"][1]
        if channels is None:
            raise UnknownOperation("channels of the memory")
        stride = int(float(file.metadata.get("memory_stride", 16)))
        rgb = np.zeros((3, height, width), np.float32)
        memory = self._values(height // stride, width // stride, channels)
        self._known.update({"rgb": _Picture(rgb), "memory": memory})
        for node in file.nodes:
            if id(node) not in self._joined:
                self._add(node)
        alpha, memory_out = self._known.get("alpha"), self._known.get("memory_out")
        if not isinstance(alpha, np.ndarray) or not isinstance(memory_out, _Values):
            raise UnknownOperation("outputs")
        self.plan = Plan(rgb, memory, cast(Array, alpha), memory_out, self._calls, self._kept)

    def _add(self, node: OnnxNode) -> None:
        operands = [self._known.get(name) for name in node.inputs]
        if (constant := fold(node, operands)) is not None:
            self._known[node.outputs[0]] = constant
            return
        method = getattr(self, f"_add_{node.operation.lower()}", None)
        if method is None:
            raise UnknownOperation(node.operation)
        method(node, *operands)

    # ------------------------------------------------------------------------------------------------ convolutions

    def _add_conv(self, node: OnnxNode, source: Any, weights: Any, _: Any = None) -> None:
        if isinstance(source, _Picture):
            self._add_picture(node, source, weights)
            return
        _require(isinstance(source, _Values), "Conv of something else")
        if _groups(node) > 1:
            self._add_block(node, source)
        elif _is_pointwise(node, weights):
            reader = self._only_reader(node)
            if reader is not None and reader.operation == "Add" and self._reads_picture(reader):
                self._pending[node.outputs[0]] = (node, source)
                return
            if reader is not None and reader.operation in ("Relu", "Clip"):
                reader = self._only_reader(reader)
            if reader is not None and _groups(reader) > 1:
                end, activation, _ = self._tail(node)
                self._add_block(self._join(end), source, expand=self._pointwise(node, source.even, activation))
            else:
                self._add_pointwise(node, source)
        else:
            _require(weights.shape[2:] == (3, 3) and _geometry(node) == (1, [1, 1, 1, 1]), "Conv with other sides")
            around = self._values(source.height, source.width, 9 * source.padded)
            self._call("unfold", source.array, source.height, source.width, source.padded, around.array)
            self._add_pointwise(node, around, unfolded=source.padded)

    def _add_picture(self, node: OnnxNode, picture: _Picture, weights: Any) -> None:
        """A convolution of the picture, and of other values that are added to it, before one within channels."""
        side = weights.shape[2]
        _require(weights.shape[1:] in ((3, 2, 2), (3, 3, 3)), "Conv of the picture")
        _require(_geometry(node) == (2, [0, 0, side - 2, side - 2]), "Conv of the picture")
        expand, source, reader = None, None, self._only_reader(node)
        if reader is not None and reader.operation == "Add":
            other = next((self._pending[name] for name in reader.inputs if name in self._pending), None)
            _require(other is not None, "Add to the picture")
            assert other is not None
            source = other[1]
            expand = self._pointwise(other[0], source.even, "")
            self._joined.add(id(reader))
            reader = self._only_reader(reader)
        assert reader is not None
        activation = reader.operation
        _require(activation in ("Relu", "Clip") and self._is_known(reader), "Conv of the picture")
        self._joined.add(id(reader))
        end = reader.outputs[0]
        layer, points_to = picture_layer(
            picture.array,
            weights,
            self._bias(node),
            factor=picture.factor,
            shift=picture.shift,
            activation=activation,
        )
        self._kept += points_to
        height, width = picture.array.shape[1:]
        source = source or _Values(picture.array, height // 2, width // 2, weights.shape[0])
        self._add_block(self._join(end), source, expand=expand, picture=layer)

    def _add_pointwise(self, node: OnnxNode, source: _Values, unfolded: int = 0) -> None:
        end, activation, added = self._tail(node)
        layer = self._pointwise(node, source.even, activation, unfolded)
        result = self._values(source.height, source.width, self._known[node.inputs[1]].shape[0], activation)
        _require(added is None or added.shape == result.array.shape, "Add")
        self._call("pointwise", layer, source.array, source.pixels, source.padded, added, result.array)
        self._known[end] = result

    def _add_block(self, node: OnnxNode, source: _Values, *, expand: Layer = None, picture: Layer = None) -> None:
        """A convolution within channels and one over them, after what ``expand`` and ``picture`` make of the source."""
        weights, (stride, pads) = self._known[node.inputs[1]], _geometry(node)
        side, middle = weights.shape[2], padded(weights.shape[0])
        after = pads[0] if stride == 1 else side - 2 - pads[0]
        _require(weights.shape[1:] in ((1, 3, 3), (1, 5, 5)), "Conv with groups")
        _require(pads[2] == after and stride in (1, 2) and _groups(node) == weights.shape[0], "Conv with groups")
        end, activation, added = self._tail(node)
        _require(added is None and activation in ("Relu", "Clip"), "Conv with groups without an activation")
        project = self._join(end)
        _require(_is_pointwise(project, self._known[project.inputs[1]]), "Conv with groups before something else")
        inner = self._depthwise(node, stride, pads[0], activation)
        end, activation, added = self._tail(project)
        height, width = ((length + pads[0] + after - side) // stride + 1 for length in (source.height, source.width))
        _require(activation in ("", "Relu", "Clip"), "activation of a block")
        result = self._values(height, width, self._known[project.inputs[1]].shape[0])
        _require(added is None or added.shape == result.array.shape, "Add")
        layer = self._pointwise(project, middle, activation)
        self._call("block", expand, picture, inner, layer, source.array, source.height, source.width, source.padded,
                   middle, added, result.array)  # fmt: skip
        self._known[end] = result

    def _join(self, name: str) -> OnnxNode:
        """The only node that reads this value, a convolution, which another kernel computes too."""
        readers = self._readers[name]
        _require(len(readers) == 1 and readers[0].operation == "Conv", "values that several nodes read")
        self._joined.add(id(readers[0]))
        return readers[0]

    def _reads_picture(self, node: OnnxNode) -> bool:
        """Whether one of the node's inputs is a convolution of the picture, which comes later."""
        makers = [self._makers[name] for name in node.inputs if name in self._makers]
        return any(m.operation == "Conv" and isinstance(self._known.get(m.inputs[0]), _Picture) for m in makers)

    def _bias(self, node: OnnxNode) -> Any:
        return self._known[node.inputs[2]] if len(node.inputs) > 2 else None

    def _pointwise(self, node: OnnxNode, inputs: int, activation: str, unfolded: int = 0) -> Layer:
        names, weights, bias = node.inputs[1:], self._known[node.inputs[1]], self._bias(node)
        return self._layers.pointwise(names, weights, bias, inputs=inputs, activation=activation, unfolded=unfolded)

    def _depthwise(self, node: OnnxNode, stride: int, before: int, activation: str) -> Layer:
        names, weights, bias = node.inputs[1:], self._known[node.inputs[1]], self._bias(node)
        return self._layers.depthwise(names, weights, bias, stride=stride, before=before, activation=activation)

    def _tail(self, node: OnnxNode) -> tuple[str, str, Array | None]:
        """What the kernel of this node also computes: (name of the last value, activation, what is added before it)."""
        end, added = node.outputs[0], None
        following = self._only_reader(node)
        if following is not None and following.operation == "Add":
            other = next((name for name in following.inputs if name != end), "")
            values = self._known.get(other)
            if isinstance(values, _Values):
                added, end = values.array, following.outputs[0]
                self._joined.add(id(following))
                following = self._only_reader(following)
                if following is not None and following.operation != "Relu":
                    following = None
            else:
                following = None
        if following is None or following.operation not in ACTIVATIONS or not self._is_known(following):
            return end, "", added
        self._joined.add(id(following))
        return following.outputs[0], following.operation, added

    def _is_known(self, node: OnnxNode) -> bool:
        """Whether the activation is one of the kernels': a Clip is from 0 to 6."""
        bounds = [self._known.get(name) for name in node.inputs[1:]]
        return node.operation != "Clip" or [float(b) for b in bounds if b is not None] == [0.0, 6.0]

    def _only_reader(self, node: OnnxNode) -> OnnxNode | None:
        readers = self._readers[node.outputs[0]]
        return readers[0] if len(readers) == 1 else None

    # ---------------------------------------------------------------------------------------------- everything else

    def _add_mul(self, node: OnnxNode, a: Any, b: Any) -> None:
        if isinstance(a, _Picture) and isinstance(b, np.ndarray) and not a.shift:
            self._known[node.outputs[0]] = _Picture(a.array, a.factor * float(b))
        else:
            self._combine(node, a, b)

    def _add_sub(self, node: OnnxNode, a: Any, b: Any) -> None:
        if isinstance(a, _Picture) and isinstance(b, np.ndarray):
            self._known[node.outputs[0]] = _Picture(a.array, a.factor, a.shift + float(b))
        elif isinstance(a, np.ndarray) and isinstance(b, _Values) and b.channels == b.padded:
            constant = self._values(b.height, b.width, b.channels)
            constant.array[:] = float(a)
            self._combine(node, constant, b)
        else:
            self._combine(node, a, b)

    def _add_add(self, node: OnnxNode, a: Any, b: Any) -> None:
        self._combine(node, a, b)

    def _combine(self, node: OnnxNode, a: Any, b: Any) -> None:
        _require(isinstance(a, _Values) and isinstance(b, _Values), node.operation)
        _require(a.padded == b.padded and b.pixels in (1, a.pixels), node.operation)
        result = self._values(a.height, a.width, a.channels)
        self._call("combine", _COMBINATIONS[node.operation], a.array, b.array, ctypes.c_int64(a.array.size),
                   ctypes.c_int64(b.array.size), result.array)  # fmt: skip
        self._known[node.outputs[0]] = result

    def _add_resize(self, node: OnnxNode, source: Any, _: Any, scales: Any) -> None:
        position = node.attributes.get("coordinate_transformation_mode", "half_pixel")
        _require(node.attributes.get("mode") == "linear" and position == "half_pixel", "Resize")
        _require(isinstance(source, _Values) and list(scales) == [1, 1, 2, 2], "Resize")
        end, activation, added = self._tail(node)
        result = self._values(2 * source.height, 2 * source.width, source.channels, activation)
        _require(added is None or added.shape == result.array.shape, "Add")
        self._call("double", source.array, source.height, source.width, source.padded, added,
                   ACTIVATIONS[activation], result.array)  # fmt: skip
        self._known[end] = result

    def _add_concat(self, node: OnnxNode, *parts: Any) -> None:
        _require(node.attributes.get("axis") == 1 and all(isinstance(part, _Values) for part in parts), "Concat")
        result = self._values(parts[0].height, parts[0].width, sum(part.channels for part in parts))
        at = 0
        for part in parts:
            self._copy(part, 0, part.channels, result, at)
            at += part.channels
        self._known[node.outputs[0]] = result

    def _add_split(self, node: OnnxNode, source: Any, sizes: Any = None) -> None:
        _require(node.attributes.get("axis") == 1 and isinstance(source, _Values) and sizes is not None, "Split")
        bounds = np.concatenate([[0], np.cumsum(sizes)])
        for name, (start, stop) in zip(node.outputs, pairwise(bounds), strict=True):
            self._known[name] = self._part(source, int(start), int(stop))

    def _add_slice(self, node: OnnxNode, source: Any, *bounds: Any) -> None:
        """``bounds``: starts, ends, axes and perhaps steps."""
        _require(isinstance(source, _Values) and all(np.size(bound) == 1 for bound in bounds), "Slice")
        start, stop, axis, step = (int(np.ravel(bound)[0]) for bound in (*bounds, 1)[:4])
        _require(axis == step == 1 and 0 <= start < stop <= source.channels, "Slice")
        self._known[node.outputs[0]] = self._part(source, start, stop)

    def _part(self, source: _Values, start: int, stop: int) -> _Values:
        result = self._values(source.height, source.width, stop - start)
        self._copy(source, start, stop - start, result, 0)
        return result

    def _copy(self, source: _Values, start: int, channels: int, target: _Values, at: int) -> None:
        self._call("copy", source.array, source.pixels, start, source.padded, channels, at, target.padded, target.array)

    def _add_reducemean(self, node: OnnxNode, source: Any, axes: Any = None) -> None:
        sides = node.attributes.get("axes") if axes is None else list(axes)
        _require(isinstance(source, _Values) and sides == [2, 3], "ReduceMean")
        _require(bool(node.attributes.get("keepdims", 1)), "ReduceMean")
        result = self._values(1, 1, source.channels)
        self._call("mean", source.array, source.pixels, source.padded, result.array)
        self._known[node.outputs[0]] = result

    def _add_depthtospace(self, node: OnnxNode, source: Any) -> None:
        _require(isinstance(source, _Values) and source.channels == 4, "DepthToSpace")
        _require(node.attributes.get("blocksize") == 2, "DepthToSpace")
        plane = np.zeros((2 * source.height, 2 * source.width), np.float32)
        self._call("shuffle", source.array, source.height, source.width, source.padded, plane)
        self._known[node.outputs[0]] = _Picture(plane)

    def _add_sigmoid(self, node: OnnxNode, source: Any) -> None:
        if isinstance(source, _Picture) and source.array.ndim == 2:
            self._call(
                "activate", source.array, ctypes.c_int64(source.array.size), ACTIVATIONS["Sigmoid"], source.array
            )
            self._known[node.outputs[0]] = source.array
        else:
            self._activate(node, source)

    def _add_tanh(self, node: OnnxNode, source: Any) -> None:
        self._activate(node, source)

    def _add_relu(self, node: OnnxNode, source: Any) -> None:
        self._activate(node, source)

    def _activate(self, node: OnnxNode, source: Any) -> None:
        _require(isinstance(source, _Values), node.operation)
        result = self._values(source.height, source.width, source.channels, node.operation)
        self._call("activate", source.array, ctypes.c_int64(source.array.size), ACTIVATIONS[node.operation],
                   result.array)  # fmt: skip
        self._known[node.outputs[0]] = result

    def _add_shape(self, node: OnnxNode, source: Any) -> None:
        _require(isinstance(source, _Values), "Shape")
        self._known[node.outputs[0]] = np.array([1, source.channels, source.height, source.width])

    def _values(self, height: int, width: int, channels: int, activation: str = "") -> _Values:
        _require(activation in _KEEPS_ZERO or padded(channels) == channels, "activation of padded channels")
        return _Values(np.zeros((height * width, padded(channels)), np.float32), height, width, channels)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, f"alphareel_{name}")
        converted = tuple(map(argument, arguments))
        self._kept += arguments
        self._calls.append(lambda: int(function(*converted)))


def _require(condition: object, what: str) -> None:
    if not condition:
        raise UnknownOperation(what)


def _is_pointwise(node: OnnxNode, weights: Any) -> bool:
    """Whether it is a convolution over channels alone."""
    return _groups(node) == 1 and weights.shape[2:] == (1, 1) and _geometry(node) == (1, [0, 0, 0, 0])


def _groups(node: OnnxNode) -> int:
    """0 for another node than a convolution."""
    return int(node.attributes.get("group", 1)) if node.operation == "Conv" else 0


def _geometry(node: OnnxNode) -> tuple[int, list[int]]:
    """(stride, padding at the top, left, bottom, right). Raises UnknownOperation for other than square ones."""
    strides, dilations = node.attributes.get("strides", [1, 1]), node.attributes.get("dilations", [1, 1])
    pads = list(node.attributes.get("pads", [0, 0, 0, 0]))
    _require(node.attributes.get("auto_pad", "NOTSET") == "NOTSET" and set(dilations) == {1}, "Conv with padding")
    _require(strides[0] == strides[1] and pads[0] == pads[1] and pads[2] == pads[3], "Conv that is not square")
    return int(strides[0]), pads
