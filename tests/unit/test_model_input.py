"""The size and the colors of the model input."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import InternalError
from alphareel.imaging.color import color_in_yuv
from alphareel.imaging.frame import Frame
from alphareel.matting.model_input import fit_size, model_input_of, size_for, to_rgb

AREA = 256 * 256


@given(
    width=st.integers(2, 8192), height=st.integers(2, 8192), area=st.sampled_from([64 * 64, 256 * 144, 512 * 288]),
    multiple=st.sampled_from([2, 16, 32]),
)  # fmt: skip
def test_sizes_are_multiples_and_at_most_half_larger_than_the_area(width, height, area, multiple):
    columns, rows = fit_size(width, height, area=area, multiple=multiple)
    assert columns % multiple == rows % multiple == 0
    assert 0 < columns * rows <= max(1.5 * area, multiple**2)


@pytest.mark.parametrize(
    ("width", "height"), [(1920, 1080), (1080, 1920), (640, 480), (512, 512), (360, 640), (1920, 800)]
)
@pytest.mark.parametrize("multiple", [16, 32])
def test_common_aspect_ratios_and_areas_are_kept(width, height, multiple):
    columns, rows = fit_size(width, height, area=AREA, multiple=multiple)
    assert columns / rows == pytest.approx(width / height, rel=0.04)
    assert columns * rows == pytest.approx(AREA, rel=0.25)


def test_the_sample_aspect_ratio_does_not_change_the_size():
    clip = Clip(
        width=1920, height=1080, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
        container="mp4", pixel_format="yuv420p", sample_aspect=Fraction(4, 3),
    )  # fmt: skip
    assert size_for(clip, area=AREA, multiple=16) == fit_size(1920, 1080, area=AREA, multiple=16)


@pytest.mark.parametrize("matrix", [1, 5, 6, 7, 9, 8])
@pytest.mark.parametrize("full_range", [False, True])
@pytest.mark.parametrize("rgb", [(255, 255, 255), (0, 0, 0), (200, 40, 90), (10, 250, 128)])
def test_colors_survive_the_conversion_within_eight_bit_rounding(matrix, full_range, rgb):
    color = Color(matrix=matrix, full_range=full_range)
    planes = np.array(color_in_yuv(rgb, color, 720), np.uint8)[:, None, None].repeat(4, 1).repeat(6, 2)
    rgb_out = to_rgb(planes, matrix=color.resolved_matrix(720), full_range=full_range)
    assert rgb_out.shape == (3, 4, 6)
    assert rgb_out.dtype == np.float32
    assert np.abs(rgb_out[:, 0, 0] * 255 - rgb).max() < 2
    assert 0 <= rgb_out.min() <= rgb_out.max() <= 1


@pytest.mark.parametrize(
    ("yuv", "matrix", "full_range", "rgb"),
    [
        ((63, 102, 240), 1, False, (1, 0, 0)),
        ((81, 90, 240), 6, False, (1, 0, 0)),
        ((41, 240, 110), 6, False, (0, 0, 1)),
        ((149, 43, 21), 6, True, (0, 1, 0)),
    ],
)
def test_pure_colors_have_the_levels_of_the_standards(yuv, matrix, full_range, rgb):
    rgb_out = to_rgb(np.array(yuv, np.uint8).reshape(3, 1, 1), matrix=matrix, full_range=full_range)
    assert rgb_out.reshape(3) == pytest.approx(rgb, abs=0.012)


@pytest.mark.parametrize("wrong", [None, np.zeros((3, 16, 31), np.uint8), np.zeros((16, 32), np.uint8)])
def test_a_missing_model_input_or_one_of_another_size_is_an_internal_error(wrong):
    frame = Frame(*(np.zeros((4, 4), np.uint8),) * 3, pts=0, thumbnail=wrong)
    with pytest.raises(InternalError, match="32x16"):
        model_input_of(frame, (32, 16))
