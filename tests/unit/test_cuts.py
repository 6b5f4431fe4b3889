"""Cuts are detected; movement, noise and fades are not mistaken for cuts."""

import numpy as np
import pytest

from alphareel.matting.cuts import CutDetector


def shot(seed):
    random = np.random.default_rng(seed)
    coarse = random.integers(20, 235, (3, 9, 16)).astype(np.float32)
    return np.kron(coarse, np.ones((1, 16, 16), np.float32)).astype(np.uint8)


def cuts_in(frames):
    detector = CutDetector()
    return [index for index, frame in enumerate(frames) if detector.is_cut(frame)]


def test_a_cut_is_the_first_frame_of_the_new_shot():
    assert cuts_in([shot(1)] * 6 + [shot(2)] * 6) == [6]


def test_two_cuts_a_few_frames_apart_are_both_detected():
    assert cuts_in([shot(1)] * 5 + [shot(2)] * 4 + [shot(3)] * 4) == [5, 9]


def test_a_pan_is_not_a_cut():
    assert cuts_in([np.roll(shot(1), 3 * n, axis=2) for n in range(40)]) == []


def test_noise_is_not_a_cut():
    random = np.random.default_rng(0)
    noisy = [np.clip(shot(1) + random.normal(0, 12, shot(1).shape), 0, 255).astype(np.uint8) for _ in range(20)]
    assert cuts_in(noisy) == []


def test_a_fade_is_not_a_cut():
    assert cuts_in([(shot(1) * (1 - n / 40)).astype(np.uint8) for n in range(40)]) == []


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_the_first_two_frames_are_never_a_cut(frames):
    assert cuts_in([shot(n) for n in range(frames)]) == []


def test_detectors_of_different_clips_are_independent():
    first, second = CutDetector(), CutDetector()
    for _ in range(4):
        assert not first.is_cut(shot(1))
        assert not second.is_cut(shot(2))


def test_frames_that_all_differ_are_not_a_series_of_cuts():
    assert len(cuts_in([shot(n) for n in range(20)])) <= 1
