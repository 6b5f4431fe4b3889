"""Planes and alpha in the forms that encoders take: FFmpeg frames, RGB pixels, and alpha stored as luma."""

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from alphareel.domain.clip import Color
from alphareel.imaging import kernels
from alphareel.imaging.frame import Frame, Plane

Pixels = NDArray[np.uint8]
_Planes = tuple[Plane, Plane, Plane]

_CELL = 8  # pixels; hidden pixels closer than this to a visible one keep their color
# Interpolates chroma. The scaler's default repeats the nearest chroma sample.
_ACCURATE = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
_SWSCALE_MATRICES = {1: 1, 4: 4, 7: 7, 9: 9, 10: 9}  # H.273 matrix to the scaler's number; others are BT.601
_SWSCALE_BT601 = 5

_LEVELS = np.arange(256, dtype=np.float32)
_ALPHA_TO_LIMITED_LUMA = np.rint(16 + _LEVELS * 219 / 255).astype(np.uint8)
_LIMITED_LUMA_TO_ALPHA = np.rint(np.clip((_LEVELS - 16) * 255 / 219, 0, 255)).astype(np.uint8)


def to_av_frame(planes: _Planes, alpha: Plane | None = None) -> av.VideoFrame:
    """A yuv420p frame, or yuva420p with ``alpha``, over the planes' own memory, which it keeps alive.

    FFmpeg only reads it. The arrays must not change until the encoder has released the frame.
    """
    height, width = planes[0].shape
    every = planes if alpha is None else (*planes, alpha)
    name = "yuv420p" if alpha is None else "yuva420p"
    return av.VideoFrame.from_dlpack(tuple(_exportable(p) for p in every), format=name, width=width, height=height)


def _exportable(plane: Plane) -> Plane:
    """The plane as DLPack exports it: contiguous pixels and the writable flag. Copies only when it has to."""
    if plane.strides[1] != 1 or plane.strides[0] < plane.shape[1]:
        return np.ascontiguousarray(plane)
    if plane.flags.writeable:
        return plane
    view = plane.view()
    try:
        view.flags.writeable = True
    except ValueError:  # the memory itself is read-only, like that of bytes
        return plane.copy()
    return view


def flat_planes(frame: Frame, alpha: Plane, color: Color) -> _Planes:
    """The frame's planes, black where alpha is 0."""
    black = (0 if color.full_range else 16, 128, 128)
    return flatten((frame.y, frame.u, frame.v), alpha, color=black)


def flatten(planes: _Planes, alpha: Plane, *, color: tuple[int, int, int]) -> _Planes:
    """New Y, U, V planes with ``color`` wherever ``alpha`` is 0 for 8 pixels around. Encoders spend no bits there.

    Pixels with any alpha keep their color, and so do their neighbors, which chroma subsampling or a scaler would mix
    in. ``planes`` are not modified.
    """
    visible = _visible_cells(alpha)
    y, u, v = (_fill_hidden(plane, visible, value) for plane, value in zip(planes, color, strict=True))
    return y, u, v


def _visible_cells(alpha: Plane) -> Plane:
    """A mask of 8x8 cells: 255 where the cell or a neighboring one has a pixel that is not fully transparent."""
    height, width = alpha.shape
    if kernels.library() is not None and width % _CELL == 0 and height % _CELL == 0:
        return kernels.visible_cells(alpha)
    visible = cv2.threshold(alpha, 0, 255, cv2.THRESH_BINARY)[1]
    # the mean of a cell with one visible pixel is 255/64: never rounded to zero
    cells = cv2.resize(visible, (-(-width // _CELL), -(-height // _CELL)), interpolation=cv2.INTER_AREA)
    grown = cv2.dilate(cells, np.ones((3, 3), np.uint8))
    return np.asarray(cv2.threshold(grown, 0, 255, cv2.THRESH_BINARY)[1], np.uint8)


def _fill_hidden(plane: Plane, visible: Plane, value: int) -> Plane:
    if kernels.library() is not None:
        return kernels.fill_hidden(plane, visible, value)
    height, width = plane.shape
    mask = cv2.resize(visible, (width, height), interpolation=cv2.INTER_NEAREST)
    filled = np.full((height, width), value, np.uint8)
    cv2.copyTo(plane, mask, filled)
    return filled


def alpha_to_luma(alpha: Plane, *, full_range: bool) -> Plane:
    """Luma that a player shows as gray of alpha's level: 16 + 219 a / 255, or a itself in full range."""
    return alpha if full_range else np.asarray(cv2.LUT(alpha, _ALPHA_TO_LIMITED_LUMA), np.uint8)


def luma_to_alpha(luma: Plane, *, full_range: bool) -> Plane:
    """The inverse of ``alpha_to_luma``."""
    return luma.copy() if full_range else np.asarray(cv2.LUT(luma, _LIMITED_LUMA_TO_ALPHA), np.uint8)


def swscale_matrix(color: Color, height: int) -> int:
    """The scaler's number for the YUV matrix of pictures tagged ``color`` with ``height`` lines."""
    return _SWSCALE_MATRICES.get(color.resolved_matrix(height), _SWSCALE_BT601)


class RgbConverter:
    """Converts the frames of one clip to RGB or RGBA. Holds the scaler; not thread-safe."""

    def __init__(self, color: Color) -> None:
        self._color = color
        self._reformatter = VideoReformatter()

    def __call__(self, frame: Frame, alpha: Plane | None) -> Pixels:
        """(H, W, 4) straight RGBA, zero where alpha is 0; without alpha (H, W, 3) RGB. uint8, contiguous."""
        depth = 3 if alpha is None else 4
        source = to_av_frame((frame.y, frame.u, frame.v), alpha)
        plane = self._reformat(source, "rgb24" if alpha is None else "rgba").planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)[:, : plane.width * depth]  # type: ignore[call-overload]
        pixels = rows.reshape(plane.height, plane.width, depth)
        if alpha is None:
            return np.ascontiguousarray(pixels)
        visible = np.zeros_like(pixels, order="C")
        cv2.copyTo(pixels, alpha, visible)
        return np.asarray(visible, np.uint8)

    def _reformat(self, frame: av.VideoFrame, name: str) -> av.VideoFrame:
        return self._reformatter.reformat(
            frame,
            format=name,
            src_colorspace=swscale_matrix(self._color, frame.height),
            src_color_range=2 if self._color.full_range else 1,
            dst_color_range=2,
            interpolation=_ACCURATE,
        )
