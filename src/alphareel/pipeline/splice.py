"""Makes the outputs of a corrected matte from those of the revision before: only what differs is encoded.

What cannot be spliced is encoded as a whole, by ``pipeline.run``.
"""

import time
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import chain, groupby
from pathlib import Path

from alphareel.domain.clip import Chunk, Clip, EngineFacts, Limits, PreviousOutput, Progress, Result
from alphareel.domain.corrections import Correction
from alphareel.domain.errors import AlphareelError, BadVideo, InternalError, VerificationFailed
from alphareel.domain.options import LOSSLESS_MATTE, Output
from alphareel.imaging.compositor import Compositor
from alphareel.imaging.frame import Matte
from alphareel.media.atomic_file import refuse_existing
from alphareel.media.attachments import read_attachments
from alphareel.media.chunks import read_packet_index
from alphareel.media.ffmpeg_errors import translating_write_errors
from alphareel.media.format import format_named
from alphareel.media.partial_file import work_folder
from alphareel.media.reader import open_reader
from alphareel.media.splice import FrameRange, Part, Splicer, different_frames, touched_groups
from alphareel.media.verify import Verified
from alphareel.pipeline.corrections import plan_edits
from alphareel.pipeline.kept_matte import EditAlpha, KeptMatte, open_matte
from alphareel.pipeline.plans import plans_in
from alphareel.pipeline.previews import PreviewWriter
from alphareel.pipeline.run import (
    AmountRead,
    PendingOutput,
    check_outputs,
    engine_mattes,
    losses,
    matte_inputs,
    open_compositor,
    plan_target,
    queue_depth,
    recipe_of,
    result_of,
    start_session,
)
from alphareel.pipeline.run import run as run_whole
from alphareel.pipeline.threads import BackgroundConsumer, Prefetcher
from alphareel.telemetry.logging import get_logger

_LEAD = 2  # frames read before those that are wanted: deinterlacing looks at them
_REPORT_SECONDS = 0.2
# Of the progress: the corrected matte; the outputs that are spliced, where there are others; all, until verified.
_MATTE_SHARE, _SPLICED_SHARE, _MAX_SHARE = 0.2, 0.5, 0.99

_FALL_BACK = (BadVideo, InternalError, VerificationFailed)
"""Errors after which all is encoded as a whole."""


def run(
    source: Path,
    outputs: Sequence[Output],
    *,
    previous: Sequence[PreviousOutput | None],
    matte: Path,
    corrections: Sequence[Correction] = (),
    limits: Limits | None = None,
    models_dir: Path | None = None,
    engine_priority: Sequence[str] | None = None,
    threads: int | None = None,
    previews: Path | None = None,
    overwrite: bool = False,
    paid_seconds: float | None = None,
    frames_ahead: int = 4,
) -> Generator[Progress, None, None]:
    """Like ``pipeline.run`` with a matte. ``previous``: the files of the revision before, in the order of the outputs.

    One of the outputs should be the lossless matte: where its frames differ from the previous one, and nowhere else,
    the other outputs are encoded. The results look like those of a run that encodes all of it.
    """
    whole: Callable[..., Generator[Progress, None, None]] = partial(
        run_whole,
        source,
        limits=limits,
        models_dir=models_dir,
        engine_priority=engine_priority,
        threads=threads,
        previews=previews,
        overwrite=overwrite,
        paid_seconds=paid_seconds,
        frames_ahead=frames_ahead,
    )
    check_outputs(source, outputs, overwrite=overwrite, inputs=matte_inputs(matte, corrections))
    share = 0.0
    plans = _former_plans(outputs, previous)
    try:
        with ExitStack() as stack:
            revision = _open_revision(
                source,
                outputs,
                previous,
                matte,
                corrections,
                stack=stack,
                limits=limits or Limits(),
                models_dir=models_dir,
                threads=threads,
                plans=plans,
            )
            depth = queue_depth(revision.clip, frames_ahead)
            preview_writer = PreviewWriter(previews, revision.clip, single=False) if previews else None
            steps = _splice(revision, corrections, whole, depth=depth, previews=preview_writer, overwrite=overwrite)
            with closing(steps):  # its threads write in the folder that is removed next
                for progress in steps:
                    share = progress.share
                    yield progress
            return
    except _FALL_BACK as error:
        reason = error.message
        get_logger(__name__).info("encoded as a whole", reason=reason)
    for progress in whole(outputs, matte=matte, corrections=corrections, plans=plans):
        results = tuple(replace(result, encoded_whole=reason) for result in progress.results)
        yield replace(progress, share=share + (1 - share) * progress.share, results=results)


def _former_plans(outputs: Sequence[Output], previous: Sequence[PreviousOutput | None]) -> dict[str, bytes]:
    """The plans in the matte of the revision before; none where it cannot be read."""
    for output, former in zip(outputs, previous, strict=False):
        if former is not None and output.options.output_format == LOSSLESS_MATTE:
            with suppress(AlphareelError):
                return plans_in(read_attachments(former.path))
    return {}


@dataclass(frozen=True)
class _Item:
    """An output that can be spliced. ``starts``: of the groups of its previous file."""

    output: Output
    previous: PreviousOutput
    splicer: Splicer
    starts: tuple[int, ...]


@dataclass(frozen=True)
class _Revision:
    """What a revision is made of. ``ticks``: timestamps of all frames. ``folder``: for parts of the outputs.

    ``whole``: why outputs that are no items are encoded as a whole, by path. ``plans``: of the revision before; those
    that are made are added.
    """

    source: Path
    clip: Clip
    ticks: tuple[int, ...]
    end: int
    first_matte: Path
    engine: EngineFacts
    outputs: Sequence[Output]
    items: Sequence[_Item]
    whole: Mapping[Path, str]
    plans: dict[str, bytes]
    limits: Limits
    models_dir: Path | None
    threads: int | None
    folder: Path

    @property
    def matte(self) -> _Item:
        return next(item for item in self.items if item.output.options.output_format == LOSSLESS_MATTE)

    @property
    def silent_clip(self) -> Clip:
        return replace(self.clip, audio=None)

    @property
    def seconds(self) -> float:
        return float(self.end * self.clip.time_base)

    def numbers(self, ticks: Iterable[int]) -> list[int]:
        """The frames with these timestamps. Raises BadVideo when there is none."""
        found = [bisect_left(self.ticks, tick) for tick in sorted(ticks)]
        if [self.ticks[number] for number in found if number < len(self.ticks)] != sorted(ticks):
            raise BadVideo("The frames of the source have other timestamps than its packets.")
        return found

    def new_path(self, output: Output) -> Path:
        """Where an output is written before it is published: beside it, because files may not move between folders."""
        number = [each.path for each in self.outputs].index(output.path)
        return output.path.parent / f"{self.folder.name}-{number}{output.path.suffix}"

    def discard(self) -> None:
        """Delete outputs that were not published."""
        for output in self.outputs:
            self.new_path(output).unlink(missing_ok=True)

    def open_matte(self, path: Path, stack: ExitStack, *, start: Fraction, edit: EditAlpha | None) -> KeptMatte:
        return open_matte(path, self.clip, self.models_dir, self.threads, stack, start=start, edit=edit)


def _open_revision(
    source: Path,
    outputs: Sequence[Output],
    previous: Sequence[PreviousOutput | None],
    matte: Path,
    corrections: Sequence[Correction],
    *,
    stack: ExitStack,
    limits: Limits,
    models_dir: Path | None,
    threads: int | None,
    plans: dict[str, bytes],
) -> _Revision:
    """Raises BadVideo where nothing can be spliced."""
    if any(correction.selects_subjects for correction in corrections):
        raise BadVideo("Subjects are followed over the whole clip.")
    if len(previous) != len(outputs):
        raise BadVideo("The revision before had other outputs.")
    if outputs[0].options.preview_duration is not None:
        raise BadVideo("It is a preview.")
    with open_reader(source, limits) as reader:
        clip = reader.clip
    index = read_packet_index(source, clip, limits)
    if index is None:
        raise BadVideo("The packets of the source do not show when its frames are shown.")
    with ExitStack() as opened:
        kept = open_matte(matte, clip, models_dir, threads, opened, start=Fraction(0))
    if kept.warmup_frames is None:
        raise BadVideo(f"{kept.facts.engine.name} corrects colors and has to see the whole clip.")
    items, reasons = [], {}
    for output, former in zip(outputs, previous, strict=True):
        try:
            items.append(_open_item(output, former, kept.facts.engine, frames=len(index.pts)))
        except BadVideo as error:
            reasons[output.path] = error.message
    if not any(item.output.options.output_format == LOSSLESS_MATTE for item in items):
        raise BadVideo("The matte of the revision before is not there.")
    with translating_write_errors(outputs[0].path):
        folder = stack.enter_context(work_folder(outputs[0].path, "splice"))
    revision = _Revision(
        source=source,
        clip=clip,
        ticks=index.pts,
        end=index.end,
        first_matte=matte,
        engine=kept.facts.engine,
        outputs=outputs,
        items=items,
        whole=reasons,
        plans=plans,
        limits=limits,
        models_dir=models_dir,
        threads=threads,
        folder=folder,
    )
    stack.callback(revision.discard)
    return revision


def _open_item(output: Output, former: PreviousOutput | None, engine: EngineFacts, *, frames: int) -> _Item:
    """Raises BadVideo for an output that cannot be spliced."""
    name = output.options.output_format
    splicer = format_named(name).splicer
    if splicer is None:
        raise BadVideo(f"{name} files cannot be changed in part.")
    if former is None:
        raise BadVideo("The file of the revision before is not there, or has changed.")
    if name != LOSSLESS_MATTE and former.recipe != recipe_of(output.options, engine):
        raise BadVideo("The file of the revision before was made with another version or other options.")
    return _Item(output, former, splicer, _groups(splicer, former.path, frames))


def _splice(
    revision: _Revision,
    corrections: Sequence[Correction],
    whole: Callable[..., Generator[Progress, None, None]],
    *,
    depth: int,
    previews: PreviewWriter | None,
    overwrite: bool,
) -> Generator[Progress, None, None]:
    """Raises errors of ``_FALL_BACK`` before any output has its name."""
    edits = plan_edits(
        revision.source,
        revision.first_matte,
        corrections,
        revision.limits,
        threads=revision.threads,
        plans=revision.plans,
    )
    revision.plans.update(edits.plans)
    matte = revision.matte
    corrected = revision.new_path(matte.output)
    writer = _PartWriter(revision, depth, previews)
    starts = _groups(matte.splicer, revision.first_matte, len(revision.ticks))
    touched = touched_groups(starts, revision.numbers(edits.patches))
    (parts,) = yield from writer.write(
        revision.first_matte, edits.apply, [_OutputRanges(matte.output, touched)], max_share=_MATTE_SHARE
    )
    verified = {matte.output.path: _join(revision, matte, revision.first_matte, parts, attachments=edits.plans)}

    others = [item for item in revision.items if item is not matte]
    different = different_frames(matte.previous.path, corrected)
    wanted = [_OutputRanges(item.output, touched_groups(item.starts, different)) for item in others]
    rest = [output for output in revision.outputs if output.path not in {each.output.path for each in revision.items}]
    max_share = _SPLICED_SHARE if rest else _MAX_SHARE
    made_parts = yield from writer.write(corrected, None, wanted, max_share=max_share)
    for item, made in zip(others, made_parts, strict=True):
        verified[item.output.path] = _join(revision, item, item.previous.path, made)
    results = {item.output.path: _result(revision, item, verified[item.output.path]) for item in revision.items}
    progress = writer.report()
    if rest:
        moved = [replace(output, path=revision.new_path(output)) for output in rest]
        for progress in whole(moved, matte=corrected):
            yield replace(progress, results=(), share=max_share + (_MAX_SHARE - max_share) * progress.share)
        results |= {
            output.path: replace(result, path=str(output.path), encoded_whole=revision.whole[output.path])
            for output, result in zip(rest, progress.results, strict=True)
        }
    _publish(revision, overwrite=overwrite)
    ordered = tuple(results[output.path] for output in revision.outputs)
    yield replace(progress, share=1.0, remaining_seconds=0.0, results=ordered)


def _groups(splicer: Splicer, path: Path, frames: int) -> tuple[int, ...]:
    """As ``Splicer.groups``. Raises BadVideo unless the file has as many frames as its source."""
    starts = splicer.groups(path)
    if starts[-1] != frames:
        raise BadVideo(f"{path.name} has {starts[-1]} frames, and its source {frames}.")
    return starts


def _join(
    revision: _Revision,
    item: _Item,
    previous: Path,
    parts: Sequence[Part],
    *,
    attachments: Mapping[str, bytes] | None = None,
) -> Verified:
    clip, output = revision.clip, item.output
    output_format = format_named(output.options.output_format)
    with ExitStack() as stack:
        compose = open_compositor(output.options, clip, revision.limits, output_format, stack)
        target = plan_target(revision.source, replace(output, path=revision.new_path(output)), clip, compose)
        target = replace(target, attachments=attachments or {})
        return item.splicer.splice(target, previous, parts, seconds=revision.seconds)


def _result(revision: _Revision, item: _Item, verified: Verified) -> Result:
    output_format = format_named(item.output.options.output_format)
    clip = revision.clip
    amount = AmountRead(revision.seconds, len(revision.ticks), clip.width * clip.height, item.previous.frames_lost)
    warnings = (*item.output.options.warnings(), *losses(output_format, clip))
    return result_of(item.output, output_format, verified, revision.engine, amount, warnings=warnings)


def _publish(revision: _Revision, *, overwrite: bool) -> None:
    """Give all outputs their names. Raises TargetExists before the first one."""
    if not overwrite:
        for output in revision.outputs:
            refuse_existing(output.path)
    for output in revision.outputs:
        revision.new_path(output).replace(output.path)


@dataclass(frozen=True)
class _OutputRanges:
    """The frames of an output that are encoded: each range becomes a file."""

    output: Output
    ranges: Sequence[FrameRange]

    def range_of(self, frame: int) -> FrameRange | None:
        return next((each for each in self.ranges if each.first <= frame < each.end), None)


_Entry = tuple[int, Matte]


@dataclass
class _PartWriter:
    """Encodes parts of outputs from parts of a matte, and counts the frames."""

    revision: _Revision
    depth: int
    previews: PreviewWriter | None
    done: int = 0
    total: int = 0
    share: float = 0.0
    stages: dict[str, float] = field(default_factory=lambda: {"read": 0.0, "matte": 0.0, "write": 0.0})
    _began: float = field(default_factory=time.perf_counter)
    _reported: float = 0.0

    def write(
        self, matte: Path, edit: EditAlpha | None, wanted: Sequence[_OutputRanges], *, max_share: float
    ) -> Generator[Progress, None, list[list[Part]]]:
        """The parts of each output, in order. Raises BadVideo when a frame cannot be decoded.

        ``max_share``: of the progress, when it is done.
        """
        ranges = _union(chain.from_iterable(each.ranges for each in wanted))
        frames = sum(each.frames for each in ranges)
        self.total += frames
        share_per_frame = (max_share - self.share) / max(1, frames)
        with ExitStack() as stack:
            writers = [
                stack.enter_context(
                    BackgroundConsumer[_Entry, list[Part]](
                        partial(self._write, each), name="write", depth=min(2, self.depth)
                    )
                )
                for each in wanted
            ]
            for wanted_range in ranges:
                with closing(self._read(wanted_range, matte, edit, wanted, writers)) as mattes:
                    for made in mattes:
                        self.done += 1
                        self.share += share_per_frame
                        if time.perf_counter() - self._reported >= _REPORT_SECONDS:
                            self._reported = time.perf_counter()
                            yield self.previews.update(self.report(), made) if self.previews else self.report()
            for writer in writers:
                writer.end()
            parts = [writer.result() for writer in writers]
            self.stages["write"] += max((writer.spent for writer in writers), default=0.0)
        self.share = max_share
        return parts

    def report(self) -> Progress:
        elapsed = max(1e-9, time.perf_counter() - self._began)
        return Progress(
            done=self.done,
            total=self.total,
            share=self.share,
            seconds=elapsed,
            fps=self.done / elapsed,
            remaining_seconds=elapsed * (1 - self.share) / self.share if self.share else None,
            stages=dict(self.stages),
        )

    def _read(
        self,
        wanted_range: FrameRange,
        matte: Path,
        edit: EditAlpha | None,
        wanted: Sequence[_OutputRanges],
        writers: Sequence[BackgroundConsumer[_Entry, list[Part]]],
    ) -> Generator[Matte, None, None]:
        """Hand the frames of the range to the writers that want them, and pass them on."""
        revision, ticks = self.revision, self.revision.ticks
        clip, number = revision.clip, wanted_range.first
        end = ticks[wanted_range.end] if wanted_range.end < len(ticks) else None
        with ExitStack() as stack:
            reader = stack.enter_context(open_reader(revision.source, revision.limits))
            start = max(Fraction(0), ticks[number] * clip.time_base - (_LEAD + 1) / clip.rate)
            kept = revision.open_matte(matte, stack, start=start, edit=edit)
            session = start_session(
                kept.engine, revision.source, clip, wanted[0].output.options.matting_options, revision.limits
            )
            chunk = Chunk(ticks[number], end, wanted_range.frames)
            frames = reader.chunk(chunk, session.model_input_size, lead=_LEAD)
            reading = stack.enter_context(Prefetcher(frames, name="read", depth=self.depth))
            mattes = engine_mattes(session, reading)
            matting = stack.enter_context(Prefetcher(mattes, name="matte", depth=self.depth))
            for made in matting:
                if made.frame.pts < chunk.start:
                    continue
                if number == wanted_range.end or made.frame.pts != ticks[number]:
                    raise BadVideo("A part of the source cannot be decoded by itself.")
                for each, writer in zip(wanted, writers, strict=True):
                    if each.range_of(number) is not None:
                        writer.put((number, made))
                number += 1
                yield made
            self.stages["read"] += reading.spent
            self.stages["matte"] += max(0.0, matting.spent - reading.waited)
        if number != wanted_range.end:
            raise BadVideo("A part of the source cannot be decoded by itself.")

    def _write(self, wanted: _OutputRanges, entries: Iterator[_Entry]) -> list[Part]:
        """Write each range that the entries fill to a file of its own, verified."""
        revision, output = self.revision, wanted.output
        output_format = format_named(output.options.output_format)
        parts = []
        with ExitStack() as stack:
            compose = open_compositor(output.options, revision.clip, revision.limits, output_format, stack)
            for place, own in groupby(entries, key=lambda entry: wanted.range_of(entry[0])):
                assert place is not None, "only wanted frames are handed over"
                path = revision.folder / f"{place.first}-{output.path.name}"
                parts.append(Part(path, place))
                self._write_part(replace(output, path=path), compose, place, (matte for _, matte in own))
        return parts

    def _write_part(self, output: Output, compose: Compositor, place: FrameRange, mattes: Iterator[Matte]) -> None:
        clip, output_format = self.revision.silent_clip, format_named(output.options.output_format)
        output_file = output_format.open(plan_target(self.revision.source, output, clip, compose))
        try:
            pending = PendingOutput(output, output_format, compose, output_file, clip)
            verified = pending.write(mattes, start_tick=self.revision.ticks[place.first])
            if verified.frames != place.frames:
                raise BadVideo("A part of the output has other frames than its source.")
            output_file.publish()
        finally:
            output_file.abort()


def _union(ranges: Iterable[FrameRange]) -> list[FrameRange]:
    """The ranges in order, those that overlap or touch as one."""
    found: list[FrameRange] = []
    for each in sorted(ranges, key=lambda one: one.first):
        if found and each.first <= found[-1].end:
            found[-1] = FrameRange(found[-1].first, max(found[-1].end, each.end))
        else:
            found.append(each)
    return found
