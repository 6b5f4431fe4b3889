"""MP4: opaque H.264 and AAC. Plays everywhere."""

from alphareel.media.audio import AudioProfile
from alphareel.media.format import Format
from alphareel.media.join import join_with
from alphareel.media.output_file import GOP
from alphareel.media.splice import VideoSplicer
from alphareel.media.video_file import EncoderProfile, planar, video_encoder

_PROFILE = EncoderProfile(
    container="mp4",
    codec="libx264",
    converter=planar,
    options={"preset": "veryfast", "crf": "20", "g": str(2 * GOP), "keyint_min": str(GOP + 1), "forced-idr": "1"},
    quality_options={"web": {"crf": "26"}, "master": {"crf": "14"}},
    key_frame_interval=GOP,
    container_options={"movflags": "+faststart"},
    audio=AudioProfile(
        copied=frozenset({"aac", "mp3"}), codec="aac", sample_format="fltp", frame_size=1024, has_edit_list=True
    ),
)


FORMAT = Format(
    name="mp4",
    suffix=".mp4",
    mime="video/mp4",
    alpha="unsupported",
    audio=True,
    encoder=video_encoder(_PROFILE),
    max_side={"web": 1280},
    join=join_with(_PROFILE),
    splicer=VideoSplicer(_PROFILE),
    bytes_per_pixel=0.015,
)
