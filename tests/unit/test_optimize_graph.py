"""The shipped network's graph: rewritten to cost less, with the same answers."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "src/alphareel/matting/models/builtin.onnx"
FLOAT = onnx.TensorProto.FLOAT


@pytest.fixture(scope="module")
def optimize_graph() -> ModuleType:
    spec = importlib.util.spec_from_file_location("optimize_graph", ROOT / "training/optimize_graph.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["optimize_graph"] = module
    spec.loader.exec_module(module)
    return module


def spelled_out() -> onnx.ModelProto:
    """A network that pads before it looks, and sees the picture's pixels in pairs beside its features."""
    rng = np.random.default_rng(5)
    arrays = {
        "pads": np.array([0, 0, 0, 0, 0, 0, 1, 1], np.int64),
        "look": rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        "mix": rng.standard_normal((2, 16, 1, 1)).astype(np.float32),
        "bias": rng.standard_normal(2).astype(np.float32),
        "axis": np.array([2], np.int64),
        "deep": np.array([1, 3, 1, 64, 96], np.int64),
        "pairs": np.array([1, 3, 32, 2, 48, 2], np.int64),
        "beside": np.array([1, 12, 1, 32, 48], np.int64),
    }
    nodes = [
        helper.make_node("Pad", ["rgb", "pads", ""], ["padded"]),
        helper.make_node("Conv", ["padded", "look"], ["features"], pads=[0, 0, 0, 0], strides=[2, 2]),
        helper.make_node("Unsqueeze", ["rgb", "axis"], ["a"]),
        helper.make_node("Reshape", ["a", "deep"], ["b"]),
        helper.make_node("Reshape", ["b", "pairs"], ["c"]),
        helper.make_node("Transpose", ["c"], ["d"], perm=[0, 1, 3, 5, 2, 4]),
        helper.make_node("Reshape", ["d", "beside"], ["e"]),
        helper.make_node("Squeeze", ["e", "axis"], ["f"]),
        helper.make_node("Concat", ["features", "f"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "mix", "bias"], ["alpha"]),
        helper.make_node("Identity", ["memory"], ["memory_out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "spelled out",
        [
            helper.make_tensor_value_info("rgb", FLOAT, [1, 3, 64, 96]),
            helper.make_tensor_value_info("memory", FLOAT, [1, 2, "h", "w"]),
        ],
        [
            helper.make_tensor_value_info("alpha", FLOAT, [1, 2, 32, 48]),
            helper.make_tensor_value_info("memory_out", FLOAT, [1, 2, "h", "w"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],  # type: ignore[arg-type]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def answer(model: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    rgb = np.random.default_rng(6).random((1, 3, 64, 96), np.float32)
    made: np.ndarray = session.run(["alpha"], {"rgb": rgb, "memory": np.zeros((1, 2, 4, 6), np.float32)})[0]
    return made


def test_an_optimized_network_answers_as_before_in_fewer_steps(optimize_graph):
    model = spelled_out()
    before = answer(model)
    optimize_graph.optimize(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Conv", "Conv", "Add", "Identity"]
    np.testing.assert_allclose(answer(model), before, atol=1e-5)


def test_the_shipped_network_has_nothing_left_to_optimize(optimize_graph):
    model = onnx.load(SHIPPED)
    optimize_graph.optimize(model)
    assert model.SerializeToString() == SHIPPED.read_bytes()
    assert "Pad" not in {node.op_type for node in model.graph.node}
