"""The contract of everything that makes a matte: ``load() -> Engine``, ``start() -> Memory``, ``step(frames)``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from alphareel.domain.clip import Clip, EngineFacts
from alphareel.domain.options import Options
from alphareel.imaging.frame import Frame, Matte, Plane


@dataclass(frozen=True)
class ModelInfo:
    """What is known of an engine without loading it.

    ``subject``: what it cuts out (people, anything, key color). ``weights``: name of the weights it needs
    (``matting/weights.py``), None when it needs none. ``temporal``: it carries memory from frame to frame.
    ``warmup_frames``: frames after which its memory of a clip is as if it had seen it all, so that a clip can be made in
    chunks; None when what it saw at the start counts to the end. ``prompted``: it cuts out what text_prompt names.
    """

    name: str
    version: str
    subject: str
    summary: str
    code_license: str
    weights_license: str
    weights: str | None = None
    temporal: bool = False
    warmup_frames: int | None = None
    prompted: bool = False


class MattingSession(Protocol):
    """Temporal state of one clip; the engine itself holds none, so clips never see each other."""

    @property
    def thumbnail(self) -> tuple[int, int] | None:
        """(width, height) of the thumbnail that ``step`` wants on each frame; None when it wants none."""

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        """Mattes of consecutive frames, in order, one for each frame."""

    def finish(self) -> None:
        """The clip is over. Raises SubjectNotFound when what was to be kept was in none of its frames."""


class SceneSource(Protocol):
    """What a memory may look at before the first frame. Thumbnails: uint8 (3, h, w), Y, U, V as those of frames."""

    def plate(self, thumbnail: tuple[int, int]) -> Plane | None:
        """The picture of the empty scene that ``options.plate`` names, None when it names none."""

    def thumbnails(self, thumbnail: tuple[int, int]) -> Iterator[Plane]:
        """Thumbnails of the clip's frames from its start, for as long as it is worth looking."""


@runtime_checkable
class RequiresScene(Protocol):
    """A memory that has to look at the scene before its first step."""

    def prepare(self, scenery: SceneSource) -> None:
        """Called once, before the first ``step``."""


@runtime_checkable
class TwoPhaseSession(Protocol):
    """A memory whose steps have two halves, so that it can look at a frame while the one before is still finished."""

    def look(self, frame: Frame) -> Callable[[], Matte]:
        """What remembers, frames in order, one at a time. Returns the rest of the step, for another thread."""


class Engine(Protocol):
    """A loaded network (or none, for chroma): immutable, shared by clips and threads."""

    @property
    def facts(self) -> EngineFacts:
        """Name, version and weights hash, for the job and the manifest."""

    def start(self, clip: Clip, options: Options) -> MattingSession:
        """Fresh memory for one clip."""


# A model file (``matting/models/<name>.py``) defines:
#   SPEC: Spec
#   def available(models_dir: Path | None) -> str | None
#       None when it can run here, else one sentence on what is missing. Opens no network; raises WeightsInvalid
#       when there is a weights file that is not what its hash says.
#   def load(runtime: Runtime) -> Engine
#       Raises ModelUnavailable, WeightsInvalid.
