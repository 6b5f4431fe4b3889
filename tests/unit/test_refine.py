"""Refinement against exact alpha: sharper than bilinear, no holes, any size."""

import cv2
import numpy as np
import pytest

from alphareel.matting.model_input import fit_size
from alphareel.matting.refine import refine
from alphareel.testing.clips import GroundTruth, make_clip
from alphareel.testing.frames import frame_of

AREA = 256 * 144


@pytest.fixture(scope="module")
def truth(tmp_path_factory) -> GroundTruth:
    return make_clip(tmp_path_factory.mktemp("refine") / "a.mp4", frames=3, width=640, height=360)


def small_of(alpha, size):
    return cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255


def refined(truth, index, area=AREA):
    size = fit_size(truth.width, truth.height, area=area, multiple=16)
    small = small_of(truth.alpha(index), size)
    frame = frame_of(truth.picture(index), size)
    bilinear = cv2.resize((small * 255 + 0.5).astype(np.uint8), (truth.width, truth.height))
    return refine(small, frame), bilinear, truth.alpha(index)


def distance(alpha, exact, where=...):
    return float(np.abs(alpha.astype(float) - exact)[where].mean())


@pytest.mark.parametrize("index", range(3))
def test_refined_edges_over_texture_are_closer_to_the_truth_than_bilinear(truth, index):
    alpha, bilinear, exact = refined(truth, index, area=128 * 72)
    soft = cv2.dilate(((exact > 0) & (exact < 255)).astype(np.uint8), np.ones((9, 9), np.uint8)) > 0
    assert distance(alpha, exact, soft) < 0.85 * distance(bilinear, exact, soft)


@pytest.mark.parametrize("index", range(3))
def test_texture_causes_no_holes_in_the_subject_and_no_specks_outside(truth, index):
    alpha, _, exact = refined(truth, index)
    far = np.ones((31, 31), np.uint8)
    assert alpha[cv2.erode(exact, far) == 255].min() == 255
    assert alpha[cv2.dilate(exact, far) == 0].max() == 0


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_uniform_matte_stays_uniform(truth, level):
    frame = frame_of(truth.picture(0), (256, 144))
    assert np.unique(refine(np.full((144, 256), level, np.float32), frame)).tolist() == [level * 255]


@pytest.mark.parametrize(
    ("width", "height"), [(16, 16), (2, 2), (2048, 16), (16, 2048), (34, 722), (270, 480), (642, 362), (4096, 64)]
)
def test_a_matte_is_refined_to_any_even_frame_size(width, height):
    random = np.random.default_rng(5)
    size = fit_size(width, height, area=AREA, multiple=16)
    picture = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = refine(random.random((size[1], size[0]), dtype=np.float32), frame_of(picture, size))
    assert alpha.shape == (height, width)
    assert alpha.dtype == np.uint8


def test_a_uniform_frame_gives_the_bilinear_matte(truth):
    small = small_of(truth.alpha(0), (160, 96))
    gray = np.full((360, 640, 3), 128, np.uint8)
    alpha = refine(small, frame_of(gray, (160, 96)))
    bilinear = cv2.resize((small * 255 + 0.5).astype(np.uint8), (640, 360))
    assert distance(alpha, bilinear) < 2  # windows of 3x3 soften it, no more


def test_refined_alpha_stays_within_the_networks_local_range():
    random = np.random.default_rng(9)
    small = np.zeros((72, 128), np.float32)
    small[20:50, 40:90] = 0.5  # half-transparent over noise
    picture = random.integers(0, 256, (720, 1280, 3), dtype=np.uint8)
    assert refine(small, frame_of(picture, (128, 72))).max() <= 128


@pytest.mark.parametrize("shape", [(640, 360), (854, 480), (360, 640)])
def test_the_height_of_the_strips_does_not_change_the_matte(monkeypatch, shape):
    random = np.random.default_rng(11)
    size = fit_size(*shape, area=AREA, multiple=16)
    coarse = random.random((12, 9), dtype=np.float32)
    small = np.clip(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), 0, 1)
    picture = cv2.resize(random.integers(0, 256, (60, 40, 3), dtype=np.uint8), shape, interpolation=cv2.INTER_CUBIC)
    frame = frame_of(picture, size)  # type: ignore[arg-type]
    mattes = []
    for rows in (16, 48, 10_000):
        monkeypatch.setattr("alphareel.matting.refine._STRIP_ROWS", rows)
        mattes.append(refine(small, frame).astype(int))  # type: ignore[arg-type]
    assert max(np.abs(mattes[0] - mattes[2]).max(), np.abs(mattes[1] - mattes[2]).max()) <= 1


def test_refinement_is_deterministic_and_does_not_write_to_its_inputs(truth):
    size = (256, 144)
    small, frame = small_of(truth.alpha(1), size), frame_of(truth.picture(1), size)
    before = small.copy(), frame.thumbnail.copy()
    assert np.array_equal(refine(small, frame), refine(small, frame))
    assert np.array_equal(before[0], small)
    assert np.array_equal(before[1], frame.thumbnail)


def test_planes_with_padded_rows_are_refined_the_same(truth):
    size = (256, 144)
    small, frame = small_of(truth.alpha(0), size), frame_of(truth.picture(0), size)
    wide = [np.zeros((p.shape[0], p.shape[1] + 32), np.uint8) for p in (frame.y, frame.u, frame.v)]
    for target, plane in zip(wide, (frame.y, frame.u, frame.v), strict=True):
        target[:, : plane.shape[1]] = plane
    y, u, v = (w[:, :-32] for w in wide)
    strided = type(frame)(y, u, v, 0, thumbnail=frame.thumbnail)
    assert np.array_equal(refine(small, strided), refine(small, frame))
