"""GIF: 255 colours, transparency of one bit, silent, 50 frames a second at most."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np

from alphareel.domain.clip import Colour
from alphareel.frame import Frame, Plane
from alphareel.media.palette import TRANSPARENT, Palette, palette_of
from alphareel.media.result_file import Proof
from alphareel.media.rgba import RgbPictures
from alphareel.media.samples import OPAQUE_FROM
from alphareel.media.verify import inspect_video
from alphareel.media.video_file import Recipe, video_file
from alphareel.media.write import Format, Sink, Target

# Browsers slow down frames that last one hundredth of a second; a page is served with fewer, just above fifteen.
_SHORTEST = Fraction(2, 100)
_LONGEST = Fraction(0xFFFF, 100)
_SHORTEST_ON_PAGES = Fraction(6, 100)


class _Painter:
    """RGB with a palette that is chosen anew about once a second, for a master each frame, from what can be seen."""

    pixel_format = "pal8"
    colour = Colour()

    def __init__(self, target: Target) -> None:
        self._pixels = RgbPictures(target.clip.colour)
        self._period = 1 if target.quality == "master" else max(1, round(target.clip.rate))
        self._palette: Palette | None = None
        self._age = 0

    def paint(self, frame: Frame, alpha: Plane | None) -> av.VideoFrame:
        rgb = self._pixels(frame, alpha)[..., :3]
        palette = self._chosen(rgb, alpha)
        indices = palette.indices(rgb)
        if alpha is not None:
            indices[alpha < OPAQUE_FROM] = TRANSPARENT
        return av.VideoFrame.from_ndarray((indices, _argb(palette)), format="pal8")  # type: ignore[arg-type]

    def _chosen(self, rgb: np.ndarray, alpha: Plane | None) -> Palette:
        if self._palette is None or self._age >= self._period:
            self._palette = palette_of(rgb.reshape(-1, 3) if alpha is None else rgb[alpha >= OPAQUE_FROM])
            self._age = 0
        self._age += 1
        return self._palette


def _argb(palette: Palette) -> np.ndarray:
    table = np.zeros((256, 4), np.uint8)
    table[:TRANSPARENT, 0] = 255
    table[:TRANSPARENT, 1:] = palette.colours
    return table


_RECIPE = Recipe(
    container="gif",
    codec="gif",
    painter=_Painter,
    options={},
    container_options={"loop": "0"},
    threads=1,
    time_base=Fraction(1, 100),
    proof=Proof(inspect_video, loose_frames=1, shortest=_SHORTEST, longest=_LONGEST, one_bit_alpha=True),
)


def _open(target: Target) -> Sink:
    shortest = _SHORTEST_ON_PAGES if target.quality == "web" else _SHORTEST
    return video_file(target, replace(_RECIPE, proof=replace(_RECIPE.proof, shortest=shortest)))


FORMAT = Format(name="gif", suffix=".gif", mime="image/gif", alpha=True, audio=False, open=_open, sides={"web": 480})
