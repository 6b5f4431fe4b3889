"""The engine plate: finds the empty scene, tells subjects from light, shadow and shake, and says when the scene is gone."""

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
    made = room.astype(np.float32)
    if alpha is not None:
        made = alpha[..., None] * np.array(coat) + (1 - alpha[..., None]) * made
    made = made + np.random.default_rng(seed).normal(0, 2, made.shape)
    return np.clip(made, 0, 255).astype(np.uint8)


class SceneSource:
    def __init__(self, given=None, pictures=()):
        self.given, self.pictures = given, pictures

    def plate(self, thumbnail):
        return None if self.given is None else frame_of(self.given, thumbnail).thumbnail

    def thumbnails(self, thumbnail):
        return (frame_of(p, thumbnail).thumbnail for p in self.pictures)


def prepared(scenery):
    memory = plate.load(Runtime()).start(CLIP, Options())
    memory.prepare(scenery)
    return memory


def alphas_of(memory, *pictures):
    shown = [frame_of(p, memory.thumbnail, index=n) for n, p in enumerate(pictures)]
    return [m.alpha.astype(np.float32) / 255 for m in memory.step(shown)]


def overlap(found, true):
    return np.count_nonzero((found > 0.5) & (true > 0.5)) / np.count_nonzero((found > 0.5) | (true > 0.5))


@pytest.fixture
def memory():
    return prepared(SceneSource(given=ROOM))


def test_who_came_in_is_cut_out(memory):
    (alpha,) = alphas_of(memory, scene(body()))
    assert overlap(alpha, body()) > 0.95
    assert np.abs(alpha - body()).mean() < 0.005


def test_an_empty_room_stays_empty_however_noisy(memory):
    assert max(a.max() for a in alphas_of(memory, *[scene(seed=n) for n in range(4)])) == 0


@pytest.mark.parametrize("light", [lambda p: p * 0.75, lambda p: p * 1.2, lambda p: 255 * (p / 255) ** 1.3])
def test_light_that_changes_is_no_subject(memory, light):
    room = np.clip(light(ROOM.astype(np.float32)), 0, 255).astype(np.uint8)
    empty, alpha = alphas_of(memory, scene(room=room), scene(body(), room=room))
    assert empty.mean() < 0.002
    assert overlap(alpha, body()) > 0.9


def test_a_lamp_at_one_side_is_no_subject(memory):
    ramp = np.linspace(0.85, 1.15, WIDTH)[None, :, None]
    room = np.clip(ROOM * ramp, 0, 255).astype(np.uint8)
    empty, alpha = alphas_of(memory, scene(room=room), scene(body(), room=room))
    assert empty.mean() < 0.005
    assert overlap(alpha, body()) > 0.9


def test_a_shadow_is_left_out():
    wall = np.full((HEIGHT, WIDTH, 3), (190, 170, 150), np.uint8)
    shade = np.ones((HEIGHT, WIDTH, 1), np.float32)
    shade[60:140, 190:240] = 0.7
    room = (wall * cv2.GaussianBlur(shade, (15, 15), 0)[..., None]).astype(np.uint8)
    (alpha,) = alphas_of(prepared(SceneSource(given=wall)), scene(body(), room=room))
    assert overlap(alpha, body()) > 0.93
    assert alpha[70:130, 200:230].mean() < 0.05


def test_a_camera_that_shakes_a_little_is_followed(memory):
    moves = [np.float32([[1, 0, dx], [0, 1, dy]]) for dx, dy in ((1.5, 0), (-1, 1), (0, -2))]
    shaken = [
        cv2.warpAffine(scene(body(), seed=n), move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        for n, move in enumerate(moves)
    ]
    for alpha, move in zip(alphas_of(memory, *shaken), moves, strict=True):
        assert overlap(alpha, cv2.warpAffine(body(), move, (WIDTH, HEIGHT))) > 0.85


def test_a_camera_that_moves_away_is_told_with_the_frame(memory):
    elsewhere = [scene(room=np.roll(ROOM[::-1], 40 * n, axis=1)) for n in range(1, 20)]
    with pytest.raises(BadVideo, match=r"frame 11 .* clean plate") as caught:
        alphas_of(memory, *elsewhere)
    assert caught.value.hint


def test_the_plate_of_another_room_in_the_same_colors_is_told():
    wall = np.full((HEIGHT, WIDTH, 3), (190, 170, 150), np.uint8)
    shelf, door = wall.copy(), wall.copy()
    shelf[30::24, 20:140] = shelf[20:150, 20:140:30] = (90, 70, 60)
    door[40:, 210:214] = door[40:, 280:284] = door[40:44, 210:284] = (90, 70, 60)
    alphas_of(prepared(SceneSource(given=shelf)), *[scene(room=shelf, seed=n) for n in range(14)])
    with pytest.raises(BadVideo, match="clean plate"):
        alphas_of(prepared(SceneSource(given=shelf)), *[scene(room=door, seed=n) for n in range(14)])


def test_a_bare_wall_is_a_scene_too():
    wall = np.full((HEIGHT, WIDTH, 3), (190, 170, 150), np.uint8)
    memory = prepared(SceneSource(given=scene(room=wall, seed=7)))
    alphas = alphas_of(memory, *[scene(body(), room=wall, seed=n) for n in range(14)])
    assert overlap(alphas[-1], body()) > 0.95


def test_somebody_close_to_the_camera_does_not_end_the_run(memory):
    near = np.zeros((HEIGHT, WIDTH), np.float32)
    near[20:, 40:280] = 1
    alphas = alphas_of(memory, *[scene(near, seed=n) for n in range(14)])
    assert overlap(alphas[-1], near) > 0.9


def test_the_empty_scene_is_found_though_somebody_always_hides_its_middle_for_longer():
    visitors = [scene(body(140 + n % 3), coat=coat, seed=n)
                for coat in ((20, 20, 25), (200, 200, 40), (120, 30, 90)) for n in range(6)]  # fmt: skip
    visits = [visitors[:6], visitors[6:12], visitors[12:]]
    clip = [p for n, visit in enumerate(visits) for p in (*visit, *[scene(seed=50 + 5 * n + k) for k in range(5)])]
    memory = prepared(SceneSource(pictures=clip))
    empty, alpha = alphas_of(memory, scene(seed=99), scene(body(60)))
    assert empty.max() == 0
    assert overlap(alpha, body(60)) > 0.93


def test_a_camera_that_never_rests_has_no_plate():
    pan = [scene(room=np.roll(ROOM, 37 * n, axis=1), seed=n) for n in range(30)]
    with pytest.raises(BadVideo, match="never looks the same") as caught:
        prepared(SceneSource(pictures=pan))
    assert "plate" in caught.value.hint


def test_two_frames_are_too_few_to_find_a_plate():
    with pytest.raises(BadVideo, match="too short"):
        prepared(SceneSource(pictures=[scene(), scene()]))


def test_a_plate_is_found_with_the_noise_of_the_clip():
    stack = [frame_of(scene(seed=n), (320, 180)).thumbnail for n in range(20)]
    found = find_plate(stack)
    exact = frame_of(ROOM, (320, 180)).thumbnail
    assert np.abs(found.levels - exact).mean() < 1
    assert 1 < found.noise[0] < 4


@pytest.mark.parametrize("count", [1, 7, 24, 48, 49, 1000])
def test_a_sample_of_any_clip_is_small_and_spread(count):
    kept = [int(p[0, 0, 0]) for p in sample(np.full((3, 1, 1), n, np.int64) for n in range(count))]
    assert min(count, 24) <= len(kept) < 48
    assert kept == list(range(0, count, kept[1] - kept[0] if len(kept) > 1 else 1))[: len(kept)]
    assert kept[-1] >= 0.9 * (count - 1)


def test_an_engine_without_its_plate_is_a_fault_of_ours():
    memory = plate.load(Runtime()).start(CLIP, Options())
    with pytest.raises(InternalError):
        alphas_of(memory, scene())
