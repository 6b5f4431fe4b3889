"""FFV1 in Matroska: lossless planes and alpha, a checksum per slice, and the source's audio. For archives."""

from alphareel.media.audio import AudioProfile
from alphareel.media.format import Format
from alphareel.media.join import join_with
from alphareel.media.output_file import VerificationProfile
from alphareel.media.splice import VideoSplicer
from alphareel.media.verify import inspect_video
from alphareel.media.video_file import EncoderProfile, planar, video_encoder

_COPIED = ("aac", "ac3", "alac", "eac3", "flac", "mp2", "mp3", "opus", "pcm_s16le", "pcm_s24le", "vorbis")

# Version 3 (RFC 9043), key frames only, so that damage affects a single frame.
_PROFILE = EncoderProfile(
    container="matroska",
    codec="ffv1",
    converter=planar,
    options={"level": "3", "slices": "4", "slicecrc": "1", "g": "1"},
    audio=AudioProfile(copied=frozenset(_COPIED), codec="pcm_s16le", sample_format="s16", bit_rate=0),
    verification=VerificationProfile(inspect_video, frame_tolerance=1, alpha_error=0.0),
)


FORMAT = Format(
    name="ffv1",
    suffix=".mkv",
    mime="video/x-matroska",
    audio=True,
    encoder=video_encoder(_PROFILE),
    join=join_with(_PROFILE),
    splicer=VideoSplicer(_PROFILE),
    bytes_per_pixel=0.2,
)
