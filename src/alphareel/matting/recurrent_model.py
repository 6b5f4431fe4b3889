"""Engines for recurrent ONNX networks of our own: an image and the memory of earlier frames in, an alpha out."""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting.engine import MattingSession, ModelInfo
from alphareel.matting.kernel_network import KernelNetwork
from alphareel.matting.model_input import size_for
from alphareel.matting.network import SMALL_BELOW, NetworkSession
from alphareel.matting.runtime import Array, OnnxSession, Runtime
from alphareel.matting.weights import sha256_of

_MULTIPLE = 32
_AREA = 256 * 256
_LARGER = 1.5  # times the pixels that a larger model input must have to be worth it
# Background that the network is this sure of is transparent, a subject as surely opaque (docs/decisions/0060-haze.md).
_SURE = 0.06


def bundled_reason(path: Path) -> str | None:
    """Why a bundled network cannot run, as for ``available`` of a model file; None when its file is there."""
    return None if path.is_file() else f"This installation lacks the bundled network {path.name}."


def load_recurrent_model(
    info: ModelInfo,
    runtime: Runtime,
    path: Path,
    *,
    larger_area: int | None = None,
    small_below: float = SMALL_BELOW,
) -> "RecurrentModelEngine":
    """Load a bundled network. Raises ModelUnavailable or WeightsInvalid.

    ``larger_area``: pixels of the model input while the subject is small or missing. None: as always.
    ``small_below``: the share of the frame, 0..1, below which a subject is small.

    Inputs ``rgb`` float32 (1, 3, H, W) in 0..1, H and W multiples of 32, and ``memory`` float32
    (1, C, H/stride, W/stride), zeros at the start of a shot; outputs ``alpha`` (1, 1, H, W) in 0..1 and
    ``memory_out``. Metadata: ``version``, ``memory_stride`` (16), ``area`` (recommended pixels).
    """
    missing = bundled_reason(path)
    if missing:
        raise ModelUnavailable(missing, hint="Reinstall alphareel.")
    session = runtime.open_own(path)
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
        larger_area=larger_area,
        small_below=small_below,
    )


@dataclass(frozen=True)
class RecurrentModelEngine:
    """``area``: pixels of the model input. ``stride``, ``channels``: shape of the recurrent state.

    ``larger_area``: pixels of the model input while the subject is small or missing. None: as always.
    ``small_below``: the share of the frame, 0..1, below which a subject is small.
    """

    facts: EngineFacts
    runtime: Runtime
    path: Path
    area: int
    stride: int
    channels: int
    larger_area: int | None = None
    small_below: float = SMALL_BELOW

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Start a session with temporal smoothing: the recurrent state alone leaves too much flicker."""
        network = _RecurrentModel(self.runtime.open_own(self.path), self.channels, self.stride)
        return NetworkSession(
            clip,
            network,
            model_input_size=size_for(clip, area=self.area, multiple=_MULTIPLE),
            larger_input_size=self._larger_input_size(clip),
            small_below=self.small_below,
            smoothing=options.smoothing,
        )

    def _larger_input_size(self, clip: Clip) -> tuple[int, int] | None:
        """None where the clip has hardly more pixels than the model input."""
        area = min(self.larger_area or 0, clip.width * clip.height)
        return size_for(clip, area=area, multiple=_MULTIPLE) if area >= _LARGER * self.area else None


class _RecurrentModel:
    """The network and its recurrent state (1, C, h/stride, w/stride), zeros at the start of a shot."""

    def __init__(self, session: OnnxSession | KernelNetwork, channels: int, stride: int) -> None:
        self._session = session
        self._stride = stride
        self._memory: Array = np.zeros((1, channels, 0, 0), np.float32)

    def reset(self, rgb: Array) -> None:
        self._memory = np.zeros((1, self._memory.shape[1], *self._memory_size(rgb)), np.float32)

    def predict(self, rgb: Array) -> Array:
        height, width = self._memory_size(rgb)
        if self._memory.shape[2:] != (height, width):  # the model input changed its size in the middle of a shot
            resized = [cv2.resize(channel, (width, height)) for channel in self._memory[0]]
            self._memory = np.asarray(resized, np.float32)[None]
        feeds = {"rgb": rgb[None], "memory": self._memory}
        alpha, self._memory = self._session.run(("alpha", "memory_out"), feeds)
        return stretch(alpha[0, 0])

    def _memory_size(self, rgb: Array) -> tuple[int, int]:
        return rgb.shape[1] // self._stride, rgb.shape[2] // self._stride


def stretch(alpha: Array) -> Array:
    """Alpha float32 (h, w) in 0..1 with its first and last 6 % cut off and the rest stretched to 0..1.

    Networks trained on probabilities hardly ever answer 0 or 1, which leaves haze around a subject and holes in it.
    """
    return np.asarray(np.clip((alpha - np.float32(_SURE)) * np.float32(1 / (1 - 2 * _SURE)), 0, 1), np.float32)


def _metadata_int(session: OnnxSession | KernelNetwork, name: str, default: int) -> int:
    try:
        return int(float(session.metadata.get(name, default)))
    except ValueError as error:
        raise WeightsInvalid(
            f"The metadata of {session.path.name} has {name} {session.metadata[name]!r}, not a number.",
            hint="Export it again.",
        ) from error
