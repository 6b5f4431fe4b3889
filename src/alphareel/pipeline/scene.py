"""What an engine can read before the first frame: the clip itself and an image of the empty scene."""

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

# Reading the clip means decoding it twice, so long clips are read only in part.
MAX_SCAN_SECONDS = 600.0
# The aspect ratio of a plate may differ by this much. A larger difference means another crop of the scene.
MAX_ASPECT_ERROR = 0.02


@dataclass(frozen=True)
class ClipScene:
    """The ``matting.engine.SceneSource`` of a run."""

    source: Path
    clip: Clip
    options: Options
    limits: Limits

    def plate(self, size: tuple[int, int]) -> Plane | None:
        """The image ``options.plate`` in the colors of the clip. Raises InvalidRequest for another aspect ratio."""
        if self.options.plate is None:
            return None
        image = read_image(Path(self.options.plate), self.limits)
        if abs(image.width * self.clip.height / (image.height * self.clip.width) - 1) > MAX_ASPECT_ERROR:
            raise InvalidRequest(
                f"The plate is {image.width}x{image.height}, another aspect ratio than the clip's "
                f"{self.clip.width}x{self.clip.height}.",
                hint="Use a frame of the same camera without the subject.",
            )
        clip_size = (self.clip.width, self.clip.height)
        planes = convert_color(resize_cover((image.y, image.u, image.v), clip_size), self.clip)
        return np.stack([np.asarray(cv2.resize(p, size, interpolation=cv2.INTER_AREA), np.uint8) for p in planes])

    def model_inputs(self, size: tuple[int, int]) -> Iterator[Plane]:
        """Model inputs of the first ten minutes of the clip."""
        with open_reader(self.source, self.limits) as reader:
            for frame in reader.frames(thumbnail=size, seconds=MAX_SCAN_SECONDS):
                assert frame.thumbnail is not None
                yield frame.thumbnail
