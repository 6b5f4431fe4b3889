"""GIF: 255 colors, one-bit transparency, no audio, at most 50 frames a second.

Palettes are made by median cut (Heckbert, 1982).
"""

from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.domain.clip import Color
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.encoder_input import RgbConverter
from alphareel.media.format import Format
from alphareel.media.output_file import OPAQUE_THRESHOLD, Target, VerificationProfile
from alphareel.media.verify import inspect_video
from alphareel.media.video_file import EncoderProfile, VideoEncoder

COLORS = 255
_TRANSPARENT = 255  # the palette index that is left over
_MAX_PIXELS = 8192  # that a palette is made from
_BITS = 5  # of each channel in the lookup table
_DITHER_LEVELS = 16  # range of the dither: two steps of the lookup table
# Bayer's 4x4 matrix
_BAYER = np.array([[0, 8, 2, 10], [12, 4, 14, 6], [3, 11, 1, 9], [15, 7, 13, 5]], np.uint8)
# Browsers slow down frames of one hundredth of a second. For web pages, a little above 15 frames a second suffice.
_MIN_FRAME_DURATION = Fraction(2, 100)
_MAX_FRAME_DURATION = Fraction(0xFFFF, 100)
_MIN_FRAME_DURATION_WEB = Fraction(6, 100)

Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Palette:
    """``colors``: (255, 3) RGB. ``nearest``: (32768,) index of the nearest color for each 15-bit RGB value."""

    colors: Rgb
    nearest: Plane

    def indices(self, rgb: Rgb) -> Plane:
        """(H, W) palette indices of an (H, W, 3) RGB picture, with an ordered dither that is constant over time."""
        height, width = rgb.shape[:2]
        pattern = np.tile(_BAYER * (_DITHER_LEVELS // 16), (height // 4 + 1, width // 4 + 1))[:height, :width]
        dithered = cv2.add(rgb, cv2.merge([pattern] * 3))
        center = np.full_like(dithered, _DITHER_LEVELS // 2)
        coarse = np.asarray(cv2.subtract(dithered, center), np.uint8) >> (8 - _BITS)
        red, green, blue = (coarse[..., n].astype(np.uint16) for n in range(3))
        return np.asarray(self.nearest[(red << 2 * _BITS) | (green << _BITS) | blue], np.uint8)


def make_palette(pixels: Rgb) -> Palette:
    """A palette for (N, 3) RGB pixels, from about 8192 of them. Gray when there are none."""
    sample = pixels[:: max(1, len(pixels) // _MAX_PIXELS)]
    if not len(sample):
        sample = np.full((1, 3), 128, np.uint8)
    colors = _median_cut(sample.astype(np.int16))
    levels = np.arange(1 << _BITS, dtype=np.float32) * (1 << (8 - _BITS)) + (1 << (7 - _BITS))
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    as_float = colors.astype(np.float32)
    distances = (as_float * as_float).sum(axis=1) - 2 * grid @ as_float.T
    return Palette(colors, distances.argmin(axis=1).astype(np.uint8))


def _median_cut(pixels: NDArray[np.int16]) -> Rgb:
    """The means of up to 255 boxes: repeatedly halves the box with the most pixels times the widest range."""
    boxes = [pixels]
    weights = [_weight(pixels)]
    while len(boxes) < COLORS and max(weights) > 0:
        index = weights.index(max(weights))
        box = boxes[index]
        axis = int(np.ptp(box, axis=0).argmax())
        ordered = box[box[:, axis].argsort(kind="stable")]
        halves = ordered[: len(box) // 2], ordered[len(box) // 2 :]
        boxes[index : index + 1] = halves
        weights[index : index + 1] = [_weight(half) for half in halves]
    colors = np.zeros((COLORS, 3), np.uint8)
    colors[: len(boxes)] = [np.rint(box.mean(axis=0)) for box in boxes]
    return colors


def _weight(box: NDArray[np.int16]) -> int:
    return int(np.ptp(box, axis=0).max()) * len(box) if len(box) > 1 else 0


class _Converter:
    """Palette pictures. The palette is chosen from the visible pixels about once a second, for "master" every frame."""

    pixel_format = "pal8"
    color = Color()

    def __init__(self, target: Target) -> None:
        self._to_rgb = RgbConverter(target.clip.color)
        self._period = 1 if target.quality == "master" else max(1, round(target.clip.rate))  # frames
        self._palette: Palette | None = None
        self._age = 0

    def convert(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        rgb = self._to_rgb(frame, alpha)[..., :3]
        palette = self._current_palette(rgb, alpha)
        indices = palette.indices(rgb)
        if alpha is not None:
            indices[alpha < OPAQUE_THRESHOLD] = _TRANSPARENT
        return av.VideoFrame.from_ndarray((indices, _argb(palette)), format="pal8")  # type: ignore[arg-type]

    def _current_palette(self, rgb: np.ndarray, alpha: Plane | None) -> Palette:
        if self._palette is None or self._age >= self._period:
            self._palette = make_palette(rgb.reshape(-1, 3) if alpha is None else rgb[alpha >= OPAQUE_THRESHOLD])
            self._age = 0
        self._age += 1
        return self._palette


def _argb(palette: Palette) -> np.ndarray:
    table = np.zeros((256, 4), np.uint8)
    table[:_TRANSPARENT, 0] = 255
    table[:_TRANSPARENT, 1:] = palette.colors
    return table


_PROFILE = EncoderProfile(
    container="gif",
    codec="gif",
    converter=_Converter,
    options={},
    container_options={"loop": "0"},
    threads=1,
    time_base=Fraction(1, 100),
    verification=VerificationProfile(
        inspect_video,
        frame_tolerance=1,
        min_frame_duration=_MIN_FRAME_DURATION,
        max_frame_duration=_MAX_FRAME_DURATION,
        one_bit_alpha=True,
    ),
)
_WEB = replace(_PROFILE, verification=replace(_PROFILE.verification, min_frame_duration=_MIN_FRAME_DURATION_WEB))


def _encoder(target: Target, path: Path) -> VideoEncoder:
    return VideoEncoder(target, path, profile=_WEB if target.quality == "web" else _PROFILE)


FORMAT = Format(
    name="gif",
    suffix=".gif",
    mime="image/gif",
    audio=False,
    encoder=_encoder,
    max_side={"web": 480},
    bytes_per_pixel=0.3,
)
