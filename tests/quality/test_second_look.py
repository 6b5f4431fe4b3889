"""The second look of the benchmarks takes crops that pay, keeps them, and never loses who walks in."""

from fractions import Fraction

import numpy as np
import pytest
from benchmarks.second_look import Box, SecondLook, crop_for, cropped, subject_of

from alphareel.domain.clip import Clip, Color, EngineFacts
from alphareel.domain.options import Options
from alphareel.imaging.frame import Matte
from alphareel.testing.frames import frame_of

WIDTH, HEIGHT = 320, 180
CLIP = Clip(
    width=WIDTH, height=HEIGHT, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=4, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip


class Bright:
    """An engine that takes what is bright, and writes down how large the frames were."""

    facts = EngineFacts("bright", "1")
    thumbnail = (64, 36)

    def __init__(self):
        self.seen = []

    def start(self, clip, options):
        return self

    def step(self, frames):
        self.seen.extend((f.width, f.height) for f in frames)
        return [Matte(f, np.where(f.y > 128, 255, 0).astype(np.uint8)) for f in frames]


def picture(*blocks):
    made = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for left, top, right, bottom in blocks:
        made[top:bottom, left:right] = 255
    return made


def run(*pictures):
    engine = Bright()
    memory = SecondLook(engine).start(CLIP, Options())
    frames = [frame_of(p, memory.thumbnail, index=n) for n, p in enumerate(pictures)]
    return engine.seen, [memory.step([f])[0].alpha for f in frames]


def test_the_subject_is_what_is_opaque():
    alpha = np.zeros((90, 160), np.uint8)
    alpha[10:20, 30:50] = 200
    assert subject_of(alpha) == Box(30, 10, 50, 20)
    assert subject_of(np.zeros((4, 4), np.uint8)) is None


def test_a_large_subject_gets_no_crop():
    assert crop_for(Box(0, 0, 200, 170), (HEIGHT, WIDTH)) is None


@pytest.mark.parametrize("subject", [Box(0, 0, 30, 60), Box(290, 120, 320, 180), Box(100, 50, 130, 120)])
def test_a_crop_holds_its_subject_in_the_shape_of_the_frame(subject):
    crop = crop_for(subject, (HEIGHT, WIDTH))
    assert crop.holds(subject)
    assert Box(0, 0, WIDTH, HEIGHT).holds(crop)
    assert (crop.right - crop.left) / (crop.bottom - crop.top) == pytest.approx(WIDTH / HEIGHT, rel=0.03)


def test_a_crop_of_a_frame_has_planes_and_thumbnail_of_its_own():
    frame = cropped(frame_of(picture((40, 40, 60, 60)), (64, 36)), Box(40, 40, 60, 60), (16, 8))
    assert frame.y.shape == (20, 20)
    assert frame.u.shape == frame.v.shape == (10, 10)
    assert frame.thumbnail.shape == (3, 8, 16)
    assert (frame.thumbnail[0] > 128).all()


def test_a_small_subject_is_looked_at_again_in_its_crop_at_once():
    block = (100, 60, 120, 100)
    seen, (alpha,) = run(picture(block))
    assert seen[0] == (WIDTH, HEIGHT)
    assert seen[1] < (WIDTH // 2, HEIGHT // 2)
    assert subject_of(alpha) == Box(*block)


def test_the_whole_is_looked_at_now_and_then_so_that_nobody_is_lost():
    first, second = (100, 60, 120, 100), (250, 60, 270, 100)
    _, alphas = run(picture(first), *[picture(first, second)] * 11)
    assert subject_of(alphas[1]) == Box(*first)
    assert subject_of(alphas[-1]) == Box(100, 60, 270, 100)


def test_a_crop_stays_while_the_subject_stays_within():
    seen, _ = run(*[picture((100 + n % 3, 60, 120 + n % 3, 100)) for n in range(24)])
    assert len({size for size in seen if size != (WIDTH, HEIGHT)}) == 1
    assert seen.count((WIDTH, HEIGHT)) == 3


def test_a_subject_that_runs_out_of_its_crop_is_looked_for_in_the_next_frame():
    seen, alphas = run(*[picture((100 + 12 * n, 60, 120 + 12 * n, 100)) for n in range(6)])
    assert seen.count((WIDTH, HEIGHT)) > 1
    assert subject_of(alphas[-1]) == Box(160, 60, 180, 100)
