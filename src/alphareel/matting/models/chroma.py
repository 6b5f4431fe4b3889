"""The keyer: cuts out what stands before a colored screen, by arithmetic alone. Its card: docs/models/chroma.md."""

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

SPEC = ModelInfo(
    name="chroma",
    version="1",
    subject="what stands before a colored screen",
    summary="A keyer without weights: finds the screen's color, follows its shading, takes spill out.",
    code_license="Apache-2.0",
    weights_license="none needed",
    temporal=True,
)

_AREA = 256 * 144
# A screen's chroma lies at least so far from gray (levels of 128), and fills so much of the frame's border.
_LEAST_SATURATION = 28.0
_LEAST_BORDER = 0.25
_BIN = 8
# Share of screen in a pixel at which alpha is 1 and 0; between them it is linear. A subject whose own hue lies near the
# key's (skin before a yellow wall) raises the first, up to a bound, so that it stays solid.
_SOLID = 0.10
_MOST_SOLID = 0.62
_CLEAR = 0.86
# Hues further from the key than this (tangent of the angle) are no screen.
_HUE = 1.6
# Screen that can be measured for its shading, and how fast the memory of it follows the picture.
_SURE_SCREEN = 0.72
_FOLLOW = 0.15
# A shadow on the screen has less of the key's color than the lit screen around it.
_SHADED_SCREEN = 0.5
_FAINT_SHADOW = 0.05
# Islands of screen inside the subject smaller than this share of the frame are reflections, not gaps.
_SMALLEST_GAP = 0.0004
# Column of OpenCV's contour tree that says whose hole a contour is.
_PARENT = 3
# Rows that are worked on at once, and how far two windows of 5x5 reach.
_STRIP = 64
_REACH = 4


def available(models_dir: Path | None) -> str | None:  # noqa: ARG001 - the contract of model files
    """Always None: it needs nothing."""
    return None


def load(runtime: Runtime) -> Engine:  # noqa: ARG001 - no network to run
    """The keyer; it holds nothing."""
    return ChromaEngine(EngineFacts(SPEC.name, SPEC.version, None, SPEC.weights_license))


@dataclass(frozen=True)
class ChromaEngine:
    facts: EngineFacts

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Fresh memory; the key is ``options.key_color``, or is found in the first frame."""
        key = None
        if options.key_color is not None:
            key = np.array(color_in_yuv(options.key_color, clip.color, clip.height), np.float32)
        black = None if not options.shadows else 0 if clip.color.full_range else 16
        return ChromaSession(size_for(clip, area=_AREA, multiple=2), key, black=black)


class ChromaSession:
    """The key (Y, U, V) of one clip, and a slowly following map of the screen's own shading (3, h, w).

    ``black``: the clip's level of black when shadows are to be kept, else None.
    """

    def __init__(self, thumbnail: tuple[int, int], key: Array | None, *, black: int | None) -> None:
        self._thumbnail = thumbnail
        self._named = key
        self._black = black
        self._key = key
        self._screen: Array | None = None
        self._subject = Subject(natural=0.0, solid=_SOLID)
        self._cuts = CutDetector()

    @property
    def thumbnail(self) -> tuple[int, int]:
        return self._thumbnail

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """Mattes at chroma resolution, brought to full size along the edges of luma. Raises SubjectNotFound."""
        return [self._matte(frame) for frame in frames]

    def finish(self) -> None:
        """A clip without a screen was refused at its first frame."""

    def _matte(self, frame: Frame) -> Matte:
        small = model_input_of(frame, self._thumbnail)
        if self._cuts.is_cut(small) or self._key is None:
            self._screen, self._key = None, self._find_key(small)
        self._screen, self._subject = _follow(self._screen, self._subject, small, self._key)
        size = (frame.u.shape[1], frame.u.shape[0])
        key_u, key_v = (np.asarray(cv2.resize(self._screen[i] - 128, size), np.float32) for i in (1, 2))
        share = _share_at_half_size(frame, key_u, key_v)
        half = _alpha_of(_without_islands(share, self._subject.solid), self._subject.solid)
        alpha = _to_full_size(half, frame)
        u, v = (_without_spill(p, share - self._subject.natural, k) for p, k in ((frame.u, key_u), (frame.v, key_v)))
        matte = Matte(decontaminate_edges(replace(frame, u=u, v=v), alpha), alpha)
        return matte if self._black is None else self._with_shadow(matte, small, self._screen, self._black)

    def _with_shadow(self, matte: Matte, small: Plane, screen: Array, black: int) -> Matte:
        picture = small.astype(np.float32)
        share = _screen_share(picture[1] - 128, picture[2] - 128, screen[1] - 128, screen[2] - 128)
        shows = np.asarray(share > _SHADED_SCREEN, np.float32)
        luma = np.asarray(cv2.blur(picture[0], (3, 3)), np.float32)
        shadow = screen_shadow(luma, shows, black=black)
        # Wide places only: half screen and half black hair looks the same, and stays what the key makes of it.
        wide = cv2.morphologyEx((shadow > _FAINT_SHADOW).astype(np.uint8), cv2.MORPH_OPEN, np.ones((5, 5), np.uint8))
        lit = 255 - np.asarray(cv2.resize(255 * wide, (matte.frame.width, matte.frame.height)), np.uint8)
        cleared = replace(matte, alpha=np.asarray(cv2.multiply(matte.alpha, lit, scale=1 / 255), np.uint8))
        return with_shadow(cleared, np.where(wide > 0, shadow, 0).astype(np.float32), black=black)

    def _find_key(self, small: Plane) -> Array:
        """The key of a new shot: as named; else as found, or the shot's before where this one shows no screen."""
        if self._named is not None:
            return self._named
        try:
            return find_key(small)
        except SubjectNotFound:
            if self._key is None:
                raise
            return self._key


@dataclass(frozen=True)
class Subject:
    """How much screen hue the subject has of itself: ``natural`` in the middle, ``solid`` at most; shares 0..1."""

    natural: float
    solid: float


def find_key(thumbnail: Plane) -> Array:
    """Y, U, V of the screen: the most common saturated color of the frame's border, float32 (3,).

    Raises SubjectNotFound when no saturated color fills a quarter of the border: then there is no screen to key.
    """
    border = _border_of(thumbnail).astype(np.float32)
    chroma = border[:, 1:] - 128
    saturated = np.hypot(chroma[:, 0], chroma[:, 1]) > _LEAST_SATURATION
    if saturated.mean() >= _LEAST_BORDER:
        bins = (border[:, 1:] // _BIN).astype(np.intp)
        histogram = np.zeros((256 // _BIN, 256 // _BIN), np.float32)
        np.add.at(histogram, (bins[saturated, 0], bins[saturated, 1]), 1)
        histogram = np.asarray(cv2.blur(histogram, (3, 3), borderType=cv2.BORDER_CONSTANT), np.float32)
        top = np.array(np.unravel_index(int(histogram.argmax()), histogram.shape))
        near = saturated & (np.abs(bins - top).max(axis=1) <= 1)
        if near.mean() >= _LEAST_BORDER:
            return np.asarray(np.median(border[near], axis=0), np.float32)
    raise SubjectNotFound(
        "No screen of one color surrounds the subject.",
        hint="Name the screen's color (key_color), or use the model human for a clip without a screen.",
    )


def _border_of(thumbnail: Plane) -> Plane:
    """Pixels (n, 3) of the outer eighth on the left, on the right and at the top; subjects stand on the lower edge."""
    _, height, width = thumbnail.shape
    band_x, band_y = max(1, width // 8), max(1, height // 8)
    parts = (thumbnail[:, :, :band_x], thumbnail[:, :, -band_x:], thumbnail[:, :band_y, band_x:-band_x])
    return np.concatenate([p.reshape(3, -1) for p in parts], axis=1).T


def _follow(screen: Array | None, subject: Subject, thumbnail: Plane, key: Array) -> tuple[Array, Subject]:
    """The screen's color at every place (3, h, w), measured where it shows, spread to where the subject hides it.

    And what the rest, the subject, is like. Both move slowly towards what this frame shows; the first frame sets them.
    """
    picture = thumbnail.astype(np.float32)
    base = np.broadcast_to(key[:, None, None], picture.shape) if screen is None else screen
    share = _screen_share(picture[1] - 128, picture[2] - 128, base[1] - 128, base[2] - 128)
    known = (share > _SURE_SCREEN).astype(np.float32)
    known = np.asarray(cv2.erode(known, np.ones((3, 3), np.uint8)), np.float32)
    measured = _spread(picture, known, base)
    seen = _describe(share)
    if screen is None:
        return measured, seen
    natural, solid = (
        old + _FOLLOW * (new - old) for old, new in ((subject.natural, seen.natural), (subject.solid, seen.solid))
    )
    return screen + _FOLLOW * (measured - screen), Subject(natural, solid)


def _describe(share: Array) -> Subject:
    """The subject's own shares: those below Otsu's threshold between it and the screen."""
    levels = (share * 255).astype(np.uint8)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    own = share[levels <= threshold]
    if own.size < share.size // 200:
        return Subject(0.0, _SOLID)
    natural, most = np.percentile(own, (60, 93))
    return Subject(float(natural), float(np.clip(1.15 * most, _SOLID, _MOST_SOLID)))


def _spread(picture: Array, known: Array, fallback: Array) -> Array:
    """Means of the known pixels within ever larger windows; ``fallback`` where there are none at all."""
    total = fallback * np.float32(1e-6)
    weight = np.full_like(known, 1e-6)
    for side, share in ((9, 1.0), (41, 1e-2), (121, 1e-4)):
        window = (side, side)
        weight += share * np.asarray(cv2.blur(known, window), np.float32)
        total = total + share * np.stack([np.asarray(cv2.blur(p * known, window), np.float32) for p in picture])
    return np.asarray(total / weight, np.float32)


def _screen_share(u: Array, v: Array, key_u: Array, key_v: Array) -> Array:
    """How much of each pixel is screen, 0..1, float32 (h, w).

    The color-difference key of Vlahos (US patent 3,595,987) in the plane of chroma: the component along the key's hue
    less what a foreground hue at an angle could explain, over the key's own saturation. For a mixture of screen and a
    foreground of no key hue it is exactly 1 - alpha.
    """
    strength = key_u * key_u + key_v * key_v
    along = (u * key_u + v * key_v) / strength
    across = np.abs(u * key_v - v * key_u) / strength
    return np.asarray(np.clip(along - across / _HUE, 0, 1), np.float32)


def _share_at_half_size(frame: Frame, key_u: Array, key_v: Array) -> Array:
    share: Array = np.empty(frame.u.shape, np.float32)
    for rows in _strips(share.shape[0]):
        u, v = (plane[rows].astype(np.float32) - 128 for plane in (frame.u, frame.v))
        share[rows] = _screen_share(u, v, key_u[rows], key_v[rows])
    return share


def _strips(height: int) -> Iterator[slice]:
    """Rows to work on at once, so that what is made on the way stays in the processor's cache."""
    return (slice(top, min(height, top + _STRIP)) for top in range(0, height, _STRIP))


def _without_islands(share: Array, solid: float) -> Array:
    """The share with small islands of screen inside the subject taken for reflections, and noise in the rest calmed."""
    calm = cv2.medianBlur(cv2.convertScaleAbs(share, alpha=255), 3)
    soft = cv2.inRange(calm, math.ceil(solid * 255), math.floor(_CLEAR * 255))
    share = np.where(soft > 0, share, calm * np.float32(1 / 255))
    shows = (share > solid).astype(np.uint8)
    outlines, tree = cv2.findContours(shows, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    outer = [outline for n, outline in enumerate(outlines) if tree[0, n, _PARENT] < 0]
    islands = [outline for outline in outer if _pixels_within(outline) < _SMALLEST_GAP * share.size]
    if islands:
        cv2.drawContours(share, islands, -1, 0, cv2.FILLED)
    return share


def _pixels_within(outline: NDArray[Any]) -> float:
    """Pixels in and on a closed outline through their centers (Pick's theorem)."""
    return cv2.contourArea(outline) + len(outline) / 2 + 1


def _alpha_of(share: Array, solid: float) -> Plane:
    steepness = 255 / (_CLEAR - solid)
    return np.asarray(cv2.addWeighted(share, -steepness, share, 0, _CLEAR * steepness, dtype=cv2.CV_8U), np.uint8)


def _to_full_size(half: Plane, frame: Frame) -> Plane:
    """Alpha at full size; in the soft band it follows luma, whose edges are twice as sharp as those of chroma.

    In the band a pixel moves from its smooth value towards the side whose luma it has: alpha is refitted as a line in
    luma over 5x5 windows, where luma tells the sides apart, and stays smooth where it does not.
    """
    size = (frame.width, frame.height)
    smooth = np.asarray(cv2.resize(half, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    band, alpha = cv2.inRange(smooth, 4, 251), smooth.copy()
    for rows in _strips(frame.height):
        left, _, width, _ = cv2.boundingRect(band[rows])
        if width:
            top, first = max(0, rows.start - _REACH), max(0, left - _REACH)
            part = slice(top, rows.stop + _REACH), slice(first, left + width + _REACH)
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


def _without_spill(plane: Plane, excess: Array, key: Array) -> Plane:
    """A chroma plane without the key's hue, as far as there is more of it than the subject has (``excess`` above 0)."""
    clean = np.empty_like(plane)
    for rows in _strips(plane.shape[0]):
        level = plane[rows] - np.maximum(0, excess[rows]) * key[rows]
        clean[rows] = np.clip(level + 0.5, 0, 255)
    return clean
