"""Growing, choking and feathering change the outline as requested and nothing else."""

import numpy as np
import pytest

from alphareel.matting.choke_feather import choke_and_feather


def square():
    alpha = np.zeros((80, 80), np.uint8)
    alpha[20:60, 20:60] = 255
    return alpha


def width_of(alpha):
    return float(alpha[40].sum() / 255)


@pytest.mark.parametrize(("grow", "width"), [(0, 40), (3, 46), (-3, 34), (0.5, 41), (-1.25, 37.5)])
def test_grow_moves_the_outline_by_its_number_of_pixels(grow, width):
    assert width_of(choke_and_feather(square(), grow=grow, feather=0)) == pytest.approx(width, abs=0.02)


def test_without_grow_and_feather_alpha_stays_unchanged():
    assert np.array_equal(choke_and_feather(square(), grow=0, feather=0), square())


def test_feather_softens_the_outline_without_moving_it():
    soft = choke_and_feather(square(), grow=0, feather=3)
    assert width_of(soft) == pytest.approx(40, abs=0.5)
    assert ((soft[40] > 5) & (soft[40] < 250)).sum() > 12
    assert soft[40, 40] == 255
    assert soft[0, 0] == 0


def test_a_subject_at_the_border_of_the_frame_stays_opaque_there():
    alpha = np.zeros((40, 40), np.uint8)
    alpha[:, :20] = 255
    assert choke_and_feather(alpha, grow=-2, feather=2)[20, 0] == 255
