"""Networks are read from ONNX files without ONNX Runtime."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from alphareel.domain.errors import WeightsInvalid
from alphareel.matting.models import builtin
from alphareel.matting.onnx_file import fold_constants, read_onnx


def write(path, nodes=(), constants=(), metadata=None):
    graph = helper.make_graph(
        list(nodes),
        "network",
        [helper.make_tensor_value_info("rgb", TensorProto.FLOAT, [1, 3, "height", "width"])],
        [helper.make_tensor_value_info("alpha", TensorProto.FLOAT, [1, 1, "height", "width"])],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, metadata or {})
    path.write_bytes(model.SerializeToString())
    return path


def test_nodes_have_their_attributes(tmp_path):
    node = helper.make_node("Conv", ["rgb", "w"], ["alpha"], group=3, pads=[0, -1, 200, 1], mode="linear", alpha=0.5)
    (read,) = read_onnx(write(tmp_path / "net.onnx", [node])).nodes
    assert (read.operation, read.inputs, read.outputs) == ("Conv", ("rgb", "w"), ("alpha",))
    assert read.attributes == {"group": 3, "pads": [0, -1, 200, 1], "mode": "linear", "alpha": 0.5}


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int8, np.uint8, np.int32, np.int64])
def test_constants_have_their_type_and_shape(tmp_path, kind):
    value = np.arange(-6, 6).astype(kind).reshape(3, 4)
    read = read_onnx(write(tmp_path / "net.onnx", constants=[("w", value), ("one", np.array(1, kind))]))
    np.testing.assert_array_equal(read.constants["w"], value, strict=True)
    assert read.constants["one"].shape == ()


def test_constants_that_are_stored_as_numbers_are_read(tmp_path):
    for name, kind, values in (("f", TensorProto.FLOAT, [0.5, -2.0]), ("n", TensorProto.INT64, [3, -4])):
        node = helper.make_node("Constant", [], [name], value=helper.make_tensor(name, kind, [2], values))
        (read,) = read_onnx(write(tmp_path / "net.onnx", [node])).nodes
        np.testing.assert_array_equal(read.attributes["value"], values)


def test_inputs_outputs_and_metadata_are_read(tmp_path):
    read = read_onnx(write(tmp_path / "net.onnx", metadata={"area": "131072", "version": "ä"}))
    assert read.inputs == {"rgb": (1, 3, None, None)}
    assert read.outputs == {"alpha": (1, 1, None, None)}
    assert read.metadata == {"area": "131072", "version": "ä"}


def test_the_shipped_network_is_read_as_onnx_reads_it():
    model, read = onnx.load(builtin.PATH), read_onnx(builtin.PATH)
    assert [node.operation for node in read.nodes] == [node.op_type for node in model.graph.node]
    assert list(read.constants) == [tensor.name for tensor in model.graph.initializer]
    for tensor in model.graph.initializer:
        np.testing.assert_array_equal(read.constants[tensor.name], numpy_helper.to_array(tensor), strict=True)


@pytest.mark.parametrize("content", [b"", b"not a network", bytes(range(1, 200)), b"\x3a\xff\xff\xff\x0f"])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(WeightsInvalid, match=r"net\.onnx"):
        read_onnx(path)


def test_a_file_that_ends_early_is_refused(tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(builtin.PATH.read_bytes()[:-1000])
    with pytest.raises(WeightsInvalid):
        read_onnx(path)


def test_operations_on_constants_are_computed_and_the_others_stay(tmp_path):
    nodes = [
        helper.make_node("Cast", ["steps"], ["cast"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["cast", "unit"], ["weights"]),
        helper.make_node("Mul", ["rgb", "weights"], ["scaled"]),
        helper.make_node("Relu", ["scaled"], ["alpha"]),
    ]
    constants = [("steps", np.array([-3, 4], np.int8)), ("unit", np.array(0.5, np.float32))]
    folded = fold_constants(read_onnx(write(tmp_path / "net.onnx", nodes, constants)))
    assert [node.operation for node in folded.nodes] == ["Mul", "Relu"]
    np.testing.assert_array_equal(folded.constants["weights"], np.array([-1.5, 2], np.float32), strict=True)
    assert set(folded.constants) == {"weights"}, "what nothing reads any more is gone"
