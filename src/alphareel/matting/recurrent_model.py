"""Engines for recurrent ONNX networks of our own: an image and the memory of earlier frames in, an alpha out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting.engine import MattingSession, ModelInfo
from alphareel.matting.model_input import size_for
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Array, OnnxSession, Runtime
from alphareel.matting.weights import sha256_of

_MULTIPLE = 32
_AREA = 256 * 256


def bundled_reason(path: Path) -> str | None:
    """Why a bundled network cannot run, as for ``available`` of a model file; None when its file is there."""
    return None if path.is_file() else f"This installation lacks the bundled network {path.name}."


def load_recurrent_model(info: ModelInfo, runtime: Runtime, path: Path) -> "RecurrentModelEngine":
    """Load a bundled network. Raises ModelUnavailable or WeightsInvalid.

    Inputs ``rgb`` float32 (1, 3, H, W) in 0..1, H and W multiples of 32, and ``memory`` float32
    (1, C, H/stride, W/stride), zeros at the start of a shot; outputs ``alpha`` (1, 1, H, W) in 0..1 and
    ``memory_out``. Metadata: ``version``, ``memory_stride`` (16), ``area`` (recommended pixels).
    """
    missing = bundled_reason(path)
    if missing:
        raise ModelUnavailable(missing, hint="Reinstall alphareel.")
    session = runtime.open(path)
    session.expect(inputs=("rgb", "memory"), outputs=("alpha", "memory_out"))
    channels = session.inputs["memory"][1]
    if channels is None:
        raise WeightsInvalid(f"{path.name} does not declare its memory channels.", hint="Export it again.")
    facts = info.facts(sha256_of(path), version=session.metadata.get("version"))
    return RecurrentModelEngine(
        facts,
        runtime,
        path,
        area=_metadata_int(session, "area", _AREA),
        stride=_metadata_int(session, "memory_stride", 16),
        channels=channels,
    )


@dataclass(frozen=True)
class RecurrentModelEngine:
    """``area``: pixels of the model input. ``stride``, ``channels``: shape of the recurrent state."""

    facts: EngineFacts
    runtime: Runtime
    path: Path
    area: int
    stride: int
    channels: int

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Start a session with temporal smoothing: the recurrent state alone leaves too much flicker."""
        width, height = size_for(clip, area=self.area, multiple=_MULTIPLE)
        shape = (1, self.channels, height // self.stride, width // self.stride)
        network = _RecurrentModel(self.runtime.open(self.path), shape)
        return NetworkSession(clip, network, model_input_size=(width, height), smoothing=options.smoothing)


class _RecurrentModel:
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
