"""Shadows go along as transparent black, and the light of a screen is no shadow."""

from fractions import Fraction

import cv2
import numpy as np

from alphareel.domain.clip import Clip, Color
from alphareel.domain.options import Options
from alphareel.imaging.frame import Matte
from alphareel.matting.models import chroma, plate
from alphareel.matting.runtime import Runtime
from alphareel.matting.shadow import screen_shadow, with_shadow
from alphareel.testing.clips import GREEN
from alphareel.testing.frames import frame_of

WIDTH, HEIGHT = 320, 180
CLIP = Clip(
    width=WIDTH, height=HEIGHT, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip


def stage(floor=GREEN):
    """A block in red whose shadow takes 40 % of the light to its right."""
    made = np.empty((HEIGHT, WIDTH, 3), np.float32)
    made[:] = floor
    made[100:150, 160:230] *= 0.6
    made = cv2.GaussianBlur(made, (7, 7), 0)
    made[40:150, 110:160] = (170, 40, 40)
    return made.astype(np.uint8)


def alpha_of(engine, picture, *, shadows, scenery=None):
    memory = engine.load(Runtime()).start(CLIP, Options(shadows=shadows))
    if scenery is not None:
        memory.prepare(scenery)
    return memory.step([frame_of(picture, memory.thumbnail)])[0]


def check(kept, plain, *, veil):
    assert plain.alpha[110:140, 175:215].max() < veil
    shaded = kept.alpha[110:140, 175:215].astype(float) / 255
    assert 0.28 < shaded.mean() < 0.48
    assert kept.frame.y[110:140, 175:215].max() <= 18
    assert kept.alpha[20:80, 260:300].max() < 8
    assert np.array_equal(kept.alpha[60:130, 120:150], plain.alpha[60:130, 120:150])


def test_the_keyer_keeps_shadows_when_asked():
    check(*(alpha_of(chroma, stage(), shadows=shadows) for shadows in (True, False)), veil=90)


def test_the_plate_keeps_shadows_when_asked():
    class Empty:
        def plate(self, thumbnail):
            return frame_of(np.full((HEIGHT, WIDTH, 3), (190, 170, 120), np.uint8), thumbnail).thumbnail

    picture = stage((190, 170, 120))
    check(*(alpha_of(plate, picture, shadows=shadows, scenery=Empty()) for shadows in (True, False)), veil=1)


def test_uneven_light_on_a_screen_is_no_shadow():
    down, across = np.meshgrid(np.linspace(-1, 1, 90), np.linspace(-1, 1, 160), indexing="ij")
    luma = (140 - 25 * across**2 - 15 * down).astype(np.float32)
    assert screen_shadow(luma, np.ones_like(luma), black=16).max() < 0.02


def test_a_screen_that_hardly_shows_has_no_shadow():
    luma = np.full((20, 20), 90, np.float32)
    known = np.zeros_like(luma)
    known[:2, :2] = 1
    assert not screen_shadow(luma, known, black=16).any()


def test_the_opaque_subject_and_the_planes_of_the_decoder_stay():
    frame = frame_of(np.full((40, 40, 3), 200, np.uint8), None)
    alpha = np.full((40, 40), 255, np.uint8)
    alpha[:, 20:] = 0
    made = with_shadow(Matte(frame, alpha), np.full((10, 10), 0.5, np.float32), black=16)
    assert np.array_equal(made.frame.y[:, :20], frame.y[:, :20])
    assert (made.alpha[:, :20] == 255).all()
    assert (made.frame.y[:, 20:] == 16).all()
    assert (frame.y == frame.y[0, 0]).all()
