"""Offline smoothing looks at frames on both sides, holds few of them, and restarts at cuts."""

import numpy as np
import pytest
from tests.unit.test_temporal_smoothing import (
    error_of,
    flicker_of,
    flickering,
    model_input_at,
    smoothed,
    truth_at,
)

from alphareel.matting import offline_smoothing
from alphareel.matting.offline_smoothing import OfflineSmoother, frames_ahead

COUNT = 24


@pytest.fixture(scope="module")
def moving():
    truths = [truth_at(n) for n in range(COUNT)]
    mattes = [flickering(t, n).astype(np.float32) for n, t in enumerate(truths)]
    return truths, mattes, [model_input_at(n) for n in range(COUNT)]


def smoothed_offline(mattes, model_inputs, frames=offline_smoothing.MAX_FRAMES):
    smoother = OfflineSmoother(frames)
    out = []
    for alpha, model_input in zip(mattes, model_inputs, strict=True):
        smoother.needs_matte(model_input)
        out.extend(smoother.add(alpha))
    return out + smoother.flush()


def test_flicker_and_error_are_lower_than_with_live_smoothing(moving):
    truths, mattes, model_inputs = moving
    live, offline = smoothed(mattes, model_inputs), smoothed_offline(mattes, model_inputs)
    assert len(offline) == COUNT
    assert flicker_of(offline, truths) < 0.85 * flicker_of(live, truths)
    assert error_of(offline, truths) < error_of(live, truths)


def test_a_missing_matte_is_filled_from_both_sides(moving):
    truths, _, model_inputs = moving
    mattes = [t.astype(np.float32) for t in truths]
    mattes[12] = np.zeros_like(mattes[12])
    offline = smoothed_offline(mattes, model_inputs)
    live = smoothed(mattes, model_inputs)
    assert np.abs(offline[12] - truths[12]).mean() < 0.7 * np.abs(live[12] - truths[12]).mean()


def test_at_most_so_many_frames_wait(moving):
    _, mattes, model_inputs = moving
    smoother, finished = OfflineSmoother(6), 0
    for count, (alpha, model_input) in enumerate(zip(mattes, model_inputs, strict=True), 1):
        smoother.needs_matte(model_input)
        finished += len(smoother.add(alpha))
        assert count - finished < 6
    assert finished + len(smoother.flush()) == COUNT


def test_a_shot_does_not_influence_the_next():
    smoother = OfflineSmoother()
    black, white = np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)
    picture = np.full((3, 64, 64), 90, np.uint8)
    for _ in range(3):
        smoother.needs_matte(picture)
        assert smoother.add(white) == []
    before = smoother.flush()
    assert smoother.needs_matte(picture), "the first frame of a shot has a matte of its own"
    smoother.add(black)
    after = smoother.flush()
    assert len(before) == 3
    assert all((matte > 0.99).all() for matte in before)
    assert (after[0] < 0.01).all()


def look_at(pictures):
    """For each picture, whether it needs a matte. Those that do get one."""
    smoother, needed = OfflineSmoother(), []
    for picture in pictures:
        needed.append(smoother.needs_matte(picture))
        smoother.add(np.zeros(picture.shape[1:], np.float32) if needed[-1] else None)
    return needed


def test_one_in_three_frames_of_a_still_picture_needs_a_matte():
    picture = model_input_at(0)
    assert look_at([picture] * 6) == [True, False, False] * 2


def test_what_the_flow_does_not_explain_needs_a_matte():
    rng = np.random.default_rng(5)
    assert all(look_at([rng.integers(0, 256, (3, 96, 160), dtype=np.uint8) for _ in range(5)]))
    pictures = [model_input_at(0) for _ in range(5)]
    for n, picture in enumerate(pictures):  # something small that appears and vanishes
        picture[:, 40:52, 60:72] = 255 * (n % 2)
    assert all(look_at(pictures))


def test_mattes_that_are_left_out_are_close_to_the_truth():
    truths = [truth_at(n, 1) for n in range(COUNT)]
    smoother, out, needed = OfflineSmoother(), [], []
    for n, truth in enumerate(truths):
        needed.append(smoother.needs_matte(model_input_at(n, 1)))
        out += smoother.add(truth.astype(np.float32) if needed[-1] else None)
    out += smoother.flush()
    assert needed.count(False) > COUNT // 3
    errors = np.array([np.abs(m - t).mean() for m, t in zip(out, truths, strict=True)])
    assert errors[~np.array(needed)].mean() < 2 * errors[np.array(needed)].mean() + 1e-3


def test_the_last_frame_of_a_shot_may_be_without_a_matte():
    smoother, picture = OfflineSmoother(), model_input_at(0)
    smoother.needs_matte(picture)
    smoother.add(np.ones(picture.shape[1:], np.float32))
    assert not smoother.needs_matte(picture)
    smoother.add(None)
    first, last = smoother.flush()
    assert first.min() > 0.99
    assert last.min() > 0.99


def test_fewer_large_frames_wait_than_small_ones():
    pixels = 512 * 288
    assert frames_ahead(1920 * 1080 * 3 // 2, pixels) == offline_smoothing.MAX_FRAMES
    assert 4 <= frames_ahead(4096 * 4096 * 3 // 2, 1024 * 1024) < offline_smoothing.MAX_FRAMES
