"""Makes frames of RGB pictures, like those of a reader, without a codec."""

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.imaging.color import rgb_to_yuv
from alphareel.imaging.frame import Frame, Plane


def frame_of(
    picture: NDArray[np.uint8], thumbnail: tuple[int, int] | None, *, index: int = 0, matrix: int = 1
) -> Frame:
    """A limited-range frame of an RGB picture (H, W, 3; even). ``thumbnail``: its (width, height), if any."""
    scale, offset = rgb_to_yuv(matrix, full_range=False)
    planes = cv2.split(cv2.transform(picture, np.concatenate([scale, offset[:, None]], axis=1)))
    half = (picture.shape[1] // 2, picture.shape[0] // 2)
    y, u, v = (np.asarray(p, np.uint8) for p in planes)
    small = None if thumbnail is None else np.stack([_resize(p, thumbnail) for p in (y, u, v)])
    frame = Frame(y, _resize(u, half), _resize(v, half), pts=index, duration=1, index=index, thumbnail=small)
    for plane in (frame.y, frame.u, frame.v):
        plane.flags.writeable = False
    return frame


def _resize(plane: Plane, size: tuple[int, int]) -> Plane:
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.uint8)
