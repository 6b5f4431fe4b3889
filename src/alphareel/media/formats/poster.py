"""Poster: one frame as a lossless PNG with alpha; the best frame, or the one at ``poster_time``."""

from pathlib import Path

from alphareel.media.encoder_input import RgbConverter
from alphareel.media.format import Format
from alphareel.media.output_file import Target
from alphareel.media.png import encode_small
from alphareel.media.poster_file import StillEncoder


def _encoder(target: Target, path: Path) -> StillEncoder:
    to_rgb = RgbConverter(target.clip.color)
    return StillEncoder(path, lambda frame, alpha: encode_small(to_rgb(frame, alpha)))


FORMAT = Format(
    name="poster",
    suffix=".png",
    mime="image/png",
    audio=False,
    encoder=_encoder,
    max_side={"web": 1280},
    still=True,
    bytes_per_pixel=1.0,
)
