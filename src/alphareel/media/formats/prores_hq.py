"""ProRes 422 HQ: opaque, 10 bits, and the source's audio. For editing programs that need no alpha."""

from dataclasses import replace
from pathlib import Path

from alphareel.media.format import Format
from alphareel.media.join import join_with
from alphareel.media.output_file import Target
from alphareel.media.prores import AUDIO, TenBitConverter
from alphareel.media.splice import VideoSplicer
from alphareel.media.video_file import EncoderProfile, VideoEncoder

_PROFILE = EncoderProfile(
    container="mov",
    codec="prores_aw",
    converter=lambda target: TenBitConverter(target, chroma="422"),
    options={"profile": "3"},
    audio=AUDIO,
)
_MASTER = replace(_PROFILE, codec="prores_ks", options={"profile": "hq", "vendor": "apl0"}, threads=0)


def _encoder(target: Target, path: Path) -> VideoEncoder:
    return VideoEncoder(target, path, profile=_MASTER if target.quality == "master" else _PROFILE)


FORMAT = Format(
    name="prores_hq",
    suffix=".mov",
    mime="video/quicktime",
    alpha="unsupported",
    audio=True,
    encoder=_encoder,
    implied_by_suffix=False,
    join=join_with(_PROFILE),
    splicer=VideoSplicer(_PROFILE),
    bytes_per_pixel=0.3,
)
