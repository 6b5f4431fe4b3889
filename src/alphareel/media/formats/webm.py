"""WebM: VP9, with alpha where there is one, and Opus. Plays in browsers, transparency included."""

from alphareel.media.audio import AudioProfile
from alphareel.media.format import Format, Sink, Target
from alphareel.media.join import joining
from alphareel.media.verification_samples import GOP
from alphareel.media.video_file import EncoderProfile, Planar, video_file

# Realtime 8 costs a fifth of "good" at equal quality for a third more bits. Alternate reference frames and look-ahead
# do not go with alpha, and without them frames leave the encoder as they came.
_RECIPE = EncoderProfile(
    container="webm",
    codec="libvpx-vp9",
    painter=lambda target: Planar(target.clip.color, target.has_alpha),
    options={
        "deadline": "realtime",
        "cpu-used": "8",
        "row-mt": "1",
        "tile-columns": "2",
        "crf": "30",
        "b": "0",
        "auto-alt-ref": "0",
        "lag-in-frames": "0",
        "g": str(GOP),
    },
    by_quality={"web": {"crf": "36"}, "master": {"crf": "16"}},
    sound=AudioProfile(copied=frozenset({"opus", "vorbis"}), codec="libopus", sample_format="flt", piece=960),
)


def _open(target: Target) -> Sink:
    return video_file(target, _RECIPE)


FORMAT = Format(
    name="webm",
    suffix=".webm",
    mime="video/webm",
    alpha=True,
    audio=True,
    open=_open,
    sides={"web": 1280},
    join=joining(_RECIPE),
)
