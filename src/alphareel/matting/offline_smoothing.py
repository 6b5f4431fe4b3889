"""Offline smoothing: blends each matte with those before and after it along the motion, a few frames late.

Works on small mattes, before ``refine``, in bounded memory. Measurements: docs/decisions/0039-offline-smoothing.md.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from alphareel.imaging import kernels
from alphareel.imaging.frame import Plane
from alphareel.matting.runtime import Array

# Weight of a neighbor, one frame away, that matches exactly. Two frames away it counts squared, and so on.
_WEIGHT = 0.85
# Share of the mean of log-odds in the result, in which certain frames outvote uncertain ones. The rest is the mean.
_LOGIT_SHARE = 0.4
_MAX_LOGIT = 4.0
# Difference of a pixel from its warped neighbor (levels of Y, U and V added, mean of 5x5) with weight 1/e.
_FALLOFF = 20.0
_WINDOW = (5, 5)
# Flow, and how well it matches, is computed at about this many pixels.
_FLOW_AREA = 256 * 256
# A frame needs no matte of its own if at most this share of its pixels has less than this share of the weight.
_UNEXPLAINED = 0.002
_WEAK = 0.5
_MOST_SKIPPED = 2  # frames in a row
_LEAST = 1e-3  # weight of a neighbor of a frame without a matte of its own
_MIN_SIDE = 32
MAX_FRAMES = 16  # that wait for later ones; half of them are then finished at once
_MIN_FRAMES = 4
_MEMORY = 192 * 2**20  # bytes that waiting frames may take, if that is enough for the fewest
_STATE_BYTES = 32  # per pixel of a waiting small matte
_NOTHING: Any = None  # OpenCV asks for None where its type stubs want an array


def frames_ahead(frame_bytes: int, matte_pixels: int) -> int:
    """How many frames may wait, given the bytes of a full-size frame and the pixels of a small matte."""
    fitting = _MEMORY // (frame_bytes + _STATE_BYTES * matte_pixels)
    return int(max(_MIN_FRAMES, min(MAX_FRAMES, fitting)))


@dataclass(frozen=True)
class _Link:
    """From one frame to its neighbor, at the size of the flow, which is smaller than the matte.

    ``flow``: for each pixel how far it is from there (x, y). ``weight``: of what is there.
    """

    flow: Array
    weight: Array


@dataclass
class _Waiting:
    """A frame: alpha and its log-odds (h, w), what the past adds up to (h, w, 3), and the link to the next frame.

    ``count``: 1, or 0 if the frame has no matte of its own, and alpha is that of the frame before.
    """

    alpha: Array
    logit: Array
    count: int
    past: Array
    following: _Link | None = None

    @property
    def own(self) -> Array:
        """Alpha, its log-odds and a count of one, (h, w, 3): what is added up; zeros for a frame without a matte."""
        if not self.count:
            return np.zeros((*self.alpha.shape, 3), np.float32)
        return np.asarray(cv2.merge([self.alpha, self.logit, np.ones_like(self.alpha)]), np.float32)


@dataclass(frozen=True)
class _Look:
    """The newest model input at the size of the flow (3, h, w), and its links to and from the frame before it."""

    picture: Plane
    links: tuple[_Link, _Link] | None = None


class OfflineSmoother:
    """Smooths the mattes of one clip, in order. At most ``frames`` of them wait for later ones.

    A pixel becomes the weighted mean over the frames around it, at the positions to which the optical flow (Kroeger et
    al., ECCV 2016) leads. The weights fall with the distance in time and with the difference of the pictures, so that
    pixels which appear, are hidden or move too fast for the flow keep the network's alpha.

    For each frame, call ``needs_matte`` and then ``add``.
    """

    def __init__(self, frames: int = MAX_FRAMES) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._frames = frames
        self._waiting: list[_Waiting] = []
        self._newest: _Look | None = None
        self._skipped = 0  # frames without a matte since the last one that has one

    def needs_matte(self, model_input: Plane) -> bool:
        """Whether the next frame needs a matte of its own. ``model_input``: uint8 Y, U, V (3, h, w).

        It needs none if few frames before it went without, and the flow explains nearly all that has changed.
        """
        picture = _shrink(model_input)
        if not self._waiting or self._newest is None:
            self._newest = _Look(picture)
            return True
        links = self._link(picture, self._newest.picture)
        self._newest = _Look(picture, links)
        return self._skipped >= _MOST_SKIPPED or not _is_explained(links[0].weight)

    def add(self, alpha: Array | None) -> list[Array]:
        """Add alpha float32 (h, w) in 0..1 of a frame; None if it has no matte of its own.

        ``needs_matte`` was called for the frame before. Returns the smoothed mattes of the oldest frames that wait,
        often none.
        """
        assert self._newest is not None
        links, previous = self._newest.links, self._waiting[-1] if self._waiting else None
        if alpha is None:
            assert previous is not None, "the first frame of a shot has a matte"
            newest = _Waiting(previous.alpha, previous.logit, 0, previous.past)
        else:
            newest = _Waiting(alpha, _log_odds(alpha), 1, alpha)
        self._skipped = self._skipped + 1 if alpha is None else 0
        if links is None or previous is None:
            newest.past = newest.own
        else:
            newest.past, previous.following = _accumulate(newest, links[0], previous.past), links[1]
        self._waiting.append(newest)
        return self._finish(self._frames // 2) if len(self._waiting) >= self._frames else []

    def flush(self) -> list[Array]:
        """The smoothed mattes of all frames that wait. The next frame starts a new shot."""
        return self._finish(len(self._waiting))

    def _finish(self, count: int) -> list[Array]:
        mattes: list[Array] = []
        future: Array | None = None
        for index in range(len(self._waiting) - 1, -1, -1):
            frame = self._waiting[index]
            if future is None or frame.following is None:
                future = frame.own
            else:
                future = _accumulate(frame, frame.following, future)
            if index < count:
                mattes.append(_settle(frame, future))
        del self._waiting[:count]
        return mattes[::-1]

    def _link(self, now: Plane, before: Plane) -> tuple[_Link, _Link]:
        """From a frame back to the one before, and from that to this one."""
        back = np.asarray(self._flow.calc(now[0], before[0], _NOTHING), np.float32)
        forth = np.asarray(self._flow.calc(before[0], now[0], _NOTHING), np.float32)
        return _make_link(now, before, back), _make_link(before, now, forth)


def _is_explained(weight: Array) -> bool:
    """Whether nearly all pixels match, given their weights at the size of the flow."""
    weak = np.count_nonzero(weight < _WEAK * _WEIGHT)
    return bool(weak <= _UNEXPLAINED * weight.size)


def _shrink(model_input: Plane) -> Plane:
    """The model input at the size of the flow."""
    height, width = model_input.shape[1:]
    shrink = min(1.0, (_FLOW_AREA / (width * height)) ** 0.5)
    size = (max(_MIN_SIDE, round(width * shrink)), max(_MIN_SIDE, round(height * shrink)))
    return np.stack([np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_LINEAR), np.uint8) for p in model_input])


def _make_link(picture: Plane, other: Plane, flow: Array) -> _Link:
    if kernels.library() is not None:
        flow_source = kernels.find_source(flow, (flow.shape[1], flow.shape[0]))
        warped = np.stack([_remap(plane, flow_source) for plane in other])
        return _Link(flow, kernels.match(picture, warped, kernels.match_weights(_WEIGHT, _FALLOFF)))
    warped = _remap(np.dstack(list(other)), flow + _grid((flow.shape[1], flow.shape[0])))
    absolute = cv2.absdiff(np.dstack(list(picture)), warped).astype(np.float32)
    difference = cv2.transform(absolute, np.ones((1, 3), np.float32))
    return _Link(flow, np.float32(_WEIGHT) * np.exp(-np.square(cv2.blur(difference, _WINDOW) / _FALLOFF)))


def _find_source(flow: Array, size: tuple[int, int]) -> Array:
    """The position of each pixel in the neighbor, x and y float32 (h, w, 2), for mattes of ``size`` (width, height)."""
    scale = np.array([size[0] / flow.shape[1], size[1] / flow.shape[0]], np.float32)
    return np.asarray(cv2.resize(flow * scale, size) + _grid(size), np.float32)


def _accumulate(frame: _Waiting, link: _Link, neighbor: Array) -> Array:
    """What the frame itself counts and what ``neighbor`` adds to it along the link, (h, w, 3)."""
    least = 0.0 if frame.count else _LEAST
    if kernels.library() is not None:
        return kernels.accumulate(
            frame.alpha, frame.logit, neighbor, count=frame.count, flow=link.flow, weight=link.weight, least=least
        )
    size = (frame.alpha.shape[1], frame.alpha.shape[0])
    weight = np.maximum(cv2.resize(link.weight, size), np.float32(least))
    warped = np.asarray(_remap(neighbor, _find_source(link.flow, size)), np.float32)
    return np.asarray(frame.own + weight[..., None] * warped, np.float32)


def _grid(size: tuple[int, int]) -> Array:
    return np.dstack(np.meshgrid(np.arange(size[0], dtype=np.float32), np.arange(size[1], dtype=np.float32)))


def _log_odds(alpha: Array) -> Array:
    bounded = np.clip(alpha, 1e-6, 1 - 1e-6)
    return np.asarray(np.clip(np.log(bounded / (1 - bounded)), -_MAX_LOGIT, _MAX_LOGIT), np.float32)


def _settle(frame: _Waiting, future: Array) -> Array:
    """The smoothed matte of a frame, given what its past and its future add up to."""
    certain = float(1 / (1 + np.exp(np.float32(_MAX_LOGIT))))
    if kernels.library() is not None:
        return kernels.settle(
            frame.past, future, frame.alpha, frame.logit, frame.count, share=_LOGIT_SHARE, certain=certain
        )
    alpha, logit, count = cv2.split(frame.past + future - frame.own)
    voted = (1 / (1 + np.exp(-logit / count)) - certain) / (1 - 2 * certain)
    mixed = (1 - _LOGIT_SHARE) * alpha / count + _LOGIT_SHARE * voted
    return np.asarray(np.clip(mixed, 0, 1), np.float32)


def _remap(values: Any, source: Array) -> Any:
    return cv2.remap(values, source, _NOTHING, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
