"""Poster: one frame as a lossless PNG, transparent where the background was; the best one, or that of a moment."""

from pathlib import Path

from alphareel.media.format import Format, Sink, Target
from alphareel.media.output_file import VerificationProfile
from alphareel.media.png import encode_small
from alphareel.media.poster_file import PosterFile, Still, inspect_still
from alphareel.media.rgba import RgbPictures


def _open(target: Target) -> Sink:
    pixels = RgbPictures(target.clip.color)

    def begin(_: Target, path: Path) -> Still:
        return Still(path, lambda frame, alpha: encode_small(pixels(frame, alpha)))

    return PosterFile(target, begin, VerificationProfile(inspect_still, alpha_error=0.0))


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
