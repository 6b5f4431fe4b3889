"""What every network engine does for a frame: a shot begins anew, and mattes without memory can be steadied."""

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


class Wavering:
    """A network that cannot decide: 0.8, 0.4, 0.8 ... of everything."""

    def __init__(self):
        self.shots = 0
        self.count = 0

    def start_shot(self, rgb):
        self.shots += 1

    def alpha_of(self, rgb):
        self.count += 1
        return np.full(rgb.shape[1:], 0.8 if self.count % 2 else 0.4, np.float32)


def frames(count, level=90):
    texture = np.random.default_rng(3).integers(0, 40, (36, 64, 3)).astype(np.uint8)
    return [frame_of(np.asarray(texture + level, np.uint8), SIZE, index=n) for n in range(count)]


def levels(memory, shown):
    return [float(m.alpha.mean()) for m in memory.step(shown)]


@pytest.mark.parametrize(("steady", "least", "most"), [(False, 95, 110), (True, 0, 60)])
def test_only_a_steadied_matte_keeps_still(steady, least, most):
    memory = NetworkSession(CLIP, Wavering(), thumbnail=SIZE, steady=steady)
    made = levels(memory, frames(8))
    assert least <= max(abs(a - b) for a, b in pairwise(made)) <= most


def test_a_cut_begins_another_shot_for_network_and_stabilizer():
    network = Wavering()
    memory = NetworkSession(CLIP, network, thumbnail=SIZE, steady=True)
    made = levels(memory, [*frames(4), *frames(1, level=210)])
    assert network.shots == 2
    assert made[-1] == pytest.approx(0.8 * 255, abs=1.5)
