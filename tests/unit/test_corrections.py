"""Corrections change what they name, spread along the motion, and stop where the picture no longer agrees."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

import alphareel
from alphareel.domain import errors
from alphareel.domain.clip import Limits
from alphareel.domain.corrections import correction_from_json, correction_to_json, parse_correction
from alphareel.matting.correction import Click, SmallFrame, correct_by_box, correct_by_clicks
from alphareel.matting.features import load_features
from alphareel.matting.runtime import Runtime
from alphareel.matting.spread import find_hardness, harden, spread
from alphareel.media.reader import open_reader
from alphareel.testing.clips import make_clip

WIDTH, HEIGHT = 160, 96
RNG = np.random.default_rng(3)
WALL = cv2.GaussianBlur(RNG.integers(20, 80, (HEIGHT, WIDTH), np.uint8), (0, 0), 3)


def scene(index, *, ball=True):
    """A body that moves right, with a ball beside it: picture and true alpha."""
    picture = np.dstack([WALL, np.full_like(WALL, 120), np.full_like(WALL, 130)])
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    x = 30 + 2 * index
    shapes = [((x, 40), (160, 90, 170))] + ([((x + 34, 60), (220, 150, 90))] if ball else [])
    for center, color in shapes:
        cv2.circle(picture, center, 14, color, -1)
        cv2.circle(alpha, center, 14, 1.0, -1)
    noise = np.random.default_rng(index).integers(0, 5, picture.shape, np.uint8)
    return cv2.add(picture, noise), alpha


@pytest.fixture(scope="module")
def extract():
    return load_features(Runtime(threads=1), matrix=1, full_range=False).extract


def patched(frame, patch):
    share = patch.weight.astype(np.float32) / 255
    return frame.alpha + (patch.alpha / np.float32(255) - frame.alpha) * share


def frames(count, *, ball=True):
    """The engine misses the ball."""
    return [SmallFrame(n, scene(n, ball=ball)[0], scene(n, ball=False)[1]) for n in range(count)]


def error(alpha, index):
    return float(np.abs(alpha - scene(index)[1]).mean())


def test_a_click_keeps_what_the_engine_missed():
    frame = frames(1)[0]
    corrected = correct_by_clicks(frame.picture, frame.alpha, [Click(64, 60, keep=True)], None)
    assert error(corrected, 0) < 0.15 * error(frame.alpha, 0)


def test_a_click_removes_what_the_engine_kept():
    picture, both = scene(0)
    corrected = correct_by_clicks(picture, both, [Click(64, 60, keep=False)], None)
    assert float(np.abs(corrected - scene(0, ball=False)[1]).mean()) < 0.01


def test_a_box_keeps_what_it_encloses():
    frame = frames(1)[0]
    corrected = correct_by_box(frame.picture, frame.alpha, (46, 43, 36, 35))
    assert error(corrected, 0) < 0.3 * error(frame.alpha, 0)


def test_a_box_around_what_the_matte_has_adds_nothing_within_it():
    """A hole stays: it does not reach farther than the matte."""
    picture, alpha = scene(0, ball=False)
    cv2.circle(picture, (30, 40), 6, (220, 150, 90), -1)
    cv2.circle(alpha, (30, 40), 6, 0.0, -1)
    same = correct_by_box(picture, alpha, (14, 24, 33, 33))
    assert float(np.abs(same - alpha).mean()) < 0.001
    farther, _ = scene(0)
    added = correct_by_box(farther, alpha, (14, 24, 66, 52))
    assert added[60, 64] > 0.9


def test_a_correction_spreads_along_the_motion_and_raises_no_error(extract):
    clip = frames(20)
    corrected = correct_by_clicks(clip[4].picture, clip[4].alpha, [Click(72, 60, keep=True)], None)
    patches = dict(spread(clip[4], corrected, clip[5:], extract))
    patches |= dict(spread(clip[4], corrected, clip[3::-1], extract))
    assert set(patches) == set(range(20)) - {4}
    for index, patch in patches.items():
        assert error(patched(clip[index], patch), index) < 0.5 * error(clip[index].alpha, index)


def test_a_correction_ends_where_its_subject_disappears(extract):
    clip = frames(6) + [SmallFrame(6 + n, scene(6 + n, ball=False)[0], scene(6 + n, ball=False)[1]) for n in range(6)]
    corrected = correct_by_clicks(clip[0].picture, clip[0].alpha, [Click(64, 60, keep=True)], None)
    patches = dict(spread(clip[0], corrected, clip[1:], extract))
    assert 3 in patches
    for index in range(7, 12):
        if index in patches:
            assert float(np.abs(patched(clip[index], patches[index]) - clip[index].alpha).mean()) < 0.01


def test_a_mask_of_one_frame_raises_no_error_where_the_engine_is_right(extract):
    wrong = SmallFrame(0, scene(0)[0], np.zeros((HEIGHT, WIDTH), np.float32))
    right = [SmallFrame(n, *scene(n)) for n in range(1, 10)]
    for pts, patch in spread(wrong, scene(0)[1], right, extract):
        assert error(patched(right[pts - 1], patch), pts) < 0.005


def test_a_small_correction_leaves_what_is_far_from_it(extract):
    clip = frames(8)
    far = [SmallFrame(f.pts, f.picture, f.alpha.copy()) for f in clip]
    for frame in far:
        frame.alpha[4:14, 130:150] = 0.8  # a mistake of the engine that nobody corrected
    corrected = far[0].alpha.copy()
    corrected[30:38, 26:34] = 0
    patches = dict(spread(far[0], corrected, far[1:], extract))
    assert patches
    assert all(not patch.weight[:20, 120:].any() for patch in patches.values())


def test_a_correction_ends_at_a_cut(extract):
    clip = frames(6)
    other = [SmallFrame(n, 255 - clip[n].picture, clip[n].alpha) for n in (4, 5)]
    corrected = correct_by_clicks(clip[0].picture, clip[0].alpha, [Click(64, 60, keep=True)], None)
    assert set(dict(spread(clip[0], corrected, [*clip[1:4], *other], extract))) == {1, 2, 3}


def test_only_a_mask_says_how_hard_outlines_are():
    soft = cv2.GaussianBlur(scene(0)[1], (0, 0), 3)
    assert find_hardness(soft, scene(0)[1]) > 2
    assert find_hardness(soft, soft) == 1
    picture = scene(0)[0]
    assert find_hardness(soft, correct_by_clicks(picture, soft, [Click(64, 60, keep=False)], None)) == 1
    assert (harden(soft, 1) == soft).all()


def test_features_have_cells_of_four_pixels_and_are_the_same_again(extract):
    frame = frames(1)[0]
    features = extract(frame)
    assert features.shape[:2] == (HEIGHT // 4, WIDTH // 4)
    assert (features == extract(frame)).all()


def test_the_same_clicks_give_the_same_matte():
    frame = frames(1)[0]
    one, other = (correct_by_clicks(frame.picture, frame.alpha, [Click(64, 60, keep=True)], None) for _ in range(2))
    assert (one == other).all()


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    clip = make_clip(folder / "in.mp4", frames=16).path
    alphareel.cut(clip, folder / "matte.mkv", output_format="lossless_matte", engine="builtin")
    return clip, folder / "matte.mkv"


def alphas(path):
    with open_reader(path, Limits()) as reader:
        return [(Fraction(f.pts) * reader.clip.time_base, f.y.copy()) for f in reader.frames()]


def test_a_mask_replaces_the_alpha_of_its_frame_exactly_and_the_matte_stays_elsewhere(kept, tmp_path):
    clip, matte = kept
    before = alphas(matte)
    wanted = before[8][1].copy()
    wanted[:20, :20] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), wanted)
    change = [{"frame": 8, "mask": str(tmp_path / "mask.png")}]
    for name in ("a.mkv", "b.mkv"):
        alphareel.correct(matte, clip, change, tmp_path / name, output_format="lossless_matte")
    after, again = alphas(tmp_path / "a.mkv"), alphas(tmp_path / "b.mkv")
    assert len(after) == len(before)
    assert (after[8][1] == wanted).all()
    assert all((one[1] == other[1]).all() for one, other in zip(after, again, strict=True))
    assert max(float(np.abs(a[1][40:].astype(int) - b[1][40:]).max()) for a, b in zip(after, before, strict=True)) <= 1


def painted(path, alpha, *, rows):
    """A mask that keeps these rows and leaves the rest as it is."""
    mask = np.zeros((*alpha.shape, 4), np.uint8)
    mask[rows] = 255
    cv2.imwrite(str(path), mask)
    return str(path)


CLICK = {"x": 64, "y": 60, "label": "keep"}


@pytest.mark.parametrize("together", [True, False])
def test_clicks_and_a_painted_mask_of_one_frame_both_count(kept, tmp_path, together):
    clip, matte = kept
    before = alphas(matte)[8][1]
    mask = painted(tmp_path / "mask.png", before, rows=slice(0, 6))
    clicks = {"frame": 8, "points": [CLICK]}
    both = [{**clicks, "mask": mask}] if together else [clicks, {"frame": 8, "mask": mask}]
    made = {"clicks": [clicks], "both": both}
    for name, changes in made.items():
        alphareel.correct(matte, clip, changes, tmp_path / f"{name}.mkv", output_format="lossless_matte")
    by_clicks, by_both = (alphas(tmp_path / f"{name}.mkv")[8][1] for name in made)
    assert (by_clicks[6:].astype(int) - before[6:]).max() > 100, "the click adds something"
    assert (by_both[:6] == 255).all()
    assert np.abs(by_both[6:].astype(int) - by_clicks[6:]).max() <= 1


def test_clicks_under_a_mask_of_the_whole_frame_are_refused(kept, tmp_path):
    clip, matte = kept
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros_like(alphas(matte)[8][1]))
    change = {"frame": 8, "points": [CLICK], "mask": str(tmp_path / "mask.png")}
    with pytest.raises(errors.InvalidRequest, match="covers the whole frame"):
        alphareel.correct(matte, clip, [change], tmp_path / "out.webm")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time": 99, "points": [{"x": 1, "y": 1}]}, "ends at"),
        ({"frame": 500, "points": [{"x": 1, "y": 1}]}, "ends at"),
        ({"time": 0, "points": [{"x": 5000, "y": 1}]}, r"points\.0: is outside the video"),
        ({"time": 0}, "points: is required"),
        ({"points": [{"x": 1, "y": 1}]}, "time: is required"),
        ({"time": 0, "box": [1, 2, 3]}, "box"),
        ({"time": 0, "points": [{"x": 1, "y": 1, "label": "maybe"}]}, r"points\.0\.label"),
    ],
)
def test_a_bad_correction_is_refused_and_writes_nothing(kept, tmp_path, change, message):
    clip, matte = kept
    with pytest.raises(errors.InvalidRequest, match=message):
        alphareel.correct(matte, clip, [change], tmp_path / "out.webm")
    assert not list(tmp_path.iterdir())


def test_a_mask_of_another_size_is_refused(kept, tmp_path):
    clip, matte = kept
    cv2.imwrite(str(tmp_path / "mask.png"), np.zeros((10, 10), np.uint8))
    with pytest.raises(errors.InvalidRequest, match="10x10"):
        alphareel.correct(matte, clip, [{"time": 0, "mask": str(tmp_path / "mask.png")}], tmp_path / "out.webm")


def test_a_correction_survives_its_json_form():
    given = {"time": 1.5, "points": [{"x": 3, "y": 4, "label": "remove"}], "box": [0, 0, 20, 20]}
    correction = parse_correction(given)
    assert correction_from_json(correction_to_json(correction)) == correction
