"""A picture in planes: what media, matting and compose hand to each other. Holds no codec and no network."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """One decoded picture, 8-bit 4:2:0, never converted to RGB at full size.

    ``y``: (H, W); ``u`` and ``v``: (H/2, W/2); rows may be strided, pixels are contiguous. ``pts`` and ``duration``
    count ticks of the clip's time base from zero (``duration`` 0 when unknown). ``thumbnail``: (3, h, w)
    Y, U, V of the same picture, each at the size that the engine asked of the reader, or None.
    ``alpha``: (H, W) of a source that has one. ``buffer_owner`` keeps the decoder's buffer alive while the planes are
    views of it.
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

    ``frame`` is the frame it belongs to; an engine that cleans colors (despill) hands back a frame
    with planes of its own, else the decoder's planes travel on untouched.
    """

    frame: Frame
    alpha: Plane
