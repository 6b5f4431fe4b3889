"""The compiled pixel loops compute what NumPy and OpenCV compute beside them."""

import cv2
import numpy as np
import pytest

from alphareel.domain.clip import Color
from alphareel.imaging import kernels
from alphareel.matting import edges, offline_smoothing, refine, temporal_smoothing
from alphareel.matting.model_input import fit_size
from alphareel.media.encoder_input import flat_planes
from alphareel.testing.frames import frame_of

pytestmark = pytest.mark.skipif(
    kernels.library() is None, reason="alphareel-kernels is not installed, or has no library"
)

SIZES = [(2, 2), (16, 16), (34, 722), (270, 480), (642, 362), (4096, 64), (1920, 1080)]


@pytest.fixture
def numpy_only(monkeypatch):
    """A function that runs another without the compiled loops."""

    def call(function, *arguments):
        with monkeypatch.context() as patch:
            patch.setattr(kernels, "library", lambda: None)
            return function(*arguments)

    return call


def blobs(size, seed, cells=(9, 12)):
    """A matte with opaque, transparent and soft areas, float32 (h, w)."""
    coarse = np.random.default_rng(seed).normal(0.5, 1.2, cells).astype(np.float32)
    return np.clip(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float32)


def scene(width, height, seed=3):
    size = fit_size(width, height, area=128 * 128, multiple=16)
    coarse = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return blobs(size, seed), frame_of(picture, size)  # type: ignore[arg-type]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_the_compiled_refinement_differs_by_one_level_at_most(numpy_only, width, height):
    small, frame = scene(width, height)
    expected = numpy_only(refine.refine, small, frame).astype(int)
    assert np.abs(refine.refine(small, frame) - expected).max() <= 1


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_uniform_matte_is_refined_the_same(numpy_only, level):
    small, frame = scene(640, 360)
    small[:] = level
    expected = numpy_only(refine.refine, small, frame).astype(int)
    assert np.abs(refine.refine(small, frame) - expected).max() <= 1


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_compiled_color_decontamination_differs_by_two_levels_at_most(numpy_only, width, height):
    _, frame = scene(width, height)
    alpha = np.rint(blobs((width, height), 5) * 255).astype(np.uint8)
    expected, clean = (call(edges.decontaminate_edges, frame, alpha) for call in (numpy_only, lambda f, *a: f(*a)))
    for a, b in zip((expected.y, expected.u, expected.v), (clean.y, clean.u, clean.v), strict=True):
        difference = np.abs(a.astype(int) - b)
        assert difference.max() <= 2
        assert difference.mean() < 0.03


def test_padded_planes_are_decontaminated_like_compact_ones():
    _, frame = scene(640, 360)
    alpha = np.rint(blobs((640, 360), 5) * 255).astype(np.uint8)
    wide = [np.pad(p, ((0, 0), (0, 24))) for p in (frame.y, frame.u, frame.v, alpha)]
    y, u, v, padded = (w[:, :-24] for w in wide)
    strided = edges.decontaminate_edges(type(frame)(y, u, v, 0, thumbnail=frame.thumbnail), padded)
    compact = edges.decontaminate_edges(frame, alpha)
    assert np.array_equal(strided.y, compact.y)
    assert np.array_equal(strided.u, compact.u)


@pytest.mark.parametrize(("width", "height"), [(2, 2), (8, 8), (16, 72), (34, 722), (642, 362), (1920, 1080)])
def test_hidden_areas_are_filled_the_same(numpy_only, width, height):
    _, frame = scene(width, height)
    alpha = np.rint(blobs((width, height), 7) * 255).astype(np.uint8)
    color = Color(matrix=1, primaries=1, transfer=1)
    for a, b in zip(numpy_only(flat_planes, frame, alpha, color), flat_planes(frame, alpha, color), strict=True):
        assert np.array_equal(a, b)


def shots(width, height, count=4):
    """Alpha and model inputs of consecutive frames that move."""
    steps = [
        (blobs((width, height), n), blobs((width + 8, height), 50, (9, 40))[:, n : n + width]) for n in range(count)
    ]
    return [(alpha, np.stack([np.rint(picture * 255).astype(np.uint8)] * 3)) for alpha, picture in steps]


def live(steps):
    smoother = temporal_smoothing.TemporalSmoother()
    return [smoother.smooth(*step) for step in steps]


def offline(steps, skip=None):
    smoother = offline_smoothing.OfflineSmoother(4)
    out = []
    for n, (alpha, picture) in enumerate(steps):
        smoother.needs_matte(picture)
        out += smoother.add(None if n == skip else alpha)
    return out + smoother.flush()


def offline_without_one_matte(steps):
    return offline(steps, skip=2)


@pytest.mark.parametrize("smooth", [live, offline, offline_without_one_matte])
@pytest.mark.parametrize(("width", "height"), [(2, 2), (16, 96), (320, 192), (640, 32)])
def test_compiled_smoothing_differs_by_rounding_only(numpy_only, smooth, width, height):
    steps = shots(width, height)
    for a, b in zip(numpy_only(smooth, steps), smooth(steps), strict=True):
        assert np.abs(a - b).mean() < 1e-3
        assert np.abs(a - b).max() < 0.05


def test_a_library_of_another_version_is_not_used(monkeypatch):
    monkeypatch.setattr(kernels, "_VERSION", 0)
    assert kernels.library.__wrapped__() is None
