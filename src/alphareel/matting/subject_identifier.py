"""Tells the subjects of a matte apart and follows each over the clip.

Pictures are small: uint8 Y, U, V (h, w, 3); alphas are float32 (h, w) in 0..1.
"""

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.frame import Plane
from alphareel.matting.cuts import CutDetector
from alphareel.matting.runtime import Array

AREA = 192 * 108  # of the small pictures, about
MAX_SUBJECTS = 16
_MIN_SHARE = 0.004  # of the picture that a subject covers when it is first seen
_MIN_PART = 0.2  # share of a region that is explained by a known subject, to count as part of it
_SAME_COLORS = (
    0.55  # similarity of color histograms (Bhattacharyya coefficient) from which a lost subject is recognized
)
_UNSURE_LOOK = 0.75
_BINS = 8
_NOTHING: Any = None  # OpenCV asks for None where its type stubs want an array

Labels = NDArray[np.int32]


@dataclass
class Subject:
    """One subject. ``number``: from 1. ``histogram``: of its colors. ``boxes``: frame to x, y, width, height.

    ``share``: mean of the picture that it covers while it is there. ``unsure``: it may have been confused with another.
    """

    number: int
    histogram: Array
    boxes: dict[int, tuple[float, float, float, float]] = field(default_factory=dict)
    shares: float = 0.0
    best_share: float = 0.0
    unsure: bool = False

    @property
    def share(self) -> float:
        return self.shares / max(1, len(self.boxes))


class SubjectIdentifier:
    """Labels the subjects of consecutive frames.

    Connected regions of the matte are subjects. Labels move from frame to frame along the optical flow, so two subjects
    that touch keep theirs; each pixel of a common region takes the label that is nearest. A region without a label is a
    subject that was lost before, if its colors look the same, else a new one.
    """

    def __init__(self) -> None:
        self.subjects: list[Subject] = []
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._cuts = CutDetector()
        self._before: tuple[Plane, Labels] | None = None
        self._merged: set[int] = set()
        self._index = 0

    def add(self, picture: Plane, alpha: Array) -> Labels:
        """Number of the subject of each pixel, int32 (h, w), 0 where there is none."""
        is_cut = self._cuts.is_cut(picture.transpose(2, 0, 1))
        moved = np.zeros(alpha.shape, np.int32) if self._before is None or is_cut else self._moved(picture)
        labels = self._label(picture, alpha, moved)
        self._record(picture, labels)
        self._before = (picture, labels)
        self._index += 1
        return labels

    def _moved(self, picture: Plane) -> Labels:
        assert self._before is not None
        before, labels = self._before
        now, then = (np.ascontiguousarray(p[..., 0]) for p in (picture, before))
        height, width = now.shape
        grid = np.dstack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)))
        source = np.asarray(self._flow.calc(now, then, _NOTHING) + grid, np.float32)
        return np.asarray(cv2.remap(labels.astype(np.float32), source, _NOTHING, cv2.INTER_NEAREST), np.int32)

    def _label(self, picture: Plane, alpha: Array, moved: Labels) -> Labels:
        labels = np.zeros(alpha.shape, np.int32)
        count, regions = cv2.connectedComponents((alpha > 0.5).astype(np.uint8), connectivity=4)
        areas = np.bincount(regions.ravel(), minlength=count)
        claimed: set[int] = set()
        for region in sorted(range(1, count), key=lambda r: -areas[r]):
            inside = regions == region
            known = self._known(moved[inside])
            if not known and areas[region] < _MIN_SHARE * alpha.size:
                continue
            if len(known) > 1:
                self._merged.update(known)
                labels[inside] = _nearest(moved, known)[inside]
            elif known and known[0] in self._merged:
                labels[inside] = self._recognize(picture, inside, known[0], claimed)
            else:
                labels[inside] = known[0] if known else self._new_or_lost(picture, inside, claimed)
            claimed.update(int(number) for number in np.unique(labels[inside]))
        labels[~np.isin(labels, [s.number for s in self.subjects])] = 0
        return labels

    def _known(self, votes: Labels) -> list[int]:
        """Subjects that explain enough of a region, most first."""
        counts = np.bincount(votes[votes > 0], minlength=1)
        needed = _MIN_PART * max(1, int((votes > 0).sum()))
        if (votes > 0).sum() < 0.1 * votes.size:
            return []
        return [int(number) for number in np.argsort(-counts) if counts[number] > needed]

    def _recognize(self, picture: Plane, inside: NDArray[np.bool_], expected: int, claimed: set[int]) -> int:
        """The subject of a region that separated from another: of those that touched, the one that looks the same."""
        histogram = _color_histogram(picture, inside)
        candidates = [s for s in self.subjects if s.number in self._merged and s.number not in claimed]
        if not candidates:
            return expected
        scores = {
            s.number: _similarity(histogram, s.histogram) + (0.05 if s.number == expected else 0) for s in candidates
        }
        best, *others = sorted(scores, key=lambda number: -scores[number])
        if others and scores[best] - scores[others[0]] < 0.03:
            self._of(best).unsure = self._of(others[0]).unsure = True
            best = expected if expected in scores else best
        if not others:
            self._merged.discard(best)
        return best

    def _new_or_lost(self, picture: Plane, inside: NDArray[np.bool_], claimed: set[int]) -> int:
        histogram = _color_histogram(picture, inside)
        present = claimed | {s.number for s in self.subjects if self._index - 1 in s.boxes}
        lost = [s for s in self.subjects if s.number not in present]
        best = max(lost, key=lambda s: _similarity(histogram, s.histogram), default=None)
        if best is not None and (score := _similarity(histogram, best.histogram)) > _SAME_COLORS:
            best.unsure = best.unsure or score < _UNSURE_LOOK
            return best.number
        if len(self.subjects) >= MAX_SUBJECTS:
            return 0
        self.subjects.append(Subject(len(self.subjects) + 1, histogram))
        return len(self.subjects)

    def _record(self, picture: Plane, labels: Labels) -> None:
        height, width = labels.shape
        for subject in self.subjects:
            inside = labels == subject.number
            if inside.sum() < 0.25 * _MIN_SHARE * labels.size:
                continue
            x, y, w, h = cv2.boundingRect(inside.astype(np.uint8))
            share = float(inside.mean())
            subject.boxes[self._index] = (x / width, y / height, w / width, h / height)
            subject.shares += share
            subject.best_share = max(subject.best_share, share)
            if subject.number not in self._merged:
                subject.histogram = np.asarray(
                    0.9 * subject.histogram + 0.1 * _color_histogram(picture, inside), np.float32
                )

    def _of(self, number: int) -> Subject:
        return self.subjects[number - 1]


def _color_histogram(picture: Plane, inside: NDArray[np.bool_]) -> Array:
    """Histogram of the colors inside, float32 (512,), sum 1."""
    colors = (picture[inside] // (256 // _BINS)).astype(np.int64)
    index = (colors[:, 0] * _BINS + colors[:, 1]) * _BINS + colors[:, 2]
    counts = np.bincount(index, minlength=_BINS**3).astype(np.float32)
    return np.asarray(counts / max(1.0, counts.sum()), np.float32)


def _similarity(one: Array, other: Array) -> float:
    """Bhattacharyya coefficient, 0..1."""
    return float(np.sqrt(one * other).sum())


def _nearest(labels: Labels, known: list[int]) -> Labels:
    """For each pixel the label in ``known`` that is nearest."""
    distances = [cv2.distanceTransform((labels != number).astype(np.uint8), cv2.DIST_L2, 3) for number in known]
    return np.asarray(np.array(known, np.int32)[np.argmin(np.stack(distances), axis=0)], np.int32)
