"""Figures of quality: known answers on mattes made by hand."""

import importlib.util
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

_SPEC = importlib.util.spec_from_file_location("metrics", Path(__file__).parents[2] / "benchmarks" / "metrics.py")
metrics = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(metrics)


def level(value, height=60, width=80):
    return np.full((height, width), value, np.float32)


def square(left=20, top=20, side=20, height=60, width=80):
    alpha = np.zeros((height, width), np.float32)
    alpha[top : top + side, left : left + side] = 1
    return alpha


def texture(shift=0):
    rough = np.random.default_rng(1).integers(0, 256, (60, 120, 3), np.uint8)
    return np.ascontiguousarray(cv2.GaussianBlur(rough, (0, 0), 2)[:, 20 + shift : 100 + shift])


def test_mad_and_mse_are_means_in_thousandths():
    assert metrics.mad(level(0.75), level(1)) == pytest.approx(250)
    assert metrics.mse(level(0.75), level(1)) == pytest.approx(62.5)


@pytest.mark.parametrize("measure", [metrics.mad, metrics.mse, metrics.grad, metrics.iou, metrics.boundary_f])
def test_maps_of_different_sizes_are_refused(measure):
    with pytest.raises(ValueError, match="same size"):
        measure(level(1), level(1, height=1))


def test_grad_does_not_see_a_constant_offset():
    assert metrics.grad(level(0.4), level(0.9)) == pytest.approx(0)


def test_grad_sees_a_faint_matte_although_its_shape_is_right():
    assert metrics.grad(square() * np.float32(0.5), square()) > 0


def test_grad_of_a_ramp_is_the_slope_times_the_answer_of_the_filter():
    width = 400
    ramp = np.tile(np.arange(width, dtype=np.float32) / width, (300, 1))
    x = np.arange(-4, 5)
    bell = np.exp(-(x**2) / (2 * 1.4**2))
    answer = bell.sum() * (x**2 * bell).sum() / np.linalg.norm(np.outer(bell, x * bell)) / width
    inner = metrics.grad(ramp, np.zeros_like(ramp)) * 1e3 / (300 * width)
    assert inner == pytest.approx(answer**2, rel=0.02)


def test_grad_prefers_the_edge_that_is_as_sharp_as_the_true_one():
    soft = cv2.GaussianBlur(square(), (0, 0), 3)
    softer = cv2.GaussianBlur(square(), (0, 0), 5)
    assert metrics.grad(soft, square()) < metrics.grad(softer, square())


def test_dtssd_is_nothing_when_the_matte_changes_as_the_truth_does():
    now, before = square(left=24), square(left=20)
    faint = np.float32(0.2)
    assert metrics.dtssd(now - faint, before - faint, now, before) == pytest.approx(0, abs=1e-5)


def test_dtssd_measures_a_jump_that_is_not_in_the_truth():
    assert metrics.dtssd(level(0.25), level(0), level(0), level(0)) == pytest.approx(25)


def test_iou_of_two_halves_that_overlap_by_a_third():
    assert metrics.iou(square(left=20), square(left=30)) == pytest.approx(1 / 3)


def test_iou_of_nothing_with_nothing_is_perfect():
    assert metrics.iou(level(0), level(0)) == 1


def test_iou_of_something_with_nothing_is_zero():
    assert metrics.iou(square(), level(0)) == 0


def test_boundary_forgives_one_pixel_and_no_more_than_its_tolerance():
    assert metrics.boundary_f(square(left=20), square(left=21)) == pytest.approx(1)
    assert metrics.boundary_f(square(left=20), square(left=28)) < 0.8


def test_boundary_knows_no_outline_at_the_edge_of_the_frame():
    assert metrics.boundary_f(level(1), level(1)) == 1
    assert metrics.boundary_f(square(), level(1)) == 0


def test_boundary_is_zero_where_the_outlines_never_meet():
    assert metrics.boundary_f(square(left=0, top=0, side=10), square(left=60, top=40, side=10)) == 0


def test_flow_follows_a_picture_that_shifts():
    flow = metrics.flow_between(texture(shift=0), texture(shift=3))
    inner = (slice(15, 45), slice(15, 60))
    moved = flow.source[..., 0] - np.arange(80)
    assert flow.reliable[inner].mean() > 0.9
    assert np.median(moved[inner]) == pytest.approx(-3, abs=0.3)


def test_flicker_forgives_a_matte_that_moves_with_the_picture():
    flow = metrics.flow_between(texture(shift=0), texture(shift=3))
    soft = [cv2.GaussianBlur(square(left=left), (0, 0), 2) for left in (30, 27)]
    assert metrics.flicker(soft[0], soft[1], flow) < 0.3 * metrics.flicker(soft[0], soft[0], flow)


def test_flicker_measures_a_matte_that_pulses_on_a_still_picture():
    flow = metrics.flow_between(texture(), texture())
    assert metrics.flicker(level(0.9), level(1), flow) == pytest.approx(100, rel=1e-4)


def test_flicker_is_not_a_number_where_no_flow_can_be_trusted():
    flow = metrics.flow_between(texture(), texture())
    nowhere = flow._replace(reliable=np.zeros_like(flow.reliable))
    assert math.isnan(metrics.flicker(level(1), level(1), nowhere))
