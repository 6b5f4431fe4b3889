"""MOV: ProRes 4444, optionally with alpha, and the source's audio. For editing programs."""

from dataclasses import replace
from pathlib import Path

from alphareel.media.format import Format
from alphareel.media.join import join_with
from alphareel.media.output_file import Target
from alphareel.media.prores import AUDIO, TenBitConverter
from alphareel.media.splice import VideoSplicer
from alphareel.media.video_file import EncoderProfile, VideoEncoder

# At 60 dB prores_aw takes a third of the time of prores_ks. Both store the same alpha.
_PROFILE = EncoderProfile(
    container="mov", codec="prores_aw", converter=TenBitConverter, options={"profile": "4"}, audio=AUDIO
)
_MASTER = replace(
    _PROFILE, codec="prores_ks", options={"profile": "4444", "alpha_bits": "16", "vendor": "apl0"}, threads=0
)


def _encoder(target: Target, path: Path) -> VideoEncoder:
    return VideoEncoder(target, path, profile=_MASTER if target.quality == "master" else _PROFILE)


FORMAT = Format(
    name="mov",
    suffix=".mov",
    mime="video/quicktime",
    audio=True,
    encoder=_encoder,
    join=join_with(_PROFILE),
    splicer=VideoSplicer(_PROFILE),
    bytes_per_pixel=0.66,
)
