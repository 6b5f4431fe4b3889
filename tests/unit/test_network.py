"""What all network engines share: a cut resets them, and mattes can be smoothed over time."""

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from alphareel.domain.clip import Clip, Color
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
