"""The chroma keyer against exact alpha: screen colors, uneven light, spill, noise, and clips without a screen."""

import itertools
from fractions import Fraction

import cv2
import numpy as np
import pytest

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import SubjectNotFound
from alphareel.domain.options import Options
from alphareel.imaging.color import color_in_yuv
from alphareel.imaging.frame import Frame
from alphareel.matting.models.chroma import find_key, load
from alphareel.matting.runtime import Runtime

WIDTH, HEIGHT = 320, 180
CLIP = Clip(
    width=WIDTH, height=HEIGHT, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1.0, frames=25, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip
GREEN, BLUE = (0, 177, 64), (0, 71, 187)
SKIN = (222, 180, 155)


def true_alpha(shift=0):
    """A soft-edged disc, float 0..1."""
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.circle(alpha, (150 + shift, 110), 52, 1.0, -1, cv2.LINE_AA)
    return cv2.GaussianBlur(alpha, (0, 0), 1.5)


def planes(rgb_front, rgb_back, alpha, *, light=None, noise=0.0):
    front, back = (np.array(color_in_yuv(c, CLIP.color, HEIGHT), np.float32) for c in (rgb_front, rgb_back))
    behind = np.broadcast_to(back, (HEIGHT, WIDTH, 3)).copy()
    if light is not None:  # light scales the screen's color: luma above black and both chroma
        behind = (behind - [16, 128, 128]) * light[..., None] + [16, 128, 128]
    picture = front * alpha[..., None] + behind * (1 - alpha[..., None])
    picture += np.random.default_rng(1).normal(0, noise, picture.shape)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def frame_of(picture, session, index=0):
    half = [cv2.resize(picture[..., n], (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) for n in (1, 2)]
    small = np.stack(
        [cv2.resize(picture[..., n], session.model_input_size, interpolation=cv2.INTER_AREA) for n in range(3)]
    )
    return Frame(y=np.ascontiguousarray(picture[..., 0]), u=half[0], v=half[1], pts=index, thumbnail=small)


def new_session(**options):
    return load(Runtime(None)).start(CLIP, Options(engine="chroma", **options))


def cut(picture, **options):
    session = new_session(**options)
    return session.step([frame_of(picture, session)])[0]


def error(matte, alpha):
    return float(np.abs(matte.alpha / 255 - alpha).mean())


@pytest.mark.parametrize("screen", [GREEN, BLUE, (0, 255, 0), (200, 30, 160)])
def test_the_screen_color_is_detected(screen):
    alpha = true_alpha()
    assert error(cut(planes(SKIN, screen, alpha)), alpha) < 0.006


def test_a_requested_key_color_is_used_even_if_the_screen_is_small():
    alpha = np.ones((HEIGHT, WIDTH), np.float32)
    alpha[60:150, 100:220] = 0
    picture = planes(SKIN, GREEN, alpha)
    with pytest.raises(SubjectNotFound):
        cut(picture)
    matte = cut(picture, key_color=GREEN)
    assert matte.alpha[100, 160] == 0
    assert matte.alpha[10, 10] == 255


@pytest.mark.parametrize("backdrop", [(128, 128, 128), (20, 20, 20), (240, 238, 235)])
def test_a_clip_without_a_screen_is_rejected_with_a_hint(backdrop):
    with pytest.raises(SubjectNotFound) as caught:
        cut(planes(SKIN, backdrop, true_alpha()))
    assert "key_color" in caught.value.hint


def test_uneven_light_on_the_screen_leaves_no_gray_veil():
    alpha = true_alpha()
    light = np.linspace(0.55, 1.15, WIDTH, dtype=np.float32)[None].repeat(HEIGHT, 0)
    session = new_session()
    for n in range(3):
        matte = session.step([frame_of(planes(SKIN, GREEN, alpha, light=light), session, n)])[0]
    assert (matte.alpha[alpha < 0.001] > 8).mean() < 0.01
    assert (matte.alpha[alpha > 0.999] < 247).mean() < 0.01


def test_noise_causes_neither_holes_nor_specks():
    alpha = true_alpha()
    matte = cut(planes(SKIN, GREEN, alpha, noise=5))
    assert (matte.alpha[alpha < 0.001] > 24).mean() < 0.002
    assert (matte.alpha[alpha > 0.999] < 231).mean() < 0.002


def test_skin_in_front_of_a_yellow_wall_stays_opaque_and_keeps_its_color():
    alpha = true_alpha()
    picture = planes((200, 160, 125), (205, 200, 20), alpha)
    matte = cut(picture)
    assert (matte.alpha[alpha > 0.999] > 247).mean() > 0.99
    middle = matte.frame.u[55, 75], matte.frame.v[55, 75]
    assert np.abs(np.array(middle, int) - [picture[110, 150, 1], picture[110, 150, 2]]).max() <= 6


def test_spill_is_removed_from_the_subject():
    spilled = (180, 190, 160)  # gray with a green cast
    matte = cut(planes(spilled, GREEN, true_alpha()))
    cast = np.array(color_in_yuv(spilled, CLIP.color, HEIGHT)[1:], int) - 128
    left = np.array([matte.frame.u[55, 75], matte.frame.v[55, 75]], int) - 128
    key = np.array(color_in_yuv(GREEN, CLIP.color, HEIGHT)[1:], int) - 128
    assert left @ key <= cast @ key


def test_small_reflections_in_the_subject_are_filled_and_real_gaps_stay_transparent():
    alpha = true_alpha()
    alpha[100:104, 140:144] = 0.4  # a glint of green
    alpha[118:138, 150:170] = 0  # an arm akimbo
    matte = cut(planes(SKIN, GREEN, alpha))
    assert matte.alpha[102, 142] > 240
    assert matte.alpha[128, 160] < 10


def test_a_small_part_of_the_subject_keeps_its_size():
    alpha = true_alpha()
    alpha[30:34, 30:34] = 1
    matte = cut(planes(SKIN, GREEN, alpha))
    assert (matte.alpha[20:44, 20:44] > 128).sum() <= 36


def test_a_new_shot_gets_its_own_key():
    session = new_session()
    for n in range(6):
        screen = GREEN if n < 4 else BLUE
        matte = session.step([frame_of(planes(SKIN, screen, true_alpha()), session, n)])[0]
    assert error(matte, true_alpha()) < 0.006


def test_a_later_shot_without_a_screen_does_not_fail_the_clip():
    session = new_session()
    for n in range(6):
        screen = GREEN if n < 4 else (40, 38, 42)
        matte = session.step([frame_of(planes(SKIN, screen, true_alpha()), session, n)])[0]
    assert matte.alpha.shape == (HEIGHT, WIDTH)


def test_the_key_is_stable_from_frame_to_frame():
    session = new_session()
    still = []
    for n in range(4):
        light = np.full((HEIGHT, WIDTH), 1 + 0.03 * (n % 2), np.float32)
        still.append(
            session.step([frame_of(planes(SKIN, GREEN, true_alpha(), light=light), session, n)])[0].alpha.astype(int)
        )
    changes = [np.abs(b - a).mean() / 255 for a, b in itertools.pairwise(still)]
    assert max(changes) < 0.004


def test_the_keyer_never_writes_to_the_planes_of_the_decoder():
    session = new_session()
    frame = frame_of(planes(SKIN, GREEN, true_alpha()), session)
    before = frame.y.copy(), frame.u.copy(), frame.v.copy()
    session.step([frame])
    assert all(np.array_equal(a, b) for a, b in zip(before, (frame.y, frame.u, frame.v), strict=True))


def test_the_key_is_the_color_of_the_border_and_not_of_the_subject():
    small = np.zeros((3, 90, 160), np.uint8)
    small[:] = np.array(color_in_yuv(GREEN, CLIP.color, HEIGHT), np.uint8)[:, None, None]
    small[:, 30:, 40:120] = np.array(color_in_yuv((200, 30, 30), CLIP.color, HEIGHT), np.uint8)[:, None, None]
    assert np.abs(find_key(small) - color_in_yuv(GREEN, CLIP.color, HEIGHT)).max() <= 1
