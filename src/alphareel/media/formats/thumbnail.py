"""Thumbnail: one frame as a small WebP, transparent where the background was; the best one, or that of a moment."""

from pathlib import Path

from alphareel.media.format import Format, Sink, Target
from alphareel.media.output_file import VerificationProfile
from alphareel.media.poster_file import PosterFile, Still, inspect_still
from alphareel.media.webp_encoder import WebpPictures

_QUALITY = {"web": 70, "balanced": 80, "master": 92}
_EFFORT = 6  # there is only one of it


def _open(target: Target) -> Sink:
    def begin(target: Target, path: Path) -> Still:
        return Still(path, WebpPictures(target, quality=_QUALITY[target.quality], effort=_EFFORT))

    return PosterFile(target, begin, VerificationProfile(inspect_still, alpha_error=0.0))


FORMAT = Format(
    name="thumbnail",
    suffix=".webp",
    mime="image/webp",
    alpha=True,
    audio=False,
    open=_open,
    suffix_implies=False,
    sides={"web": 320, "balanced": 512, "master": 1024},
    still=True,
)
