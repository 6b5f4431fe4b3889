"""What an engine may look at before the first frame: the clip itself, and a picture of the empty scene."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from alphareel.domain.clip import Clip, Limits
from alphareel.domain.errors import InvalidRequest
from alphareel.domain.options import Options
from alphareel.imaging.compositor import convert_color, resize_cover
from alphareel.imaging.frame import Plane
from alphareel.media.image_reader import read_image
from alphareel.media.reader import open_reader

# Seconds of a long clip that are looked at: they cost a second decoding.
_LONGEST_LOOK = 600.0
# How far the shape of a plate may be from that of the clip: a crop of it would not fit to the pixel.
_SHAPE = 0.02


@dataclass(frozen=True)
class ClipScene:
    """The Scenery of a run (``matting.engine``)."""

    source: Path
    clip: Clip
    options: Options
    limits: Limits

    def plate(self, thumbnail: tuple[int, int]) -> Plane | None:
        """The picture at ``options.plate`` in the colors of the clip; InvalidRequest when its shape is another."""
        if self.options.plate is None:
            return None
        still = read_image(Path(self.options.plate), self.limits)
        if abs(still.width * self.clip.height / (still.height * self.clip.width) - 1) > _SHAPE:
            raise InvalidRequest(
                f"The plate has {still.width}x{still.height} pixels, another shape than the clip's "
                f"{self.clip.width}x{self.clip.height}.",
                hint="Take a frame of the same camera without a subject.",
            )
        size = (self.clip.width, self.clip.height)
        planes = convert_color(resize_cover((still.y, still.u, still.v), size), self.clip)
        return np.stack([np.asarray(cv2.resize(p, thumbnail, interpolation=cv2.INTER_AREA), np.uint8) for p in planes])

    def thumbnails(self, thumbnail: tuple[int, int]) -> Iterator[Plane]:
        """Thumbnails of the clip's first ten minutes."""
        with open_reader(self.source, self.limits) as reader:
            for frame in reader.frames(thumbnail=thumbnail, seconds=_LONGEST_LOOK):
                assert frame.thumbnail is not None
                yield frame.thumbnail
