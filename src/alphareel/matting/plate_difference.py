"""Compares a frame with the clean plate: aligns it, relights it, and separates the subject from its shadow.

Works on model inputs, never on full-size frames.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.matting.clean_plate import CleanPlate
from alphareel.matting.runtime import Array

Mask = NDArray[np.bool_]

# Differences are in units of the tolerance. Above the first a pixel may be subject, above the second it certainly is.
_POSSIBLE = 1.0
_CERTAIN = 2.0
# Tolerance in levels: this multiple of the noise and this share of the step to the next pixel, plus a constant.
_NOISE_FACTOR = 3.5
_STEP_SHARE = 0.35
MIN_LUMA = 5.0
MIN_CHROMA = 3.5
# A shadow leaves this share of the light and keeps the color. The share is smooth: its standard deviation within 5x5
# pixels is at most MAX_SHADOW_ROUGHNESS.
MIN_SHADOW_LIGHT = 0.5
MAX_SHADOW_LIGHT = 0.97
MAX_SHADOW_ROUGHNESS = 0.045
# Where the scene has this much chroma (levels, after dimming), unchanged color proves a shadow, which may be darker.
MIN_TELLING_CHROMA = 8.0
MIN_COLORED_SHADOW_LIGHT = 0.25
# Range of the frame's saturation relative to the plate. Measured if at least this share of the plate has color.
_SATURATION = (0.3, 2.0)
MIN_COLORED = 0.02
# Levels of luma per point of the tone curve.
_TONE_STEP = 12
# Local light may differ from that of the whole frame by this share.
MAX_LOCAL_LIGHT = 0.3
# Patches smaller than this share of the frame are noise. Gaps smaller than this are filled.
MIN_PATCH = 0.0006
MIN_GAP = 0.0003
# Camera shake up to this share of the width is compensated.
MAX_SHAKE = 0.02
MIN_SIDE = 16
# If less than this share of the frame matches the plate, the estimated light may be wrong.
MIN_MATCH = 0.5
# A plate whose detail (standard deviation of its Laplacian) is below this is flat. Noise alone makes about 0.5.
MIN_DETAIL = 1.0
MIN_SHAKE = 0.08  # pixels of the model input


@dataclass(frozen=True)
class PlateDifference:
    """The difference between one frame and the plate."""

    subject: Mask
    """What is neither plate nor shadow (h, w)."""
    scene: Array
    """The plate as it would look in this frame, Y, U, V float32 (3, h, w)."""
    shadow: Array
    """The share of light that a shadow takes away, 0..1 (h, w); 0 where there is none."""
    match_ratio: float
    """The share of the frame that looks like the plate."""
    detail: float
    """Correlation of the frame's edges and texture with the plate's, -1..1; 1 when the plate has none."""


def plate_difference(frame: Array, plate: CleanPlate, *, previous: Mask | None, black: float) -> PlateDifference:
    """Compare a frame, Y, U, V float32 (3, h, w), with the plate.

    ``previous``: the subject in the frame before; None for the first frame. ``black``: the level of black in Y.
    """
    aligned = _align(plate.levels, frame, previous)
    relit = _compare(frame, aligned, _relight(aligned, frame, previous, black), plate.noise, black)
    if relit.match_ratio < MIN_MATCH:
        # A subject that fills the frame is mistaken for a change of light. Then the plate may match better as it is.
        unlit = _compare(frame, aligned, aligned, plate.noise, black)
        return max(relit, unlit, key=lambda d: d.match_ratio)
    return relit


def _compare(frame: Array, aligned: Array, scene: Array, noise: tuple[float, float], black: float) -> PlateDifference:
    luma, u, v = frame - scene
    tolerance = _tolerances(scene, noise)
    chroma = np.hypot(u, v) / tolerance[1]
    difference = np.hypot(luma / tolerance[0], chroma)
    shadow = _shadow(frame, scene, tolerance[1], black)
    unshadowed = np.where(shadow > 0, 0, difference)
    subject = _patches(unshadowed, shadow > 0)
    return PlateDifference(
        subject,
        scene,
        shadow=np.where(subject, 0, shadow),
        match_ratio=float((difference < _POSSIBLE).mean()),
        detail=_detail(aligned[0], frame[0], ~subject),
    )


def _align(levels: Array, frame: Array, previous: Mask | None) -> Array:
    """Move the plate by the camera's shake, if that makes it match the frame better.

    The subject can mislead the search, and so can the area it covered before, so both variants are tried.
    """
    height, width = frame.shape[1:]
    if min(height, width) < MIN_SIDE:
        return levels
    free = np.ones((height, width), bool) if previous is None else ~previous
    variants = [frame[0]] if previous is None else [frame[0], np.where(previous, levels[0], frame[0])]
    best, min_error = levels, _detail_error(levels, frame, free)
    for luma in variants:
        dx, dy = _find_shift(levels[0], luma)
        if MIN_SHAKE < max(abs(dx), abs(dy)) < MAX_SHAKE * width:
            shifted = _shift(levels, dx, dy)
            error = _detail_error(shifted, frame, free)
            best, min_error = (shifted, error) if error < min_error else (best, min_error)
    return best


def _find_shift(plate: Array, luma: Array) -> tuple[float, float]:
    """How far the frame is to the right of and below the plate, in pixels with fractions."""
    window = cv2.createHanningWindow((plate.shape[1], plate.shape[0]), cv2.CV_32F)
    # Copies because phaseCorrelate multiplies images that need no padding by the window in place.
    (dx, dy), _ = cv2.phaseCorrelate(plate.copy(), np.array(luma, np.float32), window)
    return dx, dy


def _shift(levels: Array, dx: float, dy: float) -> Array:
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    size = (levels.shape[2], levels.shape[1])
    return np.stack([cv2.warpAffine(p, move, size, borderMode=cv2.BORDER_REPLICATE) for p in levels])


def _detail_error(levels: Array, frame: Array, free: Mask) -> float:
    """Mean difference of detail, which does not depend on the light."""
    detail = cv2.Laplacian(cv2.GaussianBlur(frame[0] - levels[0], (3, 3), 0), cv2.CV_32F)
    return float(np.abs(detail)[free].mean()) if free.any() else 0.0


def _relight(levels: Array, frame: Array, previous: Mask | None, black: float) -> Array:
    """The plate in the light of the frame: a global tone curve and tint, then local differences.

    Automatic exposure changes the curve; a cloud or a lamp changes the light locally. Both are measured where the scene
    is unchanged.
    """
    free = np.ones(levels.shape[1:], bool) if previous is None else ~previous
    if not free.any():
        return levels
    levels = _saturate(levels, frame, free)
    tints = [float(np.median((p - q)[free])) for p, q in zip(frame[1:], levels[1:], strict=True)]
    toned = _apply_tone_curve(levels[0], frame[0], free, black)
    base = np.maximum(toned - black, 1)
    ratio = np.clip((frame[0] - black) / base, 0.1, 4)
    near = free & (np.abs(ratio - 1) < MAX_LOCAL_LIGHT)
    for plane, level, tint in zip(frame[1:], levels[1:], tints, strict=True):
        near &= np.abs(plane - level - tint) < 4 * MIN_CHROMA
    known = cv2.erode(near.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    light = _spread(ratio, known, 1.0)
    shades = [_spread(p - q, known, tint) for p, q, tint in zip(frame[1:], levels[1:], tints, strict=True)]
    return np.stack([black + base * light, *(q + s for q, s in zip(levels[1:], shades, strict=True))])


def _saturate(levels: Array, frame: Array, free: Mask) -> Array:
    """The plate with the saturation of the frame: less light also means less chroma."""
    frame_chroma, plate_chroma = (p[1:, free] - 128 for p in (frame, levels))
    colored = np.abs(plate_chroma) > MIN_TELLING_CHROMA
    if np.count_nonzero(colored) < MIN_COLORED * plate_chroma.size:
        return levels
    strength = float(np.clip(np.median(frame_chroma[colored] / plate_chroma[colored]), *_SATURATION))
    return np.stack([levels[0], *(128 + strength * (levels[1:] - 128))])


def _apply_tone_curve(plate: Array, luma: Array, free: Mask, black: float) -> Array:
    """Luma of the plate through the tone curve between plate and frame: the median of each step of levels."""
    steps = (plate[free] / _TONE_STEP).astype(np.intp)
    plate_levels, frame_levels = plate[free], luma[free]
    min_count = max(16, plate_levels.size // 500)
    points = [(float(np.median(plate_levels[steps == n])), float(np.median(frame_levels[steps == n])))
              for n in np.flatnonzero(np.bincount(steps) >= min_count)]  # fmt: skip
    if not points:
        return plate
    x, y = np.array([(black, black), *points]).T
    return np.interp(plate, x, np.maximum.accumulate(y)).astype(np.float32)


def _spread(values: Array, known: Array, default: float) -> Array:
    """Means of the known values over a wide window; near ``default`` where few are known."""
    side = max(3, min(values.shape) // 4) | 1
    total = cv2.blur(values * known, (side, side), borderType=cv2.BORDER_REPLICATE) + 0.05 * default
    return np.asarray(total / (cv2.blur(known, (side, side), borderType=cv2.BORDER_REPLICATE) + 0.05), np.float32)


def _detail(plate: Array, luma: Array, free: Mask) -> float:
    """Correlation of edges and texture over the whole frame or over all but the subject, whichever is higher.

    Relighting is flexible enough to make an unrelated scene match the frame, but not its detail.
    """
    plate_detail, frame_detail = (
        np.asarray(cv2.Laplacian(cv2.GaussianBlur(p, (5, 5), 0), cv2.CV_32F), np.float32) for p in (plate, luma)
    )
    if float(plate_detail.std()) < MIN_DETAIL:
        return 1.0
    return max(_correlation(plate_detail, frame_detail), _correlation(plate_detail[free], frame_detail[free]))


def _correlation(one: Array, other: Array) -> float:
    if one.size == 0:
        return -1.0
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum() / (np.sqrt(np.square(a).sum() * np.square(b).sum()) + 1e-6))


def _tolerances(scene: Array, noise: tuple[float, float]) -> tuple[Array, Array]:
    """Tolerances of luma and of chroma in levels (h, w): noise, and texture that moves by a fraction of a pixel."""
    steps = [np.hypot(cv2.Sobel(p, cv2.CV_32F, 1, 0), cv2.Sobel(p, cv2.CV_32F, 0, 1)) / 8 for p in scene]
    luma = np.hypot(_NOISE_FACTOR * noise[0], _STEP_SHARE * steps[0]) + MIN_LUMA
    chroma = np.hypot(_NOISE_FACTOR * noise[1], _STEP_SHARE * np.maximum(steps[1], steps[2])) + MIN_CHROMA
    return np.asarray(luma, np.float32), np.asarray(chroma, np.float32)


def _shadow(frame: Array, scene: Array, tolerance: Array, black: float) -> Array:
    """The share of missing light where the frame shows the scene evenly darkened; 0 elsewhere.

    A cast shadow dims luma and keeps the ratio of chroma to it (Horprasert, Harwood and Davis, 1999). Cloth of the same
    color does so too, but is rarely as smooth.
    """
    luma, scene_luma = (np.maximum(cv2.blur(p - black, (3, 3)), 1) for p in (frame[0], scene[0]))
    share = luma / scene_luma
    mean, mean_square = (cv2.blur(p, (5, 5)) for p in (share, share * share))
    smooth = mean_square - mean * mean < MAX_SHADOW_ROUGHNESS**2
    colorful = np.hypot(scene[1] - 128, scene[2] - 128) * share > MIN_TELLING_CHROMA
    plausible = np.where(colorful, share > MIN_COLORED_SHADOW_LIGHT, smooth & (mean > MIN_SHADOW_LIGHT))
    dim = (share < MAX_SHADOW_LIGHT) & plausible
    for plane, level in zip(frame[1:], scene[1:], strict=True):
        dim &= np.abs((plane - 128) - share * (level - 128)) < 0.7 * tolerance
    return np.asarray(np.where(dim, 1 - share, 0), np.float32)


def _patches(difference: Array, shadow: Mask) -> Mask:
    """Possible subject pixels connected to certain ones. Drops specks, and fills gaps and shadows inside."""
    possible = cv2.morphologyEx((difference > _POSSIBLE).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(possible, connectivity=8)
    certain = np.bincount(labels[difference > _CERTAIN], minlength=count)
    min_area = MIN_PATCH * difference.size
    keep = (stats[:, cv2.CC_STAT_AREA] >= min_area) & (certain >= min_area / 3)
    keep[0] = False
    subject = keep[labels]
    return np.asarray(subject | _gaps(subject, shadow), np.bool_)


def _gaps(subject: Mask, shadow: Mask) -> Mask:
    """Holes in the subject that are tiny, or that look like a shadow. Holes at the border of the frame do not count."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~subject).astype(np.uint8), connectivity=4)
    height, width = subject.shape
    area = stats[:, cv2.CC_STAT_AREA]
    shaded = np.bincount(labels[shadow], minlength=count)
    touches = (stats[:, cv2.CC_STAT_LEFT] == 0) | (stats[:, cv2.CC_STAT_TOP] == 0)
    touches |= stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_WIDTH] == width
    touches |= stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] == height
    fill = ~touches & ((area < MIN_GAP * subject.size) | (shaded > area / 2))
    fill[labels[subject]] = False
    return np.asarray(fill[labels], np.bool_)


def soften(difference: PlateDifference, frame: Array) -> Array:
    """Alpha float32 (h, w) in 0..1. Pixels at the outline are unmixed into scene and subject."""
    solid = difference.subject.astype(np.uint8)
    cross = np.ones((3, 3), np.uint8)
    inner, outer = cv2.erode(solid, cross).astype(np.float32), cv2.dilate(solid, cross)
    band = (outer > 0) & (inner == 0)
    foreground = [_local_mean(plane, inner) for plane in frame]
    has_foreground = cv2.blur(inner, (7, 7)) > 0
    direction = np.stack(foreground) - difference.scene
    length = np.square(direction).sum(axis=0)
    share = (direction * (frame - difference.scene)).sum(axis=0) / np.maximum(length, 1)
    smooth = cv2.blur(solid.astype(np.float32), (3, 3))
    trust = np.where(has_foreground, np.clip(length / 400 - 0.25, 0, 1), 0)
    mixed = smooth + trust * (np.clip(share, 0, 1) - smooth)
    return np.asarray(np.where(band, mixed, solid), np.float32)


def _local_mean(plane: Array, known: Array) -> Array:
    total = cv2.blur(plane * known, (7, 7))
    return np.asarray(total / np.maximum(cv2.blur(known, (7, 7)), 1e-3), np.float32)
