"""Difference matting against a clean plate, for a locked-off camera: cuts out whatever the plate does not show.

Has no network. Card: docs/models/plate.md.
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
from alphareel.matting.clean_plate import CleanPlate, find_plate, plate_from_image, sample
from alphareel.matting.cuts import CutDetector
from alphareel.matting.edges import decontaminate_edges
from alphareel.matting.engine import Engine, MattingSession, ModelInfo, SceneSource
from alphareel.matting.model_input import model_input_of, size_for
from alphareel.matting.plate_difference import Mask, PlateDifference, plate_difference, soften
from alphareel.matting.refine import refine
from alphareel.matting.runtime import Array, Runtime
from alphareel.matting.shadow import with_shadow

INFO = ModelInfo(
    name="plate",
    version="1",
    subject="what the empty scene does not show",
    summary="Compares frames with an image of the empty scene, given or found in the clip. For a locked-off camera.",
    code_license="Apache-2.0",
    weights_license="none needed",
    author_statement="Our own code; nothing is trained.",
    temporal=True,
    changes_colors="with shadows",
)

_AREA = 512 * 288
# A frame shows the plate's scene if at least this share of it matches. People may hide more briefly.
MIN_MATCH = 0.2
# Correlation of detail was at least 0.6 on real clips with people, and at most 0.03 with the plate of another scene.
MIN_DETAIL = 0.2
MAX_MISMATCHED_FRAMES = 12


def available(models_dir: Path | None) -> str | None:  # noqa: ARG001
    """Always None: there are no weights."""
    return None


def load(runtime: Runtime) -> Engine:  # noqa: ARG001
    """See ``matting.engine``."""
    return PlateEngine(INFO.facts(None))


@dataclass(frozen=True)
class PlateEngine:
    facts: EngineFacts

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Start a session, which must be prepared before its first step."""
        black = 0 if clip.color.full_range else 16
        return PlateSession(size_for(clip, area=_AREA, multiple=2), black=black, shadows=options.shadows)


class PlateSession:
    """The plate of one clip, and the subject in the previous frame."""

    def __init__(self, model_input_size: tuple[int, int], *, black: int, shadows: bool) -> None:
        self._model_input_size = model_input_size
        self._black = black
        self._shadows = shadows
        self._plate: CleanPlate | None = None
        self._previous_subject: Mask | None = None
        self._mismatched_frames = 0
        self._cuts = CutDetector()

    @property
    def model_input_size(self) -> tuple[int, int]:
        return self._model_input_size

    def prepare(self, scene: SceneSource) -> None:
        """Read the given plate, else find one in the clip. Raises BadVideo when none can be found."""
        image = scene.plate(self._model_input_size)
        if image is not None:
            self._plate = plate_from_image(image)
        else:
            self._plate = find_plate(sample(scene.model_inputs(self._model_input_size)))

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """One matte for each frame. Raises BadVideo when the scene is no longer that of the plate."""
        return [self.infer(frame)() for frame in frames]

    def finish(self) -> None:
        """A clip without a subject is not an error."""

    def infer(self, frame: Frame) -> Callable[[], Matte]:
        """Separate the subject from the scene; the returned function brings the matte to full size."""
        if self._plate is None:
            raise InternalError("The engine plate was not prepared.")
        model_input = model_input_of(frame, self._model_input_size)
        if self._cuts.is_cut(model_input):
            self._previous_subject = None
        image = model_input.astype(np.float32)
        difference = plate_difference(image, self._plate, previous=self._previous_subject, black=self._black)
        self._check_scene(difference, frame)
        self._previous_subject = difference.subject
        return partial(self._to_full_size, difference, image, frame)

    def _to_full_size(self, difference: PlateDifference, image: Array, frame: Frame) -> Matte:
        full = refine(soften(difference, image), frame)
        matte = Matte(decontaminate_edges(frame, full), full)
        return with_shadow(matte, difference.shadow, black=self._black) if self._shadows else matte

    def _check_scene(self, difference: PlateDifference, frame: Frame) -> None:
        is_mismatch = difference.match_ratio < MIN_MATCH or difference.detail < MIN_DETAIL
        self._mismatched_frames = self._mismatched_frames + 1 if is_mismatch else 0
        if self._mismatched_frames >= MAX_MISMATCHED_FRAMES:
            raise BadVideo(
                f"From frame {frame.index} the clip does not show the scene of the clean plate: the camera moved, "
                "or the shot changed.",
                hint="Split the clip there, provide the plate of this scene, or use the model human.",
            )
