"""Metrics of matte accuracy and temporal stability, for one frame or a pair of consecutive frames.

Alphas are float32 (H, W) in 0..1, pictures uint8 (H, W, 3) RGB. MAD, MSE, Grad and dtSSD are scaled as in the tables
of Lin et al., *Robust High-Resolution Video Matting with Temporal Guidance* (WACV 2022), so that figures can
be compared with published ones.
"""

import math
from typing import Any, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

Alpha: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
Picture: TypeAlias = NDArray[np.uint8]

GRADIENT_SIGMA = 1.4
TOLERANCE = 0.008  # share of the diagonal within which two outlines count as the same
_NOTHING: Any = None  # OpenCV asks for None where its type stubs want an array


class Flow(NamedTuple):
    """The position of each pixel one frame before, float32 (H, W, 2) as x and y, and whether it is reliable (H, W)."""

    source: NDArray[np.float32]
    reliable: Mask


def mad(predicted: Alpha, true: Alpha) -> float:
    """Mean absolute difference, times 1000. A mean over the frame, so small subjects score well."""
    return 1e3 * float(np.abs(_difference(predicted, true)).mean())


def mse(predicted: Alpha, true: Alpha) -> float:
    """Mean squared error, times 1000."""
    return 1e3 * float(np.square(_difference(predicted, true)).mean())


def grad(predicted: Alpha, true: Alpha) -> float:
    """Squared difference of gradient magnitudes, summed over the frame, / 1000: how well edges are preserved.

    Rhemann et al., *A Perceptually Motivated Online Benchmark for Image Matting* (CVPR 2009): derivatives of a
    Gaussian, sigma 1.4. A sum, so it grows with the resolution. Alphas are not normalized beforehand: that
    would hide a matte that is too faint everywhere.
    """
    _same_shape(predicted, true)
    return float(np.square(_gradient_magnitude(predicted) - _gradient_magnitude(true)).sum()) / 1e3


def dtssd(predicted: Alpha, predicted_before: Alpha, true: Alpha, true_before: Alpha) -> float:
    """Root mean square of the difference between predicted and true change since the frame before, times 100.

    Erofeev et al., *Perceptually Motivated Benchmark for Video Matting* (BMVC 2015). It is defined for pairs of frames:
    a mean over a clip of N frames has N - 1 terms.
    """
    change, true_change = _difference(predicted, predicted_before), _difference(true, true_before)
    return 1e2 * math.sqrt(float(np.square(_difference(change, true_change)).mean()))


def iou(predicted: Alpha, true: Alpha, threshold: float = 0.5) -> float:
    """Intersection over union of the pixels above ``threshold``; 1 when both have none."""
    _same_shape(predicted, true)
    subject, true_subject = predicted > threshold, true > threshold
    union = np.count_nonzero(subject | true_subject)
    return np.count_nonzero(subject & true_subject) / union if union else 1.0


def taken(predicted: Alpha, true: Alpha, threshold: float = 0.5) -> float:
    """Background pixels above ``threshold`` in percent of the frame: what an engine keeps although nothing is there."""
    _same_shape(predicted, true)
    return 100 * float(((predicted > threshold) & (true <= threshold)).mean())


def boundary_f(predicted: Alpha, true: Alpha, threshold: float = 0.5) -> float:
    """F measure of the outlines at ``threshold``: the share of each within 0.8 % of the diagonal of the other.

    Perazzi et al., *A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation* (CVPR 2016). 1 when
    neither has an outline, 0 when only one has.
    """
    _same_shape(predicted, true)
    outline, true_outline = _outline(predicted > threshold), _outline(true > threshold)
    if not outline.any() or not true_outline.any():
        return float(outline.any() == true_outline.any())
    reach = max(1, math.ceil(TOLERANCE * math.hypot(*true.shape)))
    precision, recall = _share_near(outline, true_outline, reach), _share_near(true_outline, outline, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def flow_between(picture: Picture, before: Picture) -> Flow:
    """Dense optical flow (DIS) from a picture back to the one before, at their size.

    Pixels that leave the frame, or whose forward and backward flow disagree, are unreliable: they were hidden, or the
    flow is wrong (Sundaram et al., *Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow*,
    ECCV 2010).
    """
    now, then = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (picture, before))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, forth = search.calc(now, then, _NOTHING), search.calc(then, now, _NOTHING)
    height, width = now.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    source = (grid + back).astype(np.float32)
    inside = ((source >= 0) & (source <= (width - 1, height - 1))).all(axis=-1)
    there = cv2.remap(forth, source, _NOTHING, cv2.INTER_LINEAR)
    missed = np.square(back + there).sum(axis=-1)
    length = np.square(back).sum(axis=-1) + np.square(there).sum(axis=-1)
    return Flow(source, np.asarray(inside & (missed < 0.01 * length + 0.5), np.bool_))


def flicker(alpha: Alpha, before: Alpha, flow: Flow) -> float:
    """Mean absolute change along the flow, times 1000, where it is reliable; NaN if it is nowhere.

    Needs no ground truth (warping error, Lai et al., *Learning Blind Video Temporal Consistency*, ECCV 2018). A
    matte that never changes scores 0, so read it together with accuracy.
    """
    _same_shape(alpha, before)
    _same_shape(alpha, flow.reliable)
    if not flow.reliable.any():
        return math.nan
    warped = np.asarray(cv2.remap(before, flow.source, _NOTHING, cv2.INTER_LINEAR), np.float32)
    return 1e3 * float(np.abs(_difference(alpha, warped))[flow.reliable].mean())


def _same_shape(one: NDArray[np.generic], other: NDArray[np.generic]) -> None:
    """Raise ValueError instead of broadcasting."""
    if one.shape != other.shape or one.ndim != 2:
        raise ValueError(f"Expected two arrays (H, W) of the same size, not {one.shape} and {other.shape}.")


def _difference(one: Alpha | NDArray[np.float64], other: Alpha | NDArray[np.float64]) -> NDArray[np.float64]:
    _same_shape(one, other)
    return np.subtract(one, other, dtype=np.float64)


def _gradient_magnitude(alpha: Alpha) -> NDArray[np.float64]:
    """Gradient magnitude from Gaussian derivatives of unit L2 norm, with replicated borders."""
    across = _derivative()
    parts = [cv2.filter2D(alpha, cv2.CV_64F, k, borderType=cv2.BORDER_REPLICATE) for k in (across, across.T)]
    return np.asarray(np.hypot(*parts), np.float64)


def _derivative(sigma: float = GRADIENT_SIGMA, min_value: float = 0.01) -> NDArray[np.float64]:
    """d/dx of a Gaussian, cut off where the Gaussian falls below ``min_value``."""
    half = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * min_value)))
    x = np.arange(-half, half + 1, dtype=np.float64)
    bell = np.exp(-np.square(x / sigma) / 2)
    kernel = np.outer(bell, x * bell)
    return np.asarray(kernel / np.linalg.norm(kernel), np.float64)


def _outline(mask: Mask) -> Mask:
    """Pixels of the mask with a neighbor outside it. The edge of the frame does not count."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(mask & (inner == 0), np.bool_)


def _share_near(outline: Mask, other: Mask, reach: int) -> float:
    """Share of the outline within ``reach`` pixels of the other one."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = cv2.dilate(other.astype(np.uint8), disc)
    return float(near[outline].mean())
