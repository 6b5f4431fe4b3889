"""Splits a long clip into chunks and joins their results. ``pipeline.run`` processes each chunk.

An interrupted job resumes with the chunk that is missing.
"""

import hashlib
import json
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path

from alphareel import __version__
from alphareel.domain.budget import check_paid
from alphareel.domain.clip import Chunk, Clip, EngineFacts, Limits, Progress, Result
from alphareel.domain.errors import BadVideo
from alphareel.domain.options import LOSSLESS_MATTE, Options, Output, to_json
from alphareel.matting import tiers
from alphareel.media.chunks import PacketIndex, divide, read_packet_index
from alphareel.media.ffmpeg_errors import EXPORT_AGAIN
from alphareel.media.format import format_named
from alphareel.media.join import ChunkFile
from alphareel.media.reader import open_reader
from alphareel.paths import file_sha256
from alphareel.pipeline.kept_matte import KeptMatte, open_matte
from alphareel.pipeline.run import AmountRead, open_compositor, plan_target, result_of

MIN_CHUNKS = 2  # shorter clips are processed in a single pass


@dataclass(frozen=True)
class Plan:
    """The chunks of a clip in order, and the engine that must process all of them.

    ``plan_hash``: a hash of everything that determines their bytes. Chunks of another plan cannot be joined with them.
    """

    chunks: tuple[Chunk, ...]
    plan_hash: str
    engine: EngineFacts


@dataclass(frozen=True)
class ChunkResult:
    """The results of ``pipeline.run`` for one chunk: a file for each output, in order, and how many frames it holds."""

    files: tuple[tuple[Path, int], ...]
    chunk: Chunk
    frames_lost: int
    warnings: tuple[str, ...] = ()


def plan(
    source: Path,
    outputs: Sequence[Output],
    *,
    seconds: float,
    limits: Limits | None = None,
    models_dir: Path | None = None,
    engine_priority: Sequence[str] | None = None,
    threads: int | None = None,
    matte: Path | None = None,
    paid_seconds: float | None = None,
) -> Plan | None:
    """Split a clip into chunks of about ``seconds``. None when it must be processed in a single pass.

    That applies to short clips, previews, outputs that cannot be joined, engines that need the clip from its start, and
    clips whose packets do not show where a chunk can start. With a matte among the outputs one that can be joined is
    enough: the plan is for those, and the others are made of the joined matte.
    ``matte``: as for ``pipeline.run``. Raises the errors of ``pipeline.run``; InsufficientCredits when the packets show
    that the clip is longer than ``paid_seconds``.
    """
    limits, options = limits or Limits(), outputs[0].options
    joinable = [output for output in outputs if format_named(output.options.output_format).join is not None]
    if not joinable or options.preview_duration is not None or options.keep or options.drop:
        return None
    keeps_matte = matte is not None or any(o.options.output_format == LOSSLESS_MATTE for o in outputs)
    if len(joinable) < len(outputs) and not keeps_matte:
        return None
    with open_reader(source, limits) as reader:
        clip = reader.clip
    if clip.seconds < MIN_CHUNKS * seconds:
        return None
    selected = _select(clip, options, models_dir, engine_priority=engine_priority, threads=threads, matte=matte)
    packet_index = None if selected.warmup_frames is None else read_packet_index(source, clip, limits)
    if packet_index is None:
        return None
    check_paid(_seconds(packet_index, clip), paid_seconds)
    if _exceeds_limits(packet_index, clip, limits):
        return None
    chunks = divide(packet_index, clip, seconds)
    facts = selected.engine.facts
    requested = [output.options for output in joinable]
    return Plan(chunks, _plan_hash(source, requested, facts, chunks, matte), facts) if chunks else None


def _select(
    clip: Clip,
    options: Options,
    models_dir: Path | None,
    *,
    engine_priority: Sequence[str] | None,
    threads: int | None,
    matte: Path | None,
) -> tiers.SelectedEngine | KeptMatte:
    if matte is None:
        return tiers.choose(options.matting_options, models_dir, threads, engine_priority=engine_priority)
    with ExitStack() as stack:
        return open_matte(matte, clip, models_dir, threads, stack, start=Fraction(0))


def join(
    source: Path,
    outputs: Sequence[Output],
    chunks: Sequence[ChunkResult],
    engine: EngineFacts,
    *,
    limits: Limits | None = None,
    overwrite: bool = False,
) -> Generator[Progress, None, None]:
    """Concatenate the results of all chunks, in order, at the path of each output, with the audio of the source.

    Yields its progress after each chunk of each output, and at last with the results. ``done``: frames of all outputs.
    Raises VerificationFailed, StorageFailed, BadVideo, InternalError or TargetExists; then the outputs before the one
    that failed are left.
    """
    total = sum(frames for chunk in chunks for _, frames in chunk.files)
    began = time.monotonic()

    def progress(done: int, results: tuple[Result, ...] = ()) -> Progress:
        seconds = time.monotonic() - began
        return Progress(done, total, done / max(1, total), seconds, 0.0, None, results=results)

    before, results = 0, list[Result]()
    for number, output in enumerate(outputs):
        steps = _join_output(
            source, output, chunks, engine, number=number, limits=limits or Limits(), overwrite=overwrite
        )
        for step in steps:
            if isinstance(step, Result):
                results.append(step)
            else:
                yield progress(before + step)
        before += sum(chunk.files[number][1] for chunk in chunks)
    yield progress(total, tuple(results))


def _join_output(
    source: Path,
    output: Output,
    chunks: Sequence[ChunkResult],
    engine: EngineFacts,
    *,
    number: int,
    limits: Limits,
    overwrite: bool,
) -> Iterator[int | Result]:
    """``number``: of the output among those of each chunk. Yields the number of frames joined, then the result."""
    output_format = format_named(output.options.output_format)
    with ExitStack() as stack:
        clip = stack.enter_context(open_reader(source, limits)).clip
        packet_index = read_packet_index(source, clip, limits)
        if packet_index is None or output_format.join is None:
            raise BadVideo(f"{source.name} has changed since it was split into chunks.", hint=EXPORT_AGAIN)
        compose = open_compositor(output.options, clip, limits, output_format, stack)
        target = plan_target(source, output, clip, compose, overwrite=overwrite)
        files = [ChunkFile(c.files[number][0], c.chunk, c.files[number][1]) for c in chunks]
        joined = yield from output_format.join(target, files, packet_index)
    warnings = (text for chunk in chunks for text in chunk.warnings)
    yield result_of(
        output,
        output_format,
        joined.verified,
        engine,
        AmountRead(
            seconds=_seconds(packet_index, clip),
            frames=sum(file.frames for file in files),
            pixels=clip.width * clip.height,
            frames_lost=sum(chunk.frames_lost for chunk in chunks),
        ),
        warnings=tuple(dict.fromkeys((*warnings, *joined.warnings))),
    )


def _exceeds_limits(packet_index: PacketIndex, clip: Clip, limits: Limits) -> bool:
    """Whether the clip exceeds the limits, whatever its header says. A single pass then raises the error."""
    return 0 < limits.max_seconds < _seconds(packet_index, clip) or 0 < limits.max_frames < len(packet_index.pts)


def _seconds(packet_index: PacketIndex, clip: Clip) -> float:
    """Length of the clip according to its packets."""
    return float(packet_index.end * clip.time_base)


def _plan_hash(
    source: Path, requested: Sequence[Options], engine: EngineFacts, chunks: Sequence[Chunk], matte: Path | None
) -> str:
    """A hash of everything that determines the bytes of a chunk. Files count by content, not by path."""
    backgrounds = [options.background for options in requested]
    paths = [path for background in backgrounds for path in (background.image_url, background.video_url)]
    files = [source, *([] if matte is None else [matte]), *(Path(path) for path in paths if path is not None)]
    portable = [
        replace(options, background=replace(options.background, image_url=None, video_url=None))
        for options in requested
    ]
    parts = [
        __version__,
        [to_json(options) for options in portable],
        asdict(engine),
        [asdict(chunk) for chunk in chunks],
        [file_sha256(path) for path in files],
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
