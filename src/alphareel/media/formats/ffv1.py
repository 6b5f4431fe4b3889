"""FFV1 in Matroska: planes and alpha without loss, a checksum for each slice, and the source's sound. For archives."""

from alphareel.media.audio import AudioProfile
from alphareel.media.format import Format, Sink, Target
from alphareel.media.join import joining
from alphareel.media.output_file import VerificationProfile
from alphareel.media.verify import inspect_video
from alphareel.media.video_file import EncoderProfile, Planar, video_file

_COPIED = ("aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus", "pcm_s16le", "pcm_s24le", "vorbis")

# Version 3 (RFC 9043); every frame stands for itself, so that damage stays in one.
_RECIPE = EncoderProfile(
    container="matroska",
    codec="ffv1",
    painter=lambda target: Planar(target.clip.color, target.has_alpha),
    options={"level": "3", "slices": "4", "slicecrc": "1", "g": "1"},
    sound=AudioProfile(copied=frozenset(_COPIED), codec="pcm_s16le", sample_format="s16", bit_rate=0),
    proof=VerificationProfile(inspect_video, frame_tolerance=1, alpha_error=0.0),
)


def _open(target: Target) -> Sink:
    return video_file(target, _RECIPE)


FORMAT = Format(
    name="ffv1", suffix=".mkv", mime="video/x-matroska", alpha=True, audio=True, open=_open, join=joining(_RECIPE)
)
