"""A long clip in chunks: where to divide it, and how the results of the chunks become one. ``pipeline.run`` makes each.

What dies in the middle goes on with the chunk that is missing.
"""

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from alphareel import __version__
from alphareel.domain.budget import check_paid
from alphareel.domain.clip import Chunk, Clip, EngineFacts, Limits, Result
from alphareel.domain.errors import BadVideo
from alphareel.domain.options import Options, Output, to_json
from alphareel.matting import tiers
from alphareel.media.chunks import PacketIndex, divide, read_packet_index
from alphareel.media.ffmpeg_errors import EXPORT_AGAIN
from alphareel.media.format import format_named
from alphareel.media.join import ChunkFile
from alphareel.media.reader import open_reader
from alphareel.paths import file_sha256
from alphareel.pipeline.run import Read, open_compositor, plan_target, result_of

_WORTH_IT = 2  # chunks' lengths that a clip must have


@dataclass(frozen=True)
class Plan:
    """The chunks of a clip in order, and the engine that is to make them all.

    ``mark``: a hash over what their bytes follow from; chunks of another mark do not go with these.
    """

    chunks: tuple[Chunk, ...]
    mark: str
    engine: EngineFacts


@dataclass(frozen=True)
class MadeChunk:
    """A chunk that ``pipeline.run`` made at ``path``: facts of its Result."""

    path: Path
    chunk: Chunk
    frames: int
    frames_lost: int
    warnings: tuple[str, ...] = ()


def plan(
    source: Path,
    output: Output,
    *,
    seconds: float,
    limits: Limits | None = None,
    models_dir: Path | None = None,
    order: Sequence[str] | None = None,
    threads: int | None = None,
    paid_seconds: float | None = None,
) -> Plan | None:
    """How to divide the work into chunks of about ``seconds``; None where it is to be done in one go.

    That is so for short clips and previews, for formats whose files cannot be put together, for engines that need to
    see the clip from its start, and for clips whose packets do not tell where a chunk begins. Raises what
    ``pipeline.run`` does, InsufficientCredits where the packets say that the clip is longer than was paid for.
    """
    limits, options = limits or Limits(), output.options
    if format_named(options.output_format).join is None or options.preview_duration is not None:
        return None
    with open_reader(source, limits) as reader:
        clip = reader.clip
    if clip.seconds < _WORTH_IT * seconds:
        return None
    chosen = tiers.choose(options.matting_options, models_dir, threads, order=order)
    stamps = None if chosen.lead is None else read_packet_index(source, clip, limits)
    if stamps is not None:
        check_paid(_seconds(stamps, clip), paid_seconds)
    chunks = () if stamps is None or _is_too_much(stamps, clip, limits) else divide(stamps, clip, seconds)
    facts = chosen.engine.facts
    return Plan(chunks, _mark(source, options, facts, chunks), facts) if chunks else None


def join(
    source: Path,
    output: Output,
    made: Sequence[MadeChunk],
    engine: EngineFacts,
    *,
    limits: Limits | None = None,
    overwrite: bool = False,
) -> Result:
    """Put the results of all chunks, in order, behind each other at ``output.path``, with the sound of the source.

    Raises VerificationFailed, StorageFailed, BadVideo, InternalError, TargetExists; then there is no new file.
    """
    limits, form = limits or Limits(), format_named(output.options.output_format)
    with ExitStack() as opened:
        clip = opened.enter_context(open_reader(source, limits)).clip
        stamps = read_packet_index(source, clip, limits)
        if stamps is None or form.join is None:
            raise BadVideo(f"{source.name} is no longer the clip that was divided.", hint=EXPORT_AGAIN)
        target = plan_target(
            source, output, clip, open_compositor(output.options, clip, limits, form, opened), overwrite=overwrite
        )
        files = [ChunkFile(m.path, m.chunk, m.frames) for m in made]
        joined = form.join(target, files, stamps)
    told = dict.fromkeys(text for m in made for text in m.warnings)
    return result_of(
        output,
        form,
        joined.verified,
        engine,
        Read(
            _seconds(stamps, clip),
            sum(m.frames for m in made),
            clip.width * clip.height,
            sum(m.frames_lost for m in made),
        ),
        warnings=tuple(dict.fromkeys((*told, *joined.warnings))),
    )


def _is_too_much(stamps: PacketIndex, clip: Clip, limits: Limits) -> bool:
    """Whether there is more than the header admits and than is allowed: reading in one go ends there, and says so."""
    return 0 < limits.max_seconds < _seconds(stamps, clip) or 0 < limits.max_frames < len(stamps.pts)


def _seconds(stamps: PacketIndex, clip: Clip) -> float:
    """Length of the clip according to its packets."""
    return float(stamps.end * clip.time_base)


def _mark(source: Path, options: Options, engine: EngineFacts, chunks: Sequence[Chunk]) -> str:
    """A hash over everything that the bytes of a chunk follow from; files count by content, wherever they lie."""
    background = options.background
    files = [source, *(Path(p) for p in (background.image_url, background.video_url) if p is not None)]
    plain = replace(options, background=replace(background, image_url=None, video_url=None))
    facts = [
        __version__,
        to_json(plain),
        asdict(engine),
        [asdict(chunk) for chunk in chunks],
        [*map(file_sha256, files)],
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
