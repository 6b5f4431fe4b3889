"""Inference sessions: which device, how many threads, and a cache that forgets what nobody uses.

The one module that imports ONNX Runtime, and only when the first network is opened.
"""

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.domain.errors import InternalError, InvalidRequest, ModelUnavailable, OutOfMemory, WeightsInvalid
from alphareel.matting.weights import sha256_of

Device: TypeAlias = Literal["cpu", "cuda", "coreml", "directml"]
Array: TypeAlias = NDArray[np.float32]
Shape: TypeAlias = tuple[int | None, ...]

_PROVIDERS: dict[str, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
# Small networks stop gaining from threads here; what is left serves the decoder and the encoder.
_MOST_THREADS = 4
_IDLE_SECONDS = 300.0


class Session:
    """One network in memory, for any number of threads. Made by ``Runtime.open``."""

    def __init__(self, path: Path, *, threads: int, device: Device) -> None:
        self.path = path
        self._session = _make_session(path, threads=threads, device=device)
        self.inputs: Mapping[str, Shape] = {i.name: _shape(i.shape) for i in self._session.get_inputs()}
        self.outputs: Mapping[str, Shape] = {o.name: _shape(o.shape) for o in self._session.get_outputs()}
        self._others = tuple(i.name for i in self._session.get_inputs() if i.type != "tensor(float)")
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Array]) -> list[Array]:
        """The named outputs for these inputs. Raises OutOfMemory, InternalError."""
        try:
            return list(self._session.run(list(outputs), dict(feeds)))
        except Exception as error:
            text = str(error)
            if "allocate" in text.lower() or "out of memory" in text.lower():
                raise OutOfMemory(f"{self.path.name} ran out of memory.", hint="Use a smaller clip.") from error
            raise InternalError(f"{self.path.name} failed: {text[:300]}") from error

    def expect(self, *, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Raise WeightsInvalid unless the network has these inputs and outputs, and float32 is what goes in."""
        missing = sorted((set(inputs) - set(self.inputs)) | (set(outputs) - set(self.outputs)))
        if missing:
            raise WeightsInvalid(
                f"{self.path.name} is another network: it has no {', '.join(missing)}.",
                hint="Replace the file by the one its model card names.",
            )
        if self._others:
            raise WeightsInvalid(
                f"{self.path.name} wants another type than float32 for {', '.join(self._others)}.",
                hint="Replace the file by the float32 one that its model card names.",
            )


@dataclass(frozen=True)
class Runtime:
    """How networks are to be run: a value that is passed to ``load``.

    ``models_dir``: folder with networks that the user put there. ``threads``: None for as many as there are cores,
    at most four. ``device`` is what the user asked for; it is never replaced by another one, since results differ
    in the last digits between devices. Arithmetic is float32 everywhere.
    """

    models_dir: Path | None = None
    threads: int | None = None
    device: Device = "cpu"

    def __post_init__(self) -> None:
        if self.device not in get_args(Device):
            raise InvalidRequest(f"{self.device!r} is no device.", hint=f"Use {', '.join(get_args(Device))}.")
        if self.threads is not None and self.threads < 1:
            raise InvalidRequest(f"{self.threads} threads cannot run a network.", hint="Use 1 or more.")

    def open(self, path: Path) -> Session:
        """The session of this file, from memory when it was used lately.

        Raises WeightsInvalid when the file is no network, ModelUnavailable when the device is missing.
        """
        threads = threads_for(self)
        key = (sha256_of(path), threads, self.device)
        return _SESSIONS.get(key, lambda: Session(path, threads=threads, device=self.device))


def threads_for(runtime: Runtime) -> int:
    """How many threads a network may use: as the user said, else as many as there are cores, at most four."""
    return runtime.threads or min(_MOST_THREADS, cores())


class Sessions:
    """A cache of sessions; one that nobody asked for within ``idle_seconds`` is dropped by a timer.

    A clip under way keeps its own reference, so eviction never pulls a network from under it.
    """

    def __init__(self, *, idle_seconds: float = _IDLE_SECONDS, clock: Callable[[], float] = time.monotonic) -> None:
        self._idle_seconds = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[Any, tuple[Session, float]] = {}
        self._timer: threading.Timer | None = None

    def get(self, key: Any, make: Callable[[], Session]) -> Session:
        """The kept session or a new one. The lock is held while it is made: nobody loads a network twice."""
        with self._lock:
            session = self._kept[key][0] if key in self._kept else make()
            self._kept[key] = (session, self._clock())
            self._arm()
            return session

    def evict_idle(self) -> int:
        """Drop what has been idle for too long; returns how many sessions were dropped."""
        with self._lock:
            oldest = self._clock() - self._idle_seconds
            idle = [key for key, (_, used) in self._kept.items() if used <= oldest]
            for key in idle:
                del self._kept[key]
            return len(idle)

    def clear(self) -> None:
        """Drop everything and stop the timer."""
        with self._lock:
            self._kept.clear()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def __len__(self) -> int:
        return len(self._kept)

    def _arm(self) -> None:
        if self._timer is None:
            self._timer = threading.Timer(self._idle_seconds, self._ring)
            self._timer.daemon = True
            self._timer.start()

    def _ring(self) -> None:
        self.evict_idle()
        with self._lock:
            self._timer = None
            if self._kept:
                self._arm()


_SESSIONS = Sessions()


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def limit_picture_threads() -> None:
    """One thread for every OpenCV call in this process.

    Reading, matting and writing already overlap in threads of their own; OpenCV's would only fight them. The
    setting is process-wide, therefore it is made here, once, by whoever chooses an engine (``tiers.choose``).
    """
    cv2.setNumThreads(1)


def devices() -> tuple[str, ...]:
    """Devices that the installed ONNX Runtime can use."""
    present = _onnxruntime().get_available_providers()
    return tuple(name for name, provider in _PROVIDERS.items() if provider in present)


def _onnxruntime() -> Any:
    import onnxruntime  # noqa: PLC0415 - 300 ms and 60 MB that listing engines must not cost

    return onnxruntime


def _make_session(path: Path, *, threads: int, device: Device) -> Any:
    ort = _onnxruntime()
    if device not in devices():
        raise ModelUnavailable(
            f"The installed ONNX Runtime cannot use {device}; it can use {', '.join(devices())}.",
            hint="Install the build of onnxruntime for this device, or choose another device.",
        )
    try:
        return ort.InferenceSession(str(path), _session_options(ort, threads), providers=[_PROVIDERS[device]])
    except Exception as error:
        raise WeightsInvalid(
            f"{path.name} cannot be loaded: {str(error)[:300]}", hint="Fetch the file again."
        ) from error


def _session_options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors come as exceptions; the library prints nothing
    # Threads that spin between frames take the core that the encoder needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


def _shape(dims: Sequence[Any]) -> Shape:
    return tuple(d if isinstance(d, int) and d > 0 else None for d in dims)
