"""Thumbnail: one frame as a small WebP with alpha; the best frame, or the one at ``poster_time``."""

from pathlib import Path

from alphareel.media.format import Format
from alphareel.media.output_file import Target
from alphareel.media.poster_file import StillEncoder
from alphareel.media.webp_encoder import WebpEncoder

_QUALITY = {"web": 70, "balanced": 80, "master": 92}
_EFFORT = 6  # the slowest: there is one frame to encode


def _encoder(target: Target, path: Path) -> StillEncoder:
    encode = WebpEncoder(target, quality=_QUALITY[target.quality], effort=_EFFORT)
    return StillEncoder(path, encode)


FORMAT = Format(
    name="thumbnail",
    suffix=".webp",
    mime="image/webp",
    audio=False,
    encoder=_encoder,
    implied_by_suffix=False,
    max_side={"web": 320, "balanced": 512, "master": 1024},
    still=True,
    bytes_per_pixel=0.02,
)
