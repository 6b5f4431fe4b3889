"""A chroma keyer for green, blue and other screens. Has no network. Card: docs/models/chroma.md."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import SubjectNotFound
from alphareel.domain.options import Options
from alphareel.imaging.color import color_in_yuv
from alphareel.imaging.frame import Frame, Matte, Plane
from alphareel.matting.cuts import CutDetector
from alphareel.matting.edges import decontaminate_edges
from alphareel.matting.engine import Engine, MattingSession, ModelInfo
from alphareel.matting.model_input import model_input_of, size_for
from alphareel.matting.runtime import Runtime
from alphareel.matting.shadow import screen_shadow, with_shadow

Array: TypeAlias = NDArray[np.float32]

INFO = ModelInfo(
    name="chroma",
    version="1",
    subject="subjects in front of a colored screen",
    summary="A chroma keyer: finds the screen's color, tracks its shading, removes spill. Needs no weights.",
    code_license="Apache-2.0",
    weights_license="none needed",
    author_statement="Our own code; nothing is trained.",
    temporal=True,
    changes_colors="always",
)

_AREA = 256 * 144
# Minimum distance of a screen's chroma from gray (levels of 128), and minimum share of the frame's border it fills.
MIN_SATURATION = 28.0
MIN_BORDER = 0.25
_BIN = 8
# Share of screen color in a pixel at which alpha is 1 and 0, linear in between. A subject whose own hue is close to the
# key's (skin before a yellow wall) raises the first, up to MAX_SOLID, so that it stays opaque.
_SOLID = 0.10
MAX_SOLID = 0.62
_CLEAR = 0.86
# Tangent of the largest angle between a hue and the key at which it still counts as screen.
MAX_HUE_TANGENT = 1.6
# Minimum share of screen color in pixels used to measure its shading, and the rate at which the shading is updated.
MIN_SCREEN = 0.72
_UPDATE_RATE = 0.15
# A shadow on the screen has less of the key's color than the lit screen.
MIN_SHADED_SCREEN = 0.5
MIN_SHADOW = 0.05
# Islands of screen color inside the subject that are smaller than this share of the frame are reflections, not gaps.
MIN_GAP = 0.0004
# Column of OpenCV's contour hierarchy with the parent of a contour.
_PARENT = 3
# Rows processed at once, and the margin that two windows of 5x5 need.
_STRIP_ROWS = 64
_MARGIN = 4


def available(models_dir: Path | None) -> str | None:  # noqa: ARG001
    """Always None: there are no weights."""
    return None


def load(runtime: Runtime) -> Engine:  # noqa: ARG001
    """See ``matting.engine``."""
    return ChromaEngine(INFO.facts(None))


@dataclass(frozen=True)
class ChromaEngine:
    facts: EngineFacts

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Start a session. The key is ``options.key_color``, else it is found in the first frame."""
        key = None
        if options.key_color is not None:
            key = np.array(color_in_yuv(options.key_color, clip.color, clip.height), np.float32)
        black = None if not options.shadows else 0 if clip.color.full_range else 16
        return ChromaSession(size_for(clip, area=_AREA, multiple=2), key, black=black)


class ChromaSession:
    """The key color (Y, U, V) of one clip, and a slowly updated map of the screen's shading (3, h, w).

    ``black``: the level of black in Y if shadows are to be kept, else None.
    """

    def __init__(self, model_input_size: tuple[int, int], key: Array | None, *, black: int | None) -> None:
        self._model_input_size = model_input_size
        self._requested_key = key
        self._black = black
        self._key = key
        self._screen: Array | None = None
        self._subject = Subject(natural=0.0, solid=_SOLID)
        self._cuts = CutDetector()

    @property
    def model_input_size(self) -> tuple[int, int]:
        return self._model_input_size

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """One matte for each frame: keyed at half size, then upsampled along luma edges. Raises SubjectNotFound."""
        return [self._matte(frame) for frame in frames]

    def finish(self) -> None:
        """A clip without a screen was rejected at its first frame."""

    def _matte(self, frame: Frame) -> Matte:
        model_input = model_input_of(frame, self._model_input_size)
        if self._cuts.is_cut(model_input) or self._key is None:
            self._screen, self._key = None, self._find_key(model_input)
        self._screen, self._subject = _update(self._screen, self._subject, model_input, self._key)
        size = (frame.u.shape[1], frame.u.shape[0])
        key_u, key_v = (np.asarray(cv2.resize(self._screen[i] - 128, size), np.float32) for i in (1, 2))
        share = _share_at_half_size(frame, key_u, key_v)
        half = _alpha_of(_remove_islands(share, self._subject.solid), self._subject.solid)
        alpha = _to_full_size(half, frame)
        u, v = (_remove_spill(p, share - self._subject.natural, k) for p, k in ((frame.u, key_u), (frame.v, key_v)))
        matte = Matte(decontaminate_edges(replace(frame, u=u, v=v), alpha), alpha)
        return matte if self._black is None else self._with_shadow(matte, model_input, self._screen, self._black)

    def _with_shadow(self, matte: Matte, model_input: Plane, screen: Array, black: int) -> Matte:
        image = model_input.astype(np.float32)
        share = _screen_share(image[1] - 128, image[2] - 128, screen[1] - 128, screen[2] - 128)
        is_screen = np.asarray(share > MIN_SHADED_SCREEN, np.float32)
        luma = np.asarray(cv2.blur(image[0], (3, 3)), np.float32)
        shadow = screen_shadow(luma, is_screen, black=black)
        # Wide areas only: a mix of screen and black hair looks the same, and must stay as keyed.
        wide = cv2.morphologyEx((shadow > MIN_SHADOW).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        lit = 255 - np.asarray(cv2.resize(255 * wide, (matte.frame.width, matte.frame.height)), np.uint8)
        cleared = replace(matte, alpha=np.asarray(cv2.multiply(matte.alpha, lit, scale=1 / 255), np.uint8))
        return with_shadow(cleared, np.where(wide > 0, shadow, 0).astype(np.float32), black=black)

    def _find_key(self, model_input: Plane) -> Array:
        """The key of a new shot: as requested, else as found, else that of the previous shot."""
        if self._requested_key is not None:
            return self._requested_key
        try:
            return find_key(model_input)
        except SubjectNotFound:
            if self._key is None:
                raise
            return self._key


@dataclass(frozen=True)
class Subject:
    """Share of the key's hue in the subject's own colors, 0..1: ``natural`` typically, ``solid`` at most."""

    natural: float
    solid: float


def find_key(model_input: Plane) -> Array:
    """Y, U, V float32 (3,) of the screen: the most common saturated color of the frame's border.

    Raises SubjectNotFound when no saturated color fills a quarter of the border.
    """
    border = _border_of(model_input).astype(np.float32)
    chroma = border[:, 1:] - 128
    saturated = np.hypot(chroma[:, 0], chroma[:, 1]) > MIN_SATURATION
    if saturated.mean() >= MIN_BORDER:
        bins = (border[:, 1:] // _BIN).astype(np.intp)
        histogram = np.zeros((256 // _BIN, 256 // _BIN), np.float32)
        np.add.at(histogram, (bins[saturated, 0], bins[saturated, 1]), 1)
        histogram = np.asarray(cv2.blur(histogram, (3, 3), borderType=cv2.BORDER_CONSTANT), np.float32)
        top = np.array(np.unravel_index(int(histogram.argmax()), histogram.shape))
        near = saturated & (np.abs(bins - top).max(axis=1) <= 1)
        if near.mean() >= MIN_BORDER:
            return np.asarray(np.median(border[near], axis=0), np.float32)
    raise SubjectNotFound(
        "The background is not a screen of one color.",
        hint="Set key_color to the color of the screen, or use the model human for a clip without a screen.",
    )


def _border_of(model_input: Plane) -> Plane:
    """Pixels (n, 3) of the outer eighth at the left, right and top. The subject often covers the bottom."""
    _, height, width = model_input.shape
    band_x, band_y = max(1, width // 8), max(1, height // 8)
    parts = (model_input[:, :, :band_x], model_input[:, :, -band_x:], model_input[:, :band_y, band_x:-band_x])
    return np.concatenate([p.reshape(3, -1) for p in parts], axis=1).T


def _update(screen: Array | None, subject: Subject, model_input: Plane, key: Array) -> tuple[Array, Subject]:
    """The screen's color (3, h, w), extrapolated to where the subject hides it, and the subject's colors.

    Both are running averages that start with the first frame.
    """
    image = model_input.astype(np.float32)
    base = np.broadcast_to(key[:, None, None], image.shape) if screen is None else screen
    share = _screen_share(image[1] - 128, image[2] - 128, base[1] - 128, base[2] - 128)
    known = (share > MIN_SCREEN).astype(np.float32)
    known = np.asarray(cv2.erode(known, np.ones((3, 3), np.uint8)), np.float32)
    measured = _spread(image, known, base)
    frame_subject = _describe(share)
    if screen is None:
        return measured, frame_subject
    natural, solid = (
        old + _UPDATE_RATE * (new - old)
        for old, new in ((subject.natural, frame_subject.natural), (subject.solid, frame_subject.solid))
    )
    return screen + _UPDATE_RATE * (measured - screen), Subject(natural, solid)


def _describe(share: Array) -> Subject:
    """Measure the subject: the pixels below Otsu's threshold between it and the screen."""
    levels = (share * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    own = share[levels <= threshold]
    if own.size < share.size // 200:
        return Subject(0.0, _SOLID)
    natural, solid = np.percentile(own, (60, 93))
    return Subject(float(natural), float(np.clip(1.15 * solid, _SOLID, MAX_SOLID)))


def _spread(image: Array, known: Array, fallback: Array) -> Array:
    """Means of the known pixels within increasingly large windows; ``fallback`` where there are none."""
    total = fallback * np.float32(1e-6)
    weight = np.full_like(known, 1e-6)
    for side, share in ((9, 1.0), (41, 1e-2), (121, 1e-4)):
        window = (side, side)
        weight += share * np.asarray(cv2.blur(known, window), np.float32)
        total = total + share * np.stack([np.asarray(cv2.blur(p * known, window), np.float32) for p in image])
    return np.asarray(total / weight, np.float32)


def _screen_share(u: Array, v: Array, key_u: Array, key_v: Array) -> Array:
    """The share of screen color in each pixel, 0..1, float32 (h, w).

    The color-difference key of Vlahos (US patent 3,595,987) in the chroma plane: the component along the key's hue,
    minus what a foreground hue at an angle could contribute, divided by the key's saturation. For a mix of screen and a
    foreground without the key's hue it is exactly 1 - alpha.
    """
    strength = key_u * key_u + key_v * key_v
    along = (u * key_u + v * key_v) / strength
    across = np.abs(u * key_v - v * key_u) / strength
    return np.asarray(np.clip(along - across / MAX_HUE_TANGENT, 0, 1), np.float32)


def _share_at_half_size(frame: Frame, key_u: Array, key_v: Array) -> Array:
    share: Array = np.empty(frame.u.shape, np.float32)
    for rows in _strips(share.shape[0]):
        u, v = (plane[rows].astype(np.float32) - 128 for plane in (frame.u, frame.v))
        share[rows] = _screen_share(u, v, key_u[rows], key_v[rows])
    return share


def _strips(height: int) -> Iterator[slice]:
    """Ranges of rows. Processing strips keeps intermediate results in the processor's cache."""
    return (slice(top, min(height, top + _STRIP_ROWS)) for top in range(0, height, _STRIP_ROWS))


def _remove_islands(share: Array, solid: float) -> Array:
    """The share without small islands inside the subject, and with noise removed outside the soft range."""
    denoised = cv2.medianBlur(cv2.convertScaleAbs(share, alpha=255), 3)
    soft = cv2.inRange(denoised, math.ceil(solid * 255), math.floor(_CLEAR * 255))
    share = np.where(soft > 0, share, denoised * np.float32(1 / 255))
    is_screen = (share > solid).astype(np.uint8)
    contours, hierarchy = cv2.findContours(is_screen, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = [contour for n, contour in enumerate(contours) if hierarchy[0, n, _PARENT] < 0]
    islands = [contour for contour in outer if _pixel_count(contour) < MIN_GAP * share.size]
    if islands:
        cv2.drawContours(share, islands, -1, 0, cv2.FILLED)
    return share


def _pixel_count(contour: NDArray[Any]) -> float:
    """The number of pixels in and on a closed contour (Pick's theorem)."""
    return cv2.contourArea(contour) + len(contour) / 2 + 1


def _alpha_of(share: Array, solid: float) -> Plane:
    steepness = 255 / (_CLEAR - solid)
    return np.asarray(cv2.addWeighted(share, -steepness, share, 0, _CLEAR * steepness, dtype=cv2.CV_8U), np.uint8)


def _to_full_size(half: Plane, frame: Frame) -> Plane:
    """Upsample alpha to full size. Soft pixels follow luma, whose edges are twice as sharp as those of chroma.

    There, alpha is refitted as a linear function of luma in 5x5 windows. Where luma does not separate the sides, it
    stays as interpolated.
    """
    size = (frame.width, frame.height)
    smooth = np.asarray(cv2.resize(half, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    band, alpha = cv2.inRange(smooth, 4, 251), smooth.copy()
    for rows in _strips(frame.height):
        left, _, width, _ = cv2.boundingRect(band[rows])
        if width:
            top, first = max(0, rows.start - _MARGIN), max(0, left - _MARGIN)
            part = slice(top, rows.stop + _MARGIN), slice(first, left + width + _MARGIN)
            inside = slice(rows.start - top, rows.stop - top), slice(left - first, left - first + width)
            kept = rows, slice(left, left + width)
            guided = _fit_to_luma(smooth[part], frame.y[part])
            np.copyto(alpha[kept], guided[inside], where=band[kept] > 0)
    return alpha


def _fit_to_luma(alpha: Plane, luma: Plane) -> Plane:
    """Guided filter (He, Sun and Tang, ECCV 2010) of alpha with luma as guide, windows of 5x5, both 0-255."""
    a, y = alpha.astype(np.float32), luma.astype(np.float32)
    mean_a, mean_y = (np.asarray(cv2.blur(p, (5, 5))) for p in (a, y))
    covariance = np.asarray(cv2.blur(a * y, (5, 5))) - mean_a * mean_y
    variance = np.asarray(cv2.blur(y * y, (5, 5))) - mean_y * mean_y
    slope = covariance / (variance + 40)
    offset = mean_a - slope * mean_y
    fitted = np.asarray(cv2.blur(slope, (5, 5))) * y + np.asarray(cv2.blur(offset, (5, 5)))
    trust = variance / (variance + 100)
    mixed = trust * fitted + (1 - trust) * a
    return np.asarray(np.clip(mixed + 0.5, 0, 255), np.uint8)


def _remove_spill(plane: Plane, excess: Array, key: Array) -> Plane:
    """A chroma plane without the key's hue where there is more of it than in the subject (``excess`` above 0)."""
    clean = np.empty_like(plane)
    for rows in _strips(plane.shape[0]):
        level = plane[rows] - np.maximum(0, excess[rows]) * key[rows]
        clean[rows] = np.clip(level + 0.5, 0, 255)
    return clean
