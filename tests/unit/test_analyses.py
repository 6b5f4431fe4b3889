"""Analyses: subjects keep their IDs when they cross, and the worst moments are those with the largest error."""

import cv2
import numpy as np
import pytest

import alphareel
from alphareel.imaging.frame import Frame
from alphareel.matting.quality import QualityMeter
from alphareel.matting.subject_identifier import SubjectIdentifier
from alphareel.pipeline import analysis
from alphareel.testing.clips import make_clip

WIDTH, HEIGHT = 192, 108
WALL = cv2.GaussianBlur(np.random.default_rng(5).integers(30, 90, (HEIGHT, WIDTH), np.uint8), (0, 0), 4)
RED, BLUE = (110, 100, 190), (90, 190, 110)


def crossing(index):
    """Two people who walk past each other; the red one is in front."""
    picture = np.dstack([WALL, np.full_like(WALL, 125), np.full_like(WALL, 128)])
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    for x, color in ((150 - 3 * index, BLUE), (40 + 3 * index, RED)):
        for shape in (picture, alpha):
            paint = color if shape is picture else 1.0
            cv2.ellipse(shape, (x, 60), (13, 36), 0, 0, 360, paint, -1)
    return cv2.add(picture, np.random.default_rng(index).integers(0, 6, picture.shape, np.uint8)), alpha


def test_two_people_who_cross_keep_their_ids():
    identifier = SubjectIdentifier()
    labels = [identifier.add(*crossing(index)) for index in range(36)]
    assert len(identifier.subjects) == 2
    first_left, first_right = (int(labels[0][60, x]) for x in (40, 150))
    assert {first_left, first_right} == {1, 2}
    assert int(labels[35][60, 40 + 3 * 35]) == first_left
    assert int(labels[35][60, 150 - 3 * 35]) == first_right


def test_a_subject_that_returns_is_the_same():
    identifier = SubjectIdentifier()
    picture, alpha = crossing(0)
    identifier.add(picture, alpha)
    empty: np.ndarray[tuple[int, ...], np.dtype[np.uint8]] = np.dstack(
        [WALL, np.full_like(WALL, 125), np.full_like(WALL, 128)]
    )
    for _ in range(3):
        assert not identifier.add(empty, np.zeros_like(alpha)).any()
    identifier.add(picture, alpha)
    assert len(identifier.subjects) == 2


def test_a_blurred_or_jumping_matte_is_less_certain():
    good, blurred, jumping = QualityMeter(), QualityMeter(), QualityMeter()
    totals = np.zeros(3)
    for index in range(8):
        picture, alpha = crossing(0)
        shift = np.roll(alpha, 6 * (index % 2), axis=1)
        for number, (meter, given) in enumerate(
            ((good, alpha), (blurred, cv2.GaussianBlur(alpha, (0, 0), 8)), (jumping, shift))
        ):
            totals[number] += meter.add(picture, given).error
    assert totals[1] > 3 * totals[0]
    assert totals[2] > 3 * totals[0]


def test_a_report_on_the_matte_of_another_video_is_refused(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=3).path
    other = make_clip(tmp_path / "other.mp4", frames=3, width=64, height=64).path
    alphareel.cut(clip, tmp_path / "matte.mkv", output_format="lossless_matte", engine="builtin")
    with pytest.raises(alphareel.errors.BadVideo, match="does not belong to this video"):
        alphareel.analyze(tmp_path / "matte.mkv", other, tmp_path / "report")


def test_the_report_of_a_clip_names_its_worst_moments_and_subjects(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=24).path
    alphareel.cut(clip, tmp_path / "matte.mkv", output_format="lossless_matte", engine="builtin", preview_duration=0.8)
    report = alphareel.analyze(tmp_path / "matte.mkv", clip, tmp_path / "report")
    quality = report["quality"]
    assert len(quality["strip"]["time"]) == len(quality["strip"]["error"]) == 20
    assert 1 <= len(quality["worst"]) <= 10
    assert quality["suggestions"]
    names = [quality["picture"], *(m["thumbnail"] for m in quality["worst"])]
    names += [subject["thumbnail"] for subject in report["subjects"]]
    for name in names:
        assert cv2.imread(str(tmp_path / "report" / name)) is not None


@pytest.mark.parametrize("counted", [0, 30, 3_000])
def test_a_wrong_count_of_frames_does_not_decide_how_many_are_analyzed(counted: int) -> None:
    plane = np.zeros((2, 2), np.uint8)
    frames = (Frame(plane, plane, plane, pts=pts) for pts in range(20_000))
    taken = [frame.index for frame in analysis._sampled(frames, counted)]
    assert 96 <= len(taken) <= 500
    assert taken[0] == 0
    assert taken[-1] > 19_000
    assert len(list(analysis._sampled(iter([Frame(plane, plane, plane, pts=0)] * 20), counted))) == (
        20 if counted < 96 else 1
    )
