"""Says a network's graph in fewer steps: the same numbers up to rounding, at less cost for the runtime.

    python optimize_graph.py ../src/alphareel/matting/models/builtin.onnx

Two things the exporter spells out keep ONNX Runtime from its own layout of the data: padding before a convolution,
and the picture's pixels put beside each other as channels. Both are convolutions that know more.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper, numpy_helper

# how pixel_unshuffle(x, 2) reaches a graph, last step first
_UNSHUFFLE = ("Squeeze", "Reshape", "Transpose", "Reshape", "Reshape", "Unsqueeze")


def optimize(model: onnx.ModelProto) -> None:
    """Rewrite the graph in place; without effect on one that was rewritten before."""
    fold_pads(model)
    see_in_pairs(model.graph)
    drop_unused(model.graph)


def fold_pads(model: onnx.ModelProto) -> None:
    """Let convolutions pad by themselves, more at one side than at the other where that is what was asked."""
    graph = model.graph
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    amounts = _constants(model, [node.input[1] for node in pads.values()])
    for node in graph.node:
        if node.op_type != "Conv" or node.input[0] not in pads:
            continue
        pad = pads[node.input[0]]
        _, _, top, left, _, _, bottom, right = amounts[pad.input[1]]
        own = next(a for a in node.attribute if a.name == "pads")
        own.ints[:] = [o + int(n) for o, n in zip(own.ints, (top, left, bottom, right), strict=True)]
        node.input[0] = pad.input[0]


def see_in_pairs(graph: onnx.GraphProto) -> None:
    """A 1x1 convolution of [features, unshuffled picture] becomes one of the features and a 2x2 one of the picture."""
    makers = {output: node for node in graph.node for output in node.output}
    for node in list(graph.node):
        joined = makers.get(node.input[0]) if node.op_type == "Conv" else None
        picture = _unshuffled(joined.input[1], makers) if joined is not None and joined.op_type == "Concat" else None
        if joined is not None and picture is not None:
            _split(graph, node, joined.input[0], picture)


def drop_unused(graph: onnx.GraphProto) -> None:
    """Take away nodes and arrays that nothing asks for any more."""
    wanted = {output.name for output in graph.output}
    kept = []
    for node in reversed(graph.node):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            kept.append(node)
    arrays = [array for array in graph.initializer if array.name in wanted]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(arrays)


def _constants(model: onnx.ModelProto, names: list[str]) -> dict[str, NDArray[np.int64]]:
    """Values that do not depend on the picture, as the runtime works them out."""
    if not names:
        return {}
    asked = onnx.ModelProto()
    asked.CopyFrom(model)
    asked.graph.output.extend(helper.make_tensor_value_info(name, onnx.TensorProto.INT64, None) for name in set(names))
    session = ort.InferenceSession(asked.SerializeToString(), providers=["CPUExecutionProvider"])
    channels = session.get_inputs()[1].shape[1]
    feeds = {"rgb": np.zeros((1, 3, 64, 96), np.float32), "memory": np.zeros((1, channels, 4, 6), np.float32)}
    return dict(zip(names, session.run(names, feeds), strict=True))


def _unshuffled(name: str, makers: dict[str, onnx.NodeProto]) -> str | None:
    """What was unshuffled into ``name``; None when it was not."""
    for kind in _UNSHUFFLE:
        node = makers.get(name)
        if node is None or node.op_type != kind:
            return None
        name = node.input[0]
    return name


def _split(graph: onnx.GraphProto, node: onnx.NodeProto, features: str, picture: str) -> None:
    weights = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    both = weights[node.input[1]]
    outputs, seen = both.shape[0], 3 * 4
    near, far = both[:, :-seen], both[:, -seen:].reshape(outputs, 3, 2, 2)
    names = [f"{node.input[1]}.features", f"{node.input[1]}.picture"]
    graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(array), name)
        for array, name in zip((near, far), names, strict=True)
    )
    parts = [f"{node.output[0]}.{part}" for part in ("features", "picture")]
    made = [
        helper.make_node("Conv", [features, names[0], node.input[2]], [parts[0]], kernel_shape=[1, 1]),
        helper.make_node("Conv", [picture, names[1]], [parts[1]], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Add", parts, [node.output[0]]),
    ]
    place = list(graph.node).index(node)
    graph.node.remove(node)
    for step, new in enumerate(made):
        graph.node.insert(place + step, new)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="the file to rewrite")
    path = parser.parse_args().path
    model = onnx.load(path)
    before = len(model.graph.node)
    optimize(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    print(f"{path}: {len(model.graph.node)} nodes, {before} before")


if __name__ == "__main__":
    main()
