"""ProRes 422 HQ: ten bits over a background, and the source's sound. For editing programs that need no alpha."""

from dataclasses import replace

from alphareel.domain.errors import InvalidRequest
from alphareel.media.format import Format, Sink, Target
from alphareel.media.join import joining
from alphareel.media.prores import SOUND, TenBits
from alphareel.media.video_file import EncoderProfile, video_file

_RECIPE = EncoderProfile(
    container="mov",
    codec="prores_aw",
    painter=lambda target: TenBits(target, chroma="422"),
    options={"profile": "3"},
    sound=SOUND,
)
_MASTER = replace(_RECIPE, codec="prores_ks", options={"profile": "hq", "vendor": "apl0"}, threads=0)


def _open(target: Target) -> Sink:
    if target.has_alpha:
        raise InvalidRequest("ProRes 422 carries no alpha.", hint="Choose mov (ProRes 4444), or set a background.")
    return video_file(target, _MASTER if target.quality == "master" else _RECIPE)


FORMAT = Format(
    name="prores_hq",
    suffix=".mov",
    mime="video/quicktime",
    alpha=False,
    audio=True,
    open=_open,
    suffix_implies=False,
    join=joining(_RECIPE),
)
