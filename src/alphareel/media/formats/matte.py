"""Matte: alpha alone, as a silent gray H.264 video in limited range. For editors that take a luma matte."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from alphareel.domain.clip import Color
from alphareel.domain.errors import InvalidRequest
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.av_frame import to_av_frame
from alphareel.media.format import Format, Sink, Target
from alphareel.media.join import joining
from alphareel.media.luma import alpha_of, luma_of
from alphareel.media.output_file import VerificationProfile
from alphareel.media.verification_samples import GOP
from alphareel.media.verify import Inspection, inspect_luma
from alphareel.media.video_file import EncoderProfile, video_file


class _Painter:
    """Alpha as luma, without color. Players are surer of limited range than of full range or true gray."""

    pixel_format = "yuv420p"
    color = Color(matrix=1, primaries=1, transfer=1, full_range=False)

    def __init__(self, target: Target) -> None:
        self._grey = np.full((target.height // 2, target.width // 2), 128, np.uint8)

    def paint(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:  # noqa: ARG002 - only alpha is shown
        assert alpha is not None, "the target has alpha"
        return to_av_frame((luma_of(alpha, full_range=False), self._grey, self._grey))


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    return inspect_luma(path, moments, alpha_of)


_RECIPE = EncoderProfile(
    container="mp4",
    codec="libx264",
    painter=_Painter,
    options={"preset": "veryfast", "crf": "16", "g": str(GOP)},
    by_quality={"web": {"crf": "22"}, "master": {"crf": "10"}},
    container_options={"movflags": "+faststart"},
    proof=VerificationProfile(_inspect, frame_tolerance=1),
)


def _open(target: Target) -> Sink:
    if not target.has_alpha:
        raise InvalidRequest("matte holds alpha alone.", hint="Leave the background transparent, or choose mp4.")
    return video_file(target, _RECIPE)


FORMAT = Format(
    name="matte",
    suffix=".mp4",
    mime="video/mp4",
    alpha=True,
    audio=False,
    open=_open,
    suffix_implies=False,
    alpha_kind="white_is_opaque",
    sides={"web": 1280},
    join=joining(_RECIPE),
)
