"""Matte: alpha alone, as a silent gray H.264 video in limited range. For editors that take a luma matte."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from alphareel.domain.clip import Color
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.encoder_input import alpha_to_luma, luma_to_alpha, to_av_frame
from alphareel.media.format import Format
from alphareel.media.join import join_with
from alphareel.media.output_file import GOP, Target, VerificationProfile
from alphareel.media.splice import VideoSplicer
from alphareel.media.verify import Inspection, inspect_luma
from alphareel.media.video_file import EncoderProfile, video_encoder


class _Converter:
    """Alpha as luma, without color. Limited range, because not all players support full range or true gray."""

    pixel_format = "yuv420p"
    color = Color(matrix=1, primaries=1, transfer=1, full_range=False)

    def __init__(self, target: Target) -> None:
        self._gray = np.full((target.height // 2, target.width // 2), 128, np.uint8)

    def convert(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:  # noqa: ARG002 - only alpha is shown
        assert alpha is not None, "the target has alpha"
        return to_av_frame((alpha_to_luma(alpha, full_range=False), self._gray, self._gray))


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    return inspect_luma(path, moments, luma_to_alpha)


_PROFILE = EncoderProfile(
    container="mp4",
    codec="libx264",
    converter=_Converter,
    options={"preset": "veryfast", "crf": "16", "g": str(2 * GOP), "keyint_min": str(GOP + 1), "forced-idr": "1"},
    quality_options={"web": {"crf": "22"}, "master": {"crf": "10"}},
    key_frame_interval=GOP,
    container_options={"movflags": "+faststart"},
    verification=VerificationProfile(_inspect, frame_tolerance=1),
)


FORMAT = Format(
    name="matte",
    suffix=".mp4",
    mime="video/mp4",
    alpha="required",
    audio=False,
    encoder=video_encoder(_PROFILE),
    implied_by_suffix=False,
    alpha_kind="white_is_opaque",
    max_side={"web": 1280},
    join=join_with(_PROFILE),
    splicer=VideoSplicer(_PROFILE),
    bytes_per_pixel=0.005,
)
