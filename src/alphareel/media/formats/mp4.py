"""MP4: H.264 and AAC, opaque. Plays everywhere."""

from alphareel.domain.errors import InvalidRequest
from alphareel.media.join import joining
from alphareel.media.samples import GOP
from alphareel.media.sound import SoundRules
from alphareel.media.video_file import Planar, Recipe, video_file
from alphareel.media.write import Format, Sink, Target

_RECIPE = Recipe(
    container="mp4",
    codec="libx264",
    painter=lambda target: Planar(target.clip.colour, has_alpha=False),
    options={"preset": "veryfast", "crf": "20", "g": str(GOP)},
    by_quality={"web": {"crf": "26"}, "master": {"crf": "14"}},
    container_options={"movflags": "+faststart"},
    sound=SoundRules(copied=frozenset({"aac", "mp3"}), codec="aac", sample_format="fltp", piece=1024, hides=True),
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
