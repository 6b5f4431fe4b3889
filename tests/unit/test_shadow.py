"""Shadows are kept as transparent black, and uneven light on a screen is not a shadow."""

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


def image_with_shadow(floor=GREEN):
    """A red block whose shadow takes 40 % of the light to its right."""
    image = np.empty((HEIGHT, WIDTH, 3), np.float32)
    image[:] = floor
    image[100:150, 160:230] *= 0.6
    image = cv2.GaussianBlur(image, (7, 7), 0)  # type: ignore[assignment]
    image[40:150, 110:160] = (170, 40, 40)
    return image.astype(np.uint8)


def matte_of(engine, picture, *, shadows, scene=None):
    session = engine.load(Runtime()).start(CLIP, Options(shadows=shadows))
    if scene is not None:
        session.prepare(scene)
    return session.step([frame_of(picture, session.model_input_size)])[0]


def check(kept, plain, *, max_alpha):
    assert plain.alpha[110:140, 175:215].max() < max_alpha
    shaded = kept.alpha[110:140, 175:215].astype(float) / 255
    assert 0.28 < shaded.mean() < 0.48
    assert kept.frame.y[110:140, 175:215].max() <= 18
    assert kept.alpha[20:80, 260:300].max() < 8
    assert np.array_equal(kept.alpha[60:130, 120:150], plain.alpha[60:130, 120:150])


def test_the_chroma_engine_keeps_shadows_on_request():
    check(*(matte_of(chroma, image_with_shadow(), shadows=shadows) for shadows in (True, False)), max_alpha=90)


def test_the_plate_engine_keeps_shadows_on_request():
    class EmptyScene:
        def plate(self, size):
            return frame_of(np.full((HEIGHT, WIDTH, 3), (190, 170, 120), np.uint8), size).thumbnail

    picture = image_with_shadow((190, 170, 120))
    check(*(matte_of(plate, picture, shadows=shadows, scene=EmptyScene()) for shadows in (True, False)), max_alpha=1)


def test_uneven_light_on_a_screen_is_not_a_shadow():
    y, x = np.meshgrid(np.linspace(-1, 1, 90), np.linspace(-1, 1, 160), indexing="ij")
    luma = (140 - 25 * x**2 - 15 * y).astype(np.float32)
    assert screen_shadow(luma, np.ones_like(luma), black=16).max() < 0.02


def test_a_screen_with_few_visible_pixels_has_no_shadow():
    luma = np.full((20, 20), 90, np.float32)
    known = np.zeros_like(luma)
    known[:2, :2] = 1
    assert not screen_shadow(luma, known, black=16).any()


def test_adding_a_shadow_changes_neither_the_opaque_subject_nor_the_planes_of_the_decoder():
    frame = frame_of(np.full((40, 40, 3), 200, np.uint8), None)
    alpha = np.full((40, 40), 255, np.uint8)
    alpha[:, 20:] = 0
    matte = with_shadow(Matte(frame, alpha), np.full((10, 10), 0.5, np.float32), black=16)
    assert np.array_equal(matte.frame.y[:, :20], frame.y[:, :20])
    assert (matte.alpha[:, :20] == 255).all()
    assert (matte.frame.y[:, 20:] == 16).all()
    assert (frame.y == frame.y[0, 0]).all()
