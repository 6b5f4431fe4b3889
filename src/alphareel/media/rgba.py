"""Planes and alpha as RGB pixels, for the formats that hold nothing else."""

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from alphareel.domain.clip import Color
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.av_frame import to_av_frame

Pixels = NDArray[np.uint8]

# The scaler's default takes the nearest chroma sample; these make it interpolate.
_FINE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_SWSCALE = {1: 1, 4: 4, 7: 7, 9: 9, 10: 9}  # H.273 matrices in the scaler's numbers; all others are its BT.601
_BT601 = 5


def swscale_matrix(color: Color, height: int) -> int:
    """The scaler's number for the matrix of pictures tagged ``color``."""
    return _SWSCALE.get(color.resolved_matrix(height), _BT601)


class RgbPictures:
    """Turns frames of one clip into RGB(A); holds the scaler. Not for use by two threads at once."""

    def __init__(self, color: Color) -> None:
        self._color = color
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Frame, alpha: Plane | None) -> Pixels:
        """(H, W, 4) straight RGBA, zero where alpha is 0; (H, W, 3) RGB without alpha. Contiguous."""
        carried = to_av_frame((frame.y, frame.u, frame.v), alpha)
        made = self._reformat(carried, "rgb24" if alpha is None else "rgba")
        depth = 3 if alpha is None else 4
        plane = made.planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width * depth]  # type: ignore[call-overload]
        pixels = rows.reshape(plane.height, plane.width, depth)
        if alpha is None:
            return np.ascontiguousarray(pixels)
        shown = np.zeros_like(pixels, order="C")
        cv2.copyTo(pixels, alpha, shown)
        return np.asarray(shown, np.uint8)

    def _reformat(self, carried: av.VideoFrame, name: str) -> av.VideoFrame:
        return self._reformatter.reformat(
            carried,
            format=name,
            src_colorspace=swscale_matrix(self._color, carried.height),
            src_color_range=2 if self._color.full_range else 1,
            dst_color_range=2,
            interpolation=_FINE,
        )
