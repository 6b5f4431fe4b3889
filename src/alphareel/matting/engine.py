"""The contract of every matting engine: ``load() -> Engine``, ``Engine.start() -> MattingSession``, ``step(frames)``.

A model file, in ``matting/models`` or registered in the entry point group ``alphareel.models``, defines:

* ``INFO``: a ModelInfo.
* ``available(models_dir: Path | None) -> str | None``: None when the engine can run here, else one sentence on what is
  missing. Must not access the network. Raises WeightsInvalid when the weights file does not match its hash.
* ``load(runtime: Runtime) -> Engine``: raises ModelUnavailable or WeightsInvalid.
* ``WEIGHTS``: a ``matting.weights.Weights``, if the engine needs files that users download.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.options import Options
from alphareel.imaging.frame import Frame, Matte, Plane

_PERMISSIVE = frozenset({"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause", "ISC", "CC0-1.0", "none needed"})


@dataclass(frozen=True)
class ModelInfo:
    """Facts about an engine that are known without loading it."""

    name: str
    version: str
    subject: str
    """What it cuts out: people, anything, subjects in front of a colored screen."""
    summary: str
    code_license: str
    weights_license: str
    weights: str | None = None
    """File name pattern of its weights; None when it needs none."""
    temporal: bool = False
    """Whether earlier frames influence a matte."""
    warmup_frames: int | None = None
    """Frames after which a session no longer depends on the frames before them, so that a clip can be processed in
    chunks. None when the start of a clip influences all of it."""
    training_data: str | None = None
    """What its weights were trained on, and what is not known about it; None when it has no weights."""
    author_statement: str | None = None
    """What the authors say themselves about using it, quoted or in one sentence, with where; None when unknown."""
    prompted: bool = False
    """Whether it cuts out what ``text_prompt`` names."""
    changes_colors: Literal["never", "with shadows", "always"] = "never"
    """When its mattes have colors that do not follow from the frame and its alpha. Outputs that are made from a kept
    matte then need the engine again. Decontaminating edges does not count."""

    @property
    def permissive(self) -> bool:
        """Whether the licenses of code and weights, as published, permit any use. Says nothing of training data."""
        return {self.code_license, self.weights_license} <= _PERMISSIVE

    def facts(self, weights_sha256: str | None, *, version: str | None = None) -> EngineFacts:
        """The facts of the loaded engine. ``version``: of its weights, where they state one."""
        return EngineFacts(
            name=self.name,
            version=version or self.version,
            weights_sha256=weights_sha256,
            license=self.weights_license,
            code_license=self.code_license,
            training_data=self.training_data,
            author_statement=self.author_statement,
        )


class MattingSession(Protocol):
    """The temporal state of one clip. Engines hold no state themselves, so clips cannot influence each other."""

    @property
    def model_input_size(self) -> tuple[int, int] | None:
        """(width, height) of the model input that ``step`` needs on each frame; None when it needs none."""

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """Return one matte for each of these consecutive frames, in order."""

    def finish(self) -> None:
        """End the clip. Raises SubjectNotFound when the requested subject was in none of its frames."""


class SceneSource(Protocol):
    """What a session can read before the first frame. All images are uint8 (3, h, w) in Y, U, V."""

    def plate(self, size: tuple[int, int]) -> Plane | None:
        """The image of the empty scene in ``options.plate`` at (width, height); None when there is none."""

    def model_inputs(self, size: tuple[int, int]) -> Iterator[Plane]:
        """Model inputs at (width, height) of frames from the start of the clip."""


@runtime_checkable
class RequiresScene(Protocol):
    """A session that reads the scene before its first step."""

    def prepare(self, scene: SceneSource) -> None:
        """Read the scene. Called once, before the first ``step``."""


@runtime_checkable
class TwoPhaseSession(Protocol):
    """A session whose steps can overlap: inference of one frame runs while the matte before it is finished."""

    def infer(self, frame: Frame) -> Callable[[], Matte]:
        """Run the stateful part of a step, for one frame at a time and in order.

        Returns the stateless rest, which any thread may call.
        """


class Engine(Protocol):
    """A loaded model. Immutable; shared by clips and threads."""

    @property
    def facts(self) -> EngineFacts:
        """Name, version and weights hash, for the job record and the manifest."""

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """A session that gets the frames of this clip, in order, and no others."""
