"""Robust Video Matting (Lin et al., arXiv:2108.11515) on MobileNetV3, which users download themselves.

Runs its ONNX file and contains none of its code. Card: docs/models/rvm.md.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.options import Options
from alphareel.matting.engine import Engine, MattingSession, ModelInfo
from alphareel.matting.model_input import size_for
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Array, OnnxSession, Runtime
from alphareel.matting.weights import Weights, WeightsFile, missing_reason, require_weights

INFO = ModelInfo(
    name="rvm",
    version="1",
    subject="people",
    summary="Robust Video Matting, from a file you download: better edges than builtin at several times the cost.",
    code_license="GPL-3.0",
    weights_license="not stated by the author",
    author_statement=(
        "None: issues 191, 281 and 289 ask whether the weights are under GPL-3.0 and may be used commercially, "
        "and have no answer."
    ),
    training_data=(
        "Its authors' training data: VideoMatte240K, Distinctions-646 and others, partly under research licenses."
    ),
    weights="rvm_mobilenetv3*.onnx",
    temporal=True,
    warmup_frames=30,
)

WEIGHTS = Weights(
    name="rvm",
    pattern="rvm_mobilenetv3*.onnx",
    code_license=INFO.code_license,
    weights_license=INFO.weights_license,
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
# The tier "light" promises speed: about half the cost, slightly softer edges.
_LIGHT_AREA = 384 * 216
# The first frame of a shot is repeated this often to warm up the recurrent states. It reduced the error of the first
# three frames by up to a quarter and never increased it. More repetitions gained little.
_WARMUP_REPEATS = 3


def available(models_dir: Path | None) -> str | None:
    """See ``matting.engine``."""
    return missing_reason(WEIGHTS, models_dir)


def load(runtime: Runtime) -> Engine:
    """See ``matting.engine``."""
    return load_network(INFO, WEIGHTS, runtime)


def load_network(info: ModelInfo, weights: Weights, runtime: Runtime) -> Engine:
    """Load one of the two networks of the paper, whose graphs have the same interface."""
    path, sha256 = require_weights(weights, runtime.models_dir)
    inputs = ("src", "downsample_ratio", *(f"{s}i" for s in _STATES))
    runtime.open(path).expect(inputs=inputs, outputs=("pha", *(f"{s}o" for s in _STATES)))
    return RvmEngine(info.facts(sha256), runtime, path)


@dataclass(frozen=True)
class RvmEngine:
    facts: EngineFacts
    runtime: Runtime
    path: Path

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Start a session; the tier ``light`` uses a smaller model input."""
        area = _LIGHT_AREA if options.model == "light" else _AREA
        network = _Rvm(self.runtime.open(self.path))
        return NetworkSession(clip, network, model_input_size=size_for(clip, area=area, multiple=_MULTIPLE))


class _Rvm:
    """The network and its four recurrent states. A state of one pixel means an empty one.

    The graph sees the model input at ratio 1, which skips its own refinement. That would double its cost, and
    ``matting.refine`` does the same at full size.
    """

    def __init__(self, session: OnnxSession) -> None:
        self._session = session
        self._states: list[Array] = []

    def reset(self, rgb: Array) -> None:
        self._states = [np.zeros((1, 1, 1, 1), np.float32) for _ in _STATES]
        for _ in range(_WARMUP_REPEATS):
            self.predict(rgb)

    def predict(self, rgb: Array) -> Array:
        feeds = {"src": rgb[None], "downsample_ratio": np.ones(1, np.float32)}
        feeds.update({f"{name}i": state for name, state in zip(_STATES, self._states, strict=True)})
        alpha, *self._states = self._session.run(("pha", *(f"{name}o" for name in _STATES)), feeds)
        return np.asarray(alpha[0, 0], np.float32)
