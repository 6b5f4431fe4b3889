"""Robust Video Matting (Lin et al., arXiv:2108.11515), MobileNetV3: a network that users bring themselves.

Only its ONNX file is run; none of its code is here. Its card: docs/models/rvm.md.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.options import Options
from alphareel.matting.engine import Engine, MattingSession, ModelInfo
from alphareel.matting.model_input import size_for
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Array, Runtime, Session
from alphareel.matting.weights import Weights, WeightsFile, missing_reason, require_weights

SPEC = ModelInfo(
    name="rvm",
    version="1",
    subject="people",
    summary="Robust Video Matting, from a file that you provide: the better edges, at several times the work.",
    code_license="GPL-3.0",
    weights_license="not stated by the author",
    weights="rvm_mobilenetv3*.onnx",
    temporal=True,
    warmup_frames=30,
)

WEIGHTS = Weights(
    name="rvm",
    pattern="rvm_mobilenetv3*.onnx",
    code_license=SPEC.code_license,
    weights_license=SPEC.weights_license,
    source="https://github.com/PeterL1n/RobustVideoMatting/releases/tag/v1.0.0",
    files=(
        WeightsFile(
            path="rvm_mobilenetv3_fp32.onnx",
            url="https://github.com/PeterL1n/RobustVideoMatting/releases/download/v1.0.0/rvm_mobilenetv3_fp32.onnx",
            size=14_975_696,
            sha256="88d4531297118f595bf2fd60f6f566aec2e559393802d1f436c380f0cbbd2828",
        ),
    ),
)

_STATES = ("r1", "r2", "r3", "r4")
_MULTIPLE = 16
_AREA = 512 * 288
# The tier "light" promises speed: about half of the work for slightly softer edges.
_LIGHT_AREA = 384 * 216
# The first frame of a shot is seen so many times more: the states need some frames to settle, and with three the error
# of a shot's first three frames fell by up to a quarter and never rose. More gained little.
_WARM_UP = 3


def available(models_dir: Path | None) -> str | None:
    """None when its file lies in the models folder; WeightsInvalid when a hash lies beside it and differs."""
    return missing_reason(WEIGHTS, models_dir)


def load(runtime: Runtime) -> Engine:
    """The engine on the user's file."""
    return load_network(SPEC, WEIGHTS, runtime)


def load_network(spec: ModelInfo, weights: Weights, runtime: Runtime) -> Engine:
    """The engine on a file of one of the two networks that the paper has; their graphs have the same interface."""
    path, sha256 = require_weights(weights, runtime.models_dir)
    inputs = ("src", "downsample_ratio", *(f"{s}i" for s in _STATES))
    runtime.open(path).expect(inputs=inputs, outputs=("pha", *(f"{s}o" for s in _STATES)))
    return RvmEngine(EngineFacts(spec.name, spec.version, sha256, spec.weights_license), runtime, path)


@dataclass(frozen=True)
class RvmEngine:
    facts: EngineFacts
    runtime: Runtime
    path: Path

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Fresh memory for one clip."""
        area = _LIGHT_AREA if options.model == "light" else _AREA
        network = _Rvm(self.runtime.open(self.path))
        return NetworkSession(clip, network, thumbnail=size_for(clip, area=area, multiple=_MULTIPLE))


class _Rvm:
    """The four recurrent states of one clip; a state of one pixel stands for an empty one.

    The graph is given the thumbnail at ratio 1; its own refinement at full size would cost as much again as the
    rest of it, and ``refine`` does that work on the planes.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._states: list[Array] = []

    def start_shot(self, rgb: Array) -> None:
        self._states = [np.zeros((1, 1, 1, 1), np.float32) for _ in _STATES]
        for _ in range(_WARM_UP):
            self.alpha_of(rgb)

    def alpha_of(self, rgb: Array) -> Array:
        feeds = {"src": rgb[None], "downsample_ratio": np.ones(1, np.float32)}
        feeds.update({f"{name}i": state for name, state in zip(_STATES, self._states, strict=True)})
        alpha, *self._states = self._session.run(("pha", *(f"{name}o" for name in _STATES)), feeds)
        return np.asarray(alpha[0, 0], np.float32)
