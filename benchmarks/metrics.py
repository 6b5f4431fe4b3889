"""How far a matte is from the truth, and how much it trembles. No engines, no files, no averages over clips.

Alphas are float32 (H, W) in 0..1, pictures uint8 (H, W, 3) RGB; every figure belongs to one frame, or to one frame
and the one before it. MAD, MSE, Grad and dtSSD carry the factors of the tables in Lin et al., *Robust High-Resolution
Video Matting with Temporal Guidance* (WACV 2022), so that figures can be laid beside published ones.
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
TOLERANCE = 0.008  # of the diagonal: how far apart two outlines still count as the same
_NOTHING: Any = None  # OpenCV asks for None where its type stubs want an array


class Flow(NamedTuple):
    """Where each pixel was one frame before, float32 (H, W, 2) as x and y, and where that can be trusted (H, W)."""

    where: NDArray[np.float32]
    trusted: Mask


def mad(predicted: Alpha, true: Alpha) -> float:
    """Mean absolute difference, times 1000. A mean over the frame: small subjects look good in it."""
    return 1e3 * float(np.abs(_difference(predicted, true)).mean())


def mse(predicted: Alpha, true: Alpha) -> float:
    """Mean squared error, times 1000."""
    return 1e3 * float(np.square(_difference(predicted, true)).mean())


def grad(predicted: Alpha, true: Alpha) -> float:
    """Squared difference of gradient magnitudes, summed over the frame, / 1000: how well edges are kept.

    Rhemann et al., *A Perceptually Motivated Online Benchmark for Image Matting* (CVPR 2009): derivatives of a
    Gaussian, sigma 1.4. A sum, so it grows with the resolution. Alphas are not stretched to 0..1 beforehand: that
    would hide a matte that is too faint everywhere.
    """
    _same_shape(predicted, true)
    return float(np.square(_steepness(predicted) - _steepness(true)).sum()) / 1e3


def dtssd(predicted: Alpha, predicted_before: Alpha, true: Alpha, true_before: Alpha) -> float:
    """Root mean square of the difference between predicted and true change since the frame before, times 100.

    Erofeev et al., *Perceptually Motivated Benchmark for Video Matting* (BMVC 2015). It belongs to pairs of frames:
    a mean over a clip of N frames has N - 1 terms.
    """
    change, wanted = _difference(predicted, predicted_before), _difference(true, true_before)
    return 1e2 * math.sqrt(float(np.square(_difference(change, wanted)).mean()))


def iou(predicted: Alpha, true: Alpha, threshold: float = 0.5) -> float:
    """Intersection over union of what lies above ``threshold``; 1 when nothing does in either."""
    _same_shape(predicted, true)
    found, wanted = predicted > threshold, true > threshold
    union = np.count_nonzero(found | wanted)
    return np.count_nonzero(found & wanted) / union if union else 1.0


def boundary_f(predicted: Alpha, true: Alpha, threshold: float = 0.5) -> float:
    """F measure of the outlines at ``threshold``: the part of each that runs within 0.8 % of the diagonal of the other.

    Perazzi et al., *A Benchmark Dataset and Evaluation Methodology for Video Object Segmentation* (CVPR 2016). 1 when
    neither has an outline, 0 when only one has.
    """
    _same_shape(predicted, true)
    found, wanted = _outline(predicted > threshold), _outline(true > threshold)
    if not found.any() or not wanted.any():
        return float(found.any() == wanted.any())
    reach = max(1, math.ceil(TOLERANCE * math.hypot(*true.shape)))
    precision, recall = _part_near(found, wanted, reach), _part_near(wanted, found, reach)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def flow_between(picture: Picture, before: Picture) -> Flow:
    """Dense optical flow (DIS) from a picture back to the one before, at their size.

    Pixels that leave the frame or whose flow there and back does not meet are not trusted: they were hidden, or the
    flow is wrong (Sundaram et al., *Dense Point Trajectories by GPU-accelerated Large Displacement Optical Flow*,
    ECCV 2010).
    """
    now, then = (cv2.cvtColor(p, cv2.COLOR_RGB2GRAY) for p in (picture, before))
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    back, forth = search.calc(now, then, _NOTHING), search.calc(then, now, _NOTHING)
    height, width = now.shape
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1)
    where = (grid + back).astype(np.float32)
    inside = ((where >= 0) & (where <= (width - 1, height - 1))).all(axis=-1)
    there = cv2.remap(forth, where, _NOTHING, cv2.INTER_LINEAR)
    missed = np.square(back + there).sum(axis=-1)
    length = np.square(back).sum(axis=-1) + np.square(there).sum(axis=-1)
    return Flow(where, np.asarray(inside & (missed < 0.01 * length + 0.5), np.bool_))


def flicker(alpha: Alpha, before: Alpha, flow: Flow) -> float:
    """Mean absolute change along the flow, times 1000, where it is trusted; NaN where it is nowhere.

    Needs no truth (warping error, Lai et al., *Learning Blind Video Temporal Consistency*, ECCV 2018). A matte that
    never changes scores 0: read it beside a figure of accuracy.
    """
    _same_shape(alpha, before)
    _same_shape(alpha, flow.trusted)
    if not flow.trusted.any():
        return math.nan
    warped = np.asarray(cv2.remap(before, flow.where, _NOTHING, cv2.INTER_LINEAR), np.float32)
    return 1e3 * float(np.abs(_difference(alpha, warped))[flow.trusted].mean())


def _same_shape(one: NDArray[np.generic], other: NDArray[np.generic]) -> None:
    """Broadcasting would make a figure out of maps that do not belong together."""
    if one.shape != other.shape or one.ndim != 2:
        raise ValueError(f"Two maps (H, W) of one size are compared, not {one.shape} and {other.shape}.")


def _difference(one: Alpha | NDArray[np.float64], other: Alpha | NDArray[np.float64]) -> NDArray[np.float64]:
    _same_shape(one, other)
    return np.subtract(one, other, dtype=np.float64)


def _steepness(alpha: Alpha) -> NDArray[np.float64]:
    """Magnitude of the gradient, by derivatives of a Gaussian with unit L2 norm, the border repeated."""
    across = _derivative()
    parts = [cv2.filter2D(alpha, cv2.CV_64F, k, borderType=cv2.BORDER_REPLICATE) for k in (across, across.T)]
    return np.asarray(np.hypot(*parts), np.float64)


def _derivative(sigma: float = GRADIENT_SIGMA, least: float = 0.01) -> NDArray[np.float64]:
    """d/dx of a Gaussian, cut off where the Gaussian falls below ``least``."""
    half = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * least)))
    x = np.arange(-half, half + 1, dtype=np.float64)
    bell = np.exp(-np.square(x / sigma) / 2)
    kernel = np.outer(bell, x * bell)
    return np.asarray(kernel / np.linalg.norm(kernel), np.float64)


def _outline(mask: Mask) -> Mask:
    """Pixels of the mask with a neighbor outside it; the edge of the frame is no outline."""
    cross = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))
    inner = cv2.erode(mask.astype(np.uint8), cross, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(mask & (inner == 0), np.bool_)


def _part_near(outline: Mask, other: Mask, reach: int) -> float:
    """Share of the outline within ``reach`` pixels of the other one."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    near = cv2.dilate(other.astype(np.uint8), disc)
    return float(near[outline].mean())
