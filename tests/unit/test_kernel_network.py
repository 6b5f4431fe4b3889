"""The networks in compiled code compute what ONNX Runtime computes, and leave to it what they do not know."""

import ctypes
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from alphareel.imaging import kernels
from alphareel.matting import kernel_network, runtime
from alphareel.matting.kernel_network import KernelNetwork, open_network
from alphareel.matting.models import builtin, subject
from alphareel.matting.runtime import OnnxSession, Runtime
from alphareel.testing.networks import make_builtin

needs_kernels = pytest.mark.skipif(
    kernels.library() is None, reason="alphareel-kernels is not installed, or has no library"
)
needs_instructions = pytest.mark.skipif(
    not kernel_network.is_supported(), reason="this processor does not multiply 16-bit integers fast"
)
LARGEST = 8191
OUTPUTS = ("alpha", "memory_out")


def picture(height, width, seed=5):
    """A smooth picture (1, 3, h, w) in 0..1."""
    coarse = np.random.default_rng(seed).random((7, 9, 3), np.float32)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR).transpose(2, 0, 1)[None].copy()


def memory(network, height, width):
    return np.zeros((1, network.inputs["memory"][1], height // 16, width // 16), np.float32)


def two_frames(network, height, width):
    """Alpha and memory of the second of two frames."""
    kept = memory(network, height, width)
    for seed in (5, 6):
        alpha, kept = network.run(OUTPUTS, {"rgb": picture(height, width, seed), "memory": kept})
    return alpha, kept


@pytest.fixture(scope="module")
def networks():
    """The shipped network in compiled code, and in ONNX Runtime."""
    return open_network(builtin.PATH), Runtime(threads=1).open(builtin.PATH)


@needs_instructions
@pytest.mark.parametrize(("height", "width"), [(64, 64), (96, 32), (32, 224), (160, 288)])
def test_mattes_are_those_of_onnx_runtime(networks, height, width):
    (alpha, kept), (true_alpha, true_kept) = (two_frames(network, height, width) for network in networks)
    assert alpha.shape == true_alpha.shape
    assert kept.shape == true_kept.shape
    np.testing.assert_allclose(alpha, true_alpha, atol=0.01)
    assert np.abs(alpha - true_alpha).mean() < 1e-3
    np.testing.assert_allclose(kept, true_kept, atol=0.1)


@needs_instructions
def test_every_network_that_is_shipped_runs_in_compiled_code():
    for module in (builtin, subject):
        assert isinstance(Runtime(threads=1).open_own(module.PATH), KernelNetwork)


@needs_instructions
def test_threads_do_not_disturb_each_other(networks):
    sizes = [(64, 64), (64, 64), (96, 64), (64, 64)]
    expected = [two_frames(networks[0], *size) for size in sizes]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda size: two_frames(networks[0], *size), sizes * 3))
    for n, (alpha, kept) in enumerate(found):
        np.testing.assert_array_equal(alpha, expected[n % 4][0])
        np.testing.assert_array_equal(kept, expected[n % 4][1])


@needs_instructions
def test_a_network_keeps_what_it_returned(networks):
    alpha, kept = two_frames(networks[0], 64, 64)
    before = alpha.copy(), kept.copy()
    networks[0].run(OUTPUTS, {"rgb": picture(64, 64, 9), "memory": kept})
    np.testing.assert_array_equal(alpha, before[0])
    np.testing.assert_array_equal(kept, before[1])


@pytest.mark.parametrize("operation", ["Elu", "HardSigmoid"])
def test_a_network_with_an_unknown_operation_is_left_to_onnx_runtime(tmp_path, operation):
    model = onnx.load(builtin.PATH)
    last = model.graph.node[-1]
    model.graph.node.append(helper.make_node(operation, ["almost"], list(last.output)))
    last.output[:] = ["almost"]
    onnx.save(model, tmp_path / "net.onnx")
    assert open_network(tmp_path / "net.onnx") is None
    assert isinstance(Runtime(threads=1).open_own(tmp_path / "net.onnx"), OnnxSession)


@pytest.mark.parametrize("change", ["dilations", "strides", "pads"])
def test_a_convolution_of_another_kind_is_left_to_onnx_runtime(tmp_path, change):
    model = onnx.load(builtin.PATH)
    convolutions = [n for n in model.graph.node if n.op_type == "Conv" and any(a.name == "group" and a.i > 1 for a in n.attribute)]  # fmt: skip
    for attribute in convolutions[3].attribute:
        if attribute.name == change:
            attribute.ints[:] = [n + 1 if n else 3 for n in attribute.ints[:-1]] + [7]
    onnx.save(model, tmp_path / "net.onnx")
    assert open_network(tmp_path / "net.onnx") is None


def test_another_network_is_left_to_onnx_runtime(tmp_path):
    path = make_builtin(tmp_path / "net.onnx")
    assert isinstance(Runtime(threads=1).open_own(path), OnnxSession)


def test_without_the_instructions_onnx_runtime_runs_the_network(monkeypatch):
    monkeypatch.setattr(kernel_network, "is_supported", lambda: False)
    monkeypatch.setattr(runtime, "_NETWORKS", runtime.SessionCache())
    assert isinstance(Runtime(threads=1).open_own(builtin.PATH), OnnxSession)


def test_without_the_kernels_nothing_is_supported(monkeypatch):
    monkeypatch.setattr(kernels, "library", lambda: None)
    assert not kernel_network.is_supported()


def pack(weights):
    outputs, inputs = weights.shape
    packed, scale = np.empty(weights.size, np.int16), np.empty(outputs, np.float32)
    addresses = [ctypes.c_void_p(a.ctypes.data) for a in (packed, scale)]
    chunk = kernels.library().alphareel_pack(ctypes.c_void_p(weights.ctypes.data), outputs, inputs, *addresses)
    whole = packed.reshape(outputs // 16, inputs // 2, 16, 2).transpose(0, 2, 1, 3).reshape(outputs, inputs)
    return whole.astype(np.int64), scale, chunk


@needs_kernels
@pytest.mark.parametrize(("outputs", "inputs"), [(16, 2), (32, 24), (192, 1152), (16, 1280)])
def test_weights_are_rounded_to_14_bits_of_the_largest(outputs, inputs):
    weights = np.random.default_rng(outputs).normal(0, 1, (outputs, inputs)).astype(np.float32)
    weights *= np.geomspace(1e-3, 1e3, outputs, dtype=np.float32)[:, None]
    whole, scale, _ = pack(weights)
    assert (np.abs(whole).max(axis=1) == LARGEST).all()
    np.testing.assert_allclose(whole * scale[:, None], weights, atol=0.51 * scale.max())
    assert (np.abs(whole * scale[:, None] - weights) <= 0.51 * scale[:, None]).all()


@needs_kernels
@pytest.mark.parametrize("inputs", [2, 30, 32, 34, 640, 1280])
def test_no_sum_of_products_can_overflow(inputs):
    rng = np.random.default_rng(inputs)
    equal = np.ones((16, inputs), np.float32)
    for weights in (
        equal,
        rng.choice(np.array([-1, 1], np.float32), (16, inputs)),
        rng.normal(0, 1, (16, inputs)).astype("f"),
    ):
        whole, _, chunk = pack(np.ascontiguousarray(weights))
        for start in range(0, inputs, 2 * chunk):
            assert np.abs(whole[:, start : start + 2 * chunk]).sum(axis=1).max() * LARGEST < 2**31


@needs_instructions
def test_the_largest_weights_and_inputs_do_not_overflow(tmp_path):
    """The largest sums that there are: all weights of the deepest convolutions equal, behind activations at their bound."""
    model = onnx.load(builtin.PATH)
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".steps"):
            tensor.CopyFrom(numpy_helper.from_array(np.full_like(numpy_helper.to_array(tensor), 100), tensor.name))
    onnx.save(model, tmp_path / "net.onnx")
    found, expected = (
        two_frames(network, 64, 64)
        for network in (open_network(tmp_path / "net.onnx"), Runtime(threads=1).open(tmp_path / "net.onnx"))
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=0.02)


@needs_instructions
def test_few_plans_are_kept(networks):
    for width in range(32, 256, 32):
        two_frames(networks[0], 32, width)
    assert len(networks[0]._plans) == kernel_network._PLANS
