"""MP4: H.264 and AAC, opaque. Plays everywhere."""

from alphareel.domain.errors import InvalidRequest
from alphareel.media.audio import AudioProfile
from alphareel.media.format import Format, Sink, Target
from alphareel.media.join import joining
from alphareel.media.verification_samples import GOP
from alphareel.media.video_file import EncoderProfile, Planar, video_file

_RECIPE = EncoderProfile(
    container="mp4",
    codec="libx264",
    painter=lambda target: Planar(target.clip.color, has_alpha=False),
    options={"preset": "veryfast", "crf": "20", "g": str(GOP)},
    by_quality={"web": {"crf": "26"}, "master": {"crf": "14"}},
    container_options={"movflags": "+faststart"},
    sound=AudioProfile(
        copied=frozenset({"aac", "mp3"}), codec="aac", sample_format="fltp", piece=1024, has_edit_list=True
    ),
)


def _open(target: Target) -> Sink:
    if target.has_alpha:
        raise InvalidRequest("mp4 carries no alpha.", hint="Choose webm, mov, gif, webp or png_sequence.")
    return video_file(target, _RECIPE)


FORMAT = Format(
    name="mp4",
    suffix=".mp4",
    mime="video/mp4",
    alpha=False,
    audio=True,
    open=_open,
    sides={"web": 1280},
    join=joining(_RECIPE),
)
