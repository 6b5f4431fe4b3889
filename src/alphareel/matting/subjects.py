"""Cuts out subjects named by a text: finds them, tracks them, and searches for new ones. Independent of a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from alphareel.domain.clip import Clip
from alphareel.domain.errors import InvalidRequest, SubjectNotFound
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Array

_DEFAULT_PHRASES = ("person", "animal")
MAX_PHRASES = 16
MAX_SUBJECTS = 8
# Frames between two searches for new subjects, and while there is none yet.
_SEARCH_INTERVAL = 48
_INITIAL_SEARCH_INTERVAL = 8
# Two boxes that overlap this much (intersection over union) are the same subject.
MIN_SAME_IOU = 0.5
_INSIDE = 0.5


class Box(NamedTuple):
    """Edges in 0..1 of the image, and the finder's confidence (0..1)."""

    left: float
    top: float
    right: float
    bottom: float
    score: float = 1.0


class Finder(Protocol):
    """Finds what a text names in an image."""

    def find(self, rgb: Array) -> Sequence[Box]:
        """Boxes in an image, R, G, B float32 (3, h, w) in 0..1. In any order; an object may have several."""


class Tracker(Protocol):
    """Tracks subjects through the frames of one shot."""

    def reset(self) -> None:
        """Stop tracking all subjects: a new shot starts."""

    def track(self, rgb: Array, new_subjects: Sequence[Box]) -> Array:
        """Alpha float32 (n, h, w) of all subjects in the next image, where ``new_subjects`` are seen first."""


def phrases_of(prompt: str | None) -> tuple[str, ...]:
    """Split a prompt at commas, periods and newlines into lower-case phrases; person and animal if it is empty.

    Raises InvalidRequest for more than 16 phrases.
    """
    parts = (prompt or "").lower().replace(".", ",").replace("\n", ",").split(",")
    phrases = tuple(dict.fromkeys(" ".join(p.split()) for p in parts if p.strip()))
    if len(phrases) > MAX_PHRASES:
        raise InvalidRequest(
            f"text_prompt names {len(phrases)} things.", hint=f"Name at most {MAX_PHRASES}, separated by commas."
        )
    return phrases or _DEFAULT_PHRASES


@dataclass(frozen=True)
class SubjectTracker:
    """The phrases of one clip, and the finder and tracker for them."""

    phrases: tuple[str, ...]
    finder: Finder
    tracker: Tracker


class PromptedSession(NetworkSession):
    """A session for subjects named by a text."""

    def __init__(self, clip: Clip, subjects: SubjectTracker, *, model_input_size: tuple[int, int]) -> None:
        self._subject_network = _SubjectNetwork(subjects)
        self._phrases = subjects.phrases
        super().__init__(clip, self._subject_network, model_input_size=model_input_size)

    def finish(self) -> None:
        """Raises SubjectNotFound when nothing was found in the whole clip."""
        if not self._subject_network.found:
            raise SubjectNotFound(
                f"Nothing in the video matches {' or '.join(self._phrases)[:200]}.",
                hint="Use simpler words, such as: dog, red car, person.",
            )


class _SubjectNetwork:
    """The ``network.Network`` of a finder and a tracker. ``found``: a subject was found in the clip."""

    def __init__(self, subjects: SubjectTracker) -> None:
        self.found = False
        self._finder, self._tracker = subjects.finder, subjects.tracker
        self._subjects: Array | None = None
        self._frames_to_search = 0

    def reset(self, rgb: Array) -> None:  # noqa: ARG002 - the next predict searches it
        self._tracker.reset()
        self._subjects, self._frames_to_search = None, 0

    def predict(self, rgb: Array) -> Array:
        new_subjects = self._find_new(rgb) if self._frames_to_search == 0 else []
        if self._frames_to_search == 0:
            is_empty = self._subjects is None and not new_subjects
            self._frames_to_search = _INITIAL_SEARCH_INTERVAL if is_empty else _SEARCH_INTERVAL
        self._frames_to_search -= 1
        if self._subjects is None and not new_subjects:
            return np.zeros(rgb.shape[1:], np.float32)
        self.found = True
        self._subjects = self._tracker.track(rgb, new_subjects)
        return np.asarray(self._subjects.max(axis=0), np.float32)

    def _find_new(self, rgb: Array) -> list[Box]:
        """Boxes of subjects that are not tracked yet, most confident first."""
        tracked = [] if self._subjects is None else [b for b in map(_box_around, self._subjects) if b is not None]
        count = 0 if self._subjects is None else len(self._subjects)
        new_subjects: list[Box] = []
        for box in sorted(self._finder.find(rgb), key=lambda b: -b.score):
            if count + len(new_subjects) >= MAX_SUBJECTS:
                break
            if box.right > box.left and box.bottom > box.top and all(_overlap(box, b) < MIN_SAME_IOU for b in tracked):
                new_subjects.append(box)
                tracked.append(box)
        return new_subjects


def _box_around(alpha: Array) -> Box | None:
    """The bounding box of alpha above one half; None when there is nothing."""
    inside = alpha > _INSIDE
    columns, rows = np.flatnonzero(inside.any(axis=0)), np.flatnonzero(inside.any(axis=1))
    if not columns.size:
        return None
    height, width = alpha.shape
    return Box(columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height)


def _overlap(one: Box, other: Box) -> float:
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / (_area(one) + _area(other) - width * height)


def _area(box: Box) -> float:
    return (box.right - box.left) * (box.bottom - box.top)
