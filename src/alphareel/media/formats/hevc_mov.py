"""HEVC with alpha in MOV, for Safari. Available only where a trial encode and decode keeps the alpha.

The bundled FFmpeg does not pass it: its libx265 is built without alpha, and its decoder ignores the alpha layer.
"""

import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from av.codec.codec import UnknownCodecError

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import AlphareelError, FormatUnavailable
from alphareel.imaging.frame import Frame
from alphareel.media.audio import AudioProfile
from alphareel.media.format import Format
from alphareel.media.output_file import OutputFile, Target
from alphareel.media.verify import verify
from alphareel.media.video_file import EncoderProfile, VideoEncoder, planar

_TRIAL_SIDE = 64  # pixels
_PROFILE = EncoderProfile(
    container="mov",
    codec="libx265",
    converter=planar,
    options={"preset": "fast", "crf": "22", "x265-params": "log-level=none"},
    quality_options={"web": {"crf": "28"}, "master": {"crf": "16"}},
    audio=AudioProfile(
        copied=frozenset({"aac", "mp3"}), codec="aac", sample_format="fltp", frame_size=1024, has_edit_list=True
    ),
    tag="hvc1",
)


@cache
def _missing() -> str | None:
    """Why this machine cannot write the format, or None. Writes a few small frames and verifies their alpha."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _try(Path(folder) / "trial")
        except (AlphareelError, UnknownCodecError) as error:
            return f"FFmpeg here cannot write and read HEVC with alpha ({str(error).partition('. ')[0].rstrip('.')})"
    return None


def _try(path: Path) -> None:
    side, color = _TRIAL_SIDE, Color(matrix=1, primaries=1, transfer=1)
    clip = Clip(side, side, Fraction(1, 25), Fraction(25), 0.12, 3, "", "", "yuv420p", color=color)
    output = OutputFile(Target(path, clip, side, side, has_alpha=True), _video_encoder)
    luma, chroma = np.full((side, side), 120, np.uint8), np.full((side // 2, side // 2), 128, np.uint8)
    alpha = np.tile(np.linspace(0, 255, side).astype(np.uint8), (side, 1))
    try:
        for n in range(3):
            output.write(Frame(luma, chroma, chroma, pts=n, duration=1), alpha)
        verify(output.path, output.finish())
    finally:
        output.abort()


def _video_encoder(target: Target, path: Path) -> VideoEncoder:
    return VideoEncoder(target, path, profile=_PROFILE)


def _encoder(target: Target, path: Path) -> VideoEncoder:
    missing = _missing()
    if missing is not None:
        raise FormatUnavailable(
            f"{missing}.", hint="Write mov; a Mac converts it (Encode Selected Video Files, Preserve Transparency)."
        )
    return _video_encoder(target, path)


FORMAT = Format(
    name="hevc_mov",
    suffix=".mov",
    mime="video/quicktime",
    alpha="required",
    audio=True,
    encoder=_encoder,
    implied_by_suffix=False,
    max_side={"web": 1280},
    bytes_per_pixel=0.015,
    missing=_missing,
)
