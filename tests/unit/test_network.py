"""What all network engines share: a cut resets them, and mattes can be smoothed over time."""

from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
import pytest

from alphareel.domain.clip import Clip, Color
from alphareel.matting.model_input import make_model_input
from alphareel.matting.network import NetworkSession
from alphareel.testing.frames import frame_of

SIZE = (64, 36)
CLIP = Clip(
    width=64, height=36, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=8, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip


class FlickeringNetwork:
    """Returns alpha 0.8, 0.4, 0.8 ... for the whole frame."""

    def __init__(self):
        self.shots = 0
        self.count = 0

    def reset(self, rgb):
        self.shots += 1

    def predict(self, rgb):
        self.count += 1
        return np.full(rgb.shape[1:], 0.8 if self.count % 2 else 0.4, np.float32)


class FindingNetwork:
    """Returns an opaque part of the frame, as large as the next of ``shares``, and notes the size of what it saw."""

    def __init__(self, shares):
        self.shares = iter(shares)
        self.sizes = []

    def reset(self, rgb):
        self.sizes.append("reset")

    def predict(self, rgb):
        height, width = rgb.shape[1:]
        self.sizes.append((width, height))
        alpha = np.zeros((height, width), np.float32)
        alpha[: round(height * next(self.shares))] = 1
        return alpha


def frames(count, level=90):
    texture = np.random.default_rng(3).integers(0, 40, (36, 64, 3)).astype(np.uint8)
    return [frame_of(np.asarray(texture + level, np.uint8), SIZE, index=n) for n in range(count)]


def levels(session, shown):
    return [float(m.alpha.mean()) for m in session.step(shown)]


@pytest.mark.parametrize(("smooth", "lowest", "highest"), [(False, 95, 110), (True, 0, 60)])
def test_temporal_smoothing_reduces_flicker(smooth, lowest, highest):
    session = NetworkSession(CLIP, FlickeringNetwork(), model_input_size=SIZE, smoothing="live" if smooth else None)
    alphas = levels(session, frames(8))
    assert lowest <= max(abs(a - b) for a, b in pairwise(alphas)) <= highest


def test_a_cut_resets_the_network_and_the_smoother():
    network = FlickeringNetwork()
    session = NetworkSession(CLIP, network, model_input_size=SIZE, smoothing="live")
    alphas = levels(session, [*frames(4), *frames(1, level=210)])
    assert network.shots == 2
    assert alphas[-1] == pytest.approx(0.8 * 255, abs=1.5)


def test_offline_smoothing_skips_frames_that_follow_from_those_beside_them():
    network = FlickeringNetwork()
    session = NetworkSession(CLIP, network, model_input_size=SIZE, smoothing="offline")
    shown = [*frames(9), *frames(2, level=210)]
    mattes = [finish() for finish in session.infer_all(shown)]
    assert [m.frame.index for m in mattes] == [f.index for f in shown]
    assert network.count == 3 + 1
    assert network.shots == 2
    assert max(abs(a - b) for a, b in pairwise(float(m.alpha.mean()) for m in mattes[:9])) < 60


SMALL, BETWEEN, LARGE = 0.03, 0.065, 0.3
LARGER = (96, 54)


def seen(shares, shown, larger=LARGER, **options):
    network = FindingNetwork(shares)
    session = NetworkSession(CLIP, network, model_input_size=SIZE, larger_input_size=larger, **options)
    assert all(matte.alpha.shape == (36, 64) for matte in session.step(shown))
    return network.sizes


def test_a_small_subject_is_looked_at_in_more_detail_until_it_is_large():
    sizes = seen([LARGE, BETWEEN, SMALL, BETWEEN, LARGE, BETWEEN], frames(6))
    assert sizes == ["reset", SIZE, SIZE, SIZE, LARGER, LARGER, SIZE]


def test_a_shot_that_begins_with_a_small_subject_is_looked_at_twice():
    assert seen([SMALL, SMALL, SMALL], frames(2)) == ["reset", SIZE, "reset", LARGER, LARGER]


def test_a_shot_begins_with_the_usual_input_whatever_was_before():
    sizes = seen([SMALL, SMALL, SMALL, LARGE, LARGE], [*frames(2), *frames(2, level=210)])
    assert sizes == ["reset", SIZE, "reset", LARGER, LARGER, "reset", SIZE, SIZE]


def test_what_is_small_depends_on_the_engine():
    sizes = seen([0.09, 0.14, 0.16, 0.11], frames(3), small_below=0.1)
    assert sizes == ["reset", SIZE, "reset", LARGER, LARGER, SIZE]


def test_without_a_larger_input_a_small_subject_changes_nothing():
    assert seen([SMALL, SMALL], frames(2), larger=None) == ["reset", SIZE, SIZE]


def test_a_larger_input_shows_the_same_picture():
    picture = np.zeros((36, 64, 3), np.uint8)
    picture[:, 32:] = (200, 60, 20)
    frame = frame_of(picture, SIZE)
    larger = make_model_input(frame, (96, 54))
    assert larger.shape == (3, 54, 96)
    assert larger.dtype == np.uint8
    usual = np.stack([cv2.resize(plane, (96, 54), interpolation=cv2.INTER_LINEAR) for plane in frame.thumbnail])
    away = np.abs(np.arange(96) - 48) > 4  # from the edge between the two colors
    np.testing.assert_allclose(larger[:, :, away], usual[:, :, away], atol=2)
