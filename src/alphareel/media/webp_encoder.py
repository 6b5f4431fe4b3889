"""Encodes frames as still WebP files: VP8 with lossless alpha. An animation consists of such files."""

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import VideoReformatter

from alphareel.imaging.frame import Frame, Plane
from alphareel.media.encoder_input import flat_planes, swscale_matrix, to_av_frame
from alphareel.media.frame_converter import samples_of
from alphareel.media.output_file import Target

_BT601 = 5


class WebpEncoder:
    """Encodes the frames of one target. ``quality``: 0 to 100. ``effort``: 0 (fast) to 6 (small)."""

    def __init__(self, target: Target, *, quality: int, effort: int = 0) -> None:
        self._target = target
        self._reformatter = VideoReformatter()
        self._encoder = _encoder(target, {"quality": str(quality), "compression_level": str(effort)})

    def __call__(self, frame: Frame, alpha: Plane | None) -> bytes:
        """The bytes of a WebP file. Raises FFmpeg's errors."""
        picture = self._picture(frame, alpha)
        picture.pts = frame.pts
        return b"".join(bytes(packet) for packet in self._encoder.encode(picture))

    def _picture(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        """The frame in BT.601 limited range, the only color space that WebP has."""
        color = self._target.clip.color
        planes = (frame.y, frame.u, frame.v) if alpha is None else flat_planes(frame, alpha, color)
        matrix = swscale_matrix(color, self._target.clip.height)
        if matrix != _BT601 or color.full_range:
            converted = self._reformatter.reformat(
                to_av_frame(planes),
                format="yuv420p",
                src_colorspace=matrix,
                dst_colorspace=_BT601,
                src_color_range=2 if color.full_range else 1,
                dst_color_range=1,
            )
            y, u, v = (samples_of(p, np.uint8) for p in converted.planes)
            planes = (y, u, v)
        return to_av_frame(planes, alpha)


def _encoder(target: Target, options: dict[str, str]) -> VideoCodecContext:
    context = av.CodecContext.create("libwebp", "w")
    context.width, context.height = target.width, target.height
    context.pix_fmt = "yuva420p" if target.has_alpha else "yuv420p"
    context.time_base = target.clip.time_base
    context.options = options
    return context
