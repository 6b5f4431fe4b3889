"""The stabilizer takes trembling out of mattes, follows what moves, and forgets at cuts."""

import cv2
import numpy as np
import pytest

from alphareel.matting.temporal_smoothing import TemporalSmoother

WIDTH, HEIGHT = 160, 96
RNG = np.random.default_rng(7)
WALL = cv2.GaussianBlur(RNG.integers(0, 90, (HEIGHT, WIDTH), np.uint8), (5, 5), 0)
CLOTH = cv2.GaussianBlur(RNG.integers(110, 255, (HEIGHT, 2 * WIDTH), np.uint8), (5, 5), 0)


def truth_at(index, speed=2):
    made = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.circle(made, (50 + speed * index, 48), 26, 1.0, -1)
    return cv2.blur(made, (5, 5))


def thumbnail_at(index, speed=2):
    shift = WIDTH - speed * index
    luma = np.where(truth_at(index, speed) > 0.5, CLOTH[:, shift : shift + WIDTH], WALL)
    return np.stack([luma, np.full_like(luma, 120), np.full_like(luma, 136)]).astype(np.uint8)


def trembling(alpha, seed):
    """The alpha with an outline that comes and goes, as per-frame networks have it."""
    wave = np.random.default_rng(seed).normal(0, 0.5, (12, 20)).astype(np.float32)
    doubt = cv2.blur(alpha, (15, 15)) * (1 - cv2.blur(alpha, (15, 15))) * 4
    return np.clip(alpha + doubt * cv2.resize(wave, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), 0, 1)


def steadied(mattes, thumbnails):
    stabilizer = TemporalSmoother()
    return [stabilizer.steady(a.astype(np.float32), t) for a, t in zip(mattes, thumbnails, strict=True)]


def tremble_of(mattes, truths):
    changes = [(b - a) - (d - c) for a, b, c, d in zip(mattes, mattes[1:], truths, truths[1:], strict=False)]
    return float(np.mean([np.sqrt(np.square(c).mean()) for c in changes]))


def error_of(mattes, truths):
    return float(np.mean([np.abs(m - t).mean() for m, t in zip(mattes, truths, strict=True)]))


@pytest.fixture(scope="module")
def moving():
    truths = [truth_at(n) for n in range(20)]
    return truths, [trembling(t, n) for n, t in enumerate(truths)], [thumbnail_at(n) for n in range(20)]


def test_trembling_is_halved_and_the_error_does_not_grow(moving):
    truths, mattes, thumbnails = moving
    made = steadied(mattes, thumbnails)
    assert tremble_of(made, truths) < 0.5 * tremble_of(mattes, truths)
    assert error_of(made, truths) < error_of(mattes, truths)


def test_a_true_matte_that_moves_stays_true(moving):
    truths, _, thumbnails = moving
    assert error_of(steadied(truths, thumbnails), truths) < 0.004


def test_the_first_frame_is_the_network_s_own(moving):
    _, mattes, thumbnails = moving
    assert np.array_equal(steadied(mattes[:1], thumbnails[:1])[0], mattes[0].astype(np.float32))


def test_another_shot_begins_with_the_network_s_own(moving):
    _, mattes, thumbnails = moving
    stabilizer = TemporalSmoother()
    for matte, thumbnail in zip(mattes[:5], thumbnails[:5], strict=True):
        stabilizer.steady(matte.astype(np.float32), thumbnail)
    stabilizer.forget()
    made = stabilizer.steady(mattes[5].astype(np.float32), thumbnails[5])
    assert np.array_equal(made, mattes[5].astype(np.float32))


def test_what_appears_at_once_is_not_held_back():
    empty = np.stack([WALL, np.full_like(WALL, 120), np.full_like(WALL, 136)])
    mattes = [np.zeros((HEIGHT, WIDTH), np.float32)] * 4 + [truth_at(0)]
    made = steadied(mattes, [empty] * 4 + [thumbnail_at(0)])
    inside = truth_at(0) > 0.99
    assert made[-1][inside].mean() > 0.9


def test_the_result_lies_within_what_the_network_said(moving):
    _, mattes, thumbnails = moving
    for made in steadied(mattes, thumbnails):
        assert made.dtype == np.float32
        assert made.min() >= 0
        assert made.max() <= 1


@pytest.mark.parametrize(("width", "height"), [(2, 2), (16, 96), (512, 288), (640, 32)])
def test_any_size_is_steadied(width, height):
    alpha = np.full((height, width), 0.5, np.float32)
    thumbnail = RNG.integers(0, 255, (3, height, width), np.uint8)
    made = steadied([alpha, alpha], [thumbnail, thumbnail])
    assert made[-1].shape == (height, width)
    assert np.allclose(made[-1], 0.5)


def test_a_matte_of_another_size_begins_anew(moving):
    _, mattes, thumbnails = moving
    stabilizer = TemporalSmoother()
    stabilizer.steady(mattes[0].astype(np.float32), thumbnails[0])
    other = np.full((32, 64), 0.25, np.float32)
    assert np.array_equal(stabilizer.steady(other, np.full((3, 32, 64), 90, np.uint8)), other)
