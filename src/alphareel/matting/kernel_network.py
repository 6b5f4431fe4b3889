"""Runs the networks of alphareel in compiled code, on processors that multiply 16-bit integers fast.

It knows the operations that those networks use, and refuses every other one; ONNX Runtime runs what it refuses.
Why, and how close the mattes are: docs/decisions/0059-integer-network.md.
"""

import ctypes
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from alphareel.domain.errors import OutOfMemory, WeightsInvalid
from alphareel.imaging import kernels
from alphareel.matting.onnx_file import TYPES, OnnxFile, OnnxNode, Shape, read_onnx

Array: TypeAlias = NDArray[np.float32]

_PLANS = 4  # that are kept for the next frames: two sizes of two clips
_LANES = 16  # channels are padded to a multiple of it
_ACTIVATIONS = {"": 0, "Relu": 1, "Clip": 2, "Sigmoid": 3, "Tanh": 4}
_KEEPS_ZERO = ("", "Relu", "Clip", "Tanh")
_COMBINATIONS = {"Add": 0, "Mul": 1, "Sub": 2}


class UnknownOperation(Exception):
    """The network has an operation, or a combination of them, that no kernel computes."""


def is_supported() -> bool:
    """Whether the kernels are installed and this processor has the instructions that they need."""
    return kernels.library() is not None and bool(kernels.library().alphareel_network_supported())


def open_network(path: Path) -> "KernelNetwork | None":
    """The network in this file; None if the kernels cannot run it."""
    if not is_supported():
        return None
    # ONNX Runtime says better what is wrong with a file, and a planner that meets something odd does not know it either
    with suppress(UnknownOperation, WeightsInvalid, LookupError, TypeError, ValueError, AttributeError, AssertionError):
        network = KernelNetwork(path, read_onnx(path))
        network.prepare(64, 64)
        return network
    return None


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
class _Plan:
    """The calls that run a network at one size, and the arrays that they read and write.

    ``kept``: what the calls know the addresses of.
    """

    rgb: Array
    memory: _Values
    alpha: Array
    memory_out: _Values
    calls: Sequence[Callable[[], int]]
    kept: Sequence[Any]


class KernelNetwork:
    """A loaded network that any number of threads may use, like ``OnnxSession``. Inputs ``rgb`` and ``memory``."""

    def __init__(self, path: Path, file: OnnxFile) -> None:
        self.path = path
        self.inputs: Mapping[str, Shape] = file.inputs
        self.outputs: Mapping[str, Shape] = file.outputs
        self.metadata: Mapping[str, str] = file.metadata
        self._file = _fold(file)
        self._layers: dict[Any, Any] = {}  # packed weights, which all plans share
        self._lock = threading.Lock()
        self._plans: deque[_Plan] = deque(maxlen=_PLANS)  # that are not in use

    def prepare(self, height: int, width: int) -> None:
        """Make a plan for this size ahead. Raises UnknownOperation."""
        self._give_back(_Planner(self._file, self._layers, height, width).plan)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """Run the network and return the named outputs. Raises OutOfMemory."""
        rgb, memory = feeds["rgb"], feeds["memory"]
        plan = self._take(rgb.shape[2], rgb.shape[3])
        plan.rgb[:] = rgb[0]
        plan.memory.array.reshape((*memory.shape[2:], -1))[..., : memory.shape[1]] = memory[0].transpose(1, 2, 0)
        for call in plan.calls:
            if call():
                raise OutOfMemory(f"{self.path.name} ran out of memory.", hint="Use a smaller clip.")
        kept = plan.memory_out
        planes = kept.array[:, : kept.channels].reshape(kept.height, kept.width, kept.channels).transpose(2, 0, 1)
        results = {"alpha": plan.alpha[None, None].copy(), "memory_out": np.ascontiguousarray(planes)[None]}
        self._give_back(plan)
        return [results[name] for name in outputs]

    def expect(self, *, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """A network with others has no plan."""

    def _take(self, height: int, width: int) -> _Plan:
        with self._lock:
            for plan in self._plans:
                if plan.rgb.shape[1:] == (height, width):
                    self._plans.remove(plan)
                    return plan
        return _Planner(self._file, self._layers, height, width).plan

    def _give_back(self, plan: _Plan) -> None:
        with self._lock:
            self._plans.append(plan)


class _Planner:
    """Makes a plan: goes through the nodes in order and joins those that one kernel computes."""

    def __init__(self, file: OnnxFile, layers: dict[Any, Any], height: int, width: int) -> None:
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
        self.plan = _Plan(rgb, memory, cast(Array, alpha), memory_out, self._calls, self._kept)

    def _add(self, node: OnnxNode) -> None:
        operands = [self._known.get(name) for name in node.inputs]
        if _is_foldable(node, operands):
            self._known[node.outputs[0]] = _FOLDED[node.operation](node, *operands)
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
        side, outputs = weights.shape[2], weights.shape[0]
        _require(weights.shape[1:] in ((3, 2, 2), (3, 3, 3)), "Conv of the picture")
        _require(_geometry(node) == (2, [0, 0, side - 2, side - 2]), "Conv of the picture")
        padded = -(-outputs // _LANES) * _LANES
        arranged = np.zeros((3, side, side, padded), np.float32)
        arranged[..., :outputs] = weights.transpose(1, 2, 3, 0)
        bias = _padded_bias(self._bias(node), outputs)
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
        height, width = picture.array.shape[1:]
        layer = _PictureLayer(picture.array.ctypes.data, arranged.ctypes.data, bias.ctypes.data, picture.factor,
                              picture.shift, height, width, side, padded, _ACTIVATIONS[activation])  # fmt: skip
        self._kept += [arranged, bias, layer]
        source = source or _Values(picture.array, height // 2, width // 2, outputs)
        self._add_block(self._join(end), source, expand=expand, picture=ctypes.byref(layer))

    def _add_pointwise(self, node: OnnxNode, source: _Values, unfolded: int = 0) -> None:
        end, activation, added = self._tail(node)
        layer = self._pointwise(node, source.even, activation, unfolded)
        result = self._values(source.height, source.width, self._known[node.inputs[1]].shape[0], activation)
        _require(added is None or added.shape == result.array.shape, "Add")
        self._call("pointwise", layer, source.array, source.pixels, source.padded, added, result.array)
        self._known[end] = result

    def _add_block(self, node: OnnxNode, source: _Values, *, expand: Any = None, picture: Any = None) -> None:
        """A convolution within channels and one over them, after what ``expand`` and ``picture`` make of the source."""
        weights, (stride, pads) = self._known[node.inputs[1]], _geometry(node)
        side, middle = weights.shape[2], -(-weights.shape[0] // _LANES) * _LANES
        after = pads[0] if stride == 1 else side - 2 - pads[0]
        _require(weights.shape[1:] in ((1, 3, 3), (1, 5, 5)), "Conv with groups")
        _require(pads[2] == after and stride in (1, 2) and _groups(node) == weights.shape[0], "Conv with groups")
        end, activation, added = self._tail(node)
        _require(added is None and activation in ("Relu", "Clip"), "Conv with groups without an activation")
        project = self._join(end)
        _require(_is_pointwise(project, self._known[project.inputs[1]]), "Conv with groups before something else")
        inner = self._depthwise(node, middle, stride, pads[0], activation)
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

    def _pointwise(self, node: OnnxNode, inputs: int, activation: str, unfolded: int = 0) -> Any:
        """The layer of a convolution over so many inputs; with ``unfolded`` channels of nine pixels each."""
        weights = self._known[node.inputs[1]]
        key = (*node.inputs[1:], inputs, activation)
        if key not in self._layers:
            outputs = weights.shape[0]
            arranged = np.zeros((-(-outputs // _LANES) * _LANES, inputs), np.float32)
            if unfolded:
                nine = arranged.reshape(-1, 9, unfolded)
                nine[:outputs, :, : weights.shape[1]] = weights.transpose(0, 2, 3, 1).reshape(outputs, 9, -1)
            else:
                arranged[:outputs, : weights.shape[1]] = weights[:, :, 0, 0]
            packed, scale = np.empty(arranged.size, np.int16), np.empty(arranged.shape[0], np.float32)
            chunk = self._library.alphareel_pack(*map(_argument, (arranged, *arranged.shape, packed, scale)))
            padded_bias = _padded_bias(self._bias(node), outputs)
            layer = _PointwiseLayer(
                *(a.ctypes.data for a in (packed, scale, padded_bias)),
                inputs // 2,
                chunk,
                arranged.shape[0],
                _ACTIVATIONS[activation],
            )
            self._layers.setdefault(key, (layer, packed, scale, padded_bias))  # another thread may be first
        return ctypes.byref(self._layers[key][0])

    def _depthwise(self, node: OnnxNode, padded: int, stride: int, before: int, activation: str) -> Any:
        weights = self._known[node.inputs[1]]
        key = (*node.inputs[1:], stride, before, activation)
        if key not in self._layers:
            channels, side = weights.shape[0], weights.shape[2]
            arranged = np.zeros((side, side, padded), np.float32)
            arranged[..., :channels] = weights[:, 0].transpose(1, 2, 0)
            bias = _padded_bias(self._bias(node), channels)
            layer = _DepthwiseLayer(
                arranged.ctypes.data, bias.ctypes.data, side, stride, before, _ACTIVATIONS[activation]
            )
            self._layers.setdefault(key, (layer, arranged, bias))
        return ctypes.byref(self._layers[key][0])

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
        if following is None or following.operation not in _ACTIVATIONS or not self._is_known(following):
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
                   _ACTIVATIONS[activation], result.array)  # fmt: skip
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
                "activate", source.array, ctypes.c_int64(source.array.size), _ACTIVATIONS["Sigmoid"], source.array
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
        self._call("activate", source.array, ctypes.c_int64(source.array.size), _ACTIVATIONS[node.operation],
                   result.array)  # fmt: skip
        self._known[node.outputs[0]] = result

    def _add_shape(self, node: OnnxNode, source: Any) -> None:
        _require(isinstance(source, _Values), "Shape")
        self._known[node.outputs[0]] = np.array([1, source.channels, source.height, source.width])

    def _values(self, height: int, width: int, channels: int, activation: str = "") -> _Values:
        padded = -(-channels // _LANES) * _LANES
        _require(activation in _KEEPS_ZERO or padded == channels, "activation of padded channels")
        return _Values(np.zeros((height * width, padded), np.float32), height, width, channels)

    def _call(self, name: str, *arguments: Any) -> None:
        function = getattr(self._library, f"alphareel_{name}")
        converted = tuple(map(_argument, arguments))
        self._kept += arguments
        self._calls.append(lambda: int(function(*converted)))


def _fold(file: OnnxFile) -> OnnxFile:
    """The network without the operations on constants, such as weights that are stored in 8 bits."""
    constants, rest = dict(file.constants), []
    for node in file.nodes:
        operands = [constants.get(name) for name in node.inputs]
        if _is_foldable(node, operands):
            constants[node.outputs[0]] = _FOLDED[node.operation](node, *operands)
        else:
            rest.append(node)
    read = {name for node in rest for name in node.inputs}
    return replace(file, nodes=tuple(rest), constants={name: constants[name] for name in constants if name in read})


def _is_foldable(node: OnnxNode, operands: Sequence[Any]) -> bool:
    return node.operation in _FOLDED and all(isinstance(value, np.ndarray) for value in operands)


def _argument(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return ctypes.c_void_p(value.ctypes.data)
    return ctypes.c_float(value) if isinstance(value, float) else value


def _padded_bias(bias: Any, outputs: int) -> Array:
    padded = np.zeros(-(-outputs // _LANES) * _LANES, np.float32)
    if bias is not None:
        padded[:outputs] = bias
    return padded


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


# Operations on constants.
_FOLDED: dict[str, Callable[..., Any]] = {
    "Constant": lambda node: np.asarray(next(iter(node.attributes.values()))),
    "Cast": lambda node, value: value.astype(TYPES[node.attributes["to"]]),
    "Mul": lambda _, a, b: a * b,
    "Add": lambda _, a, b: a + b,
    "Div": lambda _, a, b: a // b if a.dtype.kind == "i" else a / b,
    "Gather": lambda node, a, indices: np.take(a, indices, axis=node.attributes.get("axis", 0)),
}
