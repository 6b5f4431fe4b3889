"""HEVC with alpha in MOV, for Safari: only where an encoder and a decoder of this kind are really there; it is tried.

The FFmpeg that comes along has neither: its libx265 was built without alpha, and its decoder passes the layer over.
"""

import tempfile
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
from av.codec.codec import UnknownCodecError

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import AlphareelError, FormatUnavailable, InvalidRequest
from alphareel.imaging.frame import Frame
from alphareel.media.audio import AudioProfile
from alphareel.media.format import Format, Sink, Target
from alphareel.media.verify import verify
from alphareel.media.video_file import EncoderProfile, Planar, video_file

_SIDE = 64
_RECIPE = EncoderProfile(
    container="mov",
    codec="libx265",
    painter=lambda target: Planar(target.clip.color, target.has_alpha),
    options={"preset": "fast", "crf": "22", "x265-params": "log-level=none"},
    by_quality={"web": {"crf": "28"}, "master": {"crf": "16"}},
    sound=AudioProfile(
        copied=frozenset({"aac", "mp3"}), codec="aac", sample_format="fltp", piece=1024, has_edit_list=True
    ),
    tag="hvc1",
)


@cache
def _missing() -> str | None:
    """Why it cannot be written here, None when it can: a few small frames were written and held to their alpha."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            _try(Path(folder) / "a trial")
        except (AlphareelError, UnknownCodecError) as error:
            return f"FFmpeg here cannot write and read HEVC with alpha ({str(error).partition('. ')[0].rstrip('.')})"
    return None


def _try(path: Path) -> None:
    color = Color(matrix=1, primaries=1, transfer=1)
    clip = Clip(_SIDE, _SIDE, Fraction(1, 25), Fraction(25), 0.12, 3, "", "", "yuv420p", color=color)
    sink = video_file(Target(path, clip, _SIDE, _SIDE, has_alpha=True), _RECIPE)
    gray = np.full((_SIDE // 2, _SIDE // 2), 128, np.uint8)
    alpha = np.tile(np.linspace(0, 255, _SIDE).astype(np.uint8), (_SIDE, 1))
    try:
        for n in range(3):
            sink.write(Frame(np.full((_SIDE, _SIDE), 120, np.uint8), gray, gray, pts=n, duration=1), alpha)
        verify(sink.path, sink.finish())
    finally:
        sink.abort()


def _open(target: Target) -> Sink:
    if not target.has_alpha:
        raise InvalidRequest("hevc_mov is for alpha.", hint="Leave the background transparent, or choose mp4.")
    missing = _missing()
    if missing is not None:
        raise FormatUnavailable(
            f"{missing}.", hint="Write mov; a Mac converts it (Encode Selected Video Files, Preserve Transparency)."
        )
    return video_file(target, _RECIPE)


FORMAT = Format(
    name="hevc_mov",
    suffix=".mov",
    mime="video/quicktime",
    alpha=True,
    audio=True,
    open=_open,
    suffix_implies=False,
    sides={"web": 1280},
    missing=_missing,
)
