"""The main path: read, matte, then compose and write, once for each output; all stages overlap, few frames are held.

``run`` is a generator of Progress: facts come as it goes, closing it cancels and leaves nothing behind.
"""

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from alphareel.domain.budget import check_paid
from alphareel.domain.clip import Chunk, Clip, EngineFacts, Limits, Progress, Result
from alphareel.domain.errors import BadVideo, InvalidRequest
from alphareel.domain.options import Composition, Options, Output
from alphareel.imaging.compositor import Compositor, make_compositor
from alphareel.imaging.frame import Frame, Matte
from alphareel.matting import tiers
from alphareel.matting.choke_feather import choke_and_feather
from alphareel.matting.engine import Engine, MattingSession, RequiresScene, TwoPhaseSession
from alphareel.media.atomic_file import refuse_existing
from alphareel.media.format import Format, check_format, check_suffix, format_named
from alphareel.media.image_reader import read_image
from alphareel.media.output_file import OutputFile, Target
from alphareel.media.reader import Reader, open_reader
from alphareel.media.verify import Verified, verify
from alphareel.pipeline.previews import PreviewWriter
from alphareel.pipeline.progress import ProgressTracker
from alphareel.pipeline.scene import ClipScene
from alphareel.pipeline.threads import BackgroundConsumer, Prefetcher


def run(
    source: Path,
    outputs: Sequence[Output],
    *,
    limits: Limits | None = None,
    models_dir: Path | None = None,
    order: Sequence[str] | None = None,
    threads: int | None = None,
    previews: Path | None = None,
    chunk: Chunk | None = None,
    overwrite: bool = False,
    paid_seconds: float | None = None,
    frames_ahead: int = 4,
) -> Generator[Progress, None, None]:
    """Remove the background of ``source`` and write ``outputs``, all from one matte; the last Progress has the results.

    Files get their names when all of them are whole, verified and on the disk; before that there is none.
    ``previews``: a folder for small pictures of the newest frame, which each Progress then names. ``chunk``: make
    this stretch of the clip only, from zero and silent, for ``chunks.join``; BadVideo without its first frame.
    ``overwrite``: replace what has an output's name; else TargetExists, before any work and again at the end.
    ``paid_seconds``: how much of the source credits are reserved for; InsufficientCredits where it goes on after that.
    ``frames_ahead``: how many frames each stage may hold that the next has no time for yet; fewer take less memory.
    Raises InvalidRequest, BadVideo, ModelUnavailable, StorageFailed, VerificationFailed and kin (``domain.errors``).
    """
    check_outputs(source, outputs, overwrite=overwrite)
    asked, limits = outputs[0].options.matting_options, limits or Limits()
    with ExitStack() as opened:
        reader = opened.enter_context(open_reader(source, limits))
        chosen = tiers.choose(asked, models_dir, threads, order=order)
        memory = begin_matting(chosen.engine, source, reader.clip, asked, limits)
        since, clip = (0, reader.clip) if chunk is None else (chunk.start, replace(reader.clip, audio=None))
        drafts = [begin(output, source, clip, limits, opened, overwrite=overwrite) for output in outputs]
        if chunk is None:
            frames = reader.frames(thumbnail=memory.thumbnail, seconds=asked.preview_duration)
        else:
            frames = reader.chunk(chunk, memory.thumbnail, lead=chosen.lead or 0)
        reading = opened.enter_context(
            Prefetcher(_paid_for(frames, clip, paid_seconds), name="read", depth=frames_ahead)
        )
        matting = opened.enter_context(Prefetcher(mattes(memory, reading, asked), name="matte", depth=frames_ahead))
        behind = partial(BackgroundConsumer[Matte, Verified], name="write", depth=min(2, frames_ahead))
        writers = [opened.enter_context(behind(partial(draft.write, since=since))) for draft in drafts]
        meter = ProgressTracker(reader.clip, asked.preview_duration, chunk)
        artist = PreviewWriter(previews, reader.clip, single=chunk is not None) if previews else None
        for matte in matting:
            if matte.frame.pts < since:  # shown for the memory's sake
                continue
            if chunk is not None and not meter.done and matte.frame.pts > since:
                raise _missing_first_frame()  # containers keep no first moment but zero to the tick, and joining needs it
            for writer in writers:
                writer.give(matte)
            if meter.count(matte.frame):
                report = meter.report(reading, matting, writers)
                yield artist.write_preview(report, matte) if artist else report
        if not meter.done:
            raise BadVideo("No frame of the video could be decoded.", hint="Play it to check it, or export it again.")
        check_paid(meter.source_seconds, paid_seconds)
        for writer in writers:
            writer.end()
        verified = [writer.result() for writer in writers]
        publish(drafts, overwrite=overwrite)
        told = (chosen.engine.facts, _read(meter, reader), chosen.warnings)
        results = tuple(draft.result(found, *told) for draft, found in zip(drafts, verified, strict=True))
        last = meter.report(reading, matting, writers)
        yield replace(last, share=1.0, remaining_seconds=0.0, results=results)


def publish(drafts: Sequence["PendingOutput"], *, overwrite: bool) -> None:
    """Give all files their names. What appeared there meanwhile refuses all of them, not the rest of them."""
    if not overwrite:
        for draft in drafts:
            refuse_existing(draft.output.path)
    for draft in drafts:
        draft.sink.publish()


@dataclass(frozen=True)
class Read:
    """What a run read of its source: seconds, frames, pixels of each, and frames that could not be decoded."""

    seconds: float
    frames: int
    pixels: int
    frames_lost: int


def _read(meter: ProgressTracker, reader: Reader) -> Read:
    return Read(meter.source_seconds, meter.done, reader.clip.width * reader.clip.height, reader.frames_lost)


def _paid_for(
    frames: Generator[Frame, None, None], clip: Clip, paid_seconds: float | None
) -> Generator[Frame, None, None]:
    """The frames, as long as they begin within what is paid for. Raises InsufficientCredits at the first after that."""
    with closing(frames):
        for frame in frames:
            check_paid(float(frame.pts * clip.time_base), paid_seconds)
            yield frame


def _missing_first_frame() -> BadVideo:
    return BadVideo("The first frame of a chunk could not be decoded.", hint="Make the whole in one go.")


def check_outputs(source: Path, outputs: Sequence[Output], *, overwrite: bool = False) -> None:
    """Refuse outputs that one run cannot make, or that would destroy the footage or each other."""
    if not outputs:
        raise InvalidRequest("There is no target.", hint="Name a file to write.")
    if any(output.options.matting_options != outputs[0].options.matting_options for output in outputs):
        raise InvalidRequest("The targets need different mattes.", hint="Make those that differ in a run of their own.")
    for output in outputs:
        check_format(output.options)
    places = [output.path.resolve() for output in outputs]
    if len(set(places)) < len(places):
        raise InvalidRequest("Two targets are the same file.", hint="Give each a name of its own.")
    read = [("source", source), *_files_read(outputs)]
    for output, place in zip(outputs, places, strict=True):
        check_suffix(output.path, output.options.output_format)
        if place.is_dir():
            raise InvalidRequest(f"The target {output.path} is a folder.", hint="Name a file in it.")
        if place.exists() and not place.is_file():
            raise InvalidRequest(f"The target {output.path} is a device or a pipe.", hint="Name an ordinary file.")
        for what, path in read:
            if place.exists() and path.exists() and place.samefile(path):
                raise InvalidRequest(
                    f"The target {output.path} is the {what} itself.", hint="Name another: what is read stays as it is."
                )
        if not overwrite:
            refuse_existing(output.path)


def _files_read(outputs: Sequence[Output]) -> Iterator[tuple[str, Path]]:
    """The files that the outputs are made from beside the source, and what each is."""
    for output in outputs:
        background, plate = output.options.background, output.options.plate
        named = ("background", background.image_url), ("background", background.video_url), ("plate", plate)
        yield from ((what, Path(path)) for what, path in named if path is not None)


def begin_matting(engine: Engine, source: Path, clip: Clip, options: Options, limits: Limits) -> MattingSession:
    """Memory that is ready for the first frame; some engines look at the scene before it."""
    memory = engine.start(clip, options)
    if isinstance(memory, RequiresScene):
        memory.prepare(ClipScene(source, clip, options, limits))
    return memory


def mattes(memory: MattingSession, frames: Iterable[Frame], options: Options) -> Generator[Matte, None, None]:
    """A matte for each frame, its outline as wished; what the alpha of a source hides stays hidden."""
    with closing(_made(memory, frames)) as each:
        for made in each:
            matte = made
            if options.grow or options.feather:
                matte = replace(made, alpha=choke_and_feather(made.alpha, grow=options.grow, feather=options.feather))
            yield matte if matte.frame.alpha is None else _within_own_alpha(matte)
    memory.finish()


def _made(memory: MattingSession, frames: Iterable[Frame]) -> Generator[Matte, None, None]:
    """A matte for each frame; where a step has two halves they overlap, as the stages do."""
    if not isinstance(memory, TwoPhaseSession):
        for frame in frames:
            yield from memory.step([frame])
        return
    with Prefetcher((memory.look(frame) for frame in frames), name="look", depth=1) as looked:
        for finish in looked:
            yield finish()


@dataclass(frozen=True)
class PendingOutput:
    """One output being made: how mattes become its pictures, and the sink that holds them."""

    output: Output
    form: Format
    compose: Compositor
    sink: OutputFile

    def write(self, mattes: Iterator[Matte], *, since: int = 0) -> Verified:
        """Write every matte, then open the file again and check it. It has no name yet, but it will survive a crash.

        The tick ``since`` becomes the file's zero.
        """
        for matte in mattes:
            frame, alpha = self.compose(matte)
            self.sink.write(replace(frame, pts=frame.pts - since), alpha)
        verified = verify(self.sink.path, self.sink.finish())
        self.sink.fsync()
        return verified

    def result(self, verified: Verified, engine: EngineFacts, read: Read, warnings: tuple[str, ...]) -> Result:
        """What is known of the file now that it has its name."""
        told = (*self.output.options.warnings(), *warnings, *self.sink.warnings)
        return result_of(self.output, self.form, verified, engine, read, warnings=told)


def result_of(
    output: Output,
    form: Format,
    verified: Verified,
    engine: EngineFacts,
    read: Read,
    *,
    warnings: tuple[str, ...],
) -> Result:
    """The facts of a finished file."""
    return Result(
        path=str(output.path),
        format=form.name,
        mime=form.mime,
        bytes=verified.bytes,
        sha256=verified.sha256,
        frames=verified.frames,
        seconds=verified.seconds,
        width=verified.width,
        height=verified.height,
        has_alpha=verified.has_alpha,
        has_audio=verified.has_audio,
        engine=engine,
        alpha=form.alpha_kind if verified.has_alpha else "none",
        frames_lost=read.frames_lost,
        warnings=warnings,
        source_seconds=read.seconds,
        source_frames=read.frames,
        source_pixels=read.pixels,
    )


def begin(
    output: Output, source: Path, clip: Clip, limits: Limits, opened: ExitStack, *, overwrite: bool = False
) -> PendingOutput:
    """Open what the output needs; ``opened`` closes it, and takes away what was not published."""
    form = format_named(output.options.output_format)
    compose = open_compositor(output.options, clip, limits, form, opened)
    target = plan_target(source, output, clip, compose, overwrite=overwrite)
    sink = form.open(target)
    opened.callback(sink.abort)
    return PendingOutput(output, form, compose, sink)


def open_compositor(options: Options, clip: Clip, limits: Limits, form: Format, opened: ExitStack) -> Compositor:
    """The composer of an output; ``opened`` closes the background that it reads."""
    return make_compositor(
        fitted(options, clip, form),
        clip,
        read_still=lambda path: read_image(Path(path), limits),
        open_video=lambda path: opened.enter_context(open_reader(Path(path), limits)),
    )


def fitted(options: Options, clip: Clip, form: Format) -> Options:
    """The options with a canvas as large as their quality allows; a canvas that was asked for stays as it is."""
    side, longer = form.max_side.get(options.quality), max(clip.width, clip.height)
    if side is None or longer <= side or options.composition is not None:
        return options
    width, height = (max(2, round(length * side / longer / 2) * 2) for length in (clip.width, clip.height))
    return replace(options, composition=Composition(width, height))


def plan_target(source: Path, output: Output, clip: Clip, compose: Compositor, *, overwrite: bool = False) -> Target:
    """What a sink is to write for this composition; sound comes along when the source has any."""
    return Target(
        path=output.path,
        clip=clip,
        width=compose.width,
        height=compose.height,
        has_alpha=compose.has_alpha,
        source=source if clip.audio else None,
        seconds=output.options.preview_duration,
        quality=output.options.quality,
        moment=output.options.poster_time,
        overwrite=overwrite,
    )


def _within_own_alpha(matte: Matte) -> Matte:
    own = matte.frame.alpha
    assert own is not None
    return replace(matte, alpha=np.asarray(cv2.multiply(matte.alpha, own, scale=1 / 255), np.uint8))
