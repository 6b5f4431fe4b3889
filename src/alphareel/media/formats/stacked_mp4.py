"""Stacked MP4: H.264 with the picture in the upper half and its alpha, as gray, in the lower half.

A shader combines the two wherever H.264 plays.
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from alphareel.domain.clip import Color
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.audio import AudioProfile
from alphareel.media.encoder_input import alpha_to_luma, flat_planes, luma_to_alpha, to_av_frame
from alphareel.media.format import Format
from alphareel.media.join import join_with
from alphareel.media.output_file import GOP, Target, VerificationProfile
from alphareel.media.splice import VideoSplicer
from alphareel.media.verify import Inspection, inspect_luma
from alphareel.media.video_file import EncoderProfile, video_encoder


class _Converter:
    """The planes with alpha as luma below them, in the picture's color range."""

    pixel_format = "yuv420p"

    def __init__(self, target: Target) -> None:
        self.color: Color = target.clip.color
        self._gray = np.full((target.height // 2, target.width // 2), 128, np.uint8)

    def convert(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        assert alpha is not None, "the target has alpha"
        y, u, v = flat_planes(frame, alpha, self.color)
        luma = alpha_to_luma(alpha, full_range=self.color.full_range)
        return to_av_frame((np.vstack([y, luma]), np.vstack([u, self._gray]), np.vstack([v, self._gray])))


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    return inspect_luma(path, moments, _lower_half)


def _lower_half(luma: Plane, *, full_range: bool) -> Plane:
    return luma_to_alpha(luma[luma.shape[0] // 2 :], full_range=full_range)


_PROFILE = EncoderProfile(
    container="mp4",
    codec="libx264",
    converter=_Converter,
    options={"preset": "veryfast", "crf": "20", "g": str(2 * GOP), "keyint_min": str(GOP + 1), "forced-idr": "1"},
    quality_options={"web": {"crf": "26"}, "master": {"crf": "14"}},
    key_frame_interval=GOP,
    container_options={"movflags": "+faststart"},
    audio=AudioProfile(
        copied=frozenset({"aac", "mp3"}), codec="aac", sample_format="fltp", frame_size=1024, has_edit_list=True
    ),
    verification=VerificationProfile(_inspect, frame_tolerance=1, stacked_rows=2),
)


FORMAT = Format(
    name="stacked_mp4",
    suffix=".mp4",
    mime="video/mp4",
    alpha="required",
    audio=True,
    encoder=video_encoder(_PROFILE),
    implied_by_suffix=False,
    alpha_kind="white_is_opaque",
    max_side={"web": 1280},
    join=join_with(_PROFILE),
    splicer=VideoSplicer(_PROFILE),
    bytes_per_pixel=0.02,
)
