"""One clip through a network: the steps that every network engine shares, from the thumbnail to clean edges."""

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
    """What is a network's own: how it is fed, and what it remembers of one clip."""

    def start_shot(self, rgb: Array) -> None:
        """Forget everything: ``rgb`` is the first picture of a shot, and ``alpha_of`` will be asked for it next."""

    def alpha_of(self, rgb: Array) -> Array:
        """Alpha float32 (h, w) of the next picture, R, G, B float32 (3, h, w) in 0..1; what is beyond 0..1 is cut."""


class NetworkSession:
    """Memory of one clip for a network that sees thumbnails of ``thumbnail`` (width, height).

    ``steady``: take the trembling out of its mattes, for a network that remembers nothing by itself, or too little.
    """

    def __init__(self, clip: Clip, network: Network, *, thumbnail: tuple[int, int], steady: bool = False) -> None:
        self._network = network
        self._thumbnail = thumbnail
        self._matrix, self._full_range = clip.color.resolved_matrix(clip.height), clip.color.full_range
        self._cuts = CutDetector()
        self._fresh = True
        self._stabilizer = TemporalSmoother() if steady else None

    @property
    def thumbnail(self) -> tuple[int, int]:
        return self._thumbnail

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """One matte for each frame: the network sees its thumbnail, ``refine`` its planes."""
        return [self.look(frame)() for frame in frames]

    def finish(self) -> None:
        """A network cuts out what there is: an empty clip is no failure."""

    def look(self, frame: Frame) -> Callable[[], Matte]:
        """The network's answer; what brings it to full size remembers nothing, so that any thread may call it."""
        small = model_input_of(frame, self._thumbnail)
        rgb = to_rgb(small, matrix=self._matrix, full_range=self._full_range)
        if self._cuts.is_cut(small) or self._fresh:
            self._start_shot(rgb)
        alpha = np.asarray(np.clip(self._network.alpha_of(rgb), 0, 1), np.float32)
        if self._stabilizer is not None:
            alpha = self._stabilizer.steady(alpha, small)
        return partial(_full, alpha, frame)

    def _start_shot(self, rgb: Array) -> None:
        self._network.start_shot(rgb)
        self._fresh = False
        if self._stabilizer is not None:
            self._stabilizer.forget()


def _full(alpha: Array, frame: Frame) -> Matte:
    full = refine(alpha, frame)
    return Matte(decontaminate_edges(frame, full), full)
