"""Subjects named by a text are found, tracked, and searched again regularly and after a cut."""

from fractions import Fraction

import numpy as np
import pytest

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import InvalidRequest, SubjectNotFound
from alphareel.matting.subjects import Box, PromptedSession, SubjectTracker, phrases_of
from alphareel.testing.frames import frame_of

CLIP = Clip(
    width=96, height=64, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip
SIDE = 48
LEFT, RIGHT = Box(0.1, 0.2, 0.3, 0.8, 0.9), Box(0.6, 0.2, 0.9, 0.8, 0.8)


class FakeFinder:
    """Returns prepared boxes and counts its calls."""

    def __init__(self, *answers):
        self.answers, self.calls = list(answers), 0

    def find(self, rgb):
        self.calls += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class FakeTracker:
    """Every subject stays in its box."""

    def __init__(self):
        self.boxes, self.shots, self.max_boxes = [], 0, 0

    def reset(self):
        self.boxes, self.shots = [], self.shots + 1

    def track(self, rgb, new_subjects):
        self.boxes.extend(new_subjects)
        self.max_boxes = max(self.max_boxes, len(self.boxes))
        alphas = np.zeros((len(self.boxes), *rgb.shape[1:]), np.float32)
        for alpha, box in zip(alphas, self.boxes, strict=True):
            alpha[int(box.top * SIDE) : int(box.bottom * SIDE), int(box.left * SIDE) : int(box.right * SIDE)] = 1
        return alphas


def session_of(finder, tracker=None):
    return PromptedSession(
        CLIP, SubjectTracker(("dog",), finder, tracker or FakeTracker()), model_input_size=(SIDE, SIDE)
    )


def run_frames(session, count, level=60):
    picture = np.full((64, 96, 3), level, np.uint8)
    return [session.step([frame_of(picture, (SIDE, SIDE), index=n)])[0].alpha for n in range(count)]


@pytest.mark.parametrize(
    ("prompt", "phrases"),
    [
        ("person, clothing accessories,  glowing ring ", ("person", "clothing accessories", "glowing ring")),
        ("A Golden Retriever.", ("a golden retriever",)),
        ("dog,dog,,\ncat.", ("dog", "cat")),
        (None, ("person", "animal")),
        ("  , . ", ("person", "animal")),
    ],
)
def test_a_prompt_is_split_into_phrases(prompt, phrases):
    assert phrases_of(prompt) == phrases


def test_too_many_phrases_are_rejected():
    with pytest.raises(InvalidRequest, match="17 things"):
        phrases_of(",".join(f"thing {n}" for n in range(17)))


def test_every_named_subject_is_in_the_matte():
    alpha = run_frames(session_of(FakeFinder([LEFT, RIGHT])), 1)[0]
    assert alpha[32, 18] == alpha[32, 72] == 255
    assert alpha[32, 48] == 0


def test_a_subject_is_tracked_and_new_ones_are_searched_at_intervals():
    finder, tracker = FakeFinder([LEFT], [LEFT, RIGHT]), FakeTracker()
    session = session_of(finder, tracker)
    alphas = run_frames(session, 49)
    assert finder.calls == 2
    assert alphas[47][32, 72] == 0
    assert alphas[48][32, 72] == 255, "the subject that entered later"
    assert tracker.boxes == [LEFT, RIGHT], "the tracked subject is not added again"


def test_a_subject_that_enters_late_is_found():
    finder = FakeFinder([], [], [LEFT])
    session = session_of(finder)
    alphas = run_frames(session, 20)
    assert not alphas[15].any()
    assert alphas[16].any()
    assert finder.calls == 3
    session.finish()


def test_a_cut_restarts_the_search():
    finder, tracker = FakeFinder([LEFT], [RIGHT]), FakeTracker()
    session = session_of(finder, tracker)
    run_frames(session, 3)
    after = run_frames(session, 2, level=220)
    assert tracker.shots == 2, "at the first frame and at the cut"
    assert after[0][32, 18] == 0
    assert after[0][32, 72] == 255


def test_a_clip_without_the_subject_fails_with_its_name():
    session = session_of(FakeFinder([]))
    run_frames(session, 10)
    with pytest.raises(SubjectNotFound, match="Nothing in the video matches dog") as caught:
        session.finish()
    assert caught.value.code == "subject_not_found"
    assert caught.value.hint


def test_the_number_of_subjects_is_limited_to_the_most_confident():
    crowd = [Box(n / 20, 0, n / 20 + 0.04, 1, score=n / 20) for n in range(20)]
    tracker = FakeTracker()
    run_frames(session_of(FakeFinder(crowd), tracker), 1)
    assert [box.score for box in tracker.boxes] == [n / 20 for n in range(19, 11, -1)]


def test_duplicate_boxes_count_once_and_empty_boxes_are_ignored():
    tracker = FakeTracker()
    double = Box(0.11, 0.2, 0.31, 0.8, 0.7)
    run_frames(session_of(FakeFinder([double, LEFT, Box(0.5, 0.5, 0.5, 0.9, 1.0)]), tracker), 1)
    assert tracker.boxes == [LEFT]
