"""The compositor blends exactly, places deterministically, and crops to the canvas."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import BadVideo
from alphareel.domain.options import ANCHORS, Background, Composition, Options
from alphareel.imaging.color import color_in_yuv, yuv_to_rgb
from alphareel.imaging.compositor import anchored, blend, convert_color, make_compositor, resize_cover
from alphareel.imaging.frame import Frame, Matte


def clip(width=64, height=48, **color):
    return Clip(
        width=width, height=height, time_base=Fraction(1, 30), rate=Fraction(30), seconds=1.0, frames=30, codec="h264",
        container="mp4", pixel_format="yuv420p", color=Color(**color),
    )  # fmt: skip


def frame(width=64, height=48, levels=(200, 90, 160)):
    shapes = (height, width), (height // 2, width // 2), (height // 2, width // 2)
    y, u, v = (np.full(s, level, np.uint8) for s, level in zip(shapes, levels, strict=True))
    return Frame(y=y, u=u, v=v, pts=7, duration=1)


def no_still(path):
    raise AssertionError(f"no still is needed: {path}")


def matte(alpha_level, **size):
    compositor = frame(**size)
    return Matte(compositor, np.full(compositor.y.shape, alpha_level, np.uint8))


def as_rgb(levels, facts, height):
    matrix, offset = yuv_to_rgb(facts.resolved_matrix(height), full_range=facts.full_range)
    return matrix @ np.array(levels, np.float32) + offset


def test_a_transparent_output_has_the_same_planes_and_alpha_objects():
    compositor = make_compositor(Options(), clip(), read_still=no_still, open_video=no_still)
    source = matte(130)
    out, alpha = compositor(source)
    assert out is source.frame
    assert alpha is source.alpha
    assert compositor.has_alpha


@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("matrix", [1, 6, 9, 2])
def test_a_color_background_is_converted_to_the_clips_matrix_and_range(matrix, full_range):
    facts = clip(matrix=matrix, full_range=full_range)
    compositor = make_compositor(
        Options(background=Background("color", (9, 162, 70))), facts, read_still=no_still, open_video=no_still
    )
    out, alpha = compositor(matte(0))
    assert alpha is None
    actual = as_rgb([out.y[5, 5], out.u[2, 2], out.v[2, 2]], facts.color, facts.height)
    assert np.abs(actual - np.array([9, 162, 70])).max() < 2.1


def test_an_opaque_subject_hides_the_background_exactly():
    compositor = make_compositor(
        Options(background=Background("color", (255, 255, 255))), clip(), read_still=no_still, open_video=no_still
    )
    source = matte(255)
    out, _ = compositor(source)
    assert np.array_equal(out.y, source.frame.y)
    assert np.array_equal(out.u, source.frame.u)


def test_blending_stays_within_one_level_of_exact_arithmetic():
    rng = np.random.default_rng(3)
    f, b = (tuple(rng.integers(0, 256, s, np.uint8) for s in ((32, 32), (16, 16), (16, 16))) for _ in range(2))
    alpha = rng.integers(0, 256, (32, 32), np.uint8)
    y, _, _ = blend(f, alpha, b)  # type: ignore[arg-type]
    exact = f[0] * (alpha / 255) + b[0] * (1 - alpha / 255)
    assert np.abs(y - exact).max() <= 1.01


def test_blending_does_not_modify_the_decoders_planes():
    source = matte(128)
    before = source.frame.y.copy()
    make_compositor(
        Options(background=Background("color", (0, 0, 0))), clip(), read_still=no_still, open_video=no_still
    )(source)
    assert np.array_equal(source.frame.y, before)


def test_compositing_keeps_timestamps():
    compositor = make_compositor(
        Options(composition=Composition(width=128, height=128)), clip(), read_still=no_still, open_video=no_still
    )
    out, alpha = compositor(matte(255))
    assert (out.pts, out.duration) == (7, 1)
    assert out.y.shape == alpha.shape == (128, 128)


def test_scale_one_fits_the_source_into_the_canvas():
    compositor = make_compositor(
        Options(composition=Composition(width=128, height=128)), clip(), read_still=no_still, open_video=no_still
    )
    _, alpha = compositor(matte(255))
    rows = np.flatnonzero(alpha.any(1))
    assert (rows[0], rows[-1]) == (16, 111)  # 128 x 96, centered
    assert alpha[64].all()


@pytest.mark.parametrize("anchor", ANCHORS)
def test_every_anchor_places_the_subject_accordingly(anchor):
    left, top = anchored(Composition(anchor=anchor), (100, 100), (20, 20))
    words = anchor.split("-") if "-" in anchor else ["center", "center"]
    assert top == {"top": 0, "center": 40, "bottom": 80}[words[0]]
    assert left == {"left": 0, "center": 40, "right": 80}[words[1]]


def test_positive_offsets_point_right_and_down():
    assert anchored(Composition(anchor="top-left", offset_x=10, offset_y=4), (100, 100), (20, 20)) == (10, 4)


@pytest.mark.parametrize("offset", [(-500, 0), (500, 0), (0, -500), (0, 500), (30, 30), (-30, -30)])
def test_a_frame_outside_the_canvas_is_cropped(offset):
    placement = Composition(width=64, height=48, scale=1.5, offset_x=offset[0], offset_y=offset[1])
    out, alpha = make_compositor(Options(composition=placement), clip(), read_still=no_still, open_video=no_still)(
        matte(255)
    )
    assert out.y.shape == alpha.shape == (48, 64)
    assert alpha.any() == (max(map(abs, offset)) < 100)


def test_odd_canvas_sizes_become_even():
    compositor = make_compositor(
        Options(composition=Composition(width=101, height=51)), clip(), read_still=no_still, open_video=no_still
    )
    assert (compositor.width, compositor.height) == (100, 50)


@pytest.mark.parametrize("size", [(64, 48), (48, 64), (200, 20), (16, 160)])
def test_an_image_background_covers_any_canvas_without_distortion(size):
    big = frame(width=160, height=90)
    y, u, v = resize_cover((big.y, big.u, big.v), size)
    assert y.shape == (size[1], size[0])
    assert u.shape == v.shape == (size[1] // 2, size[0] // 2)


def test_an_image_background_keeps_its_colors_in_a_clip_of_another_matrix_and_range():
    target = clip(matrix=6, full_range=True)
    levels = color_in_yuv((200, 60, 30), Color(matrix=1), 48)
    still = frame(levels=levels)
    y, u, v = convert_color((still.y, still.u, still.v), target)
    actual = as_rgb([y[4, 4], u[2, 2], v[2, 2]], target.color, 48)
    assert np.abs(actual - np.array([200, 60, 30])).max() < 3


def test_an_image_background_is_read_once_and_covers_the_canvas():
    requests = []

    def read(path):
        requests.append(path)
        return frame(width=320, height=180, levels=(120, 128, 128))

    compositor = make_compositor(
        Options(background=Background("image", image_url="plate.png")),
        clip(matrix=1),
        read_still=read,
        open_video=no_still,
    )
    for _ in range(2):
        out, alpha = compositor(matte(0))
        assert alpha is None
        assert (out.y == 120).all()
    assert requests == ["plate.png"]


class Film:
    """A background of gray frames, one for each level, ``rate`` a second; counts how often it was begun."""

    def __init__(self, levels, *, rate=10, size=(64, 48), **color):
        self.clip = replace(clip(*size, **color), rate=Fraction(rate), time_base=Fraction(1, rate))
        self.levels = levels
        self.begun = 0

    def frames(self):
        self.begun += 1
        for n, level in enumerate(self.levels):
            yield replace(frame(self.clip.width, self.clip.height, (level, 128, 128)), pts=n, duration=1)


def over_film(film, facts, moments):
    """Luma at the canvas's corner for a transparent frame at each moment (seconds)."""
    options = Options(background=Background("video", video_url="loop.mp4"))
    compositor = make_compositor(options, facts, read_still=no_still, open_video=lambda path: film)
    source = matte(0)
    shots = [Matte(replace(source.frame, pts=round(m / facts.time_base)), source.alpha) for m in moments]
    return [int(compositor(shot)[0].y[0, 0]) for shot in shots]


def test_a_video_background_keeps_its_own_frame_rate():
    film = Film([50, 60, 70, 80])
    assert over_film(film, clip(matrix=1), [0, 1 / 30, 2 / 30, 0.1, 0.2, 0.3]) == [50, 50, 50, 60, 70, 80]
    assert film.begun == 1


def test_a_video_background_is_looped():
    film = Film([50, 60])
    assert over_film(film, clip(matrix=1), [0, 0.1, 0.2, 0.3, 0.4, 1.1]) == [50, 60, 50, 60, 50, 60]


def test_a_video_background_of_one_frame_is_constant():
    assert over_film(Film([90]), clip(matrix=1), [0, 0.5, 3]) == [90, 90, 90]


def test_a_video_background_without_frames_raises_bad_video():
    with pytest.raises(BadVideo, match="no frame"):
        over_film(Film([]), clip(matrix=1), [0])


def test_a_video_background_is_converted_to_the_clips_matrix_and_range():
    [level] = over_film(Film([16], matrix=6), clip(matrix=1, full_range=True), [0])
    assert level == 0


def test_a_video_background_of_another_shape_covers_the_canvas():
    assert over_film(Film([50], size=(20, 100)), clip(matrix=1), [0]) == [50]


def blurred(y, alpha, radius=None, facts=None):
    options = Options(background=Background("blur", radius=radius))
    height, width = y.shape
    compositor = make_compositor(options, facts or clip(width, height), read_still=no_still, open_video=no_still)
    out, rest = compositor(Matte(replace(frame(width, height), y=y), alpha))
    assert rest is None
    return out.y.astype(int)


def test_a_blur_background_is_the_blurred_original():
    y = np.where(np.arange(128)[None] < 64, 40, 200).repeat(96, axis=0).astype(np.uint8)
    actual = blurred(y, np.zeros_like(y), radius=8)
    assert abs(actual[48, 2] - 40) < 2
    assert abs(actual[48, 125] - 200) < 2
    assert abs(actual[48, 56:72].mean() - 120) < 6
    # a step blurred by a Gaussian of radius 8 reaches a sixteenth of its height 12 pixels from the middle
    assert actual[48, 50] == pytest.approx(40 + 160 * 0.046, abs=5)


def test_a_blur_background_has_a_sharp_subject_without_a_halo():
    y = np.full((96, 128), 50, np.uint8)
    y[30:70, 40:80] = 250
    alpha = np.where(y == 250, 255, 0).astype(np.uint8)
    actual = blurred(y, alpha, radius=10)
    assert (actual[30:70, 40:80] == 250).all()
    assert actual[alpha == 0].max() < 62, "the subject glows into the background"


def test_a_larger_radius_blurs_more_and_the_radius_is_optional():
    y = np.random.default_rng(1).integers(0, 255, (96, 128), np.uint8)
    little, much, usual = (blurred(y, np.zeros_like(y), radius=r).std() for r in (1, 12, None))
    assert much < usual < little < y.std()


def test_a_blur_background_covers_a_canvas_of_another_size():
    options = Options(background=Background("blur"), composition=Composition(width=40, height=120, scale=0.5))
    out, alpha = make_compositor(options, clip(), read_still=no_still, open_video=no_still)(matte(0))
    assert alpha is None
    assert out.y.shape == (120, 40)
    assert abs(out.y.astype(int) - 200).max() <= 1
