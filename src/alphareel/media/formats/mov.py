"""MOV: ProRes 4444, with alpha where there is one, and the source's sound. For editing programs."""

from dataclasses import replace

from alphareel.media.format import Format, Sink, Target
from alphareel.media.join import joining
from alphareel.media.prores import SOUND, TenBits
from alphareel.media.video_file import EncoderProfile, video_file

# prores_aw costs a third of prores_ks at 60 dB and reads back the same alpha.
_RECIPE = EncoderProfile(container="mov", codec="prores_aw", painter=TenBits, options={"profile": "4"}, sound=SOUND)
_MASTER = replace(
    _RECIPE, codec="prores_ks", options={"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}, threads=0
)


def _open(target: Target) -> Sink:
    return video_file(target, _MASTER if target.quality == "master" else _RECIPE)


FORMAT = Format(
    name="mov", suffix=".mov", mime="video/quicktime", alpha=True, audio=True, open=_open, join=joining(_RECIPE)
)
