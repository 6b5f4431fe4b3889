"""Temporal smoothing reduces flicker, follows motion, and restarts at cuts."""

import cv2
import numpy as np
import pytest

from alphareel.matting.temporal_smoothing import TemporalSmoother

WIDTH, HEIGHT = 160, 96
RNG = np.random.default_rng(7)
WALL = cv2.GaussianBlur(RNG.integers(0, 90, (HEIGHT, WIDTH), np.uint8), (5, 5), 0)
CLOTH = cv2.GaussianBlur(RNG.integers(110, 255, (HEIGHT, 2 * WIDTH), np.uint8), (5, 5), 0)


def truth_at(index, speed=2):
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.circle(alpha, (50 + speed * index, 48), 26, 1.0, -1)
    return cv2.blur(alpha, (5, 5))


def model_input_at(index, speed=2):
    shift = WIDTH - speed * index
    luma = np.where(truth_at(index, speed) > 0.5, CLOTH[:, shift : shift + WIDTH], WALL)
    return np.stack([luma, np.full_like(luma, 120), np.full_like(luma, 136)]).astype(np.uint8)


def flickering(alpha, seed):
    """Alpha with a noisy outline, as frame-by-frame networks produce it."""
    wave = np.random.default_rng(seed).normal(0, 0.5, (12, 20)).astype(np.float32)
    uncertainty = cv2.blur(alpha, (15, 15)) * (1 - cv2.blur(alpha, (15, 15))) * 4
    return np.clip(alpha + uncertainty * cv2.resize(wave, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0, 1)


def smoothed(mattes, model_inputs):
    smoother = TemporalSmoother()
    return [smoother.smooth(a.astype(np.float32), t) for a, t in zip(mattes, model_inputs, strict=True)]


def flicker_of(mattes, truths):
    changes = [(b - a) - (d - c) for a, b, c, d in zip(mattes, mattes[1:], truths, truths[1:], strict=False)]
    return float(np.mean([np.sqrt(np.square(c).mean()) for c in changes]))


def error_of(mattes, truths):
    return float(np.mean([np.abs(m - t).mean() for m, t in zip(mattes, truths, strict=True)]))


@pytest.fixture(scope="module")
def moving():
    truths = [truth_at(n) for n in range(20)]
    return truths, [flickering(t, n) for n, t in enumerate(truths)], [model_input_at(n) for n in range(20)]


def test_flicker_is_halved_and_the_error_does_not_increase(moving):
    truths, mattes, model_inputs = moving
    mattes_out = smoothed(mattes, model_inputs)
    assert flicker_of(mattes_out, truths) < 0.5 * flicker_of(mattes, truths)
    assert error_of(mattes_out, truths) < error_of(mattes, truths)


def test_a_moving_true_matte_stays_accurate(moving):
    truths, _, model_inputs = moving
    assert error_of(smoothed(truths, model_inputs), truths) < 0.004


def test_the_first_matte_of_a_clip_is_unchanged(moving):
    _, mattes, model_inputs = moving
    assert np.array_equal(smoothed(mattes[:1], model_inputs[:1])[0], mattes[0].astype(np.float32))


def test_the_first_matte_after_a_reset_is_unchanged(moving):
    _, mattes, model_inputs = moving
    smoother = TemporalSmoother()
    for matte, model_input in zip(mattes[:5], model_inputs[:5], strict=True):
        smoother.smooth(matte.astype(np.float32), model_input)
    smoother.reset()
    mattes_out = smoother.smooth(mattes[5].astype(np.float32), model_inputs[5])
    assert np.array_equal(mattes_out, mattes[5].astype(np.float32))


def test_a_subject_that_appears_suddenly_is_not_delayed():
    empty = np.stack([WALL, np.full_like(WALL, 120), np.full_like(WALL, 136)])
    mattes = [np.zeros((HEIGHT, WIDTH), np.float32)] * 4 + [truth_at(0)]
    mattes_out = smoothed(mattes, [empty] * 4 + [model_input_at(0)])
    inside = truth_at(0) > 0.99
    assert mattes_out[-1][inside].mean() > 0.9


def test_smoothed_alpha_stays_in_range(moving):
    _, mattes, model_inputs = moving
    for alpha in smoothed(mattes, model_inputs):
        assert alpha.dtype == np.float32
        assert alpha.min() >= 0
        assert alpha.max() <= 1


@pytest.mark.parametrize(("width", "height"), [(2, 2), (16, 96), (512, 288), (640, 32)])
def test_any_size_is_smoothed(width, height):
    alpha = np.full((height, width), 0.5, np.float32)
    model_input = RNG.integers(0, 255, (3, height, width), np.uint8)
    mattes_out = smoothed([alpha, alpha], [model_input, model_input])
    assert mattes_out[-1].shape == (height, width)
    assert np.allclose(mattes_out[-1], 0.5)


def test_a_matte_of_another_size_restarts_the_smoothing(moving):
    _, mattes, model_inputs = moving
    smoother = TemporalSmoother()
    smoother.smooth(mattes[0].astype(np.float32), model_inputs[0])
    other = np.full((32, 64), 0.25, np.float32)
    assert np.array_equal(smoother.smooth(other, np.full((3, 32, 64), 90, np.uint8)), other)
