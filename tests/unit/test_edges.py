"""Color decontamination at soft edges, compared with the subject's exact color."""

import cv2
import numpy as np
import pytest

from alphareel.matting.edges import decontaminate_edges
from alphareel.testing.frames import frame_of

WIDTH, HEIGHT = 480, 270
SUBJECT, BACK = (200, 60, 60), (30, 90, 220)


def disc(soft=6.0):
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.circle(alpha, (240, 150), 80, 1.0, -1)
    return cv2.GaussianBlur(alpha, (0, 0), soft)


def mixture(alpha, subject=SUBJECT, back=BACK):
    picture = np.array(subject) * alpha[..., None] + np.array(back) * (1 - alpha[..., None])
    return np.rint(picture).astype(np.uint8)


def scene(alpha=None):
    alpha = disc() if alpha is None else alpha
    return frame_of(mixture(alpha), (240, 136)), np.rint(alpha * 255).astype(np.uint8)


def error(frame, matte, subject=SUBJECT):
    """Mean distance to the subject's own Y, U, V where it is seen in part."""
    pure = frame_of(np.full((HEIGHT, WIDTH, 3), subject, np.uint8), None)
    half = cv2.resize(matte, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    planes = ((frame.y, pure.y, matte), (frame.u, pure.u, half), (frame.v, pure.v, half))
    parts = [np.abs(a.astype(int) - b)[(m > 40) & (m < 250)].mean() for a, b, m in planes]
    return float(np.mean(parts))


def test_the_old_background_is_removed_from_soft_pixels():
    frame, matte = scene()
    assert error(decontaminate_edges(frame, matte), matte) < 0.25 * error(frame, matte)


def test_opaque_and_transparent_pixels_stay_unchanged():
    frame, matte = scene()
    clean = decontaminate_edges(frame, matte)
    flat = (matte == 0) | (matte == 255)
    assert np.array_equal(clean.y[flat], frame.y[flat])
    half = cv2.resize(matte, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA)
    assert np.array_equal(clean.u[(half == 0) | (half == 255)], frame.u[(half == 0) | (half == 255)])


@pytest.mark.parametrize("level", [0, 255])
def test_a_frame_without_soft_pixels_is_returned_unchanged(level):
    frame, _ = scene()
    assert decontaminate_edges(frame, np.full((HEIGHT, WIDTH), level, np.uint8)) is frame


def test_a_frame_without_a_model_input_is_returned_unchanged():
    frame, matte = scene()
    bare = frame_of(mixture(disc()), None)
    assert decontaminate_edges(bare, matte) is bare
    assert decontaminate_edges(frame, matte) is not frame


def test_a_wrong_matte_never_creates_colors_out_of_range():
    frame, matte = scene()
    wrong = np.roll(matte, 25, axis=1)
    clean = decontaminate_edges(frame, wrong)
    for before, after in ((frame.y, clean.y), (frame.u, clean.u), (frame.v, clean.v)):
        assert int(after.min()) >= int(before.min()) - 1
        assert int(after.max()) <= int(before.max()) + 1


def test_colors_of_a_fully_half_transparent_frame_stay():
    frame, _ = scene()
    clean = decontaminate_edges(frame, np.full((HEIGHT, WIDTH), 128, np.uint8))
    assert np.abs(clean.y.astype(int) - frame.y).max() <= 1


def test_decontamination_neither_writes_to_nor_holds_the_planes_of_the_decoder():
    frame, matte = scene()
    before = frame.y.copy(), frame.u.copy(), frame.v.copy()
    clean = decontaminate_edges(frame, matte)
    assert all(np.array_equal(a, b) for a, b in zip(before, (frame.y, frame.u, frame.v), strict=True))
    assert clean.buffer_owner is None
    assert (clean.pts, clean.index, clean.duration) == (frame.pts, frame.index, frame.duration)


@pytest.mark.parametrize(("width", "height"), [(16, 16), (2, 2), (4096, 16), (16, 4096), (1920, 1080)])
def test_any_even_frame_size_is_decontaminated(width, height):
    random = np.random.default_rng(3)
    picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    matte = random.integers(0, 256, (height, width), dtype=np.uint8)
    clean = decontaminate_edges(frame_of(picture, (64, 48)), matte)
    assert clean.y.shape == (height, width)
    assert clean.u.shape == clean.v.shape == (height // 2, width // 2)


def test_an_edge_that_is_soft_only_at_full_size_is_decontaminated():
    frame = frame_of(np.full((32, 32, 3), 120, np.uint8), (16, 16))
    alpha = np.full((32, 32), 255, np.uint8)
    alpha[9, 9] = 250  # its chroma pixel, a mean of four, is as good as opaque
    assert decontaminate_edges(frame, alpha).u.shape == (16, 16)
