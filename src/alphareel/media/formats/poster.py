"""Poster: one frame as a lossless PNG, transparent where the background was; the best one, or that of a moment."""

from pathlib import Path

from alphareel.media.png import encode_small
from alphareel.media.result_file import Proof
from alphareel.media.rgba import RgbPictures
from alphareel.media.still_file import Still, StillFile, inspect_still
from alphareel.media.write import Format, Sink, Target


def _open(target: Target) -> Sink:
    pixels = RgbPictures(target.clip.colour)

    def begin(_: Target, path: Path) -> Still:
        return Still(path, lambda frame, alpha: encode_small(pixels(frame, alpha)))

    return StillFile(target, begin, Proof(inspect_still, alpha_error=0.0))


FORMAT = Format(
    name="poster",
    suffix=".png",
    mime="image/png",
    alpha=True,
    audio=False,
    open=_open,
    sides={"web": 1280},
    still=True,
)
