"""Stacked MP4: H.264, the picture above, its alpha as gray below. A shader joins them wherever H.264 plays."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from alphareel.domain.clip import Color
from alphareel.domain.errors import InvalidRequest
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.audio import AudioProfile
from alphareel.media.av_frame import flat_planes, to_av_frame
from alphareel.media.format import Format, Sink, Target
from alphareel.media.join import joining
from alphareel.media.luma import alpha_of, luma_of
from alphareel.media.output_file import VerificationProfile
from alphareel.media.verification_samples import GOP
from alphareel.media.verify import Inspection, inspect_luma
from alphareel.media.video_file import EncoderProfile, video_file


class _Painter:
    """The picture's planes with alpha as luma below them, in the picture's own range."""

    pixel_format = "yuv420p"

    def __init__(self, target: Target) -> None:
        self.color: Color = target.clip.color
        self._grey = np.full((target.height // 2, target.width // 2), 128, np.uint8)

    def paint(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        assert alpha is not None, "the target has alpha"
        y, u, v = flat_planes(frame, alpha, self.color)
        luma = luma_of(alpha, full_range=self.color.full_range)
        return to_av_frame((np.vstack([y, luma]), np.vstack([u, self._grey]), np.vstack([v, self._grey])))


def _inspect(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    return inspect_luma(path, moments, _lower_half)


def _lower_half(luma: Plane, *, full_range: bool) -> Plane:
    return alpha_of(luma[luma.shape[0] // 2 :], full_range=full_range)


_RECIPE = EncoderProfile(
    container="mp4",
    codec="libx264",
    painter=_Painter,
    options={"preset": "veryfast", "crf": "20", "g": str(GOP)},
    by_quality={"web": {"crf": "26"}, "master": {"crf": "14"}},
    container_options={"movflags": "+faststart"},
    sound=AudioProfile(
        copied=frozenset({"aac", "mp3"}), codec="aac", sample_format="fltp", piece=1024, has_edit_list=True
    ),
    proof=VerificationProfile(_inspect, frame_tolerance=1, stacked_rows=2),
)


def _open(target: Target) -> Sink:
    if not target.has_alpha:
        raise InvalidRequest("stacked_mp4 is for alpha.", hint="Leave the background transparent, or choose mp4.")
    return video_file(target, _RECIPE)


FORMAT = Format(
    name="stacked_mp4",
    suffix=".mp4",
    mime="video/mp4",
    alpha=True,
    audio=True,
    open=_open,
    suffix_implies=False,
    alpha_kind="white_is_opaque",
    sides={"web": 1280},
    join=joining(_RECIPE),
)
