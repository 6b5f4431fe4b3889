"""What of a frame is not the clean plate: aligned, lit as the frame is, shadows told from subjects. Thumbnails only."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.matting.clean_plate import CleanPlate
from alphareel.matting.runtime import Array

Mask = NDArray[np.bool_]

# Differences are counted in tolerances: above the first a pixel may be subject, above the second it surely is one.
_MAYBE = 1.0
_SURE = 2.0
# Tolerance in levels: so many times the noise, so much of a step to the next pixel, and never less than this.
_TIMES_NOISE = 3.5
_OF_STEP = 0.35
_LEAST_LUMA = 5.0
_LEAST_CHROMA = 3.5
# A shadow leaves this share of the light, smoothly (standard deviation of the share within 5x5), and the color.
_DARKEST_SHADOW = 0.5
_LIGHTEST_SHADOW = 0.97
_SMOOTH_SHADOW = 0.045
# Where the scene has so much color (levels of chroma, as dimmed) the color tells a shadow, and it may be darker.
_TELLING = 8.0
_DARKEST_TOLD = 0.25
# Chroma of the frame may be so many times that of the plate; it is compared where so much of the plate has color.
_SATURATION = (0.3, 2.0)
_LEAST_COLORED = 0.02
# Levels of luma that share a point of the tone curve.
_TONE = 12
# The light may be this much stronger or weaker at a place than over the whole picture.
_LOCAL_LIGHT = 0.3
# Patches smaller than this share of the frame are noise; gaps smaller than this are filled.
_SMALLEST_PATCH = 0.0006
_SMALLEST_GAP = 0.0003
# A camera that shakes by no more than this share of the width is followed.
_MOST_SHAKE = 0.02
_LEAST_SIDE = 16
# With less than this share of the frame alike, the light that was found is doubted.
_HALF = 0.5
# A plate whose detail (standard deviation of its Laplacian) is below this is flat: noise alone makes about 0.5.
_LEAST_DETAIL = 1.0
_LEAST_SHAKE = 0.08  # pixels of the thumbnail


@dataclass(frozen=True)
class PlateDifference:
    """One frame against the plate. ``subject``: what is not plate, shadows left out (h, w).

    ``scene``: the plate as it should look in this frame, Y, U, V float32 (3, h, w). ``shadow``: the share of light that
    a shadow takes away, 0..1 (h, w), 0 where there is none. ``match_ratio``: share of the frame that looks like the plate.
    ``detail``: how much its edges and texture are those of the plate, -1..1; 1 where the plate has none.
    """

    subject: Mask
    scene: Array
    shadow: Array
    match_ratio: float
    detail: float


def plate_difference(picture: Array, plate: CleanPlate, *, before: Mask | None, black: float) -> PlateDifference:
    """``picture``: Y, U, V float32 (3, h, w) of the frame; ``before``: the subject one frame earlier, None at first.

    ``black``: the level of black.
    """
    placed = _aligned(plate.levels, picture, before)
    made = _judge(picture, placed, _lit(placed, picture, before, black), plate.noise, black)
    if made.match_ratio < _HALF:
        # Somebody who fills the picture passes for its light; then the plate as it is may tell better.
        plain = _judge(picture, placed, placed, plate.noise, black)
        return max(made, plain, key=lambda d: d.match_ratio)
    return made


def _judge(picture: Array, placed: Array, scene: Array, noise: tuple[float, float], black: float) -> PlateDifference:
    luma, u, v = picture - scene
    tolerance = _tolerances(scene, noise)
    chroma = np.hypot(u, v) / tolerance[1]
    apart = np.hypot(luma / tolerance[0], chroma)
    shadow = _shadow(picture, scene, tolerance[1], black)
    unshadowed = np.where(shadow > 0, 0, apart)
    subject = _patches(unshadowed, shadow > 0)
    return PlateDifference(
        subject,
        scene,
        shadow=np.where(subject, 0, shadow),
        match_ratio=float((apart < _MAYBE).mean()),
        detail=_detail(placed[0], picture[0], ~subject),
    )


def _aligned(levels: Array, picture: Array, before: Mask | None) -> Array:
    """The plate moved by as much as the camera shook, as far as that makes the two more alike.

    The subject may mislead the search and so may the place where it was, so both ways are tried.
    """
    height, width = picture.shape[1:]
    if min(height, width) < _LEAST_SIDE:
        return levels
    free = np.ones((height, width), bool) if before is None else ~before
    searched = [picture[0]] if before is None else [picture[0], np.where(before, levels[0], picture[0])]
    best, least = levels, _unlike(levels, picture, free)
    for seen in searched:
        right, down = _shift(levels[0], seen)
        if _LEAST_SHAKE < max(abs(right), abs(down)) < _MOST_SHAKE * width:
            moved = _moved(levels, right, down)
            unlike = _unlike(moved, picture, free)
            best, least = (moved, unlike) if unlike < least else (best, least)
    return best


def _shift(plate: Array, luma: Array) -> tuple[float, float]:
    """How far the picture lies right of and below the plate, in pixels and parts of them."""
    window = cv2.createHanningWindow((plate.shape[1], plate.shape[0]), cv2.CV_32F)
    # Copies, since it multiplies pictures whose size needs no padding by the window in place.
    (right, down), _ = cv2.phaseCorrelate(plate.copy(), np.array(luma, np.float32), window)
    return right, down


def _moved(levels: Array, right: float, down: float) -> Array:
    move = np.array([[1, 0, right], [0, 1, down]], np.float32)
    size = (levels.shape[2], levels.shape[1])
    return np.stack([cv2.warpAffine(p, move, size, borderMode=cv2.BORDER_REPLICATE) for p in levels])


def _unlike(levels: Array, picture: Array, free: Mask) -> float:
    """Difference of detail, which light does not change."""
    detail = cv2.Laplacian(cv2.GaussianBlur(picture[0] - levels[0], (3, 3), 0), cv2.CV_32F)
    return float(np.abs(detail)[free].mean()) if free.any() else 0.0


def _lit(levels: Array, picture: Array, before: Mask | None, black: float) -> Array:
    """The plate in the light of the frame: a tone curve and a tint of the whole, then what differs in places.

    A camera that corrects its exposure bends the curve; a cloud or a lamp changes places. Both are read where nothing
    has changed.
    """
    free = np.ones(levels.shape[1:], bool) if before is None else ~before
    if not free.any():
        return levels
    levels = _saturated(levels, picture, free)
    tints = [float(np.median((p - q)[free])) for p, q in zip(picture[1:], levels[1:], strict=True)]
    toned = _toned(levels[0], picture[0], free, black)
    base = np.maximum(toned - black, 1)
    ratio = np.clip((picture[0] - black) / base, 0.1, 4)
    near = free & (np.abs(ratio - 1) < _LOCAL_LIGHT)
    for plane, level, tint in zip(picture[1:], levels[1:], tints, strict=True):
        near &= np.abs(plane - level - tint) < 4 * _LEAST_CHROMA
    known = cv2.erode(near.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.float32)
    light = _spread(ratio, known, 1.0)
    shades = [_spread(p - q, known, tint) for p, q, tint in zip(picture[1:], levels[1:], tints, strict=True)]
    return np.stack([black + base * light, *(q + s for q, s in zip(levels[1:], shades, strict=True))])


def _saturated(levels: Array, picture: Array, free: Mask) -> Array:
    """The plate with chroma as strong as the frame has it: less light leaves less color too."""
    wanted, given = (p[1:, free] - 128 for p in (picture, levels))
    colored = np.abs(given) > _TELLING
    if np.count_nonzero(colored) < _LEAST_COLORED * given.size:
        return levels
    strength = float(np.clip(np.median(wanted[colored] / given[colored]), *_SATURATION))
    return np.stack([levels[0], *(128 + strength * (levels[1:] - 128))])


def _toned(plate: Array, luma: Array, free: Mask, black: float) -> Array:
    """Luma of the plate through the curve that most of the frame follows: for each step of levels the median answer."""
    steps = (plate[free] / _TONE).astype(np.intp)
    levels, answers = plate[free], luma[free]
    least = max(16, levels.size // 500)
    found = [(float(np.median(levels[steps == n])), float(np.median(answers[steps == n])))
             for n in np.flatnonzero(np.bincount(steps) >= least)]  # fmt: skip
    if not found:
        return plate
    known, wanted = np.array([(black, black), *found]).T
    return np.interp(plate, known, np.maximum.accumulate(wanted)).astype(np.float32)


def _spread(values: Array, known: Array, usual: float) -> Array:
    """Means of known values over a wide window; where little is known, the usual one."""
    side = max(3, min(values.shape) // 4) | 1
    total = cv2.blur(values * known, (side, side), borderType=cv2.BORDER_REPLICATE) + 0.05 * usual
    return np.asarray(total / (cv2.blur(known, (side, side), borderType=cv2.BORDER_REPLICATE) + 0.05), np.float32)


def _detail(plate: Array, luma: Array, free: Mask) -> float:
    """Correlation of edges and texture, over all or over what is no subject, whichever is higher.

    The light is bent towards the frame so willingly that an unrelated scene may look alike; its detail never does.
    """
    ours, theirs = (
        np.asarray(cv2.Laplacian(cv2.GaussianBlur(p, (5, 5), 0), cv2.CV_32F), np.float32) for p in (plate, luma)
    )
    if float(ours.std()) < _LEAST_DETAIL:
        return 1.0
    return max(_correlation(ours, theirs), _correlation(ours[free], theirs[free]))


def _correlation(one: Array, other: Array) -> float:
    if one.size == 0:
        return -1.0
    a, b = one - one.mean(), other - other.mean()
    return float((a * b).sum() / (np.sqrt(np.square(a).sum() * np.square(b).sum()) + 1e-6))


def _tolerances(scene: Array, noise: tuple[float, float]) -> tuple[Array, Array]:
    """Levels of luma and of chroma that count as no difference: noise, and texture that a part of a pixel moves."""
    steps = [np.hypot(cv2.Sobel(p, cv2.CV_32F, 1, 0), cv2.Sobel(p, cv2.CV_32F, 0, 1)) / 8 for p in scene]
    luma = np.hypot(_TIMES_NOISE * noise[0], _OF_STEP * steps[0]) + _LEAST_LUMA
    chroma = np.hypot(_TIMES_NOISE * noise[1], _OF_STEP * np.maximum(steps[1], steps[2])) + _LEAST_CHROMA
    return np.asarray(luma, np.float32), np.asarray(chroma, np.float32)


def _shadow(picture: Array, scene: Array, tolerance: Array, black: float) -> Array:
    """Share of light that is missing where the picture is the scene, only evenly darker; 0 elsewhere.

    A cast shadow dims luma and leaves the proportion of chroma to it (Horprasert, Harwood and Davis, 1999); cloth of
    the same color does the same but is seldom as smooth.
    """
    seen, base = (np.maximum(cv2.blur(p - black, (3, 3)), 1) for p in (picture[0], scene[0]))
    share = seen / base
    mean, mean_square = (cv2.blur(p, (5, 5)) for p in (share, share * share))
    smooth = mean_square - mean * mean < _SMOOTH_SHADOW**2
    colorful = np.hypot(scene[1] - 128, scene[2] - 128) * share > _TELLING
    dim = (share < _LIGHTEST_SHADOW) & np.where(colorful, share > _DARKEST_TOLD, smooth & (mean > _DARKEST_SHADOW))
    for plane, level in zip(picture[1:], scene[1:], strict=True):
        dim &= np.abs((plane - 128) - share * (level - 128)) < 0.7 * tolerance
    return np.asarray(np.where(dim, 1 - share, 0), np.float32)


def _patches(apart: Array, shadow: Mask) -> Mask:
    """What may be subject and hangs together with what surely is; specks go, gaps and shadows inside are filled."""
    maybe = cv2.morphologyEx((apart > _MAYBE).astype(np.uint8), cv2.MORPH_CLOSE, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(maybe, connectivity=8)
    sure = np.bincount(labels[apart > _SURE], minlength=count)
    least = _SMALLEST_PATCH * apart.size
    keep = (stats[:, cv2.CC_STAT_AREA] >= least) & (sure >= least / 3)
    keep[0] = False
    subject = keep[labels]
    return np.asarray(subject | _gaps(subject, shadow), np.bool_)


def _gaps(subject: Mask, shadow: Mask) -> Mask:
    """Holes in the subject that are tiny, or that look like a shadow and are enclosed."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats((~subject).astype(np.uint8), connectivity=4)
    height, width = subject.shape
    area = stats[:, cv2.CC_STAT_AREA]
    shaded = np.bincount(labels[shadow], minlength=count)
    touches = (stats[:, cv2.CC_STAT_LEFT] == 0) | (stats[:, cv2.CC_STAT_TOP] == 0)
    touches |= stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_WIDTH] == width
    touches |= stats[:, cv2.CC_STAT_TOP] + stats[:, cv2.CC_STAT_HEIGHT] == height
    fill = ~touches & ((area < _SMALLEST_GAP * subject.size) | (shaded > area / 2))
    fill[labels[subject]] = False
    return np.asarray(fill[labels], np.bool_)


def soften(difference: PlateDifference, picture: Array) -> Array:
    """Alpha float32 (h, w) in 0..1: at the outline, how far a pixel lies on the way from scene to subject."""
    solid = difference.subject.astype(np.uint8)
    cross = np.ones((3, 3), np.uint8)
    inner, outer = cv2.erode(solid, cross).astype(np.float32), cv2.dilate(solid, cross)
    band = (outer > 0) & (inner == 0)
    front = [_near(plane, inner) for plane in picture]
    found = cv2.blur(inner, (7, 7)) > 0
    way = np.stack(front) - difference.scene
    length = np.square(way).sum(axis=0)
    share = (way * (picture - difference.scene)).sum(axis=0) / np.maximum(length, 1)
    plain = cv2.blur(solid.astype(np.float32), (3, 3))
    trust = np.where(found, np.clip(length / 400 - 0.25, 0, 1), 0)
    mixed = plain + trust * (np.clip(share, 0, 1) - plain)
    return np.asarray(np.where(band, mixed, solid), np.float32)


def _near(plane: Array, known: Array) -> Array:
    total = cv2.blur(plane * known, (7, 7))
    return np.asarray(total / np.maximum(cv2.blur(known, (7, 7)), 1e-3), np.float32)
