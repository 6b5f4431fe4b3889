"""Reads a painted mask: what a user keeps and removes in one frame, or the alpha that replaces its alpha."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from alphareel.domain.clip import Limits
from alphareel.domain.errors import InvalidFileType, ResolutionTooLarge
from alphareel.imaging.frame import Plane
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.image_reader import MAX_PIXELS, image_size

_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Brush:
    """``level``: the painted gray, 255 keeps and 0 removes, uint8 (H, W). ``paint``: its opacity, likewise."""

    level: Plane
    paint: Plane

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.level.shape[0]), int(self.level.shape[1])

    def apply(self, alpha: Plane) -> Plane:
        """The alpha uint8 (H, W) with the paint on it. It must have the brush's shape."""
        share = self.paint.astype(np.float32) / 255
        return np.asarray(alpha + (self.level.astype(np.float32) - alpha) * share + 0.5, np.uint8)


def read_brush(path: Path, limits: Limits) -> Brush:
    """Read a PNG. Raises InvalidFileType, ResolutionTooLarge, StorageFailed."""
    with translating_read_errors(path):
        if path.stat().st_size > min(_MAX_BYTES, limits.max_bytes or _MAX_BYTES):
            raise ResolutionTooLarge("The mask is too large.", hint="It needs the size of the video's frames.")
        data = path.read_bytes()
    size = image_size(data) if data.startswith(b"\x89PNG") else None
    if size is None:
        raise InvalidFileType("The mask is not a PNG.", hint="Save it as a PNG of the size of the video's frames.")
    if size[0] * size[1] > MAX_PIXELS:
        raise ResolutionTooLarge(
            f"The mask has {size[0]}x{size[1]} pixels.", hint="Use the size of the video's frames."
        )
    picture: Any = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if picture is None:
        raise InvalidFileType("The mask cannot be decoded.", hint="Save it as a PNG again.")
    if picture.dtype == np.uint16:
        picture = (picture >> 8).astype(np.uint8)
    if picture.ndim == 2:
        return Brush(np.asarray(picture, np.uint8), np.full(picture.shape, 255, np.uint8))
    level = cv2.cvtColor(np.ascontiguousarray(picture[..., :3]), cv2.COLOR_BGR2GRAY)
    paint = picture[..., 3] if picture.shape[2] == 4 else np.full(level.shape, 255, np.uint8)
    return Brush(np.asarray(level, np.uint8), np.asarray(paint, np.uint8))
