"""The difference to a clean plate: cuts out whatever was not there, for a camera that does not move.

Arithmetic alone. Its card: docs/models/plate.md.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.errors import BadVideo, InternalError
from alphareel.domain.options import Options
from alphareel.imaging.frame import Frame, Matte
from alphareel.matting.clean_plate import CleanPlate, find_plate, plate_of, sample
from alphareel.matting.cuts import CutDetector
from alphareel.matting.edges import decontaminate_edges
from alphareel.matting.engine import Engine, MattingSession, ModelInfo, SceneSource
from alphareel.matting.model_input import model_input_of, size_for
from alphareel.matting.plate_difference import Mask, PlateDifference, plate_difference, soften
from alphareel.matting.refine import refine
from alphareel.matting.runtime import Array, Runtime
from alphareel.matting.shadow import with_shadow

SPEC = ModelInfo(
    name="plate",
    version="1",
    subject="what the empty scene does not show",
    summary="Compares with a picture of the empty scene, given or found in the clip; for a camera that does not move.",
    code_license="Apache-2.0",
    weights_license="none needed",
    temporal=True,
)

_AREA = 512 * 288
# A frame shows the scene of the plate when this share of it looks the same; people may hide more for so many frames.
_LEAST_ALIKE = 0.2
# Detail correlates by 0.6 and more on a real clip with people in it, by 0.03 and less with the plate of another.
_LEAST_DETAIL = 0.2
_PATIENCE = 12


def available(models_dir: Path | None) -> str | None:  # noqa: ARG001 - the contract of model files
    """Always None: it needs nothing."""
    return None


def load(runtime: Runtime) -> Engine:  # noqa: ARG001 - no network to run
    """The engine; it holds nothing."""
    return PlateEngine(EngineFacts(SPEC.name, SPEC.version, None, SPEC.weights_license))


@dataclass(frozen=True)
class PlateEngine:
    facts: EngineFacts

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Fresh memory; it has to be prepared before its first step."""
        black = 0 if clip.color.full_range else 16
        return PlateSession(size_for(clip, area=_AREA, multiple=2), black=black, shadows=options.shadows)


class PlateSession:
    """The plate of one clip, and where the subject was one frame ago."""

    def __init__(self, thumbnail: tuple[int, int], *, black: int, shadows: bool) -> None:
        self._thumbnail = thumbnail
        self._black = black
        self._shadows = shadows
        self._plate: CleanPlate | None = None
        self._before: Mask | None = None
        self._lost = 0
        self._cuts = CutDetector()

    @property
    def thumbnail(self) -> tuple[int, int]:
        return self._thumbnail

    def prepare(self, scenery: SceneSource) -> None:
        """Take the plate that was given, else find one in the clip. Raises BadVideo when there is none to be found."""
        given = scenery.plate(self._thumbnail)
        if given is not None:
            self._plate = plate_of(given)
        else:
            self._plate = find_plate(sample(scenery.thumbnails(self._thumbnail)))

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """One matte for each frame. Raises BadVideo when the scene is not that of the plate any more."""
        return [self.look(frame)() for frame in frames]

    def finish(self) -> None:
        """An empty scene is no failure."""

    def look(self, frame: Frame) -> Callable[[], Matte]:
        """Tell the subject from the scene; what brings it to full size remembers nothing."""
        if self._plate is None:
            raise InternalError("The engine plate was not prepared.")
        small = model_input_of(frame, self._thumbnail)
        if self._cuts.is_cut(small):
            self._before = None
        picture = small.astype(np.float32)
        difference = plate_difference(picture, self._plate, before=self._before, black=self._black)
        self._watch(difference, frame)
        self._before = difference.subject
        return partial(self._full, difference, picture, frame)

    def _full(self, difference: PlateDifference, picture: Array, frame: Frame) -> Matte:
        full = refine(soften(difference, picture), frame)
        matte = Matte(decontaminate_edges(frame, full), full)
        return with_shadow(matte, difference.shadow, black=self._black) if self._shadows else matte

    def _watch(self, difference: PlateDifference, frame: Frame) -> None:
        gone = difference.match_ratio < _LEAST_ALIKE or difference.detail < _LEAST_DETAIL
        self._lost = self._lost + 1 if gone else 0
        if self._lost >= _PATIENCE:
            raise BadVideo(
                f"At frame {frame.index} the clip does not show the scene of the clean plate: the camera moved, or the "
                "shot changed.",
                hint="Cut the clip where that happens, give the plate of this scene, or use the model human.",
            )
