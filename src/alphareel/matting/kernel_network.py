"""Runs the networks of alphareel in compiled code, on processors that multiply 16-bit integers fast.

ONNX Runtime runs the networks that ``kernel_plan`` refuses. Why, and how close the mattes are:
docs/decisions/0059-integer-network.md.
"""

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from alphareel.domain.errors import OutOfMemory, WeightsInvalid
from alphareel.imaging import kernels
from alphareel.matting.kernel_layers import KernelLayers
from alphareel.matting.kernel_plan import Plan, Planner, UnknownOperation
from alphareel.matting.onnx_file import OnnxFile, Shape, fold_constants, read_onnx

Array: TypeAlias = NDArray[np.float32]

_PLANS = 4  # that are kept for the next frames: two sizes of two clips


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


class KernelNetwork:
    """A loaded network that any number of threads may use, like ``OnnxSession``. Inputs ``rgb`` and ``memory``."""

    def __init__(self, path: Path, file: OnnxFile) -> None:
        self.path = path
        self.inputs: Mapping[str, Shape] = file.inputs
        self.outputs: Mapping[str, Shape] = file.outputs
        self.metadata: Mapping[str, str] = file.metadata
        self._file = fold_constants(file)
        self._layers = KernelLayers()
        self._lock = threading.Lock()
        self._plans: deque[Plan] = deque(maxlen=_PLANS)  # that are not in use

    def prepare(self, height: int, width: int) -> None:
        """Make a plan for this size ahead. Raises UnknownOperation."""
        self._give_back(Planner(self._file, self._layers, height, width).plan)

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

    def _take(self, height: int, width: int) -> Plan:
        with self._lock:
            for plan in self._plans:
                if plan.rgb.shape[1:] == (height, width):
                    self._plans.remove(plan)
                    return plan
        return Planner(self._file, self._layers, height, width).plan

    def _give_back(self, plan: Plan) -> None:
        with self._lock:
            self._plans.append(plan)
