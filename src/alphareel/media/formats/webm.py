"""WebM: VP9, optionally with alpha, and Opus audio. Browsers play it with transparency."""

from alphareel.media.audio import AudioProfile
from alphareel.media.format import Format
from alphareel.media.join import join_with
from alphareel.media.output_file import GOP
from alphareel.media.splice import VideoSplicer
from alphareel.media.video_file import EncoderProfile, planar, video_encoder

# Realtime speed 8 needs a fifth of the time of "good" at equal quality, for a third more bits. libvpx does not support
# alternate reference frames and look-ahead with alpha; without them it also delays no frame. Up to 1080p one thread for
# color and one for alpha are fast enough: tiles and more threads cost a tenth of CPU time there, and some bytes.
_PROFILE = EncoderProfile(
    container="webm",
    codec="libvpx-vp9",
    converter=planar,
    splits_alpha=True,
    options={
        "deadline": "realtime",
        "cpu-used": "8",
        "row-mt": "0",
        "tile-columns": "0",
        "crf": "30",
        "b": "0",
        "auto-alt-ref": "0",
        "lag-in-frames": "0",
        "g": str(GOP),
    },
    threads=1,
    large_options={"row-mt": "1", "tile-columns": "2"},
    large_threads=2,
    quality_options={"web": {"crf": "36"}, "master": {"crf": "16"}},
    audio=AudioProfile(copied=frozenset({"opus", "vorbis"}), codec="libopus", sample_format="flt", frame_size=960),
)


FORMAT = Format(
    name="webm",
    suffix=".webm",
    mime="video/webm",
    audio=True,
    encoder=video_encoder(_PROFILE),
    max_side={"web": 1280},
    join=join_with(_PROFILE),
    splicer=VideoSplicer(_PROFILE),
    bytes_per_pixel=0.015,
)
