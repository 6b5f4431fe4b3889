"""Reads mattes from a lossless matte instead of a network, to make further outputs of a finished run."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

from alphareel.domain.clip import Chunk, Clip, EngineFacts
from alphareel.domain.errors import AlphareelError, BadVideo
from alphareel.domain.options import Options
from alphareel.imaging.frame import Frame, Matte, Plane
from alphareel.matting import tiers
from alphareel.matting.edges import decontaminate_edges
from alphareel.matting.engine import Engine, MattingSession, RequiresScene
from alphareel.matting.tiers import SelectedEngine
from alphareel.media.matte_facts import MatteFacts, read_matte_facts
from alphareel.media.reader import Reader, open_reader
from alphareel.media.verify import UNLIMITED

EditAlpha: TypeAlias = Callable[[Frame, Plane], Plane]
"""Corrects the alpha of a frame. Called for frames in order."""

_TIMESTAMP_ERROR = Fraction(2, 1000)  # seconds; Matroska rounds to milliseconds


def matte_facts(options: Options, engine: SelectedEngine, session: MattingSession) -> MatteFacts:
    """The facts that a run writes into its lossless matte."""
    kept = replace(options.matting_options, plate=None, text_prompt=None)
    changes_colors = engine.changes_colors(options)
    return MatteFacts(engine.engine.facts, session.model_input_size, kept, changes_colors)


@dataclass(frozen=True)
class KeptMatte:
    """Takes the place of a SelectedEngine. ``warmup_frames``: None when the clip must be processed in a single pass."""

    engine: Engine
    facts: MatteFacts
    warnings: tuple[str, ...]
    warmup_frames: int | None


def open_matte(
    path: Path,
    source: Clip,
    models_dir: Path | None,
    threads: int | None,
    stack: ExitStack,
    *,
    start: Fraction,
    edit: EditAlpha | None = None,
) -> KeptMatte:
    """The matte ``path`` of the clip ``source``, read from ``start`` (seconds) on. ``stack`` closes it.

    ``edit``: returns the corrected alpha of a frame.

    Raises BadVideo when it is no lossless matte, or not one of this clip.
    """
    facts = read_matte_facts(path)
    reader = stack.enter_context(open_reader(path, UNLIMITED))
    check_size(reader.clip, source)
    colors, warnings = _color_engine(facts, models_dir, threads)
    engine = _MatteEngine(facts, MatteReader(reader, start, source.rate, edit), colors)
    return KeptMatte(engine, facts, warnings, None if colors else 0)


def check_size(matte: Clip, source: Clip) -> None:
    """Raises BadVideo when the matte has another size than the source, so that it is one of another video."""
    if (matte.width, matte.height) != (source.width, source.height):
        raise _foreign(f"it has {matte.width}x{matte.height} pixels")


def _color_engine(
    facts: MatteFacts, models_dir: Path | None, threads: int | None
) -> tuple[Engine | None, tuple[str, ...]]:
    """The engine that changed colors, to change them again; with a warning instead where it cannot run."""
    if not facts.changes_colors:
        return None, ()
    options = replace(facts.options, engine=facts.engine.name)
    try:
        return tiers.choose(options, models_dir, threads).engine, ()
    except AlphareelError as error:
        return None, (f"The colors that {facts.engine.name} corrected are as filmed: {error.message}",)


class MatteReader:
    """The alphas of a matte by time. Moments must not decrease.

    Frames of the source that are so close that the matte has the same timestamp for them take its frames in order.
    """

    def __init__(self, reader: Reader, start: Fraction, rate: Fraction, edit: EditAlpha | None = None) -> None:
        self._edit = edit
        clip = reader.clip
        self._base = clip.time_base
        self._tolerance = max(_TIMESTAMP_ERROR, 1 / (2 * rate))
        tick = max(0, int((start - _TIMESTAMP_ERROR) / clip.time_base))
        frames = reader.chunk(Chunk(tick, None, 0)) if tick else reader.frames()
        self._frames: Iterator[Frame] = frames
        self._current: Frame | None = None
        self._is_taken = False  # the current frame, by an earlier moment
        self._next: Frame | None = next(self._frames, None)

    def alpha_of(self, frame: Frame, base: Fraction) -> Plane:
        """Alpha (H, W), corrected, of a frame whose timestamps have the time base ``base``."""
        alpha = self.alpha_at(frame.pts * base)
        return alpha if self._edit is None else self._edit(frame, alpha)

    def alpha_at(self, moment: Fraction) -> Plane:
        """Alpha (H, W) of the frame shown at ``moment`` (seconds). Raises BadVideo when there is none."""
        while self._next is not None and self._is_better(self._next, moment):
            self._current, self._is_taken = self._next, False
            self._next = next(self._frames, None)
        if self._current is None or self._distance(self._current, moment) > self._tolerance:
            raise _foreign(f"it has no frame at {float(moment):.3f} s")
        self._is_taken = True
        return self._current.y

    def _is_better(self, frame: Frame, moment: Fraction) -> bool:
        """Whether ``frame`` fits the moment better than the current one."""
        if self._current is None:
            return True
        gain = self._distance(self._current, moment) - self._distance(frame, moment)
        return gain > 0 or (self._is_taken and gain >= -_TIMESTAMP_ERROR)

    def _distance(self, frame: Frame, moment: Fraction) -> Fraction:
        return abs(frame.pts * self._base - moment)


@dataclass(frozen=True)
class _MatteEngine:
    kept: MatteFacts
    reader: MatteReader
    colors: Engine | None

    @property
    def facts(self) -> EngineFacts:
        return self.kept.engine

    def start(self, clip: Clip, options: Options) -> MattingSession:  # noqa: ARG002 - the matte has its own
        if self.colors is not None:
            session = self.colors.start(clip, replace(self.kept.options, engine=self.facts.name))
            return _ColorSession(self.reader, clip.time_base, session)
        return _KeptSession(self.reader, clip.time_base, self.kept.model_input_size)


class _KeptSession:
    """Alphas of the matte, with the colors that ``decontaminate_edges`` derives from them."""

    def __init__(self, reader: MatteReader, time_base: Fraction, model_input_size: tuple[int, int] | None) -> None:
        self._reader = reader
        self._time_base = time_base
        self._model_input_size = model_input_size

    @property
    def model_input_size(self) -> tuple[int, int] | None:
        return self._model_input_size

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        return [self.infer(frame)() for frame in frames]

    def infer(self, frame: Frame) -> Callable[[], Matte]:
        alpha = self._reader.alpha_of(frame, self._time_base)
        return lambda: Matte(decontaminate_edges(frame, alpha), alpha)

    def finish(self) -> None:
        """The rest of the matte belongs to frames of the source that could not be decoded."""


class _ColorSession:
    """Alphas of the matte, with the colors of the engine that made it."""

    def __init__(self, reader: MatteReader, time_base: Fraction, colors: MattingSession) -> None:
        self._reader = reader
        self._time_base = time_base
        self._colors = colors
        self.model_input_size = colors.model_input_size
        if isinstance(colors, RequiresScene):
            self.prepare = colors.prepare

    def step(self, frames: Sequence[Frame]) -> Sequence[Matte]:
        mattes = (matte for frame in frames for matte in self._colors.step([frame]))
        return [replace(matte, alpha=self._reader.alpha_of(matte.frame, self._time_base)) for matte in mattes]

    def finish(self) -> None:
        """The subject was found when the matte was made."""


def _foreign(what: str) -> BadVideo:
    return BadVideo(
        f"The matte does not belong to this video: {what}.",
        hint="Name the video from which the matte was made, unchanged.",
    )
