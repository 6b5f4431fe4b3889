"""Engines for ONNX networks without temporal state: one image in, one alpha out."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting.engine import MattingSession, ModelInfo
from alphareel.matting.model_input import size_for
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Array, OnnxSession, Runtime
from alphareel.matting.weights import Weights, require_weights

MAX_LOGIT = 30.0  # a larger one changes no float32 alpha


@dataclass(frozen=True)
class Preprocessing:
    """The input a network was trained on: (rgb - mean) / std, about ``area`` pixels, sides multiples of ``multiple``.

    ``area`` and ``multiple`` apply only if the file does not fix its input size. ``logits``: the output is logits.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    area: int
    multiple: int
    logits: bool


def load_image_model(
    info: ModelInfo, weights: Weights, preprocessing: Preprocessing, runtime: Runtime
) -> "ImageModelEngine":
    """Load an engine with these weights. Raises ModelUnavailable or WeightsInvalid."""
    path, sha256 = require_weights(weights, runtime.models_dir)
    session = runtime.open(path)
    _check(session)
    facts = info.facts(sha256)
    return ImageModelEngine(facts, runtime, path, preprocessing)


@dataclass(frozen=True)
class ImageModelEngine:
    facts: EngineFacts
    runtime: Runtime
    path: Path
    preprocessing: Preprocessing

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Start a session with temporal smoothing, since the network has no temporal state."""
        session = self.runtime.open(self.path)
        fixed = _fixed_size(session)
        size = fixed or size_for(clip, area=self.preprocessing.area, multiple=self.preprocessing.multiple)
        return NetworkSession(
            clip, _ImageModel(session, self.preprocessing), model_input_size=size, smoothing=options.smoothing
        )


class _ImageModel:
    def __init__(self, session: OnnxSession, preprocessing: Preprocessing) -> None:
        self._session = session
        self._input, self._output = next(iter(session.inputs)), next(iter(session.outputs))
        self._scale = (1 / np.array(preprocessing.std, np.float32)).reshape(3, 1, 1)
        self._shift = (-np.array(preprocessing.mean, np.float32)).reshape(3, 1, 1) * self._scale
        self._logits = preprocessing.logits

    def reset(self, rgb: Array) -> None:
        """Does nothing: the model keeps no state between frames."""

    def predict(self, rgb: Array) -> Array:
        network_input = np.asarray((rgb * self._scale + self._shift)[None], np.float32)
        (output,) = self._session.run((self._output,), {self._input: network_input})
        if output.shape != (1, 1, *rgb.shape[1:]):
            raise WeightsInvalid(
                f"{self._session.path.name} returns {output.shape} for an image of {rgb.shape[1:]}: not a matte.",
                hint="Replace it with the file that its model card names.",
            )
        alpha = np.asarray(output[0, 0], np.float32)
        return _sigmoid(alpha) if self._logits else alpha


def _sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -MAX_LOGIT, MAX_LOGIT))), np.float32)


def _check(session: OnnxSession) -> None:
    """Raise WeightsInvalid unless one float32 image of three channels goes in and one plane comes out."""
    session.expect(inputs=tuple(session.inputs)[:1], outputs=tuple(session.outputs)[:1])
    shapes = [*session.inputs.values(), next(iter(session.outputs.values()))]
    fits = (
        len(session.inputs) == 1
        and all(len(shape) == 4 and shape[0] in (None, 1) for shape in shapes)
        and shapes[0][1] in (None, 3)
        and shapes[1][1] in (None, 1)
        and (shapes[0][2] is None) == (shapes[0][3] is None)
    )
    if not fits:
        raise WeightsInvalid(
            f"{session.path.name} is another network: in {dict(session.inputs)}, out {dict(session.outputs)}.",
            hint="Replace it with the file that its model card names.",
        )


def _fixed_size(session: OnnxSession) -> tuple[int, int] | None:
    """The input size (width, height) that the file fixes; None when it accepts any."""
    height, width = next(iter(session.inputs.values()))[2:]
    return None if width is None or height is None else (width, height)
