"""Reads networks from ONNX files without ONNX Runtime: nodes, constants and metadata; computes what is constant.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from alphareel.domain.errors import WeightsInvalid

Constant: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int | None, ...]

TYPES: dict[int, type[np.generic]] = {
    1: np.float32,
    2: np.uint8,
    3: np.int8,
    6: np.int32,
    7: np.int64,
    10: np.float16,
    11: np.float64,
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxNode:
    """One operation of a network."""

    operation: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True)
class OnnxFile:
    """A network. ``inputs``, ``outputs``: shapes of float32 values; None for a side that may vary."""

    nodes: tuple[OnnxNode, ...]
    constants: Mapping[str, Constant]
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    metadata: Mapping[str, str]


def read_onnx(path: Path) -> OnnxFile:
    """Read the file. Raises WeightsInvalid if it is not a network, or has something that this module cannot read."""
    try:
        return _network(memoryview(path.read_bytes()))
    except (IndexError, KeyError, ValueError, struct.error) as error:
        raise WeightsInvalid(f"{path.name} is not a network that can be read.", hint="Install it again.") from error


def fold_constants(file: OnnxFile) -> OnnxFile:
    """The network without the operations on constants, such as weights that are stored in 8 bits."""
    constants, rest = dict(file.constants), []
    for node in file.nodes:
        operands = [constants.get(name) for name in node.inputs]
        if (constant := fold(node, operands)) is not None:
            constants[node.outputs[0]] = constant
        else:
            rest.append(node)
    read = {name for node in rest for name in node.inputs}
    return replace(file, nodes=tuple(rest), constants={name: constants[name] for name in constants if name in read})


def fold(node: OnnxNode, operands: Sequence[Any]) -> Constant | None:
    """What the node computes; None unless all operands are constants and this module knows the operation."""
    if node.operation not in _FOLDABLE or not all(isinstance(value, np.ndarray) for value in operands):
        return None
    return _FOLDABLE[node.operation](node, *operands)


def _network(model: memoryview) -> OnnxFile:
    graph = memoryview(b"")
    metadata = {}
    for field, value in _fields(model):
        if field == 7:
            graph = value
        elif field == 14:
            entry = dict(_fields(value))
            metadata[_text(entry[1])] = _text(entry.get(2, b""))
    if not graph:
        raise ValueError("there is no graph")
    parts: dict[int, list[memoryview]] = {number: [] for number in (1, 5, 11, 12)}
    for field, value in _fields(graph):
        if field in parts:
            parts[field].append(value)
    constants = dict(map(_constant, parts[5]))
    shapes = [dict(map(_shape, parts[number])) for number in (11, 12)]
    inputs = {name: shape for name, shape in shapes[0].items() if name not in constants}
    return OnnxFile(tuple(map(_node, parts[1])), constants, inputs, shapes[1], metadata)


def _node(data: memoryview) -> OnnxNode:
    inputs, outputs, operation, attributes = [], [], "", {}
    for field, value in _fields(data):
        if field == 1:
            inputs.append(_text(value))
        elif field == 2:
            outputs.append(_text(value))
        elif field == 4:
            operation = _text(value)
        elif field == 5:
            name, attribute = _attribute(value)
            attributes[name] = attribute
    return OnnxNode(operation, tuple(inputs), tuple(outputs), attributes)


def _attribute(data: memoryview) -> tuple[str, Any]:
    name, result = "", None
    integers: list[int] = []
    for field, value in _fields(data):
        if field == 1:
            name = _text(value)
        elif field == 2:
            result = struct.unpack("<f", value)[0]
        elif field == 3:
            result = _signed(value)
        elif field == 4:
            result = _text(value)
        elif field == 5:
            result = _constant(value)[1]
        elif field == 8:
            integers += _integers(value)
    return name, integers or result


def _constant(data: memoryview) -> tuple[str, Constant]:
    name, kind, raw, values = "", 0, None, None
    dimensions: list[int] = []
    for field, value in _fields(data):
        if field == 1:
            dimensions += _integers(value)
        elif field == 2:
            kind = value
        elif field == 4:
            values = np.frombuffer(value, np.float32)
        elif field == 7:
            values = np.array(_integers(value), np.int64)
        elif field == 8:
            name = _text(value)
        elif field == 9:
            raw = value
    array = np.frombuffer(raw, TYPES[kind]) if raw is not None else values
    if array is None:
        array = np.zeros(0, TYPES[kind])
    return name, array.astype(TYPES[kind], copy=False).reshape(dimensions)


def _shape(data: memoryview) -> tuple[str, Shape]:
    """The name of an input or output, and its shape."""
    fields = dict(_fields(data))
    tensor = dict(_fields(dict(_fields(fields[2]))[1]))
    sides = (dict(_fields(side)) for field, side in _fields(tensor.get(2, b"")) if field == 1)
    return _text(fields[1]), tuple(side.get(1) for side in sides)


def _integers(value: Any) -> Sequence[int]:
    """Packed or single integers."""
    if isinstance(value, int):
        return [_signed(value)]
    result, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        result.append(_signed(number))
    return result


def _fields(data: Any) -> Iterator[tuple[int, Any]]:
    """(field number, value) of a message: an int, or the bytes of anything else."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == _BYTES:
            size, at = _varint(data, at)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}[kind]
        if at + size > len(data):
            raise ValueError("the file ends in the middle of a field")
        yield key >> 3, data[at : at + size]
        at += size


def _varint(data: Any, at: int) -> tuple[int, int]:
    """The number at this position, and the position after it."""
    result = shift = 0
    while True:
        byte = data[at]
        at += 1
        result |= (byte & 127) << shift
        if byte < 128:
            return result, at
        shift += 7


def _signed(value: int) -> int:
    return value - 2**64 if value >= 2**63 else value


def _text(value: Any) -> str:
    return bytes(value).decode()


_FOLDABLE: Mapping[str, Callable[..., Constant]] = {
    "Constant": lambda node: np.asarray(next(iter(node.attributes.values()))),
    "Cast": lambda node, value: value.astype(TYPES[node.attributes["to"]]),
    "Mul": lambda _, a, b: a * b,
    "Add": lambda _, a, b: a + b,
    "Div": lambda _, a, b: a // b if a.dtype.kind == "i" else a / b,
    "Gather": lambda node, a, indices: np.take(a, indices, axis=node.attributes.get("axis", 0)),
}
