"""Thumbnail: one frame as a small WebP, transparent where the background was; the best one, or that of a moment."""

from pathlib import Path

from alphareel.media.result_file import Proof
from alphareel.media.still_file import Still, StillFile, inspect_still
from alphareel.media.webp_pictures import WebpPictures
from alphareel.media.write import Format, Sink, Target

_QUALITY = {"web": 70, "balanced": 80, "master": 92}
_EFFORT = 6  # there is only one of it


def _open(target: Target) -> Sink:
    def begin(target: Target, path: Path) -> Still:
        return Still(path, WebpPictures(target, quality=_QUALITY[target.quality], effort=_EFFORT))

    return StillFile(target, begin, Proof(inspect_still, alpha_error=0.0))


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
