"""Told subjects are found, followed through a shot, looked for again after it and now and then; nobody is a failure."""

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


class Finder:
    """Finds what the test lays before it; counts how often it was asked."""

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), 0

    def find(self, rgb):
        self.asked += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Tracker:
    """Every subject stays in its box."""

    def __init__(self):
        self.boxes, self.shots, self.most = [], 0, 0

    def forget(self):
        self.boxes, self.shots = [], self.shots + 1

    def track(self, rgb, fresh):
        self.boxes.extend(fresh)
        self.most = max(self.most, len(self.boxes))
        made = np.zeros((len(self.boxes), *rgb.shape[1:]), np.float32)
        for alpha, box in zip(made, self.boxes, strict=True):
            alpha[int(box.top * SIDE) : int(box.bottom * SIDE), int(box.left * SIDE) : int(box.right * SIDE)] = 1
        return made


def memory_of(finder, tracker=None):
    return PromptedSession(CLIP, SubjectTracker(("dog",), finder, tracker or Tracker()), thumbnail=(SIDE, SIDE))


def play(memory, count, level=60):
    picture = np.full((64, 96, 3), level, np.uint8)
    return [memory.step([frame_of(picture, (SIDE, SIDE), index=n)])[0].alpha for n in range(count)]


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
def test_phrases_are_parted_by_commas(prompt, phrases):
    assert phrases_of(prompt) == phrases


def test_too_many_phrases_are_refused():
    with pytest.raises(InvalidRequest, match="17 things"):
        phrases_of(",".join(f"thing {n}" for n in range(17)))


def test_every_subject_that_was_named_is_kept():
    alpha = play(memory_of(Finder([LEFT, RIGHT])), 1)[0]
    assert alpha[32, 18] == alpha[32, 72] == 255
    assert alpha[32, 48] == 0


def test_it_is_searched_once_and_then_followed_and_searched_again_after_a_while():
    finder, tracker = Finder([LEFT], [LEFT, RIGHT]), Tracker()
    memory = memory_of(finder, tracker)
    alphas = play(memory, 49)
    assert finder.asked == 2
    assert alphas[47][32, 72] == 0
    assert alphas[48][32, 72] == 255, "who came in later"
    assert tracker.boxes == [LEFT, RIGHT], "the one that is followed already is no new one"


def test_a_subject_that_comes_in_late_is_found():
    finder = Finder([], [], [LEFT])
    memory = memory_of(finder)
    alphas = play(memory, 20)
    assert not alphas[15].any()
    assert alphas[16].any()
    assert finder.asked == 3
    memory.finish()


def test_after_a_cut_everything_is_looked_for_anew():
    finder, tracker = Finder([LEFT], [RIGHT]), Tracker()
    memory = memory_of(finder, tracker)
    play(memory, 3)
    after = play(memory, 2, level=220)
    assert tracker.shots == 2, "at the first frame and at the cut"
    assert after[0][32, 18] == 0
    assert after[0][32, 72] == 255


def test_a_clip_without_the_subject_is_a_failure_that_names_it():
    memory = memory_of(Finder([]))
    play(memory, 10)
    with pytest.raises(SubjectNotFound, match="Nothing in the video is dog") as caught:
        memory.finish()
    assert caught.value.code == "subject_not_found"
    assert caught.value.hint


def test_the_number_of_subjects_is_bounded_and_the_surest_win():
    crowd = [Box(n / 20, 0, n / 20 + 0.04, 1, score=n / 20) for n in range(20)]
    tracker = Tracker()
    play(memory_of(Finder(crowd), tracker), 1)
    assert [box.score for box in tracker.boxes] == [n / 20 for n in range(19, 11, -1)]


def test_boxes_of_one_thing_and_empty_boxes_count_once_and_never():
    tracker = Tracker()
    double = Box(0.11, 0.2, 0.31, 0.8, 0.7)
    play(memory_of(Finder([double, LEFT, Box(0.5, 0.5, 0.5, 0.9, 1.0)]), tracker), 1)
    assert tracker.boxes == [LEFT]
