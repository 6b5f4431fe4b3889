"""Subjects that are told in words: found, followed, looked for again. Knows no network; those are given to it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from alphareel.domain.clip import Clip
from alphareel.domain.errors import InvalidRequest, SubjectNotFound
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Array

# Without words the tier keeps what such clips are mostly about.
_DEFAULT = ("person", "animal")
_MOST_PHRASES = 16
_MOST_SUBJECTS = 8
# Frames until subjects that came in later are looked for, and while there is nobody yet.
_AGAIN = 48
_SEEK = 8
# Two boxes that overlap so much (intersection over union) are one subject.
_SAME = 0.5
_INSIDE = 0.5


class Box(NamedTuple):
    """Left, top, right, bottom in 0..1 of the picture, and how sure the finder is (0..1)."""

    left: float
    top: float
    right: float
    bottom: float
    score: float = 1.0


class Finder(Protocol):
    """Tells where in a picture the things are that some words name."""

    def find(self, rgb: Array) -> Sequence[Box]:
        """Boxes in R, G, B float32 (3, h, w) in 0..1, in any order, possibly several of one thing."""


class Tracker(Protocol):
    """Follows subjects through the frames of one shot."""

    def forget(self) -> None:
        """Follow nobody any more: a new shot begins."""

    def track(self, rgb: Array, fresh: Sequence[Box]) -> Array:
        """Alpha float32 (n, h, w) of every subject in the next picture; ``fresh`` begin in this one."""


def phrases_of(prompt: str | None) -> tuple[str, ...]:
    """What to keep, one phrase a subject, lower case; commas, full stops and new lines part them.

    Raises InvalidRequest for more than 16.
    """
    parted = (prompt or "").lower().replace(".", ",").replace("\n", ",").split(",")
    phrases = tuple(dict.fromkeys(" ".join(p.split()) for p in parted if p.strip()))
    if len(phrases) > _MOST_PHRASES:
        raise InvalidRequest(
            f"text_prompt names {len(phrases)} things.", hint=f"Name at most {_MOST_PHRASES}, separated by commas."
        )
    return phrases or _DEFAULT


@dataclass(frozen=True)
class SubjectTracker:
    """What is to be watched for in one clip, and by whom."""

    phrases: tuple[str, ...]
    finder: Finder
    tracker: Tracker


class PromptedSession(NetworkSession):
    """Memory of one clip of told subjects."""

    def __init__(self, clip: Clip, watch: SubjectTracker, *, thumbnail: tuple[int, int]) -> None:
        self._watcher = _Watcher(watch)
        self._phrases = watch.phrases
        super().__init__(clip, self._watcher, thumbnail=thumbnail)

    def finish(self) -> None:
        """Raises SubjectNotFound when nothing was found in the whole clip."""
        if not self._watcher.found:
            raise SubjectNotFound(
                f"Nothing in the video is {' or '.join(self._phrases)[:200]}.",
                hint="Name it with other, simpler words, such as: dog, red car, person.",
            )


class _Watcher:
    """The Network of told subjects. ``found``: at least one was seen since the clip began."""

    def __init__(self, watch: SubjectTracker) -> None:
        self.found = False
        self._finder, self._tracker = watch.finder, watch.tracker
        self._subjects: Array | None = None
        self._wait = 0

    def start_shot(self, rgb: Array) -> None:  # noqa: ARG002 - who is in it is asked with the next call
        self._tracker.forget()
        self._subjects, self._wait = None, 0

    def alpha_of(self, rgb: Array) -> Array:
        fresh = self._look(rgb) if self._wait == 0 else []
        if self._wait == 0:
            self._wait = _SEEK if self._subjects is None and not fresh else _AGAIN
        self._wait -= 1
        if self._subjects is None and not fresh:
            return np.zeros(rgb.shape[1:], np.float32)
        self.found = True
        self._subjects = self._tracker.track(rgb, fresh)
        return np.asarray(self._subjects.max(axis=0), np.float32)

    def _look(self, rgb: Array) -> list[Box]:
        """Boxes of subjects that nobody follows yet, the surest first."""
        followed = [] if self._subjects is None else [b for b in map(_box_around, self._subjects) if b is not None]
        count = 0 if self._subjects is None else len(self._subjects)
        fresh: list[Box] = []
        for box in sorted(self._finder.find(rgb), key=lambda b: -b.score):
            if count + len(fresh) >= _MOST_SUBJECTS:
                break
            if box.right > box.left and box.bottom > box.top and all(_overlap(box, b) < _SAME for b in followed):
                fresh.append(box)
                followed.append(box)
        return fresh


def _box_around(alpha: Array) -> Box | None:
    """The box of what is more inside than outside, None when there is nothing."""
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
