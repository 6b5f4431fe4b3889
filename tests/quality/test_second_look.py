"""The two-pass inference of the benchmarks crops small subjects, keeps the crop, and notices new subjects."""

from fractions import Fraction

import numpy as np
import pytest
from benchmarks.second_look import Box, SecondLook, crop, crop_for, subject_of

from alphareel.domain.clip import Clip, Color, EngineFacts
from alphareel.domain.options import Options
from alphareel.imaging.frame import Matte
from alphareel.testing.frames import frame_of

WIDTH, HEIGHT = 320, 180
CLIP = Clip(
    width=WIDTH, height=HEIGHT, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=4, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip


class BrightnessEngine:
    """An engine that cuts out bright pixels and records the frame sizes."""

    facts = EngineFacts("bright", "1")
    model_input_size = (64, 36)

    def __init__(self):
        self.sizes = []

    def start(self, clip, options):
        return self

    def step(self, frames):
        self.sizes.extend((f.width, f.height) for f in frames)
        return [Matte(f, np.where(f.y > 128, 255, 0).astype(np.uint8)) for f in frames]


def picture(*blocks):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for left, top, right, bottom in blocks:
        image[top:bottom, left:right] = 255
    return image


def run(*pictures):
    engine = BrightnessEngine()
    session = SecondLook(engine).start(CLIP, Options())
    frames = [frame_of(p, session.model_input_size, index=n) for n, p in enumerate(pictures)]
    return engine.sizes, [session.step([f])[0].alpha for f in frames]


def test_the_subject_is_the_bounding_box_of_opaque_pixels():
    alpha = np.zeros((90, 160), np.uint8)
    alpha[10:20, 30:50] = 200
    assert subject_of(alpha) == Box(30, 10, 50, 20)
    assert subject_of(np.zeros((4, 4), np.uint8)) is None


def test_a_large_subject_is_not_cropped():
    assert crop_for(Box(0, 0, 200, 170), (HEIGHT, WIDTH)) is None


@pytest.mark.parametrize("subject", [Box(0, 0, 30, 60), Box(290, 120, 320, 180), Box(100, 50, 130, 120)])
def test_a_crop_contains_its_subject_at_the_aspect_ratio_of_the_frame(subject):
    area = crop_for(subject, (HEIGHT, WIDTH))
    assert area.contains(subject)
    assert Box(0, 0, WIDTH, HEIGHT).contains(area)
    assert (area.right - area.left) / (area.bottom - area.top) == pytest.approx(WIDTH / HEIGHT, rel=0.03)


def test_a_cropped_frame_has_its_own_planes_and_model_input():
    frame = crop(frame_of(picture((40, 40, 60, 60)), (64, 36)), Box(40, 40, 60, 60), (16, 8))
    assert frame.y.shape == (20, 20)
    assert frame.u.shape == frame.v.shape == (10, 10)
    assert frame.thumbnail.shape == (3, 8, 16)
    assert (frame.thumbnail[0] > 128).all()


def test_a_small_subject_is_processed_again_in_its_crop_in_the_first_frame():
    block = (100, 60, 120, 100)
    sizes, (alpha,) = run(picture(block))
    assert sizes[0] == (WIDTH, HEIGHT)
    assert sizes[1] < (WIDTH // 2, HEIGHT // 2)
    assert subject_of(alpha) == Box(*block)


def test_the_whole_frame_is_processed_regularly_so_that_new_subjects_are_found():
    first, second = (100, 60, 120, 100), (250, 60, 270, 100)
    _, alphas = run(picture(first), *[picture(first, second)] * 11)
    assert subject_of(alphas[1]) == Box(*first)
    assert subject_of(alphas[-1]) == Box(100, 60, 270, 100)


def test_a_crop_does_not_move_while_it_contains_the_subject():
    sizes, _ = run(*[picture((100 + n % 3, 60, 120 + n % 3, 100)) for n in range(24)])
    assert len({size for size in sizes if size != (WIDTH, HEIGHT)}) == 1
    assert sizes.count((WIDTH, HEIGHT)) == 3


def test_a_subject_that_leaves_its_crop_is_located_in_the_next_frame():
    sizes, alphas = run(*[picture((100 + 12 * n, 60, 120 + 12 * n, 100)) for n in range(6)])
    assert sizes.count((WIDTH, HEIGHT)) > 1
    assert subject_of(alphas[-1]) == Box(160, 60, 180, 100)
