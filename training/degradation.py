"""What light, lenses, sensors and codecs do to a picture. Images are RGB uint8 (H, W, 3)."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from shards import Image


@dataclass(frozen=True)
class Light:
    """A tone table per channel (256, 3) uint8, and the share of color that stays."""

    tables: NDArray[np.uint8]
    color: float

    @classmethod
    def draw(cls, rng: np.random.Generator, strength: float = 1.0) -> Light:
        """Random gamma, gain, lift, color temperature and saturation; now and then a dark room or gray film."""
        x = np.arange(256, dtype=np.float32) / 255
        gamma, gain = np.exp(rng.normal(0, 0.22 * strength)), rng.normal(1, 0.12 * strength)
        if rng.random() < 0.08 * strength:
            gain *= rng.uniform(0.25, 0.6)
        balance = rng.normal(1, 0.06 * strength, 3)
        curve = [x**gamma * gain * channel + rng.normal(0, 0.03) for channel in balance]
        color = 1.0 if rng.random() < 0.6 else float(rng.uniform(0, 1.4)) * (rng.random() < 0.85)
        return cls((np.clip(np.stack(curve, -1), 0, 1) * 255).astype(np.uint8), color)


def tone(rgb: Image, light: Light) -> Image:
    """The picture under that light."""
    rgb = cv2.LUT(np.ascontiguousarray(rgb), light.tables[None])
    if light.color == 1.0:
        return rgb
    gray = cv2.cvtColor(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return cv2.addWeighted(rgb, light.color, gray, 1 - light.color, 0)


@dataclass(frozen=True)
class Degradation:
    """One way of losing detail for a whole sequence: blur kernel, smaller size, JPEG quality, noise."""

    kernel: NDArray[np.float32] | None = None
    scale: float = 1.0
    quality: int | None = None
    noise: float = 0.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Degradation:
        """Random degradation; about four in ten pictures stay as they are."""
        which = rng.random()
        kernel = _soft(rng) if which < 0.12 else _motion(rng) if which < 0.22 else None
        scale = float(rng.uniform(0.4, 0.9)) if 0.22 <= which < 0.34 else 1.0
        quality = int(rng.integers(25, 80)) if rng.random() < 0.25 else None
        noise = float(rng.uniform(2, 14)) if rng.random() < 0.25 else 0.0
        return cls(kernel, scale, quality, noise)

    def __call__(self, rgb: Image) -> Image:
        """The picture worn down."""
        if self.kernel is not None:
            rgb = cv2.filter2D(rgb, -1, self.kernel)
        if self.scale < 1:
            small = cv2.resize(rgb, None, fx=self.scale, fy=self.scale, interpolation=cv2.INTER_AREA)
            rgb = cv2.resize(small, rgb.shape[1::-1])
        if self.quality is not None:
            coded = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, self.quality])[1]
            rgb = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        if self.noise:
            grain = cv2.randn(np.empty(rgb.shape, np.int16), 0, self.noise)  # type: ignore[call-overload]
            rgb = np.clip(rgb + grain, 0, 255).astype(np.uint8)
        return rgb


def _soft(rng: np.random.Generator) -> NDArray[np.float32]:
    line = cv2.getGaussianKernel(7, float(rng.uniform(0.4, 1.4)))
    return (line @ line.T).astype(np.float32)


def _motion(rng: np.random.Generator) -> NDArray[np.float32]:
    """A straight smear of 5 to 9 pixels in any direction."""
    side, angle = int(rng.choice((5, 7, 9))), rng.uniform(0, np.pi)
    kernel, half = np.zeros((side, side), np.float32), side // 2
    reach = half * np.array([np.cos(angle), np.sin(angle)])
    ends = [tuple(round(float(v)) for v in half + sign * reach) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return kernel / kernel.sum()
