"""ONNX sessions are shared and evicted when idle, and every failure of the runtime is one of our errors."""

import gc
import os
import subprocess
import sys
import threading
import weakref

import numpy as np
import onnx
import pytest
from onnx import parser

from alphareel.domain.errors import InternalError, InvalidRequest, ModelUnavailable, OutOfMemory, WeightsInvalid
from alphareel.matting import runtime
from alphareel.matting.runtime import Runtime, SessionCache, devices
from alphareel.testing.networks import make_builtin


@pytest.fixture
def network(tmp_path):
    return make_builtin(tmp_path / "net.onnx")


@pytest.fixture(autouse=True)
def empty_cache():
    runtime._SESSIONS.clear()
    yield
    runtime._SESSIONS.clear()


def feeds(size=32):
    return {
        "rgb": np.zeros((1, 3, size, size), np.float32),
        "memory": np.zeros((1, 4, size // 16, size // 16), np.float32),
    }


def test_a_session_reports_its_inputs_outputs_and_metadata(network):
    session = Runtime().open(network)
    assert session.inputs["memory"] == (1, 4, None, None)
    assert set(session.outputs) == {"alpha", "memory_out"}
    assert session.metadata["version"] == "tiny"


def test_the_same_file_and_settings_share_one_session(network, tmp_path):
    copy = tmp_path / "copy.onnx"
    copy.write_bytes(network.read_bytes())
    first = Runtime(threads=1).open(network)
    assert Runtime(threads=1).open(copy) is first
    assert Runtime(threads=2).open(network) is not first


def test_a_changed_file_is_loaded_again(network):
    first = Runtime().open(network)
    make_builtin(network, {"version": "other"})
    assert Runtime().open(network) is not first


def test_concurrent_requests_load_a_network_once(network):
    loads = []
    cache = SessionCache()

    def make():
        loads.append(1)
        return object()

    threads = [threading.Thread(target=lambda: cache.get("key", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    cache.clear()
    assert loads == [1]


def test_an_idle_session_is_evicted_and_a_recently_used_one_is_not():
    now = [0.0]
    cache = SessionCache(idle_seconds=10, clock=lambda: now[0])

    class Thing:
        pass

    used = cache.get("used", Thing)
    idle = weakref.ref(cache.get("idle", Thing))
    now[0] = 11
    assert cache.get("used", Thing) is used
    assert cache.evict_idle() == 1
    gc.collect()
    assert idle() is None
    assert len(cache) == 1
    cache.clear()


def test_a_timer_evicts_idle_sessions():
    cache = SessionCache(idle_seconds=0.05)
    dropped = threading.Event()
    thing = type("Thing", (), {"__del__": lambda _: dropped.set()})
    cache.get("key", thing)
    assert dropped.wait(100)
    cache.clear()


def test_the_output_does_not_depend_on_the_number_of_threads(network):
    inputs = {
        "rgb": np.random.default_rng(0).random((1, 3, 64, 96), np.float32),
        "memory": np.zeros((1, 4, 4, 6), np.float32),
    }
    results = [Runtime(threads=n).open(network).run(("alpha",), inputs)[0] for n in (1, 2)]
    assert np.array_equal(*results)  # type: ignore[arg-type]


def test_a_file_that_is_not_a_network_is_invalid_weights(tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no network" * 500)
    with pytest.raises(WeightsInvalid, match=r"broken\.onnx cannot be loaded"):
        Runtime().open(broken)


def test_a_truncated_network_is_invalid_weights(network):
    network.write_bytes(network.read_bytes()[:-40])
    with pytest.raises(WeightsInvalid):
        Runtime().open(network)


def test_a_network_without_the_expected_inputs_and_outputs_is_rejected(network):
    with pytest.raises(WeightsInvalid, match=r"has no pha, src"):
        Runtime().open(network).expect(inputs=("src",), outputs=("pha", "alpha"))


def test_a_missing_device_is_an_error_and_never_replaced(network, monkeypatch):
    monkeypatch.setattr(runtime, "devices", lambda: ("cpu",))
    with pytest.raises(ModelUnavailable, match="does not support cuda"):
        Runtime(device="cuda").open(network)


def test_the_cpu_is_always_a_device():
    assert "cpu" in devices()


@pytest.mark.parametrize("wrong", [{"device": "gpu"}, {"threads": 0}, {"threads": -1}])
def test_invalid_runtime_settings_are_rejected(wrong):
    with pytest.raises(InvalidRequest):
        Runtime(**wrong)


def test_wrong_inputs_are_an_internal_error(network):
    session = Runtime().open(network)
    with pytest.raises(InternalError, match=r"net\.onnx failed"):
        session.run(("alpha",), {**feeds(), "rgb": np.zeros((1, 5, 32, 32), np.float32)})


def test_an_allocation_failure_is_an_out_of_memory_error(network):
    session = Runtime().open(network)

    class Full:
        def run(self, *_):
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9000000000")

    session._session = Full()
    with pytest.raises(OutOfMemory):
        session.run(("alpha",), feeds())


def test_a_half_precision_network_is_rejected_before_it_runs(tmp_path):
    graph = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> half (float16[1,3] src) => (float16[1,3] pha) { pha = Identity (src) }'
    )
    onnx.save(graph, tmp_path / "half.onnx")
    with pytest.raises(WeightsInvalid, match="another type than float32 for src"):
        Runtime().open(tmp_path / "half.onnx").expect(inputs=("src",), outputs=("pha",))


def test_onnx_runtime_tells_nobody_and_leaves_nothing_in_the_home_folder(tmp_path, network):
    silent = ("CI", "ORT_DISABLE_TELEMETRY", "ORT_RUNNING_UNIT_TESTS", "XDG_CACHE_HOME")  # each would hide a report
    (home := tmp_path / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if name not in silent} | {"HOME": str(home)}
    code = """
import sys, pathlib, numpy as np
from alphareel.matting.runtime import Runtime
feeds = {"rgb": np.zeros((1, 3, 32, 32), "f4"), "memory": np.zeros((1, 4, 2, 2), "f4")}
Runtime().open(pathlib.Path(sys.argv[1])).run(("alpha",), feeds)
"""
    subprocess.run([sys.executable, "-c", code, str(network)], env=environment, check=True)
    assert not list(home.rglob("*"))
