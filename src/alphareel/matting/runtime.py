"""ONNX Runtime sessions: device, threads, and a cache that drops idle ones.

The only module that imports ONNX Runtime, and only when the first network is opened.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, TypeVar, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel import memory
from alphareel.domain.errors import InternalError, InvalidRequest, ModelUnavailable, OutOfMemory, WeightsInvalid
from alphareel.machine import cores
from alphareel.matting.kernel_network import KernelNetwork, open_network
from alphareel.matting.weights import sha256_of

Device: TypeAlias = Literal["cpu", "cuda", "coreml", "directml"]
Array: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int | None, ...]
_Session = TypeVar("_Session")

_PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
# Small networks gain nothing from more threads. The remaining cores run the decoder and the encoder.
MAX_THREADS = 4
_IDLE_SECONDS = 300.0


class OnnxSession:
    """A loaded network, which any number of threads may use. Opened by ``Runtime.open``."""

    def __init__(self, path: Path, *, threads: int, device: Device, outputs: Sequence[str] = ()) -> None:
        self.path = path
        self._session = _create_session(path, threads=threads, device=device, outputs=outputs)
        memory.trim()  # optimizing the graph took more than the network keeps
        self.inputs: Mapping[str, Shape] = {i.name: _shape(i.shape) for i in self._session.get_inputs()}
        self.outputs: Mapping[str, Shape] = {o.name: _shape(o.shape) for o in self._session.get_outputs()}
        self._other_types = tuple(i.name for i in self._session.get_inputs() if i.type != "tensor(float)")
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """Run the network and return the named outputs. Raises OutOfMemory or InternalError."""
        try:
            return list(self._session.run(list(outputs), dict(feeds)))
        except Exception as error:
            text = str(error)
            if "allocate" in text.lower() or "out of memory" in text.lower():
                raise OutOfMemory(f"{self.path.name} ran out of memory.", hint="Use a smaller clip.") from error
            raise InternalError(f"{self.path.name} failed: {text[:300]}") from error

    def expect(self, *, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Raise WeightsInvalid unless the network has these inputs and outputs, and all inputs are float32."""
        missing = sorted((set(inputs) - set(self.inputs)) | (set(outputs) - set(self.outputs)))
        if missing:
            raise WeightsInvalid(
                f"{self.path.name} is another network: it has no {', '.join(missing)}.",
                hint="Replace it with the file that its model card names.",
            )
        if self._other_types:
            raise WeightsInvalid(
                f"{self.path.name} needs another type than float32 for {', '.join(self._other_types)}.",
                hint="Replace it with the float32 file that its model card names.",
            )


@dataclass(frozen=True)
class Runtime:
    """How to run networks; passed to ``load`` of a model.

    ``models_dir``: folder with weights the user installed. ``threads``: None for one per core, at most four.
    ``device``: never replaced by another one, because results differ in the last digits between devices. All
    arithmetic of ``open`` is float32.
    """

    models_dir: Path | None = None
    threads: int | None = None
    device: Device = "cpu"

    def __post_init__(self) -> None:
        if self.device not in get_args(Device):
            raise InvalidRequest(f"{self.device!r} is not a device.", hint=f"Use {', '.join(get_args(Device))}.")
        if self.threads is not None and self.threads < 1:
            raise InvalidRequest(f"{self.threads} threads cannot run a network.", hint="Use 1 or more.")

    def open(self, path: Path, *, outputs: Sequence[str] = ()) -> OnnxSession:
        """A session for this file, from the cache if it was used recently.

        ``outputs``: names of further values inside the network that can be asked for. Raises WeightsInvalid when the
        file is not a network or has no such values, ModelUnavailable when the device is missing.
        """
        threads = threads_for(self)
        key = (sha256_of(path), threads, self.device, tuple(outputs))
        return _SESSIONS.get(key, lambda: OnnxSession(path, threads=threads, device=self.device, outputs=outputs))

    def open_own(self, path: Path) -> OnnxSession | KernelNetwork:
        """Like ``open``, for one of alphareel's own networks: the kernels run it where they can, on the CPU."""
        if self.device == "cpu":
            network = _NETWORKS.get(sha256_of(path), lambda: open_network(path))
            if network is not None:
                return network
        return self.open(path)


def threads_for(runtime: Runtime) -> int:
    """The number of threads for a network: ``runtime.threads``, else one per core, at most four."""
    return runtime.threads or min(MAX_THREADS, cores())


class SessionCache(Generic[_Session]):
    """A cache of sessions. A timer evicts those that were not requested for ``idle_seconds``.

    A clip in progress holds its own reference, so eviction does not affect it.
    """

    def __init__(self, *, idle_seconds: float = _IDLE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[Any, tuple[_Session, float]] = {}
        self._timer: threading.Timer | None = None

    def get(self, key: Any, create: Callable[[], _Session]) -> _Session:
        """The cached session or a new one. The lock is held meanwhile, so that no network is loaded twice."""
        with self._lock:
            session = self._entries[key][0] if key in self._entries else create()
            self._entries[key] = (session, self._clock())
            self._start_timer()
            return session

    def evict_idle(self) -> int:
        """Evict idle sessions. Returns how many."""
        with self._lock:
            deadline = self._clock() - self._idle_seconds
            idle = [key for key, (_, used) in self._entries.items() if used <= deadline]
            for key in idle:
                del self._entries[key]
            return len(idle)

    def clear(self) -> None:
        """Evict all sessions and stop the timer."""
        with self._lock:
            self._entries.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def __len__(self) -> int:
        return len(self._entries)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(self._idle_seconds, self._on_timer)
            self._timer.daemon = True
            self._timer.start()

    def _on_timer(self) -> None:
        self.evict_idle()
        with self._lock:
            self._timer = None
            if self._entries:
                self._start_timer()


_SESSIONS: SessionCache[OnnxSession] = SessionCache()
_NETWORKS: SessionCache[KernelNetwork | None] = SessionCache()


def limit_opencv_threads() -> None:
    """Make every OpenCV call in this process single-threaded.

    Reading, matting and writing already run in threads of their own, which OpenCV's would compete with. The setting
    is process-wide; ``tiers.choose`` applies it.
    """
    cv2.setNumThreads(1)


def devices() -> tuple[str, ...]:
    """The devices that the installed ONNX Runtime supports."""
    present = _onnxruntime().get_available_providers()
    return tuple(name for name, provider in _PROVIDERS.items() if provider in present)


def _onnxruntime() -> Any:
    # From 1.29 on it sends the names and hashes of networks to its makers, and keeps a device ID in the home folder.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the first session is created
    import onnxruntime  # noqa: PLC0415 - costs 300 ms and 60 MB, too much for listing engines

    return onnxruntime


def _create_session(path: Path, *, threads: int, device: Device, outputs: Sequence[str]) -> Any:
    ort = _onnxruntime()
    if device not in devices():
        raise ModelUnavailable(
            f"The installed ONNX Runtime does not support {device}, only {', '.join(devices())}.",
            hint="Install the build of onnxruntime for this device, or choose another device.",
        )
    try:
        network: str | bytes = _with_outputs(path.read_bytes(), outputs) if outputs else str(path)
        return ort.InferenceSession(network, _session_options(ort, threads), providers=[_PROVIDERS[device]])
    except Exception as error:
        raise WeightsInvalid(
            f"{path.name} cannot be loaded: {str(error)[:300]}", hint="Download the file again."
        ) from error


def _with_outputs(network: bytes, names: Sequence[str]) -> bytes:
    """The network with further outputs.

    Messages of Protocol Buffers that follow each other are merged. So it is enough to append a model (field 7: graph)
    whose graph has these outputs (field 12) with their names (field 1).
    """
    graph = b"".join(_message(12, _message(1, name.encode())) for name in names)
    return network + _message(7, graph)


def _message(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low = value & 0x7F
    return bytes([low]) if value < 0x80 else bytes([low | 0x80]) + _varint(value >> 7)


def _session_options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Planning all tensors of a run in one block takes more memory than the arena without a plan, and no less time.
    options.enable_mem_pattern = False
    options.log_severity_level = 3  # errors are raised as exceptions
    # Threads that spin between frames take a core away from the encoder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _shape(dims: Sequence[Any]) -> Shape:
    return tuple(d if isinstance(d, int) and d > 0 else None for d in dims)
