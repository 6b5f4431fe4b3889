"""Planes handed to FFmpeg without a copy."""

import av
import numpy as np

from alphareel.domain.clip import Color
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.flatten import flatten


def to_av_frame(planes: tuple[Plane, Plane, Plane], alpha: Plane | None = None) -> av.VideoFrame:
    """A yuv420p (with ``alpha`` yuva420p) frame over the planes' own memory, which it keeps alive.

    FFmpeg only reads from it; the arrays must not change until the encoder is done with the frame.
    """
    height, width = planes[0].shape
    every = planes if alpha is None else (*planes, alpha)
    name = "yuv420p" if alpha is None else "yuva420p"
    return av.VideoFrame.from_dlpack(tuple(_lent(p) for p in every), format=name, width=width, height=height)


def flat_planes(frame: Frame, alpha: Plane, color: Color) -> tuple[Plane, Plane, Plane]:
    """The frame's planes, black where nothing shows."""
    black = (0 if color.full_range else 16, 128, 128)
    return flatten((frame.y, frame.u, frame.v), alpha, color=black)


def _lent(plane: Plane) -> Plane:
    """The plane with contiguous pixels and the writable flag, without which DLPack exports nothing."""
    if plane.strides[1] != 1 or plane.strides[0] < plane.shape[1]:
        return np.ascontiguousarray(plane)
    if plane.flags.writeable:
        return plane
    lent = plane.view()
    try:
        lent.flags.writeable = True
    except ValueError:  # memory that truly is read-only, like that of bytes
        return plane.copy()
    return lent
