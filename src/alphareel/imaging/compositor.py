"""Planes over planes: alpha over a color, an image, a video or a blur, and a frame's place on a canvas. No codec."""

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
_SHORTEST = Fraction(1, 240)  # seconds of a background's frame, however short it says it is
_USUAL_BLUR = 30  # of the shorter side's pixels are one of radius
_FINEST_BLUR = 3  # pixels of radius that a shrunken picture keeps
_LEAST_SEEN = np.float32(1 / 256)  # weight of a pixel that the subject hides, so that there is something everywhere


@dataclass(frozen=True)
class Compositor:
    """Turns each matte into what a sink writes: a frame, and alpha unless a background covers the whole canvas.

    ``backdrop``: makes for a matte the planes behind it, at canvas size in the clip's matrix and range; None keeps the
    result transparent. Mattes come in order, each once.
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
        """The finished frame and its alpha (uint8, canvas size), or None when the frame is opaque."""
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
    """A video to stand behind the subject: its facts, and its frames from the start as often as asked for."""

    @property
    def clip(self) -> Clip: ...

    def frames(self) -> Iterator[Frame]: ...


def composer(
    options: Options, clip: Clip, *, read_still: Callable[[str], Frame], open_video: Callable[[str], VideoSource]
) -> Compositor:
    """The composer of a run. ``read_still`` opens ``background.image_url`` as BT.709 limited-range planes.

    ``open_video`` opens ``background.video_url``; whoever gives it closes what it opened.
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
    """Alpha over, plane by plane: ``f * a + b * (1 - a)``, within one level; chroma uses 2x2 means of alpha."""
    height, width = alpha.shape
    small = _resized(alpha, (width // 2, height // 2))
    y, u, v = (_over(f, a, b) for f, a, b in zip(foreground, (alpha, small, small), backdrop, strict=True))
    return y, u, v


def anchored(placement: Composition, canvas: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Left and top (even pixels; may lie outside) of a foreground of ``size`` on ``canvas``, both (width, height)."""
    vertical, _, horizontal = placement.anchor.partition("-")
    across = {"left": 0.0, "center": 0.5, "right": 1.0}[horizontal or "center"]
    down = {"top": 0.0, "center": 0.5, "bottom": 1.0}[vertical]
    left = (canvas[0] - size[0]) * across + placement.offset_x
    top = (canvas[1] - size[1]) * down + placement.offset_y
    return _even(left), _even(top)


def _over(foreground: Plane, alpha: Plane, backdrop: Plane) -> Plane:
    shown = cv2.multiply(foreground, alpha, scale=1 / 255)
    behind = cv2.multiply(backdrop, cv2.bitwise_not(alpha), scale=1 / 255)
    return np.asarray(cv2.add(shown, behind), np.uint8)


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
        return Blurred(size, background.radius or min(size) / _USUAL_BLUR)
    if background.type == "video":
        if background.video_url is None:
            raise InvalidRequest("A video background needs a video.", hint="Set background.video_url.")
        return LoopedVideo(open_video(background.video_url), clip, size)
    still = _still(background, clip, size, read_still)
    return lambda _: still


def _still(background: Background, clip: Clip, size: tuple[int, int], read_still: Callable[[str], Frame]) -> Planes:
    if background.type == "color":
        if background.color is None:
            raise InvalidRequest("A color background needs a color.", hint="Set background.color.")
        levels = color_in_yuv(background.color, clip.color, clip.height)
        y, u, v = (np.full(s, level, np.uint8) for s, level in zip(_shapes(*size), levels, strict=True))
        return y, u, v
    if background.image_url is None:
        raise InvalidRequest("An image background needs an image.", hint="Set background.image_url.")
    return convert_color(resize_cover(_planes(read_still(background.image_url)), size), clip)


class Blurred:
    """The original behind its own subject, out of focus by ``radius`` pixels; the subject leaves no halo in it."""

    def __init__(self, size: tuple[int, int], radius: float) -> None:
        self._size = size
        self._radius = radius

    def __call__(self, matte: Matte) -> Planes:
        frame = matte.frame
        # what is this blurred has no detail left that a smaller picture would lose
        grown = max(self._size[0] / frame.width, self._size[1] / frame.height)
        shrink = max(1.0, self._radius / grown / _FINEST_BLUR)
        small = max(2, _even(frame.width / shrink)), max(2, _even(frame.height / shrink))
        # to the fourth power: edge pixels hold some of the subject, and so do those that shrinking made of two kinds
        seen = (1 - _resized(matte.alpha, small).astype(np.float32) / 255) ** 4 + _LEAST_SEEN
        sigma = max(0.5, self._radius / grown / shrink)
        total = cv2.GaussianBlur(seen, (0, 0), sigma)
        y, u, v = (
            _blurred(_resized(p, (small[0] // half, small[1] // half)), seen, total, sigma)
            for p, half in zip(_planes(frame), (1, 2, 2), strict=True)
        )
        return resize_cover((y, u, v), self._size)


class LoopedVideo:
    """Frames of another video, each shown when its time has come; after the last the first follows."""

    def __init__(self, footage: VideoSource, clip: Clip, size: tuple[int, int]) -> None:
        self._footage = footage
        self._clip = clip
        self._size = size
        theirs = footage.clip
        self._color = replace(theirs.color, matrix=theirs.color.resolved_matrix(theirs.height))
        self._round = Fraction(0)  # when the current pass began
        self._ends = Fraction(0)  # when the current frame ends
        self._frames = footage.frames()
        self._planes: Planes | None = None

    def __call__(self, matte: Matte) -> Planes:
        moment = matte.frame.pts * self._clip.time_base
        shown: Frame | None = None
        while (self._planes is None and shown is None) or self._ends <= moment:
            shown = self._next()
        if shown is not None:
            planes = resize_cover(_planes(shown), self._size)
            self._planes = convert_color(planes, self._clip, self._color)
        assert self._planes is not None, "there is a first frame"
        return self._planes

    def _next(self) -> Frame:
        found = next(self._frames, None)
        if found is None:
            self._round = self._ends
            self._frames = self._footage.frames()
            found = next(self._frames, None)
        if found is None:
            raise BadVideo("The background video has no frame that can be decoded.", hint="Choose another.")
        theirs = self._footage.clip
        length = found.duration or max(1, round(1 / theirs.rate / theirs.time_base))
        self._ends = self._round + found.pts * theirs.time_base + max(length * theirs.time_base, _SHORTEST)
        return found


def resize_cover(planes: Planes, size: tuple[int, int]) -> Planes:
    """The picture scaled to cover ``size`` (width, height; even), its middle kept."""
    height, width = planes[0].shape
    scale = max(size[0] / width, size[1] / height)
    grown = max(size[0], _even(width * scale)), max(size[1], _even(height * scale))
    left, top = _even((grown[0] - size[0]) / 2), _even((grown[1] - size[1]) / 2)
    y, u, v = (
        _resized(plane, (grown[0] // half, grown[1] // half))[
            top // half : (top + size[1]) // half, left // half : (left + size[0]) // half
        ]
        for plane, half in zip(planes, (1, 2, 2), strict=True)
    )
    return y, u, v


def convert_color(planes: Planes, clip: Clip, theirs: Color = STILL_COLOR) -> Planes:
    """Planes of the color ``theirs``, its matrix known, in the clip's matrix and range; computed at full chroma."""
    matrix = clip.color.resolved_matrix(clip.height)
    if (matrix, clip.color.full_range) == (theirs.matrix, theirs.full_range):
        return planes
    height, width = planes[0].shape
    to_rgb, rgb_offset = yuv_to_rgb(theirs.matrix, full_range=theirs.full_range)
    to_yuv, yuv_offset = rgb_to_yuv(matrix, full_range=clip.color.full_range)
    both = np.concatenate([to_yuv @ to_rgb, (to_yuv @ rgb_offset + yuv_offset)[:, None]], axis=1)
    full = cv2.merge([planes[0], *(_resized(p, (width, height)) for p in planes[1:])])
    y, u, v = (np.asarray(p, np.uint8) for p in cv2.split(cv2.transform(full, both)))
    return y, _resized(u, (width // 2, height // 2)), _resized(v, (width // 2, height // 2))


def _planes(frame: Frame) -> Planes:
    return frame.y, frame.u, frame.v


def _blurred(plane: Plane, seen: np.ndarray, total: np.ndarray, sigma: float) -> Plane:
    """The plane blurred, each pixel weighing as much as of it is background; chroma planes are half as large."""
    height, width = plane.shape
    if seen.shape != plane.shape:
        seen, total = (cv2.resize(w, (width, height), interpolation=cv2.INTER_AREA) for w in (seen, total))
        sigma /= 2
    weighed = cv2.GaussianBlur(plane * seen, (0, 0), sigma)
    return np.asarray(np.clip(weighed / total + 0.5, 0, 255), np.uint8)


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
    """Copy what of ``plane`` lies inside ``target``; the rest is cropped."""
    height, width = target.shape
    rows = slice(max(0, top), min(height, top + plane.shape[0]))
    columns = slice(max(0, left), min(width, left + plane.shape[1]))
    if rows.start < rows.stop and columns.start < columns.stop:
        target[rows, columns] = plane[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
