"""An engine that looks again: the whole picture finds the subject, a crop around it makes the matte.

A wrapper over the contract of engines, for ``./dev bench quality --second-look``. It is not part of the product:
docs/decisions/0008-second-look.md has the figures, and this is how they are taken again for another network.
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

# Frames between two looks at the whole picture while a crop is looked at.
_EVERY = 10
# A crop is taken when it is at most this share of the frame; the margin is on each side of the subject.
_LARGEST = 0.45
_MARGIN = 0.15
# Crops are multiples of a sixteenth of the frame: a subject that breathes does not move its crop.
_STEPS = 16
_OPAQUE = 128


class Box(NamedTuple):
    """A part of the frame in pixels, even, ``right`` and ``bottom`` outside of it."""

    left: int
    top: int
    right: int
    bottom: int

    def holds(self, other: "Box") -> bool:
        return (
            self.left <= other.left
            and self.top <= other.top
            and self.right >= other.right
            and self.bottom >= other.bottom
        )


@dataclass(frozen=True)
class SecondLook:
    """The same engine, looking twice."""

    engine: Engine

    @property
    def facts(self) -> EngineFacts:
        return self.engine.facts

    def start(self, clip: Clip, options: Options) -> "SecondLookMemory":
        return SecondLookMemory(self.engine, clip, options)


class SecondLookMemory:
    """A memory of the whole picture, and one of the crop for as long as the crop stays where it is."""

    def __init__(self, engine: Engine, clip: Clip, options: Options) -> None:
        self._engine, self._clip, self._options = engine, clip, options
        self._whole = engine.start(clip, options)
        self._cuts = CutDetector()
        self._box: Box | None = None
        self._near: MattingSession | None = None
        self._since = 0
        self._doubt = True

    @property
    def thumbnail(self) -> tuple[int, int] | None:
        return self._whole.thumbnail

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        return [self._matte(frame) for frame in frames]

    def finish(self) -> None:
        """Nothing to say of the whole."""

    def _matte(self, frame: Frame) -> Matte:
        if frame.thumbnail is not None and self._cuts.is_cut(frame.thumbnail):
            self._box, self._doubt = None, True
        self._since += 1
        if self._box is None or self._doubt or self._since >= _EVERY:
            whole = self._whole.step([frame])[0]
            self._look_around(whole.alpha)
            if self._box is None:
                return whole
        return self._look_closely(frame)

    def _look_around(self, alpha: Plane) -> None:
        """Choose the crop for the next frames; the one there is stays while it fits, and with it its memory."""
        self._since, self._doubt = 0, False
        subject = subject_of(alpha)
        wanted = None if subject is None else crop_for(subject, alpha.shape)
        if not self._still_fits(subject, wanted):
            self._move_to(wanted)

    def _still_fits(self, subject: Box | None, wanted: Box | None) -> bool:
        if self._box is None or subject is None or wanted is None:
            return False
        return self._box.holds(subject) and _area(self._box) < 2 * _area(wanted)

    def _move_to(self, box: Box | None) -> None:
        self._box = box
        if box is not None:
            clip = replace(self._clip, width=box.right - box.left, height=box.bottom - box.top)
            self._near = self._engine.start(clip, self._options)

    def _look_closely(self, frame: Frame) -> Matte:
        assert self._box is not None
        assert self._near is not None
        part = self._near.step([cropped(frame, self._box, self._near.thumbnail)])[0]
        alpha = np.zeros_like(frame.y)
        alpha[self._box.top : self._box.bottom, self._box.left : self._box.right] = part.alpha
        self._doubt = _touches_inner_edge(part.alpha, self._box, frame)
        return Matte(frame, alpha)


def subject_of(alpha: Plane) -> Box | None:
    """What is opaque, None when nothing is."""
    left, top, width, height = cv2.boundingRect((alpha >= _OPAQUE).astype(np.uint8))
    return Box(left, top, left + width, top + height) if width else None


def crop_for(subject: Box, shape: tuple[int, ...]) -> Box | None:
    """A crop in the frame's shape around the subject; None when it would be no great gain."""
    height, width = shape
    wide = (subject.right - subject.left) / width
    tall = (subject.bottom - subject.top) / height
    share = np.ceil(max(wide, tall) * (1 + 2 * _MARGIN) * _STEPS) / _STEPS
    if share**2 > _LARGEST:
        return None
    columns, rows = max(2, _even(width * share)), max(2, _even(height * share))
    left = _even(min(max(0, (subject.left + subject.right - columns) / 2), width - columns))
    top = _even(min(max(0, (subject.top + subject.bottom - rows) / 2), height - rows))
    return Box(left, top, left + columns, top + rows)


def cropped(frame: Frame, box: Box, thumbnail: tuple[int, int] | None) -> Frame:
    """That part of the frame with a thumbnail of its own; planes are views."""
    y = frame.y[box.top : box.bottom, box.left : box.right]
    u, v = (p[box.top // 2 : box.bottom // 2, box.left // 2 : box.right // 2] for p in (frame.u, frame.v))
    small = None if thumbnail is None else np.stack([_sized(p, thumbnail) for p in (y, u, v)])
    return replace(frame, y=y, u=u, v=v, thumbnail=small)


def _sized(plane: Plane, size: tuple[int, int]) -> Plane:
    way = cv2.INTER_AREA if plane.shape[1] >= size[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(plane, size, interpolation=way), np.uint8)


def _touches_inner_edge(alpha: Plane, box: Box, frame: Frame) -> bool:
    """Whether the subject runs out of the crop where the frame goes on."""
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
