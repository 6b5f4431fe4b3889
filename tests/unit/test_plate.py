"""The plate engine finds the empty scene, ignores light, shadow and shake, and detects when the scene changes."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import BadVideo, InternalError
from alphareel.domain.options import Options
from alphareel.matting.clean_plate import find_plate, sample
from alphareel.matting.models import plate
from alphareel.matting.runtime import Runtime
from alphareel.testing.frames import frame_of

WIDTH, HEIGHT = 320, 180
CLIP = Clip(
    width=WIDTH, height=HEIGHT, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip
RNG = np.random.default_rng(11)
ROOM = cv2.GaussianBlur(cv2.resize(RNG.integers(60, 200, (18, 32, 3)).astype(np.uint8), (WIDTH, HEIGHT)), (5, 5), 0)
COAT = (30, 40, 160)


def body(left=140, top=50):
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.ellipse(alpha, (left, top + 60), (24, 55), 0, 0, 360, 1.0, -1)
    return cv2.GaussianBlur(alpha, (3, 3), 0)


def scene(alpha=None, *, coat=COAT, room=ROOM, seed=0):
    image = room.astype(np.float32)
    if alpha is not None:
        image = alpha[..., None] * np.array(coat) + (1 - alpha[..., None]) * image
    image = image + np.random.default_rng(seed).normal(0, 2, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


class FakeScene:
    def __init__(self, image=None, frames=()):
        self.image, self.frames = image, frames

    def plate(self, size):
        return None if self.image is None else frame_of(self.image, size).thumbnail

    def model_inputs(self, size):
        return (frame_of(p, size).thumbnail for p in self.frames)


def prepared(scene):
    session = plate.load(Runtime()).start(CLIP, Options())
    session.prepare(scene)  # type: ignore[attr-defined]
    return session


def alphas_of(session, *pictures):
    shown = [frame_of(p, session.model_input_size, index=n) for n, p in enumerate(pictures)]
    return [m.alpha.astype(np.float32) / 255 for m in session.step(shown)]


def overlap(alpha, true):
    return np.count_nonzero((alpha > 0.5) & (true > 0.5)) / np.count_nonzero((alpha > 0.5) | (true > 0.5))


@pytest.fixture
def session():
    return prepared(FakeScene(image=ROOM))


def test_a_person_who_enters_is_cut_out(session):
    (alpha,) = alphas_of(session, scene(body()))
    assert overlap(alpha, body()) > 0.95
    assert np.abs(alpha - body()).mean() < 0.005


def test_an_empty_noisy_room_has_an_empty_matte(session):
    assert max(a.max() for a in alphas_of(session, *[scene(seed=n) for n in range(4)])) == 0


@pytest.mark.parametrize("light", [lambda p: p * 0.75, lambda p: p * 1.2, lambda p: 255 * (p / 255) ** 1.3])
def test_a_change_of_light_is_not_a_subject(session, light):
    room = np.clip(light(ROOM.astype(np.float32)), 0, 255).astype(np.uint8)
    empty, alpha = alphas_of(session, scene(room=room), scene(body(), room=room))
    assert empty.mean() < 0.002
    assert overlap(alpha, body()) > 0.9


def test_uneven_light_is_not_a_subject(session):
    ramp = np.linspace(0.85, 1.15, WIDTH)[None, :, None]
    room = np.clip(ROOM * ramp, 0, 255).astype(np.uint8)
    empty, alpha = alphas_of(session, scene(room=room), scene(body(), room=room))
    assert empty.mean() < 0.005
    assert overlap(alpha, body()) > 0.9


def test_a_shadow_is_not_part_of_the_matte():
    wall = np.full((HEIGHT, WIDTH, 3), (190, 170, 150), np.uint8)
    shade = np.ones((HEIGHT, WIDTH, 1), np.float32)
    shade[60:140, 190:240] = 0.7
    room = (wall * cv2.GaussianBlur(shade, (15, 15), 0)[..., None]).astype(np.uint8)
    (alpha,) = alphas_of(prepared(FakeScene(image=wall)), scene(body(), room=room))
    assert overlap(alpha, body()) > 0.93
    assert alpha[70:130, 200:230].mean() < 0.05


def test_small_camera_shake_is_compensated(session):
    moves = [np.float32([[1, 0, dx], [0, 1, dy]]) for dx, dy in ((1.5, 0), (-1, 1), (0, -2))]  # type: ignore[arg-type]
    shaken = [
        cv2.warpAffine(scene(body(), seed=n), move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)  # type: ignore[call-overload]
        for n, move in enumerate(moves)
    ]
    for alpha, move in zip(alphas_of(session, *shaken), moves, strict=True):
        assert overlap(alpha, cv2.warpAffine(body(), move, (WIDTH, HEIGHT))) > 0.85  # type: ignore[call-overload]


def test_a_moving_camera_is_an_error_that_names_the_frame(session):
    elsewhere = [scene(room=np.roll(ROOM[::-1], 40 * n, axis=1)) for n in range(1, 20)]
    with pytest.raises(BadVideo, match=r"frame 11 .* clean plate") as caught:
        alphas_of(session, *elsewhere)
    assert caught.value.hint


def test_a_plate_of_another_room_in_the_same_colors_is_an_error():
    wall = np.full((HEIGHT, WIDTH, 3), (190, 170, 150), np.uint8)
    shelf, door = wall.copy(), wall.copy()
    shelf[30::24, 20:140] = shelf[20:150, 20:140:30] = (90, 70, 60)
    door[40:, 210:214] = door[40:, 280:284] = door[40:44, 210:284] = (90, 70, 60)
    alphas_of(prepared(FakeScene(image=shelf)), *[scene(room=shelf, seed=n) for n in range(14)])
    with pytest.raises(BadVideo, match="clean plate"):
        alphas_of(prepared(FakeScene(image=shelf)), *[scene(room=door, seed=n) for n in range(14)])


def test_a_plate_without_detail_is_accepted():
    wall = np.full((HEIGHT, WIDTH, 3), (190, 170, 150), np.uint8)
    session = prepared(FakeScene(image=scene(room=wall, seed=7)))
    alphas = alphas_of(session, *[scene(body(), room=wall, seed=n) for n in range(14)])
    assert overlap(alphas[-1], body()) > 0.95


def test_a_subject_that_fills_most_of_the_frame_is_cut_out(session):
    near = np.zeros((HEIGHT, WIDTH), np.float32)
    near[20:, 40:280] = 1
    alphas = alphas_of(session, *[scene(near, seed=n) for n in range(14)])
    assert overlap(alphas[-1], near) > 0.9


def test_the_empty_scene_is_found_even_if_people_hide_its_center_most_of_the_time():
    visitors = [scene(body(140 + n % 3), coat=coat, seed=n)
                for coat in ((20, 20, 25), (200, 200, 40), (120, 30, 90)) for n in range(6)]  # fmt: skip
    visits = [visitors[:6], visitors[6:12], visitors[12:]]
    clip = [p for n, visit in enumerate(visits) for p in (*visit, *[scene(seed=50 + 5 * n + k) for k in range(5)])]
    session = prepared(FakeScene(frames=clip))
    empty, alpha = alphas_of(session, scene(seed=99), scene(body(60)))
    assert empty.max() == 0
    assert overlap(alpha, body(60)) > 0.93


def test_a_clip_from_a_moving_camera_has_no_plate():
    pan = [scene(room=np.roll(ROOM, 37 * n, axis=1), seed=n) for n in range(30)]
    with pytest.raises(BadVideo, match="changes all the time") as caught:
        prepared(FakeScene(frames=pan))
    assert "plate" in caught.value.hint


def test_two_frames_are_too_few_to_find_a_plate():
    with pytest.raises(BadVideo, match="too short"):
        prepared(FakeScene(frames=[scene(), scene()]))


def test_a_found_plate_has_the_noise_of_the_clip():
    stack = [frame_of(scene(seed=n), (320, 180)).thumbnail for n in range(20)]
    found_plate = find_plate(stack)
    exact = frame_of(ROOM, (320, 180)).thumbnail  # type: ignore[arg-type]
    assert np.abs(found_plate.levels - exact).mean() < 1
    assert 1 < found_plate.noise[0] < 4


@pytest.mark.parametrize("count", [1, 7, 24, 48, 49, 1000])
def test_a_sample_of_any_clip_is_small_and_evenly_spread(count):
    kept = [int(p[0, 0, 0]) for p in sample(np.full((3, 1, 1), n, np.int64) for n in range(count))]
    assert min(count, 24) <= len(kept) < 48
    assert kept == list(range(0, count, kept[1] - kept[0] if len(kept) > 1 else 1))[: len(kept)]
    assert kept[-1] >= 0.9 * (count - 1)


def test_a_step_before_prepare_is_an_internal_error():
    session = plate.load(Runtime()).start(CLIP, Options())
    with pytest.raises(InternalError):
        alphas_of(session, scene())
