"""Composites mattes onto a canvas: over a color, an image, a video or a blur, or with alpha kept."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol, TypeAlias

import cv2
import numpy as np

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import BadVideo, InvalidRequest
from alphareel.domain.options import Background, Composition, Options
from alphareel.imaging.color import color_in_yuv, rgb_to_yuv, yuv_to_rgb
from alphareel.imaging.frame import Frame, Matte, Plane

Planes: TypeAlias = tuple[Plane, Plane, Plane]
Backdrop: TypeAlias = Callable[[Matte], Planes]
STILL_COLOR = Color(matrix=1, primaries=1, transfer=1, full_range=False)
_MIN_FRAME_DURATION = Fraction(1, 240)  # seconds, of a background video
_DEFAULT_BLUR_DIVISOR = 30  # the default radius is the shorter side divided by this
_MIN_SMALL_RADIUS = 3  # pixels of blur radius that remain in the downscaled picture
_MIN_WEIGHT = np.float32(1 / 256)  # of pixels that the subject hides, so that no sum of weights is zero


@dataclass(frozen=True)
class Compositor:
    """Makes output frames of mattes. ``width``, ``height``: of the canvas.

    ``placement``: where to put the frame on the canvas; None if it fills it. ``blank``: Y, U, V around the frame.
    ``backdrop``: returns the planes behind a matte, at canvas size in the clip's matrix and range; None keeps the
    output transparent. Mattes must come in order, each once.
    """

    width: int
    height: int
    placement: Composition | None
    blank: tuple[int, int, int]
    backdrop: Backdrop | None

    @property
    def has_alpha(self) -> bool:
        return self.backdrop is None

    def __call__(self, matte: Matte) -> tuple[Frame, Plane | None]:
        """The output frame and its alpha (uint8, canvas size), None when the output is opaque."""
        placed = matte if self.placement is None else self._place(matte, self.placement)
        if self.backdrop is None:
            return placed.frame, placed.alpha
        y, u, v = blend(_planes(placed.frame), placed.alpha, self.backdrop(matte))
        return replace(placed.frame, y=y, u=u, v=v, buffer_owner=None), None

    def _place(self, matte: Matte, placement: Composition) -> Matte:
        frame = matte.frame
        fit = min(self.width / frame.width, self.height / frame.height) * placement.scale
        size = max(2, _even(frame.width * fit)), max(2, _even(frame.height * fit))
        left, top = anchored(placement, (self.width, self.height), size)
        canvas = [np.full(s, b, np.uint8) for s, b in zip(_shapes(self.width, self.height), self.blank, strict=True)]
        alpha = np.zeros((self.height, self.width), np.uint8)
        for target, plane, half in zip(canvas, _planes(frame), (1, 2, 2), strict=True):
            _paste(target, _resized(plane, (size[0] // half, size[1] // half)), left // half, top // half)
        _paste(alpha, _resized(matte.alpha, size), left, top)
        y, u, v = canvas
        return Matte(replace(frame, y=y, u=u, v=v, buffer_owner=None), alpha)


class VideoSource(Protocol):
    @property
    def clip(self) -> Clip:
        """Facts of the video, as upright as its frames."""

    def frames(self) -> Iterator[Frame]:
        """Its frames from the start. May be called repeatedly."""


def make_compositor(
    options: Options, clip: Clip, *, read_still: Callable[[str], Frame], open_video: Callable[[str], VideoSource]
) -> Compositor:
    """The compositor of an output.

    ``read_still``: reads ``background.image_url`` as BT.709 limited-range planes. ``open_video``: opens
    ``background.video_url``; the caller closes the video. Raises InvalidRequest for an incomplete background.
    """
    placement = options.composition
    width = _even((placement and placement.width) or clip.width)
    height = _even((placement and placement.height) or clip.height)
    return Compositor(
        width=width,
        height=height,
        placement=placement,
        blank=color_in_yuv((0, 0, 0), clip.color, clip.height),
        backdrop=_backdrop(options.background, clip, (width, height), read_still=read_still, open_video=open_video),
    )


def blend(foreground: Planes, alpha: Plane, backdrop: Planes) -> Planes:
    """Foreground over backdrop: ``f * a + b * (1 - a)``, exact to one level. Chroma uses 2x2 means of alpha."""
    height, width = alpha.shape
    small = _resized(alpha, (width // 2, height // 2))
    y, u, v = (_over(f, a, b) for f, a, b in zip(foreground, (alpha, small, small), backdrop, strict=True))
    return y, u, v


def anchored(placement: Composition, canvas: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Left and top of a foreground of ``size`` on ``canvas``, both (width, height). Even; may be outside the canvas."""
    vertical, _, horizontal = placement.anchor.partition("-")
    across = {"left": 0.0, "center": 0.5, "right": 1.0}[horizontal or "center"]
    down = {"top": 0.0, "center": 0.5, "bottom": 1.0}[vertical]
    left = (canvas[0] - size[0]) * across + placement.offset_x
    top = (canvas[1] - size[1]) * down + placement.offset_y
    return _even(left), _even(top)


def _over(foreground: Plane, alpha: Plane, backdrop: Plane) -> Plane:
    front = cv2.multiply(foreground, alpha, scale=1 / 255)
    behind = cv2.multiply(backdrop, cv2.bitwise_not(alpha), scale=1 / 255)
    return np.asarray(cv2.add(front, behind), np.uint8)


def _backdrop(
    background: Background,
    clip: Clip,
    size: tuple[int, int],
    *,
    read_still: Callable[[str], Frame],
    open_video: Callable[[str], VideoSource],
) -> Backdrop | None:
    if background.type == "transparent":
        return None
    if background.type == "blur":
        return BlurredBackdrop(size, background.radius or min(size) / _DEFAULT_BLUR_DIVISOR)
    if background.type == "video":
        if background.video_url is None:
            raise InvalidRequest("A video background needs a video.", hint="Set background.video_url.")
        return LoopedBackdrop(open_video(background.video_url), clip, size)
    planes = _still_planes(background, clip, size, read_still)
    return lambda _: planes


def _still_planes(
    background: Background, clip: Clip, size: tuple[int, int], read_still: Callable[[str], Frame]
) -> Planes:
    if background.type == "color":
        if background.color is None:
            raise InvalidRequest("A color background needs a color.", hint="Set background.color.")
        levels = color_in_yuv(background.color, clip.color, clip.height)
        y, u, v = (np.full(s, level, np.uint8) for s, level in zip(_shapes(*size), levels, strict=True))
        return y, u, v
    if background.image_url is None:
        raise InvalidRequest("An image background needs an image.", hint="Set background.image_url.")
    return convert_color(resize_cover(_planes(read_still(background.image_url)), size), clip)


class BlurredBackdrop:
    """The source frame blurred by ``radius`` (standard deviation, pixels), without a halo of the subject."""

    def __init__(self, size: tuple[int, int], radius: float) -> None:
        self._size = size
        self._radius = radius

    def __call__(self, matte: Matte) -> Planes:
        frame = matte.frame
        # blurs a smaller picture, which loses no detail that the blur would keep
        scale = max(self._size[0] / frame.width, self._size[1] / frame.height)
        shrink = max(1.0, self._radius / scale / _MIN_SMALL_RADIUS)
        small = max(2, _even(frame.width / shrink)), max(2, _even(frame.height / shrink))
        # the fourth power gives little weight to pixels that contain some of the subject
        weights = (1 - _resized(matte.alpha, small).astype(np.float32) / 255) ** 4 + _MIN_WEIGHT
        sigma = max(0.5, self._radius / scale / shrink)
        total = cv2.GaussianBlur(weights, (0, 0), sigma)
        y, u, v = (
            _blur(_resized(p, (small[0] // half, small[1] // half)), weights, total, sigma)
            for p, half in zip(_planes(frame), (1, 2, 2), strict=True)
        )
        return resize_cover((y, u, v), self._size)


class LoopedBackdrop:
    """A video that starts with the source and is looped. Each frame is shown at its own timestamp."""

    def __init__(self, video: VideoSource, clip: Clip, size: tuple[int, int]) -> None:
        self._video = video
        self._clip = clip
        self._size = size
        color = video.clip.color
        self._color = replace(color, matrix=color.resolved_matrix(video.clip.height))
        self._loop_start = Fraction(0)  # seconds
        self._frame_end = Fraction(0)  # seconds, of the current frame
        self._frames = video.frames()
        self._planes: Planes | None = None

    def __call__(self, matte: Matte) -> Planes:
        moment = matte.frame.pts * self._clip.time_base
        current: Frame | None = None
        while (self._planes is None and current is None) or self._frame_end <= moment:
            current = self._next()
        if current is not None:
            planes = resize_cover(_planes(current), self._size)
            self._planes = convert_color(planes, self._clip, self._color)
        assert self._planes is not None, "there is a first frame"
        return self._planes

    def _next(self) -> Frame:
        frame = next(self._frames, None)
        if frame is None:
            self._loop_start = self._frame_end
            self._frames = self._video.frames()
            frame = next(self._frames, None)
        if frame is None:
            raise BadVideo("The background video has no frame that can be decoded.", hint="Choose another.")
        clip = self._video.clip
        length = frame.duration or max(1, round(1 / clip.rate / clip.time_base))
        start = self._loop_start + frame.pts * clip.time_base
        self._frame_end = start + max(length * clip.time_base, _MIN_FRAME_DURATION)
        return frame


def resize_cover(planes: Planes, size: tuple[int, int]) -> Planes:
    """The picture scaled to cover ``size`` (width, height; even) and cropped around its center."""
    height, width = planes[0].shape
    scale = max(size[0] / width, size[1] / height)
    scaled = max(size[0], _even(width * scale)), max(size[1], _even(height * scale))
    left, top = _even((scaled[0] - size[0]) / 2), _even((scaled[1] - size[1]) / 2)
    y, u, v = (
        _resized(plane, (scaled[0] // half, scaled[1] // half))[
            top // half : (top + size[1]) // half, left // half : (left + size[0]) // half
        ]
        for plane, half in zip(planes, (1, 2, 2), strict=True)
    )
    return y, u, v


def convert_color(planes: Planes, clip: Clip, color: Color = STILL_COLOR) -> Planes:
    """Planes of ``color``, whose matrix is specified, converted to the clip's matrix and range at full chroma."""
    matrix = clip.color.resolved_matrix(clip.height)
    if (matrix, clip.color.full_range) == (color.matrix, color.full_range):
        return planes
    height, width = planes[0].shape
    to_rgb, rgb_offset = yuv_to_rgb(color.matrix, full_range=color.full_range)
    to_yuv, yuv_offset = rgb_to_yuv(matrix, full_range=clip.color.full_range)
    both = np.concatenate([to_yuv @ to_rgb, (to_yuv @ rgb_offset + yuv_offset)[:, None]], axis=1)
    full = cv2.merge([planes[0], *(_resized(p, (width, height)) for p in planes[1:])])
    y, u, v = (np.asarray(p, np.uint8) for p in cv2.split(cv2.transform(full, both)))
    return y, _resized(u, (width // 2, height // 2)), _resized(v, (width // 2, height // 2))


def _planes(frame: Frame) -> Planes:
    return frame.y, frame.u, frame.v


def _blur(plane: Plane, weights: np.ndarray, total: np.ndarray, sigma: float) -> Plane:
    """The plane blurred with a weight per pixel. ``total``: the blurred weights. Both are scaled down for chroma."""
    height, width = plane.shape
    if weights.shape != plane.shape:
        weights, total = (cv2.resize(w, (width, height), interpolation=cv2.INTER_AREA) for w in (weights, total))
        sigma /= 2
    weighted = cv2.GaussianBlur(plane * weights, (0, 0), sigma)
    return np.asarray(np.clip(weighted / total + 0.5, 0, 255), np.uint8)


def _shapes(width: int, height: int) -> tuple[tuple[int, int], ...]:
    return (height, width), (height // 2, width // 2), (height // 2, width // 2)


def _even(value: float) -> int:
    return int(value // 2) * 2


def _resized(plane: Plane, size: tuple[int, int]) -> Plane:
    if plane.shape == (size[1], size[0]):
        return plane
    shrinks = size[0] < plane.shape[1]
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)


def _paste(target: Plane, plane: Plane, left: int, top: int) -> None:
    """Copy ``plane`` into ``target``, cropped to it."""
    height, width = target.shape
    rows = slice(max(0, top), min(height, top + plane.shape[0]))
    columns = slice(max(0, left), min(width, left + plane.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        target[rows, columns] = plane[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
