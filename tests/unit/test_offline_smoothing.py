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
        out.extend(smoother.add(alpha, model_input))
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
        finished += len(smoother.add(alpha, model_input))
        assert count - finished < 6
    assert finished + len(smoother.flush()) == COUNT


def test_a_shot_does_not_influence_the_next():
    smoother = OfflineSmoother()
    black, white = np.zeros((64, 64), np.float32), np.ones((64, 64), np.float32)
    picture = np.full((3, 64, 64), 90, np.uint8)
    for _ in range(3):
        assert smoother.add(white, picture) == []
    before = smoother.flush()
    smoother.add(black, picture)
    after = smoother.flush()
    assert len(before) == 3
    assert all((matte > 0.99).all() for matte in before)
    assert (after[0] < 0.01).all()


def test_fewer_large_frames_wait_than_small_ones():
    pixels = 512 * 288
    assert frames_ahead(1920 * 1080 * 3 // 2, pixels) == offline_smoothing.MAX_FRAMES
    assert 4 <= frames_ahead(4096 * 4096 * 3 // 2, 1024 * 1024) < offline_smoothing.MAX_FRAMES
