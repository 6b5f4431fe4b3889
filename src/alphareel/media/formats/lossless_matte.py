"""Lossless matte: alpha alone as gray FFV1 in Matroska, with the facts to make further outputs of it later.

Of the codecs that are lossless here, FFV1 is the cheapest by far, every frame is a key frame with a checksum, and
only VP9 is smaller, by 8 % (decision 37).
"""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from alphareel.domain.clip import Color
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.format import Format
from alphareel.media.join import join_with
from alphareel.media.output_file import Target, VerificationProfile
from alphareel.media.splice import VideoSplicer
from alphareel.media.verify import Inspection, inspect_luma
from alphareel.media.video_file import EncoderProfile, video_encoder


class _Converter:
    """Alpha as gray."""

    pixel_format = "gray"
    color = Color(matrix=1, primaries=1, transfer=1, full_range=True)

    def __init__(self, target: Target) -> None:
        self._target = target

    def convert(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:  # noqa: ARG002 - only alpha is shown
        assert alpha is not None, "the target has alpha"
        return av.VideoFrame.from_ndarray(np.ascontiguousarray(alpha), format="gray")


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    return inspect_luma(path, moments, lambda luma, full_range: luma.copy())  # noqa: ARG005 - always full range


_PROFILE = EncoderProfile(
    container="matroska",
    codec="ffv1",
    converter=_Converter,
    options={"level": "3", "slices": "4", "slicecrc": "1", "g": "1"},
    verification=VerificationProfile(_inspect, frame_tolerance=1, alpha_error=0.0),
)


FORMAT = Format(
    name="lossless_matte",
    suffix=".mkv",
    mime="video/x-matroska",
    alpha="required",
    audio=False,
    encoder=video_encoder(_PROFILE),
    implied_by_suffix=False,
    alpha_kind="white_is_opaque",
    join=join_with(_PROFILE),
    splicer=VideoSplicer(_PROFILE),
    bytes_per_pixel=0.02,
)
