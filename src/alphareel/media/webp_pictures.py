"""Frames as still WebP files, VP8 with lossless alpha: what an animation is made of, and a thumbnail alone."""

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from alphareel.frame import Frame, Plane
from alphareel.media.carrier import carry, flat_planes
from alphareel.media.picture import samples_of
from alphareel.media.rgba import swscale_matrix
from alphareel.media.write import Target

_BT601 = 5


class WebpPictures:
    """Encodes frames of one target at a quality from 0 to 100, at an effort from 0 to 6."""

    def __init__(self, target: Target, *, quality: int, effort: int = 0) -> None:
        self._target = target
        self._reformatter = VideoReformatter()
        self._encoder = _encoder(target, {"quality": str(quality), "compression_level": str(effort)})

    def __call__(self, frame: Frame, alpha: Plane | None) -> bytes:
        """A WebP file. Raises FFmpeg's errors."""
        picture = self._picture(frame, alpha)
        picture.pts = frame.pts
        return b"".join(bytes(packet) for packet in self._encoder.encode(picture))

    def _picture(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        """The frame in BT.601 limited range, the one kind of colour that WebP knows."""
        colour = self._target.clip.colour
        planes = (frame.y, frame.u, frame.v) if alpha is None else flat_planes(frame, alpha, colour)
        matrix = swscale_matrix(colour, self._target.clip.height)
        if matrix != _BT601 or colour.full_range:
            made = self._reformatter.reformat(
                carry(planes),
                format="yuv420p",
                src_colorspace=matrix,
                dst_colorspace=_BT601,
                src_color_range=2 if colour.full_range else 1,
                dst_color_range=1,
            )
            y, u, v = (samples_of(p, np.uint8) for p in made.planes)
            planes = (y, u, v)
        return carry(planes, alpha)


def _encoder(target: Target, options: dict[str, str]) -> VideoCodecContext:
    context = av.CodecContext.create("libwebp", "w")
    context.width, context.height = target.width, target.height
    context.pix_fmt = "yuva420p" if target.has_alpha else "yuv420p"
    context.time_base = target.clip.time_base
    context.options = options
    return context
