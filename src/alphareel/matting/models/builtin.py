"""The network that ships with alphareel: small, recurrent, cuts out people. Its card: docs/models/builtin.md."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting.engine import Engine, MattingSession, ModelInfo
from alphareel.matting.model_input import size_for
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Array, Runtime, Session
from alphareel.matting.weights import sha256_of

SPEC = ModelInfo(
    name="builtin",
    version="1",
    subject="people",
    summary="The network inside the package: fast, with memory from frame to frame.",
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
    """None when the network's file lies in the package."""
    return None if _PATH.is_file() else "The package was built without its network, builtin.onnx."


def load(runtime: Runtime) -> Engine:
    """The engine on the package's own weights."""
    missing = available(runtime.models_dir)
    if missing:
        raise ModelUnavailable(missing, hint="Install alphareel from a complete package.")
    return load_file(runtime, _PATH)


def load_file(runtime: Runtime, path: Path) -> "BuiltinEngine":
    """The engine on another file of the same interface: a network in training, or one made for a test.

    Inputs ``rgb`` float32 (1, 3, H, W) in 0..1, H and W multiples of 32, and ``memory`` float32
    (1, C, H/stride, W/stride), zeros at the start of a shot; outputs ``alpha`` (1, 1, H, W) in 0..1 and
    ``memory_out``. Metadata: ``version``, ``memory_stride`` (16), ``area`` (recommended pixels).
    """
    session = runtime.open(path)
    session.expect(inputs=("rgb", "memory"), outputs=("alpha", "memory_out"))
    channels = session.inputs["memory"][1]
    if channels is None:
        raise WeightsInvalid(f"{path.name} does not say how wide its memory is.", hint="Export it again.")
    facts = EngineFacts(SPEC.name, session.metadata.get("version", SPEC.version), sha256_of(path), SPEC.weights_license)
    return BuiltinEngine(
        facts,
        runtime,
        path,
        area=_number(session, "area", _AREA),
        stride=_number(session, "memory_stride", 16),
        channels=channels,
    )


@dataclass(frozen=True)
class BuiltinEngine:
    """``area``: pixels of a thumbnail; ``stride`` and ``channels``: shape of the memory."""

    facts: EngineFacts
    runtime: Runtime
    path: Path
    area: int
    stride: int
    channels: int

    def start(self, clip: Clip, options: Options) -> MattingSession:  # noqa: ARG002 - one network, nothing to choose
        """Fresh memory for one clip. Mattes are steadied: what the network remembers is not enough for that."""
        width, height = size_for(clip, area=self.area, multiple=_MULTIPLE)
        shape = (1, self.channels, height // self.stride, width // self.stride)
        network = _Builtin(self.runtime.open(self.path), shape)
        return NetworkSession(clip, network, thumbnail=(width, height), steady=True)


class _Builtin:
    """What the network remembers of one clip: ``shape`` (1, C, h/stride, w/stride), zeros at the start of a shot."""

    def __init__(self, session: Session, shape: tuple[int, ...]) -> None:
        self._session = session
        self._memory: Array = np.zeros(shape, np.float32)

    def start_shot(self, rgb: Array) -> None:  # noqa: ARG002 - it needs no warming up
        self._memory = np.zeros_like(self._memory)

    def alpha_of(self, rgb: Array) -> Array:
        feeds = {"rgb": rgb[None], "memory": self._memory}
        alpha, self._memory = self._session.run(("alpha", "memory_out"), feeds)
        return np.asarray(alpha[0, 0], np.float32)


def _number(session: Session, name: str, default: int) -> int:
    try:
        return int(float(session.metadata.get(name, default)))
    except ValueError as error:
        raise WeightsInvalid(
            f"{session.path.name} says {name} is {session.metadata[name]!r}.", hint="Export it again."
        ) from error
