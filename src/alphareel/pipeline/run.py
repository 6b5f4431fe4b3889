"""The main loop: read, matte, then compose and write each output. All stages overlap and few frames are in memory.

``run`` is a generator of Progress. Closing it cancels the run and removes its files.
"""

import hashlib
import json
import math
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from alphareel import __version__
from alphareel.domain.budget import check_paid
from alphareel.domain.clip import Chunk, Clip, EngineFacts, Limits, Progress, Result
from alphareel.domain.corrections import Correction
from alphareel.domain.errors import BadVideo, InvalidRequest
from alphareel.domain.options import LOSSLESS_MATTE, Composition, Options, Output
from alphareel.domain.options import to_json as options_to_json
from alphareel.imaging.compositor import Compositor, make_compositor
from alphareel.imaging.frame import Frame, Matte
from alphareel.matting import tiers
from alphareel.matting.choke_feather import choke_and_feather
from alphareel.matting.engine import Engine, MattingSession, RequiresScene, TwoPhaseSession
from alphareel.matting.network import NetworkSession
from alphareel.matting.runtime import Device
from alphareel.matting.tiers import SelectedEngine
from alphareel.media.atomic_file import refuse_existing
from alphareel.media.format import Format, check_format, check_suffix, format_named
from alphareel.media.image_reader import read_image
from alphareel.media.output_file import OutputFile, Target
from alphareel.media.reader import Reader, open_reader
from alphareel.media.source import LIBRARY_VERSIONS
from alphareel.media.verify import Verified, verify
from alphareel.paths import file_sha256
from alphareel.pipeline.corrections import SubjectSelection, plan_edits
from alphareel.pipeline.kept_matte import KeptMatte, matte_facts, open_matte
from alphareel.pipeline.previews import PreviewWriter
from alphareel.pipeline.progress import ProgressTracker
from alphareel.pipeline.scene import ClipScene
from alphareel.pipeline.threads import BackgroundConsumer, Prefetcher

_QUEUE_BYTES = 8 * 2**20  # of mattes that a stage may buffer for the next


def run(
    source: Path,
    outputs: Sequence[Output],
    *,
    limits: Limits | None = None,
    models_dir: Path | None = None,
    engine_priority: Sequence[str] | None = None,
    threads: int | None = None,
    previews: Path | None = None,
    chunk: Chunk | None = None,
    matte: Path | None = None,
    corrections: Sequence[Correction] = (),
    plans: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
    paid_seconds: float | None = None,
    frames_ahead: int = 4,
    device: Device = "cpu",
) -> Generator[Progress, None, None]:
    """Remove the background of ``source`` and write ``outputs`` from one matte. The last Progress has the results.

    No output appears under its name until all of them are complete, verified and flushed to disk.

    - ``engine_priority``: engines to try instead of those of the tier.
    - ``previews``: folder for small images of the newest frame; each Progress names the latest.
    - ``chunk``: process only this part of the clip, for ``chunks.join``. The output has no audio and starts at zero.
    - ``matte``: a lossless matte of ``source``; its alpha is used instead of an engine's. ``corrections`` apply to it.
    - ``plans``: of the revision before, see ``plan_edits``.
    - ``overwrite``: replace existing files. Otherwise raises TargetExists, before any work and again before publishing.
    - ``paid_seconds``: how much of the source the reserved credits cover; raises InsufficientCredits if it is longer.
    - ``frames_ahead``: how many frames each stage may buffer for the next, see ``queue_depth``. With 1, smoothing is
      "live", because offline smoothing keeps frames in memory.
    - ``device``: where the network runs; raises ModelUnavailable if it is not there.

    Raises InvalidRequest, BadVideo, ModelUnavailable, StorageFailed, VerificationFailed and other ``domain.errors``.
    """
    check_outputs(source, outputs, overwrite=overwrite, inputs=matte_inputs(matte, corrections))
    options, limits = outputs[0].options.matting_options, limits or Limits()
    if frames_ahead == 1:
        options = replace(options, smoothing="live")
    with ExitStack() as stack:
        reader = stack.enter_context(open_reader(source, limits))
        clip = reader.clip
        selected: SelectedEngine | KeptMatte
        attachments: Mapping[str, bytes] = {}
        if matte is None:
            selected = tiers.choose(options, models_dir, threads, device, engine_priority=engine_priority)
        else:
            start = Fraction(0) if chunk is None else chunk.start * clip.time_base
            edits = plan_edits(
                source, matte, corrections, limits, seconds=options.preview_duration, threads=threads, plans=plans
            )
            attachments = edits.plans
            selected = open_matte(matte, clip, models_dir, threads, stack, start=start, edit=edits.apply)
        session = start_session(selected.engine, source, clip, options, limits)
        tags = _matte_tags(outputs, selected, session, options)
        output_clip = clip if chunk is None else replace(clip, audio=None)
        pending_outputs = [
            open_output(
                output, source, output_clip, limits, stack, tags=tags, attachments=attachments, overwrite=overwrite
            )
            for output in outputs
        ]

        depth = queue_depth(clip, frames_ahead)
        frames = _frames(reader, session, options, chunk, warmup_frames=selected.warmup_frames or 0)
        reading = stack.enter_context(Prefetcher(_paid_frames(frames, clip, paid_seconds), name="read", depth=depth))
        all_mattes = mattes(session, reading, options) if matte is None else engine_mattes(session, reading)
        matting = stack.enter_context(Prefetcher(all_mattes, name="matte", depth=depth))
        start_tick = 0 if chunk is None else chunk.start
        writers = [
            stack.enter_context(pending.start_writer(start_tick, depth=min(2, depth))) for pending in pending_outputs
        ]

        tracker = ProgressTracker(clip, options.preview_duration, chunk)
        preview_writer = PreviewWriter(previews, clip, single=chunk is not None) if previews else None
        for finished in matting if chunk is None else _within(chunk, matting):
            for writer in writers:
                writer.put(finished)
            if tracker.count(finished.frame):
                progress = tracker.report(reading, matting, writers)
                yield preview_writer.update(progress, finished) if preview_writer else progress
        if not tracker.done:
            raise BadVideo("No frame of the video could be decoded.", hint="Play it to check it, or export it again.")
        check_paid(tracker.source_seconds, paid_seconds)

        for writer in writers:
            writer.end()
        verified_files = [writer.result() for writer in writers]
        publish(pending_outputs, overwrite=overwrite)
        amount_read = _amount_read(tracker, reader)
        results = tuple(
            pending.result(verified, selected.engine.facts, amount_read, selected.warnings)
            for pending, verified in zip(pending_outputs, verified_files, strict=True)
        )
        progress = tracker.report(reading, matting, writers)
        yield replace(progress, share=1.0, remaining_seconds=0.0, results=results)


def queue_depth(clip: Clip, frames_ahead: int) -> int:
    """How many mattes of the clip a stage may buffer: ``frames_ahead``, but at most 8 MiB of them, and at least one."""
    matte_bytes = clip.width * clip.height * 5 // 2  # planes and alpha
    return max(1, min(frames_ahead, _QUEUE_BYTES // matte_bytes))


def publish(pending_outputs: Sequence["PendingOutput"], *, overwrite: bool) -> None:
    """Publish all outputs. Raises TargetExists before the first one if any of the files has appeared meanwhile."""
    if not overwrite:
        for pending in pending_outputs:
            refuse_existing(pending.output.path)
    for pending in pending_outputs:
        pending.output_file.publish()


@dataclass(frozen=True)
class AmountRead:
    """How much of its source a run read. ``pixels``: of each frame. ``frames_lost``: could not be decoded."""

    seconds: float
    frames: int
    pixels: int
    frames_lost: int


def _amount_read(tracker: ProgressTracker, reader: Reader) -> AmountRead:
    pixels = reader.clip.width * reader.clip.height
    return AmountRead(tracker.source_seconds, tracker.done, pixels, reader.frames_lost)


def _frames(
    reader: Reader, session: MattingSession, options: Options, chunk: Chunk | None, *, warmup_frames: int
) -> Generator[Frame, None, None]:
    """The frames that the session needs: those of the clip, or of the chunk with those that its mattes depend on."""
    if chunk is None:
        return reader.frames(thumbnail=session.model_input_size, seconds=options.preview_duration)
    return reader.chunk(chunk, session.model_input_size, lead=warmup_frames, tail=_look_ahead(session))


def _paid_frames(
    frames: Generator[Frame, None, None], clip: Clip, paid_seconds: float | None
) -> Generator[Frame, None, None]:
    """Pass frames on. Raises InsufficientCredits at the first one that starts after the paid part of the clip."""
    with closing(frames):
        for frame in frames:
            check_paid(float(frame.pts * clip.time_base), paid_seconds)
            yield frame


def _within(chunk: Chunk, mattes: Iterable[Matte]) -> Iterator[Matte]:
    """The mattes of the chunk's frames, without those that were made only because its first or last ones need them.

    Raises BadVideo if the first frame is missing: joining needs a frame at the first tick of every chunk.
    """
    end = math.inf if chunk.end is None else chunk.end
    started = False
    for matte in mattes:
        if not chunk.start <= matte.frame.pts < end:
            continue
        if not started and matte.frame.pts > chunk.start:
            raise BadVideo(
                "The first frame of a chunk could not be decoded.", hint="Process the clip in a single pass."
            )
        started = True
        yield matte


def matte_inputs(matte: Path | None, corrections: Sequence[Correction]) -> list[tuple[str, Path]]:
    """(role, path) of a kept matte and the masks of its corrections."""
    masks = [("mask", Path(each.mask)) for each in corrections if each.mask is not None]
    return masks if matte is None else [("matte", matte), *masks]


def check_outputs(
    source: Path, outputs: Sequence[Output], *, overwrite: bool = False, inputs: Sequence[tuple[str, Path]] = ()
) -> None:
    """Raise InvalidRequest for outputs that one run cannot write, or that would overwrite its inputs or each other.

    ``inputs``: (role, path) of those that are neither the source nor in the options. Raises TargetExists for an
    existing file, unless ``overwrite`` is set.
    """
    if not outputs:
        raise InvalidRequest("There is no target.", hint="Name a file to write.")
    if any(output.options.matting_options != outputs[0].options.matting_options for output in outputs):
        raise InvalidRequest(
            "The targets need different mattes.", hint="Write targets with other matting options in a separate run."
        )
    for output in outputs:
        check_format(output.options)
    paths = [output.path.resolve() for output in outputs]
    if len(set(paths)) < len(paths):
        raise InvalidRequest("Two targets are the same file.", hint="Give each its own name.")
    all_inputs = [("source", source), *inputs, *_other_inputs(outputs)]
    for output, path in zip(outputs, paths, strict=True):
        check_suffix(output.path, output.options.output_format)
        if path.is_dir():
            raise InvalidRequest(f"The target {output.path} is a folder.", hint="Name a file in it.")
        if path.exists() and not path.is_file():
            raise InvalidRequest(f"The target {output.path} is a device or a pipe.", hint="Name a regular file.")
        for role, input_path in all_inputs:
            if path.exists() and input_path.exists() and path.samefile(input_path):
                raise InvalidRequest(f"The target {output.path} is the {role} itself.", hint="Name another file.")
        if not overwrite:
            refuse_existing(output.path)


def _other_inputs(outputs: Sequence[Output]) -> Iterator[tuple[str, Path]]:
    """(role, path) of the files that the outputs are made from, apart from the source."""
    for output in outputs:
        background, plate = output.options.background, output.options.plate
        inputs = ("background", background.image_url), ("background", background.video_url), ("plate", plate)
        yield from ((role, Path(path)) for role, path in inputs if path is not None)


def start_session(engine: Engine, source: Path, clip: Clip, options: Options, limits: Limits) -> MattingSession:
    """Start a matting session and, if the engine requires it, let it read the scene."""
    session = engine.start(clip, options)
    if isinstance(session, RequiresScene):
        session.prepare(ClipScene(source, clip, options, limits))
    return session


def mattes(session: MattingSession, frames: Iterable[Frame], options: Options) -> Generator[Matte, None, None]:
    """A matte for each frame, with ``options.keep``, ``drop``, ``grow`` and ``feather`` applied.

    Where the source has alpha of its own, both are multiplied.
    """
    selects = bool(options.keep or options.drop)
    selection = SubjectSelection(keep=options.keep, drop=options.drop) if selects else None
    with closing(engine_mattes(session, frames)) as raw_mattes:
        for matte in raw_mattes:
            if selection is not None:
                matte = replace(matte, alpha=selection.apply(matte.frame, matte.alpha))  # noqa: PLW2901
            if options.grow or options.feather:
                alpha = choke_and_feather(matte.alpha, grow=options.grow, feather=options.feather)
                matte = replace(matte, alpha=alpha)  # noqa: PLW2901
            yield matte if matte.frame.alpha is None else _multiply_source_alpha(matte)


def _look_ahead(session: MattingSession) -> int:
    return session.look_ahead if isinstance(session, NetworkSession) else 0


def engine_mattes(session: MattingSession, frames: Iterable[Frame]) -> Generator[Matte, None, None]:
    """A matte for each frame, as the session makes it. The two phases of a TwoPhaseSession overlap."""
    if isinstance(session, NetworkSession):
        with Prefetcher((finish for finish in session.infer_all(frames)), name="infer", depth=1) as inferred:
            for finish in inferred:
                yield finish()
    elif not isinstance(session, TwoPhaseSession):
        for frame in frames:
            yield from session.step([frame])
    else:
        with Prefetcher((session.infer(frame) for frame in frames), name="infer", depth=1) as inferred:
            for finish in inferred:
                yield finish()
    session.finish()


@dataclass(frozen=True)
class PendingOutput:
    """One output being written: its compositor and its file, which has no name yet."""

    output: Output
    output_format: Format
    compose: Compositor
    output_file: OutputFile
    clip: Clip

    def start_writer(self, start_tick: int, *, depth: int) -> BackgroundConsumer[Matte, Verified]:
        """A thread that writes the mattes that are put into it; ``depth``: how many may wait."""
        return BackgroundConsumer(partial(self.write, start_tick=start_tick), name="write", depth=depth)

    def write(self, mattes: Iterator[Matte], *, start_tick: int = 0) -> Verified:
        """Write every matte, then reopen and verify the file and flush it to disk.

        ``start_tick`` of the clip becomes tick zero of the file.
        """
        for matte in mattes:
            frame, alpha = self.compose(matte)
            self.output_file.write(replace(frame, pts=frame.pts - start_tick), alpha)
            del matte, frame, alpha  # their memory, while the next one is awaited
        verified = verify(self.output_file.path, self.output_file.finish())
        self.output_file.fsync()
        return verified

    def result(
        self, verified: Verified, engine: EngineFacts, amount_read: AmountRead, warnings: tuple[str, ...]
    ) -> Result:
        """The Result of the published file."""
        lost = losses(self.output_format, self.clip)
        all_warnings = (*self.output.options.warnings(), *warnings, *lost, *self.output_file.warnings)
        return result_of(self.output, self.output_format, verified, engine, amount_read, warnings=all_warnings)


def losses(output_format: Format, clip: Clip) -> tuple[str, ...]:
    """Warnings about parts of the source that an output of this format lacks.

    Nobody expects audio of a still, nor of a kept matte: files that are made of it take the audio of the source.
    """
    warnings = []
    is_silent = output_format.still or output_format.name == LOSSLESS_MATTE
    if clip.audio is not None and not output_format.audio and not is_silent:
        warnings.append(f"{output_format.name} holds no audio, so that of the video was dropped.")
    if clip.cropped:
        warnings.append(f"The sides of the video are odd, so it was cropped to {clip.width}x{clip.height}.")
    return tuple(warnings)


def result_of(
    output: Output,
    output_format: Format,
    verified: Verified,
    engine: EngineFacts,
    amount_read: AmountRead,
    *,
    warnings: tuple[str, ...],
) -> Result:
    """The Result of a finished file."""
    return Result(
        path=str(output.path),
        format=output_format.name,
        mime=output_format.mime,
        bytes=verified.bytes,
        sha256=verified.sha256,
        frames=verified.frames,
        seconds=verified.seconds,
        width=verified.width,
        height=verified.height,
        has_alpha=verified.has_alpha,
        has_audio=verified.has_audio,
        engine=engine,
        alpha=output_format.alpha_kind if verified.has_alpha else "none",
        frames_lost=amount_read.frames_lost,
        warnings=warnings,
        source_seconds=amount_read.seconds,
        source_frames=amount_read.frames,
        source_pixels=amount_read.pixels,
        recipe=recipe_of(output.options, engine),
    )


def recipe_of(options: Options, engine: EngineFacts) -> str:
    """The ``Result.recipe`` of an output. A background counts by its content, not by its path.

    Options of the matte do not count, so that an output of a kept matte, which was made without them, has the same.
    """
    background = options.background
    files = [path for path in (background.image_url, background.video_url) if path is not None]
    portable = Options(
        output_format=options.output_format,
        background=replace(background, image_url=None, video_url=None),
        composition=options.composition,
        quality=options.quality,
        poster_time=options.poster_time,
        preview_duration=options.preview_duration,
    )
    parts = [
        __version__,
        LIBRARY_VERSIONS,
        options_to_json(portable),
        asdict(engine),
        [file_sha256(Path(path)) for path in files],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _matte_tags(
    outputs: Sequence[Output], selected: SelectedEngine | KeptMatte, session: MattingSession, options: Options
) -> dict[str, str]:
    """The tags of the lossless matte among the outputs. One that is made from another has the facts of the first."""
    if not any(output.options.output_format == LOSSLESS_MATTE for output in outputs):
        return {}
    if isinstance(selected, KeptMatte):
        return selected.facts.to_tags()
    return matte_facts(options, selected, session).to_tags()


def open_output(
    output: Output,
    source: Path,
    clip: Clip,
    limits: Limits,
    stack: ExitStack,
    *,
    tags: Mapping[str, str],
    attachments: Mapping[str, bytes] | None = None,
    overwrite: bool = False,
) -> PendingOutput:
    """Open an output for writing. ``stack`` closes it, and deletes the file unless it was published.

    ``tags``, ``attachments``: of the container, if it is a lossless matte.
    """
    output_format = format_named(output.options.output_format)
    compose = open_compositor(output.options, clip, limits, output_format, stack)
    target = plan_target(source, output, clip, compose, overwrite=overwrite)
    if output_format.name == LOSSLESS_MATTE:
        target = replace(target, metadata=tags, attachments=attachments or {})
    output_file = output_format.open(target)
    stack.callback(output_file.abort)
    return PendingOutput(output, output_format, compose, output_file, clip)


def open_compositor(
    options: Options, clip: Clip, limits: Limits, output_format: Format, stack: ExitStack
) -> Compositor:
    """The compositor of an output. ``stack`` closes the background it reads."""
    return make_compositor(
        fit_canvas(options, clip, output_format),
        clip,
        read_still=lambda path: read_image(Path(path), limits),
        open_video=lambda path: stack.enter_context(open_reader(Path(path), limits)),
    )


def fit_canvas(options: Options, clip: Clip, output_format: Format) -> Options:
    """Options with a canvas no larger than their quality allows. A requested canvas stays as it is."""
    max_side, longer = output_format.max_side.get(options.quality), max(clip.width, clip.height)
    if max_side is None or longer <= max_side or options.composition is not None:
        return options
    width, height = (max(2, round(length * max_side / longer / 2) * 2) for length in (clip.width, clip.height))
    return replace(options, composition=Composition(width, height))


def plan_target(source: Path, output: Output, clip: Clip, compose: Compositor, *, overwrite: bool = False) -> Target:
    """What the format's encoder is to write. Includes the source's audio if it has any."""
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


def _multiply_source_alpha(matte: Matte) -> Matte:
    assert matte.frame.alpha is not None
    return replace(matte, alpha=np.asarray(cv2.multiply(matte.alpha, matte.frame.alpha, scale=1 / 255), np.uint8))
