"""What the two ProRes formats share: 10-bit planes in limited range, with color tags that ProRes has a value for."""

import cv2
import numpy as np
from av import VideoFrame
from av.video.reformatter import VideoReformatter

from alphareel.domain.clip import Color
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.audio import AudioProfile
from alphareel.media.encoder_input import flat_planes, to_av_frame
from alphareel.media.frame_converter import samples_of
from alphareel.media.output_file import Target
from alphareel.media.video_file import FULL, LIMITED

AUDIO = AudioProfile(
    copied=frozenset({"aac", "mp3", "pcm_s16le", "pcm_s24le"}),
    codec="pcm_s16le",
    sample_format="s16",
    has_edit_list=True,
    fills_gaps=True,
)


class TenBitConverter:
    """A PixelConverter to 10 bits. ``chroma``: "444", which can have alpha, or "422"."""

    def __init__(self, target: Target, chroma: str = "444") -> None:
        self._source = target.clip.color
        transfer = 1 if self._source.transfer in _SAME_AS_709 else self._source.transfer
        self.color = Color(self._source.matrix, self._source.primaries, transfer, full_range=False)
        self.pixel_format = f"yuv{'a' if target.has_alpha else ''}{chroma}p10le"
        self._reformatter = VideoReformatter()

    def convert(self, frame: Frame, alpha: Plane | None) -> VideoFrame:
        planes = (frame.y, frame.u, frame.v) if alpha is None else flat_planes(frame, alpha, self._source)
        result = self._reformatter.reformat(
            to_av_frame(planes),
            format=self.pixel_format,
            src_colorspace=1,
            dst_colorspace=1,
            src_color_range=FULL if self._source.full_range else LIMITED,
            dst_color_range=LIMITED,
        )
        if alpha is not None:
            # the scaler only shifts, and 255 << 2 is not opaque
            samples_of(result.planes[3], np.uint16)[:] = cv2.LUT(alpha, _TEN_BITS)
        return result


# BT.601 and BT.2020 have the transfer curve of BT.709, the only one of the three that ProRes has a value for.
_SAME_AS_709 = (6, 14, 15)
_LEVELS = np.arange(256, dtype=np.uint16)
_TEN_BITS = (_LEVELS << 2) | (_LEVELS >> 6)
