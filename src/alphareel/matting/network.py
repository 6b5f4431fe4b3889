"""The steps that all network engines share, from model input to a full-size matte with clean edges."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import numpy as np

from alphareel.domain.clip import Clip
from alphareel.imaging.frame import Frame, Matte
from alphareel.matting.cuts import CutDetector
from alphareel.matting.edges import decontaminate_edges
from alphareel.matting.model_input import model_input_of, to_rgb
from alphareel.matting.refine import refine
from alphareel.matting.runtime import Array
from alphareel.matting.temporal_smoothing import TemporalSmoother


class Network(Protocol):
    """A network and its state for one clip. ``rgb`` is float32 (3, h, w) in 0..1."""

    def reset(self, rgb: Array) -> None:
        """Drop all state: ``rgb`` is the first frame of a shot. ``predict`` is called with it next."""

    def predict(self, rgb: Array) -> Array:
        """Alpha float32 (h, w) of the next frame. The caller clips it to 0..1."""


class NetworkSession:
    """A session for a network that sees model inputs of ``model_input_size`` (width, height).

    ``smooth``: smooth the mattes over time, for a network with no or too little temporal state.
    """

    def __init__(
        self, clip: Clip, network: Network, *, model_input_size: tuple[int, int], smooth: bool = False
    ) -> None:
        self._network = network
        self._model_input_size = model_input_size
        self._matrix, self._full_range = clip.color.resolved_matrix(clip.height), clip.color.full_range
        self._cuts = CutDetector()
        self._is_new = True
        self._smoother = TemporalSmoother() if smooth else None

    @property
    def model_input_size(self) -> tuple[int, int]:
        return self._model_input_size

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """One matte for each frame. The network sees the model input, ``refine`` the full-size planes."""
        return [self.infer(frame)() for frame in frames]

    def finish(self) -> None:
        """A clip without a subject is not an error."""

    def infer(self, frame: Frame) -> Callable[[], Matte]:
        """Run the network; the returned function brings its alpha to full size."""
        model_input = model_input_of(frame, self._model_input_size)
        rgb = to_rgb(model_input, matrix=self._matrix, full_range=self._full_range)
        if self._cuts.is_cut(model_input) or self._is_new:
            self._reset(rgb)
        alpha = np.asarray(np.clip(self._network.predict(rgb), 0, 1), np.float32)
        if self._smoother is not None:
            alpha = self._smoother.smooth(alpha, model_input)
        return partial(_to_full_size, alpha, frame)

    def _reset(self, rgb: Array) -> None:
        self._network.reset(rgb)
        self._is_new = False
        if self._smoother is not None:
            self._smoother.reset()


def _to_full_size(alpha: Array, frame: Frame) -> Matte:
    full_size = refine(alpha, frame)
    return Matte(decontaminate_edges(frame, full_size), full_size)
