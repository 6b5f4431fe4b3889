"""Converts decoded frames to upright, even-sized 8-bit 4:2:0 planes: views of the decoder's buffers where possible."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import av
import cv2
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from alphareel.domain.clip import Color
from alphareel.imaging.frame import Plane
from alphareel.media.hdr import ToneMapper, is_hdr

_PLANAR_FORMATS = frozenset({"yuv420p", "yuvj420p", "yuva420p"})
_ALPHA_CHANNEL = {"argb": 0, "abgr": 0, "rgba": 3, "bgra": 3}
SDR = Color(matrix=1, primaries=1, transfer=1, full_range=False)
_SWSCALE_BT709 = 1


@dataclass(frozen=True)
class Orientation:
    """Rotation by ``degrees`` clockwise (0, 90, 180, 270), then a horizontal mirror image if ``flip``."""

    degrees: int = 0
    flip: bool = False

    @property
    def sideways(self) -> bool:
        return self.degrees in (90, 270)

    def __call__(self, plane: Plane) -> Plane:
        """The upright plane; ``plane`` itself when there is nothing to do."""
        for step in _ROTATIONS[self.degrees], _FLIP if self.flip else None:
            if step is not None:
                plane = step(plane)
        return plane


_Sample = TypeVar("_Sample", np.uint8, np.uint16)
_Transform = Callable[[Plane], Plane]
_FLIP: _Transform = lambda plane: cast(Plane, cv2.flip(plane, 1))  # noqa: E731
_ROTATIONS: dict[int, _Transform | None] = {
    0: None,
    90: lambda plane: cast(Plane, cv2.rotate(plane, cv2.ROTATE_90_CLOCKWISE)),
    180: lambda plane: cast(Plane, cv2.rotate(plane, cv2.ROTATE_180)),
    270: lambda plane: cast(Plane, cv2.rotate(plane, cv2.ROTATE_90_COUNTERCLOCKWISE)),
}


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation in the frame's display matrix, rounded to a quarter turn."""
    data = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(cast(Any, data), np.int32)[:5].astype(int)
    # maps (x, y) to (a x + c y, b x + d y); mirroring negates a and c
    flip = a * d - b * c < 0
    if flip:
        a = -a
    quarter = 0 if abs(a) >= abs(b) else 1
    degrees = (0 if a >= 0 else 180) if quarter == 0 else (90 if b > 0 else 270)
    return Orientation(degrees, bool(flip))


def output_color(frame: av.VideoFrame, header: VideoCodecContext) -> Color:
    """The color tags of the planes that ``FrameConverter`` makes of such frames. ``header`` fills in missing tags."""
    if is_hdr(frame) or frame.format.is_rgb or frame.format.name == "pal8":
        return SDR
    tagged = frame.color_range or header.color_range
    full = (
        tagged == 2
        or frame.format.name.startswith("yuvj")
        or (not tagged and frame.format.name.startswith(("gray", "ya8", "ya16")))
    )
    return Color(
        _first_specified(frame.colorspace, header.colorspace),
        _first_specified(frame.color_primaries, header.color_primaries),
        _first_specified(frame.color_trc, header.color_trc),
        full,
    )


def _first_specified(*values: int) -> int:
    """The first specified tag (0 and 3 are reserved, 2 is unspecified)."""
    return next((int(value) for value in values if value not in (0, 2, 3)), 2)


def has_alpha(frame: av.VideoFrame) -> bool:
    """Whether the frame's pixel format carries alpha."""
    name = frame.format.name
    return name in _ALPHA_CHANNEL or name.startswith(("yuva", "gbrap", "rgba64", "bgra64", "ya", "pal8"))


class FrameConverter:
    """Converts the frames of one clip to planes. Holds the scalers; not thread-safe.

    ``size``: (width, height) before ``orientation`` is applied, both even. One extra row or column is cropped. Frames
    of any other size (pixels that are not square, a stream that changes its size) are scaled.
    """

    def __init__(self, *, size: tuple[int, int], color: Color, orientation: Orientation) -> None:
        self._size = size
        self._color = color
        self._orientation = orientation
        self._scaler = VideoReformatter()
        self._thumbnail_scaler = VideoReformatter()
        self._tone_map = ToneMapper()

    def planes(self, frame: av.VideoFrame) -> tuple[av.VideoFrame, tuple[Plane, Plane, Plane], Plane | None]:
        """(frame that owns the buffers, upright Y, U, V, upright alpha or None). The planes are read-only."""
        alpha = _packed_alpha(frame, self._size)
        owner = frame if self._fits(frame) else self._convert(frame)
        width, height = self._size
        y = view(owner.planes[0])[:height, :width]
        u, v = (self._chroma(owner, n) for n in (1, 2))
        if alpha is None and len(owner.planes) == 4:
            alpha = view(owner.planes[3])[:height, :width]
        upright = (self._orientation(y), self._orientation(u), self._orientation(v))
        return owner, upright, None if alpha is None else self._orientation(alpha)

    def thumbnail(self, owner: av.VideoFrame, width: int, height: int) -> Plane:
        """(3, height, width) Y, U, V of the picture, upright, contiguous, in the clip's matrix and range."""
        is_gray = len(owner.planes) == 1
        stored = (height, width) if self._orientation.sideways else (width, height)
        color_range = _swscale_range(self._color)
        small = self._thumbnail_scaler.reformat(
            owner if is_gray else self._crop(owner),
            width=stored[0],
            height=stored[1],
            format="gray" if is_gray else "yuv444p",
            src_colorspace=_SWSCALE_BT709,
            dst_colorspace=_SWSCALE_BT709,
            src_color_range=color_range,
            dst_color_range=color_range,
            interpolation=Interpolation.AREA,
            threads=1,
        )
        planes = np.full((3, height, width), 128, np.uint8)
        for target, plane in zip(planes, small.planes, strict=False):
            target[:] = self._orientation(view(plane))
        return planes

    def _fits(self, frame: av.VideoFrame) -> bool:
        width, height = self._size
        is_cropped = frame.width - width in (0, 1) and frame.height - height in (0, 1)
        return is_cropped and frame.format.name in (*_PLANAR_FORMATS, "gray") and not is_hdr(frame)

    def _convert(self, frame: av.VideoFrame) -> av.VideoFrame:
        width, height = self._scaled_size(frame)
        if is_hdr(frame):
            return self._tone_map(frame, width, height)
        rgb = frame.format.is_rgb or frame.format.name == "pal8"
        target_range = _swscale_range(self._color)
        source_range = None if rgb else target_range
        return self._scaler.reformat(
            frame,
            width=width,
            height=height,
            format=_target_format(frame),
            interpolation=Interpolation.BICUBIC,
            # equal matrices: only bit depth and subsampling change
            src_colorspace=None if source_range is None else _SWSCALE_BT709,
            dst_colorspace=_SWSCALE_BT709,
            src_color_range=source_range,
            dst_color_range=target_range,
        )

    def _scaled_size(self, frame: av.VideoFrame) -> tuple[int, int]:
        width, height = self._size
        if frame.width - width in (0, 1) and frame.height - height in (0, 1):
            return frame.width, frame.height
        return width, height

    def _chroma(self, owner: av.VideoFrame, number: int) -> Plane:
        width, height = self._size
        if len(owner.planes) == 1:
            return np.full((height // 2, width // 2), 128, np.uint8)
        return view(owner.planes[number])[: height // 2, : width // 2]

    def _crop(self, owner: av.VideoFrame) -> av.VideoFrame:
        """The picture without an odd row or column, so that thumbnails match the planes. Copies nothing."""
        if (owner.width, owner.height) == self._size:
            return owner
        width, height = self._size
        views = (view(p, writeable=True) for p in owner.planes[:3])
        crops = [p[: height // n, : width // n] for p, n in zip(views, (1, 2, 2), strict=True)]
        return av.VideoFrame.from_dlpack(tuple(crops), format="yuv420p", width=width, height=height)


def _target_format(frame: av.VideoFrame) -> str:
    if frame.format.name.startswith("gray"):
        return "gray"
    return "yuva420p" if has_alpha(frame) and frame.format.name not in _ALPHA_CHANNEL else "yuv420p"


def _swscale_range(color: Color) -> int:
    return 2 if color.full_range else 1


def view(plane: VideoPlane, *, writeable: bool = False) -> Plane:
    """The plane's pixels, (H, W), without a copy. Read-only by default: the decoder may use them for other frames."""
    pixels = samples_of(plane, np.uint8)
    pixels.flags.writeable = writeable
    return pixels


def samples_of(plane: VideoPlane, dtype: type[_Sample]) -> NDArray[_Sample]:
    """The plane's samples, (H, W), of the given type, writable, without a copy."""
    rows = np.frombuffer(cast(Any, plane), dtype).reshape(plane.height, -1)
    return rows[:, : plane.width]


def _packed_alpha(frame: av.VideoFrame, size: tuple[int, int]) -> Plane | None:
    """The exact alpha of packed RGBA formats. The scaler's is off by one level."""
    channel = _ALPHA_CHANNEL.get(frame.format.name)
    if channel is None:
        return None
    plane = frame.planes[0]
    rows = np.frombuffer(cast(Any, plane), np.uint8).reshape(plane.height, -1)
    pixels = rows[:, : plane.width * 4].reshape(plane.height, plane.width, 4)
    alpha = cast(Plane, cv2.extractChannel(pixels, channel))
    width, height = size
    if frame.width - width in (0, 1) and frame.height - height in (0, 1):
        return alpha[:height, :width]
    return cast(Plane, cv2.resize(alpha, size, interpolation=cv2.INTER_AREA))
