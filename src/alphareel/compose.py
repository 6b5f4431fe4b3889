"""Planes over planes: alpha over a colour or an image, and the placement of a frame on a canvas. No codec, no RGB."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

import cv2
import numpy as np

from alphareel.colour import colour_in_yuv, rgb_to_yuv, yuv_to_rgb
from alphareel.domain.clip import Clip, Colour
from alphareel.domain.errors import InvalidRequest
from alphareel.domain.options import Background, Composition, Options
from alphareel.frame import Frame, Matte, Plane

Planes: TypeAlias = tuple[Plane, Plane, Plane]
STILL_COLOUR = Colour(matrix=1, primaries=1, transfer=1, full_range=False)


@dataclass(frozen=True)
class Composer:
    """Turns each matte into what a sink writes: a frame, and alpha unless a background covers the whole canvas.

    ``backdrop``: Y, U, V planes at canvas size in the clip's matrix and range; None keeps the result transparent.
    """

    width: int
    height: int
    placement: Composition | None
    blank: tuple[int, int, int]
    backdrop: Planes | None

    @property
    def has_alpha(self) -> bool:
        return self.backdrop is None

    def __call__(self, matte: Matte) -> tuple[Frame, Plane | None]:
        """The finished frame and its alpha (uint8, canvas size), or None when the frame is opaque."""
        if self.placement is not None:
            matte = self._place(matte, self.placement)
        if self.backdrop is None:
            return matte.frame, matte.alpha
        y, u, v = blend((matte.frame.y, matte.frame.u, matte.frame.v), matte.alpha, self.backdrop)
        return replace(matte.frame, y=y, u=u, v=v, keeper=None), None

    def _place(self, matte: Matte, placement: Composition) -> Matte:
        frame = matte.frame
        fit = min(self.width / frame.width, self.height / frame.height) * placement.scale
        size = max(2, _even(frame.width * fit)), max(2, _even(frame.height * fit))
        left, top = anchored(placement, (self.width, self.height), size)
        canvas = [np.full(s, b, np.uint8) for s, b in zip(_shapes(self.width, self.height), self.blank, strict=True)]
        alpha = np.zeros((self.height, self.width), np.uint8)
        for target, plane, half in zip(canvas, (frame.y, frame.u, frame.v), (1, 2, 2), strict=True):
            _paste(target, _resized(plane, (size[0] // half, size[1] // half)), left // half, top // half)
        _paste(alpha, _resized(matte.alpha, size), left, top)
        y, u, v = canvas
        return Matte(replace(frame, y=y, u=u, v=v, keeper=None), alpha)


def composer(options: Options, clip: Clip, *, read_still: Callable[[str], Frame]) -> Composer:
    """The composer of a run. ``read_still`` opens ``background.image_url`` as BT.709 limited-range planes."""
    placement = options.composition
    width = _even((placement and placement.width) or clip.width)
    height = _even((placement and placement.height) or clip.height)
    return Composer(
        width=width,
        height=height,
        placement=placement,
        blank=colour_in_yuv((0, 0, 0), clip.colour, clip.height),
        backdrop=_backdrop(options.background, clip, (width, height), read_still),
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
    background: Background, clip: Clip, size: tuple[int, int], read_still: Callable[[str], Frame]
) -> Planes | None:
    if background.type == "transparent":
        return None
    if background.type == "color":
        if background.color is None:
            raise InvalidRequest("A colour background needs a colour.", hint="Set background.color.")
        levels = colour_in_yuv(background.color, clip.colour, clip.height)
        y, u, v = (np.full(s, level, np.uint8) for s, level in zip(_shapes(*size), levels, strict=True))
        return y, u, v
    if background.image_url is None:
        raise InvalidRequest("An image background needs an image.", hint="Set background.image_url.")
    still = read_still(background.image_url)
    return retagged(covering((still.y, still.u, still.v), size), clip)


def covering(planes: Planes, size: tuple[int, int]) -> Planes:
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


def retagged(planes: Planes, clip: Clip) -> Planes:
    """A still's planes (BT.709, limited range) in the clip's matrix and range; computed once a run, at full chroma."""
    matrix = clip.colour.resolved_matrix(clip.height)
    if matrix == STILL_COLOUR.matrix and not clip.colour.full_range:
        return planes
    height, width = planes[0].shape
    to_rgb, rgb_offset = yuv_to_rgb(STILL_COLOUR.matrix, full_range=False)
    to_yuv, yuv_offset = rgb_to_yuv(matrix, full_range=clip.colour.full_range)
    both = np.concatenate([to_yuv @ to_rgb, (to_yuv @ rgb_offset + yuv_offset)[:, None]], axis=1)
    full = cv2.merge([planes[0], *(_resized(p, (width, height)) for p in planes[1:])])
    y, u, v = (np.asarray(p, np.uint8) for p in cv2.split(cv2.transform(full, both)))
    return y, _resized(u, (width // 2, height // 2)), _resized(v, (width // 2, height // 2))


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
