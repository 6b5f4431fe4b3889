"""Plans of corrections: reused from revision to revision, without a difference in any bit."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest

import alphareel
from alphareel.domain.clip import Limits
from alphareel.domain.corrections import parse_correction
from alphareel.matting import spread
from alphareel.matting.correction import FramePatch
from alphareel.media.attachments import read_attachments
from alphareel.pipeline import corrections as pipeline
from alphareel.pipeline.plans import CorrectionPlan, plans_in
from alphareel.testing.clips import make_clip

FRAMES = 14


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A clip with B-frames, and a matte of it."""
    folder = tmp_path_factory.mktemp("kept")
    options = {"preset": "fast", "bf": "2", "g": "10"}
    clip = make_clip(folder / "in.mp4", frames=FRAMES, background="green", options=options).path
    alphareel.cut(clip, folder / "matte.mkv", output_format="lossless_matte", engine="builtin")
    return clip, folder / "matte.mkv"


@pytest.fixture(autouse=True)
def fast(monkeypatch):
    """Colors in place of the features of the network, and a short reach."""

    def extract(frame):
        height, width = frame.picture.shape[:2]
        return cv2.resize(frame.picture, (width // 4, height // 4)).astype(np.float32)

    monkeypatch.setattr(pipeline, "load_features", lambda *_, **__: SimpleNamespace(extract=extract))
    monkeypatch.setattr(spread, "MAX_FRAMES", 5)


@pytest.fixture
def planned(monkeypatch):
    """The numbers of corrections of the frames that were planned."""
    found = []
    original = pipeline._correct

    def count(window, corrections, features):
        found.append(window.tick)
        return original(window, corrections, features)

    monkeypatch.setattr(pipeline, "_correct", count)
    return found


def correction(frame, x=64.0):
    return parse_correction({"frame": frame, "points": [{"x": x, "y": 60.0, "label": "keep"}]}, mask_field="mask")


def plan(kept, corrections, plans=None):
    clip, matte = kept
    return pipeline.plan_edits(clip, matte, corrections, Limits(), threads=1, plans=plans)


def assert_equal(one, other):
    assert list(one.patches) == list(other.patches)
    for tick, patch in one.patches.items():
        for name in ("alpha", "weight", "exact"):
            assert np.array_equal(getattr(patch, name), getattr(other.patches[tick], name)), (tick, name)


def test_each_further_correction_is_planned_alone_and_equals_a_fresh_run(kept, planned):
    corrections, edits, counts = [], None, []
    for frame in (7, 2, 12, 5):
        corrections = [*corrections, correction(frame)]
        planned.clear()
        edits = plan(kept, corrections, None if edits is None else edits.plans)
        counts.append(len(planned))
        assert_equal(edits, plan(kept, corrections))
    assert counts == [1, 1, 1, 1]


def test_undoing_plans_again_only_what_reaches_farther_now(kept, planned):
    all_of_them = [correction(frame) for frame in (1, 5, 8, 12)]
    edits = plan(kept, all_of_them)
    remaining = [each for each in all_of_them if each.frame != 5]
    planned.clear()
    undone = plan(kept, remaining, edits.plans)
    assert len(planned) == 2, "those beside the correction that is gone"
    assert_equal(undone, plan(kept, remaining))
    assert len(undone.plans) == 3


def test_another_correction_of_a_frame_takes_no_plan_of_the_former_one(kept, planned):
    edits = plan(kept, [correction(7)])
    planned.clear()
    both = plan(kept, [correction(7), correction(7, x=20.0)], edits.plans)
    assert len(planned) == 1
    assert_equal(both, plan(kept, [correction(7), correction(7, x=20.0)]))


def test_a_mask_with_another_content_is_planned_again(kept, planned, tmp_path):
    def mask(level):
        cv2.imwrite(str(tmp_path / "mask.png"), np.full((96, 128), level, np.uint8))
        return [parse_correction({"frame": 7, "mask": str(tmp_path / "mask.png")}, mask_field="mask")]

    edits = plan(kept, mask(255))
    planned.clear()
    again = plan(kept, mask(255), edits.plans)
    assert planned == []
    assert_equal(again, edits)
    plan(kept, mask(0), edits.plans)
    assert len(planned) == 1


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda _: b"", lambda b: b[:8] + b"x" + b[9:], lambda b: b + b"0" * 9]
)
def test_damaged_plans_are_made_again(kept, planned, damage):
    edits = plan(kept, [correction(7)])
    planned.clear()
    again = plan(kept, [correction(7)], {name: damage(packed) for name, packed in edits.plans.items()})
    assert_equal(again, edits)


def test_plans_that_are_not_those_of_this_clip_are_not_used(kept, planned, tmp_path):
    other = make_clip(tmp_path / "other.mp4", frames=FRAMES, background="texture").path
    edits = plan((other, kept[1]), [correction(7)])
    planned.clear()
    assert_equal(plan(kept, [correction(7)], edits.plans), plan(kept, [correction(7)]))
    assert len(planned) == 2


def test_a_packed_plan_is_what_it_was():
    rng = np.random.default_rng(1)
    small = [rng.integers(0, 256, (6, 8), np.uint8) for _ in range(4)]
    exact = rng.integers(0, 256, (12, 16), np.uint8)
    plan = CorrectionPlan(3, 90, {5: FramePatch(small[0], small[1], exact), 9: FramePatch(small[2], small[3])})
    again = CorrectionPlan.unpack(plan.pack())
    assert (again.start, again.end, list(again.patches)) == (3, 90, [5, 9])
    assert np.array_equal(again.patches[5].exact, exact)
    assert np.array_equal(again.patches[9].weight, small[3])
    assert again.patches[9].exact is None


def test_a_corrected_matte_carries_its_plans(kept, tmp_path, planned):
    clip, matte = kept
    values = {"frame": 7, "points": [{"x": 64, "y": 60, "label": "keep"}]}
    alphareel.correct(matte, clip, [values], tmp_path / "fixed.mkv", output_format="lossless_matte", threads=1)
    found = plans_in(read_attachments(tmp_path / "fixed.mkv"))
    planned.clear()
    assert_equal(plan(kept, [correction(7)], found), plan(kept, [correction(7)]))
    assert len(planned) == 1
    again = alphareel.export(tmp_path / "fixed.mkv", clip, targets=[tmp_path / "out.webm"])
    assert isinstance(again, tuple)
    assert again[0].frames == FRAMES
