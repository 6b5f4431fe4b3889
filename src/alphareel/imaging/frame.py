"""Frames and mattes as planes: what the pipeline passes between decoding, matting, compositing and encoding."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """One decoded picture, 8-bit 4:2:0, never converted to RGB at full size.

    ``y``: (H, W). ``u``, ``v``: (H/2, W/2). Rows may be strided; pixels within a row are contiguous. ``pts``,
    ``duration``: ticks of the clip's time base from zero; ``duration`` is 0 when unknown. ``thumbnail``: (3, h, w) Y,
    U, V of the same picture at the size that the engine requested, or None. ``alpha``: (H, W) of a source with alpha.
    ``buffer_owner``: keeps the decoder's buffer alive while the planes are views of it.
    """

    y: Plane
    u: Plane
    v: Plane
    pts: int
    duration: int = 0
    index: int = 0
    thumbnail: Plane | None = None
    alpha: Plane | None = None
    buffer_owner: Any = None

    @property
    def width(self) -> int:
        return int(self.y.shape[1])

    @property
    def height(self) -> int:
        return int(self.y.shape[0])


@dataclass(frozen=True)
class Matte:
    """Alpha for one frame, uint8 (H, W), 0 transparent, 255 opaque, straight (not premultiplied).

    ``frame``: the frame it belongs to. Its planes are the decoder's own, or new ones if the engine changed colors
    (despill).
    """

    frame: Frame
    alpha: Plane
