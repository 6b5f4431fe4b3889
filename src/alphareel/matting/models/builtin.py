"""The bundled network: small, recurrent, for people. Card: docs/models/builtin.md."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting.engine import Engine, MattingSession, ModelInfo
from alphareel.matting.model_input import size_for
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Array, OnnxSession, Runtime
from alphareel.matting.weights import sha256_of

INFO = ModelInfo(
    name="builtin",
    version="1",
    subject="people",
    summary="The bundled network: fast, recurrent.",
    code_license="Apache-2.0",
    weights_license="Apache-2.0",
    weights="builtin.onnx",
    temporal=True,
    warmup_frames=30,
)

_PATH = Path(__file__).with_name("builtin.onnx")
_MULTIPLE = 32
_AREA = 256 * 256


def available(models_dir: Path | None) -> str | None:  # noqa: ARG001 - the contract of model files
    """See ``matting.engine``."""
    return None if _PATH.is_file() else "This installation lacks the bundled network, builtin.onnx."


def load(runtime: Runtime) -> Engine:
    """See ``matting.engine``."""
    missing = available(runtime.models_dir)
    if missing:
        raise ModelUnavailable(missing, hint="Reinstall alphareel.")
    return load_file(runtime, _PATH)


def load_file(runtime: Runtime, path: Path) -> "BuiltinEngine":
    """Load another file with the same interface: a network in training, or one for a test.

    Inputs ``rgb`` float32 (1, 3, H, W) in 0..1, H and W multiples of 32, and ``memory`` float32
    (1, C, H/stride, W/stride), zeros at the start of a shot; outputs ``alpha`` (1, 1, H, W) in 0..1 and
    ``memory_out``. Metadata: ``version``, ``memory_stride`` (16), ``area`` (recommended pixels).
    """
    session = runtime.open(path)
    session.expect(inputs=("rgb", "memory"), outputs=("alpha", "memory_out"))
    channels = session.inputs["memory"][1]
    if channels is None:
        raise WeightsInvalid(f"{path.name} does not declare its memory channels.", hint="Export it again.")
    facts = EngineFacts(INFO.name, session.metadata.get("version", INFO.version), sha256_of(path), INFO.weights_license)
    return BuiltinEngine(
        facts,
        runtime,
        path,
        area=_metadata_int(session, "area", _AREA),
        stride=_metadata_int(session, "memory_stride", 16),
        channels=channels,
    )


@dataclass(frozen=True)
class BuiltinEngine:
    """``area``: pixels of the model input. ``stride``, ``channels``: shape of the recurrent state."""

    facts: EngineFacts
    runtime: Runtime
    path: Path
    area: int
    stride: int
    channels: int

    def start(self, clip: Clip, options: Options) -> MattingSession:  # noqa: ARG002
        """Start a session with temporal smoothing: the recurrent state alone leaves too much flicker."""
        width, height = size_for(clip, area=self.area, multiple=_MULTIPLE)
        shape = (1, self.channels, height // self.stride, width // self.stride)
        network = _Builtin(self.runtime.open(self.path), shape)
        return NetworkSession(clip, network, model_input_size=(width, height), smooth=True)


class _Builtin:
    """The network and its recurrent state, of ``shape`` (1, C, h/stride, w/stride), zeros at the start of a shot."""

    def __init__(self, session: OnnxSession, shape: tuple[int, ...]) -> None:
        self._session = session
        self._memory: Array = np.zeros(shape, np.float32)

    def reset(self, rgb: Array) -> None:  # noqa: ARG002
        self._memory = np.zeros_like(self._memory)

    def predict(self, rgb: Array) -> Array:
        feeds = {"rgb": rgb[None], "memory": self._memory}
        alpha, self._memory = self._session.run(("alpha", "memory_out"), feeds)
        return np.asarray(alpha[0, 0], np.float32)


def _metadata_int(session: OnnxSession, name: str, default: int) -> int:
    try:
        return int(float(session.metadata.get(name, default)))
    except ValueError as error:
        raise WeightsInvalid(
            f"The metadata of {session.path.name} has {name} {session.metadata[name]!r}, not a number.",
            hint="Export it again.",
        ) from error
