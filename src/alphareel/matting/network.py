"""The steps that all network engines share, from model input to a full-size matte with clean edges."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol

import cv2
import numpy as np

from alphareel.domain.clip import Clip
from alphareel.domain.options import Smoothing
from alphareel.imaging.frame import Frame, Matte, Plane
from alphareel.matting import offline_smoothing
from alphareel.matting.cuts import CutDetector
from alphareel.matting.edges import decontaminate_edges
from alphareel.matting.model_input import make_model_input, model_input_of, to_rgb
from alphareel.matting.refine import refine
from alphareel.matting.runtime import Array
from alphareel.matting.temporal_smoothing import TemporalSmoother

# A subject is small below this share of the frame with alpha above one half, until it has 1.5 times as much.
SMALL_BELOW = 0.05
_NO_LONGER_SMALL = 1.5


class Network(Protocol):
    """A network and its state for one clip. ``rgb`` is float32 (3, h, w) in 0..1; its size may change."""

    def reset(self, rgb: Array) -> None:
        """Drop all state: ``rgb`` is the first frame of a shot. ``predict`` is called with it next."""

    def predict(self, rgb: Array) -> Array:
        """Alpha float32 (h, w) of the next frame. The caller clips it to 0..1."""


class NetworkSession:
    """A session for a network that sees model inputs of ``model_input_size`` (width, height).

    ``larger_input_size``: what it sees instead while the subject is small or missing. None: never.
    ``small_below``: the share of the frame, 0..1, below which a subject is small.
    ``smoothing``: how to smooth the mattes over time, for a network with no or too little temporal state. ``step`` and
    ``infer`` return each matte at once, so they smooth "live".
    """

    def __init__(
        self,
        clip: Clip,
        network: Network,
        *,
        model_input_size: tuple[int, int],
        larger_input_size: tuple[int, int] | None = None,
        small_below: float = SMALL_BELOW,
        smoothing: Smoothing | None = None,
    ) -> None:
        self._network = network
        self._model_input_size = model_input_size
        self._larger_input_size = larger_input_size
        self._small_below = small_below
        self._is_small = False
        self._matrix, self._full_range = clip.color.resolved_matrix(clip.height), clip.color.full_range
        self._cuts = CutDetector()
        self._is_new = True
        self._smoother = TemporalSmoother() if smoothing else None
        waiting = offline_smoothing.frames_ahead(
            clip.width * clip.height * 3 // 2, model_input_size[0] * model_input_size[1]
        )
        self._waiting = waiting if smoothing == "offline" else 0

    @property
    def model_input_size(self) -> tuple[int, int]:
        return self._model_input_size

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """One matte for each frame. The network sees the model input, ``refine`` the full-size planes."""
        return [self.infer(frame)() for frame in frames]

    def finish(self) -> None:
        """A clip without a subject is not an error."""

    @property
    def look_ahead(self) -> int:
        """How many frames after its own a matte depends on; 0 for none."""
        return self._waiting

    def infer(self, frame: Frame) -> Callable[[], Matte]:
        """Run the network; the returned function brings its alpha to full size."""
        model_input = model_input_of(frame, self._model_input_size)
        is_first = self._is_first(model_input)
        alpha = self._predict(frame, model_input, is_first=is_first)
        if self._smoother is not None:
            if is_first:
                self._smoother.reset()
            alpha = self._smoother.smooth(alpha, model_input)
        return partial(_to_full_size, alpha, frame)

    def infer_all(self, frames: Iterable[Frame]) -> Iterator[Callable[[], Matte]]:
        """Like ``infer`` for all frames of a clip, with offline smoothing: a matte then depends on later frames.

        Frames that wait for later ones stay in memory. The network skips frames whose mattes follow from those beside
        them.
        """
        if not self._waiting:
            yield from map(self.infer, frames)
            return
        smoother = offline_smoothing.OfflineSmoother(self._waiting)
        waiting: deque[Frame] = deque()
        smoothed: deque[Array] = deque()
        for frame in frames:
            model_input = model_input_of(frame, self._model_input_size)
            is_first = self._is_first(model_input)
            if is_first:
                smoothed.extend(smoother.flush())
            waiting.append(frame)
            needed = smoother.needs_matte(model_input)
            alpha = self._predict(frame, model_input, is_first=is_first) if needed else None
            smoothed.extend(smoother.add(alpha))
            while smoothed and len(waiting) >= self._waiting:  # one for each frame, so that refinement never waits
                yield partial(_to_full_size, smoothed.popleft(), waiting.popleft())
        smoothed.extend(smoother.flush())
        while smoothed:
            yield partial(_to_full_size, smoothed.popleft(), waiting.popleft())

    def _is_first(self, model_input: Plane) -> bool:
        """Whether the frame is the first of a shot."""
        is_first = self._cuts.is_cut(model_input) or self._is_new
        self._is_new = False
        return is_first

    def _predict(self, frame: Frame, model_input: Plane, *, is_first: bool) -> Array:
        """The network's alpha float32 (h, w) in 0..1, at the size of the model input.

        While it shows a small subject or none, the network sees a larger model input, at the start of a shot at once.
        """
        if is_first or not self._is_small:
            alpha = self._run(model_input, is_first=is_first)
            self._is_small = self._larger_input_size is not None and _share(alpha) < self._small_below
            if not (is_first and self._is_small):
                return alpha
        assert self._larger_input_size is not None
        alpha = self._run(make_model_input(frame, self._larger_input_size), is_first=is_first)
        self._is_small = _share(alpha) < _NO_LONGER_SMALL * self._small_below
        return np.asarray(cv2.resize(alpha, self._model_input_size, interpolation=cv2.INTER_AREA), np.float32)

    def _run(self, model_input: Plane, *, is_first: bool) -> Array:
        rgb = to_rgb(model_input, matrix=self._matrix, full_range=self._full_range)
        if is_first:
            self._network.reset(rgb)
        return np.asarray(np.clip(self._network.predict(rgb), 0, 1), np.float32)


def _share(alpha: Array) -> float:
    return float(np.mean(alpha > 0.5))


def _to_full_size(alpha: Array, frame: Frame) -> Matte:
    full_size = refine(alpha, frame)
    return Matte(decontaminate_edges(frame, full_size), full_size)
