"""Two-pass inference: the whole frame locates the subject, and a crop around it makes the matte.

A wrapper around any engine, for ``./dev bench quality --second-look``. Not part of the product.
docs/decisions/0008-second-look.md has the figures; this module measures them for other networks.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.options import Options
from alphareel.imaging.frame import Frame, Matte, Plane
from alphareel.matting.cuts import CutDetector
from alphareel.matting.engine import Engine, MattingSession

# Frames between two passes over the whole frame while a crop is in use.
_WHOLE_FRAME_INTERVAL = 10
# A crop is used if it is at most this share of the frame. The margin is on each side of the subject.
MAX_CROP_SHARE = 0.45
_MARGIN = 0.15
# Crops are multiples of a sixteenth of the frame, so that small movements do not change them.
_GRID = 16
_OPAQUE = 128


class Box(NamedTuple):
    """A part of the frame in even pixels. ``right`` and ``bottom`` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int

    def contains(self, other: "Box") -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )


@dataclass(frozen=True)
class SecondLook:
    """An engine with a second pass over a crop."""

    engine: Engine

    @property
    def facts(self) -> EngineFacts:
        return self.engine.facts

    def start(self, clip: Clip, options: Options) -> "SecondLookSession":
        return SecondLookSession(self.engine, clip, options)


class SecondLookSession:
    """A session for the whole frame, and one for the crop as long as the crop does not move."""

    def __init__(self, engine: Engine, clip: Clip, options: Options) -> None:
        self._engine, self._clip, self._options = engine, clip, options
        self._frame_session = engine.start(clip, options)
        self._cuts = CutDetector()
        self._box: Box | None = None
        self._crop_session: MattingSession | None = None
        self._frames_since_whole = 0
        self._is_uncertain = True

    @property
    def model_input_size(self) -> tuple[int, int] | None:
        return self._frame_session.model_input_size

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        return [self._matte(frame) for frame in frames]

    def finish(self) -> None:
        """Nothing to check."""

    def _matte(self, frame: Frame) -> Matte:
        if frame.thumbnail is not None and self._cuts.is_cut(frame.thumbnail):
            self._box, self._is_uncertain = None, True
        self._frames_since_whole += 1
        if self._box is None or self._is_uncertain or self._frames_since_whole >= _WHOLE_FRAME_INTERVAL:
            whole = self._frame_session.step([frame])[0]
            self._choose_crop(whole.alpha)
            if self._box is None:
                return whole
        return self._matte_of_crop(frame)

    def _choose_crop(self, alpha: Plane) -> None:
        """Choose the crop for the next frames. The current one stays while it fits, and with it its session."""
        self._frames_since_whole, self._is_uncertain = 0, False
        subject = subject_of(alpha)
        candidate = None if subject is None else crop_for(subject, alpha.shape)
        if not self._still_fits(subject, candidate):
            self._move_to(candidate)

    def _still_fits(self, subject: Box | None, candidate: Box | None) -> bool:
        if self._box is None or subject is None or candidate is None:
            return False
        return self._box.contains(subject) and _area(self._box) < 2 * _area(candidate)

    def _move_to(self, box: Box | None) -> None:
        self._box = box
        if box is not None:
            clip = replace(self._clip, width=box.right - box.left, height=box.bottom - box.top)
            self._crop_session = self._engine.start(clip, self._options)

    def _matte_of_crop(self, frame: Frame) -> Matte:
        assert self._box is not None
        assert self._crop_session is not None
        part = self._crop_session.step([crop(frame, self._box, self._crop_session.model_input_size)])[0]
        alpha = np.zeros_like(frame.y)
        alpha[self._box.top : self._box.bottom, self._box.left : self._box.right] = part.alpha
        self._is_uncertain = _touches_inner_edge(part.alpha, self._box, frame)
        return Matte(frame, alpha)


def subject_of(alpha: Plane) -> Box | None:
    """The bounding box of opaque pixels; None when there are none."""
    left, top, width, height = cv2.boundingRect((alpha >= _OPAQUE).astype(np.uint8))
    return Box(left, top, left + width, top + height) if width else None


def crop_for(subject: Box, shape: tuple[int, ...]) -> Box | None:
    """A crop around the subject with the frame's aspect ratio; None when it would gain little."""
    height, width = shape
    wide = (subject.right - subject.left) / width
    tall = (subject.bottom - subject.top) / height
    share = np.ceil(max(wide, tall) * (1 + 2 * _MARGIN) * _GRID) / _GRID
    if share**2 > MAX_CROP_SHARE:
        return None
    columns, rows = max(2, _even(width * share)), max(2, _even(height * share))
    left = _even(min(max(0, (subject.left + subject.right - columns) / 2), width - columns))
    top = _even(min(max(0, (subject.top + subject.bottom - rows) / 2), height - rows))
    return Box(left, top, left + columns, top + rows)


def crop(frame: Frame, box: Box, model_input_size: tuple[int, int] | None) -> Frame:
    """That part of the frame with its own model input. Planes are views."""
    y = frame.y[box.top : box.bottom, box.left : box.right]
    u, v = (p[box.top // 2 : box.bottom // 2, box.left // 2 : box.right // 2] for p in (frame.u, frame.v))
    model_input = None if model_input_size is None else np.stack([_resize(p, model_input_size) for p in (y, u, v)])
    return replace(frame, y=y, u=u, v=v, thumbnail=model_input)


def _resize(plane: Plane, size: tuple[int, int]) -> Plane:
    interpolation = cv2.INTER_AREA if plane.shape[1] >= size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, size, interpolation=interpolation), np.uint8)


def _touches_inner_edge(alpha: Plane, box: Box, frame: Frame) -> bool:
    """Whether the subject touches an edge of the crop that is inside the frame."""
    sides = (
        (box.left > 0, alpha[:, 0]),
        (box.top > 0, alpha[0]),
        (box.right < frame.width, alpha[:, -1]),
        (box.bottom < frame.height, alpha[-1]),
    )
    return any(inner and bool((edge >= _OPAQUE).any()) for inner, edge in sides)


def _area(box: Box) -> int:
    return (box.right - box.left) * (box.bottom - box.top)


def _even(value: float) -> int:
    return int(value) // 2 * 2
