"""Networks that see one picture at a time: an ONNX file with one picture in and one alpha out, and how to feed it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting.engine import MattingSession, ModelInfo
from alphareel.matting.model_input import size_for
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Array, Runtime, Session
from alphareel.matting.weights import Weights, require_weights

# exp() of more than this says nothing that a float32 alpha could show.
_SURE = 30.0


@dataclass(frozen=True)
class Preprocessing:
    """How a network was trained to see: (rgb - mean) / std, at about ``area`` pixels, sides multiples of ``multiple``.

    Both are used only where the file does not fix its size. ``logits``: what it answers goes through a sigmoid.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    area: int
    multiple: int
    logits: bool


def load_image_model(spec: ModelInfo, weights: Weights, recipe: Preprocessing, runtime: Runtime) -> "ImageModelEngine":
    """The engine on these weights. Raises ModelUnavailable, WeightsInvalid."""
    path, sha256 = require_weights(weights, runtime.models_dir)
    session = runtime.open(path)
    _check(session)
    return ImageModelEngine(EngineFacts(spec.name, spec.version, sha256, spec.weights_license), runtime, path, recipe)


@dataclass(frozen=True)
class ImageModelEngine:
    facts: EngineFacts
    runtime: Runtime
    path: Path
    recipe: Preprocessing

    def start(self, clip: Clip, options: Options) -> MattingSession:  # noqa: ARG002 - nothing to choose
        """Memory for one clip: the network has none, so its mattes are steadied."""
        session = self.runtime.open(self.path)
        fixed = _fixed_size(session)
        thumbnail = fixed or size_for(clip, area=self.recipe.area, multiple=self.recipe.multiple)
        return NetworkSession(clip, _ImageModel(session, self.recipe), thumbnail=thumbnail, steady=True)


class _ImageModel:
    def __init__(self, session: Session, recipe: Preprocessing) -> None:
        self._session = session
        self._input, self._output = next(iter(session.inputs)), next(iter(session.outputs))
        self._scale = (1 / np.array(recipe.std, np.float32)).reshape(3, 1, 1)
        self._shift = (-np.array(recipe.mean, np.float32)).reshape(3, 1, 1) * self._scale
        self._logits = recipe.logits

    def start_shot(self, rgb: Array) -> None:
        """Nothing to forget."""

    def alpha_of(self, rgb: Array) -> Array:
        seen = np.asarray((rgb * self._scale + self._shift)[None], np.float32)
        (answer,) = self._session.run((self._output,), {self._input: seen})
        if answer.shape != (1, 1, *rgb.shape[1:]):
            raise WeightsInvalid(
                f"{self._session.path.name} answers {rgb.shape[1:]} with {answer.shape}, which is no matte.",
                hint="Replace the file by the one its model card names.",
            )
        alpha = np.asarray(answer[0, 0], np.float32)
        return _sigmoid(alpha) if self._logits else alpha


def _sigmoid(logits: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_SURE, _SURE))), np.float32)


def _check(session: Session) -> None:
    """One picture in, float32, three channels, alone in its batch; at least one plane out."""
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
            hint="Replace the file by the one its model card names.",
        )


def _fixed_size(session: Session) -> tuple[int, int] | None:
    """(width, height) that the file insists on, None where any will do."""
    height, width = next(iter(session.inputs.values()))[2:]
    return None if width is None or height is None else (width, height)
