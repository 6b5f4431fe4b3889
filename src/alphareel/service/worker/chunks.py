"""Makes a long job chunk by chunk, each in a child process and kept in the store, so that any worker can resume."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from alphareel.domain.clip import EngineFacts, Progress
from alphareel.domain.errors import (
    AlphareelError,
    BadVideo,
    InternalError,
    NotFound,
    StorageFailed,
    Unavailable,
    VerificationFailed,
)
from alphareel.domain.options import LOSSLESS_MATTE, Output
from alphareel.media.format import format_named
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job
from alphareel.service.ports import Blobs, ChunkQueue
from alphareel.service.worker.child_process import Tick
from alphareel.service.worker.events import Plan, RunResult
from alphareel.service.worker.progress import WorkerStopping
from alphareel.service.worker.tasks import FinishedChunk, JoinTask, RunTask
from alphareel.telemetry.logging import get_logger

_PLAN = "plan.json"
_CHUNKS_SHARE = 0.85  # of the progress, where some outputs are made after the chunks
_JOIN_SHARE = 0.05  # of that of the chunks

FALL_BACK_TO_SINGLE_PASS = (BadVideo, VerificationFailed, InternalError)
"""Errors of chunks where a single pass may succeed: damage at the edge of a chunk does not matter inside a clip."""

RunChild = Callable[[RunTask | JoinTask, Tick], RunResult]
"""Runs a task in a child process."""


@dataclass(frozen=True)
class ChunkFacts:
    """What is stored beside a finished chunk. ``frames``: in the file of each output."""

    frames: tuple[int, ...]
    frames_lost: int
    warnings: tuple[str, ...]
    engine: EngineFacts
    #: Seconds of work in each stage of the pipeline.
    stages: Mapping[str, float]

    @classmethod
    def of(cls, run: RunResult) -> "ChunkFacts":
        first = run.results[0]
        frames = tuple(result.frames for result in run.results)
        warnings = dict.fromkeys(warning for result in run.results for warning in result.warnings)
        return cls(frames, first.frames_lost, tuple(warnings), first.engine, run.stages)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ChunkFacts":
        return cls(
            **{
                **values,
                "frames": tuple(values["frames"]),
                "warnings": tuple(values["warnings"]),
                "engine": EngineFacts(**values["engine"]),
            },
        )


class ChunkStore:
    """The finished chunks of one plan, and the plan. A chunk is finished once its facts are stored.

    ``suffixes``: of the file of each output that is made in chunks. ``on_stored`` is called after each chunk that is
    put into the store, with its bytes.
    """

    def __init__(
        self,
        blobs: Blobs,
        job_id: str,
        plan_hash: str,
        *,
        suffixes: Sequence[str],
        on_stored: Callable[[int], None] = lambda size: None,  # noqa: ARG005
    ) -> None:
        self._blobs = blobs
        self._on_stored = on_stored
        self._prefix = blob_keys.chunk_prefix(job_id, plan_hash)
        self._suffixes = suffixes

    def plan(self) -> Plan | None:
        """None when the job no longer exists."""
        values = self._read(_PLAN)
        return None if values is None else Plan.from_json(values)

    def put_plan(self, plan: Plan, folder: Path) -> None:
        """Store the plan for other workers. ``folder`` takes a temporary file."""
        self._write(_PLAN, plan.to_json(), folder)

    def facts(self, number: int) -> ChunkFacts | None:
        """None while the chunk is not finished, and when one of its files is gone."""
        try:
            for key in self._file_keys(number):
                self._blobs.size(key)
        except NotFound:
            return None
        values = self._read(f"{number}.json")
        return None if values is None else ChunkFacts.from_json(values)

    def put(self, number: int, paths: Sequence[Path], facts: ChunkFacts) -> None:
        """Store the chunk's files, one for each output, which may be moved."""
        size = sum(path.stat().st_size for path in paths)
        for key, path in zip(self._file_keys(number), paths, strict=True):
            self._blobs.put_file(key, path)
        self._write(f"{number}.json", asdict(facts), paths[0].parent)
        self._on_stored(size)

    def local(self, number: int, opened: ExitStack) -> tuple[Path, ...]:
        """The chunk's files as local ones, as long as ``opened`` is open. Raises StorageFailed when one is gone."""
        try:
            return tuple(opened.enter_context(self._blobs.local(key)) for key in self._file_keys(number))
        except NotFound as error:
            raise _chunk_gone() from error

    def _file_keys(self, number: int) -> list[str]:
        return [f"{self._prefix}{number}.{n}{suffix}" for n, suffix in enumerate(self._suffixes)]

    def _read(self, name: str) -> dict[str, Any] | None:
        key = f"{self._prefix}{name}"
        try:
            return dict(json.loads(b"".join(self._blobs.read(key, 0, self._blobs.size(key)))))
        except NotFound:
            return None

    def _write(self, name: str, values: Mapping[str, Any], folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(values))
        self._blobs.put_file(f"{self._prefix}{name}", path)


@contextmanager
def distributed(queue: ChunkQueue | None, job: Job, plan: Plan) -> Iterator[None]:
    """Let idle workers make chunks from the last one on, while the job's own worker starts with the first.

    The chunks stay queued when the job is only interrupted: other workers continue meanwhile, and a canceled chunk
    cannot be queued again.
    """
    if queue is None:
        yield
        return
    numbers = range(len(plan.chunks) - 1, 0, -1)
    with suppress(Unavailable):
        queue.enqueue_chunks(job.id, job.ticket, plan.plan_hash, numbers)
    is_interrupted = False
    try:
        yield
    except WorkerStopping:
        is_interrupted = True
        raise
    except AlphareelError as error:
        is_interrupted = error.retryable and not isinstance(error, FALL_BACK_TO_SINGLE_PASS)
        raise
    finally:
        if not is_interrupted:
            with suppress(Unavailable):
                queue.cancel_chunks(job.id, job.ticket, plan.plan_hash, numbers)


def make_chunks(task: RunTask, plan: Plan, store: ChunkStore, *, run: RunChild, tick: Tick) -> RunResult:
    """Make the chunks that are not in the store yet, and join all of them to the task's outputs.

    Outputs that cannot be joined are made of the joined matte. Raises what ``run`` and the store raise.
    """
    joined, rest = _divide(task.outputs)
    width = _CHUNKS_SHARE if rest else 1.0
    total, done = sum(chunk.frames for chunk in plan.chunks), 0
    for number, chunk in enumerate(plan.chunks):
        if store.facts(number) is None:
            previews = None
            if task.previews is not None:
                previews = task.previews / str(number)
                previews.mkdir()
            share = width * (1 - _JOIN_SHARE) / total
            scaled = _scaled(tick, share * done, share * chunk.frames)
            make_chunk(replace(task, previews=previews), plan, number, store, run=run, tick=scaled)
        done += chunk.frames
    scaled = _scaled(tick, width * (1 - _JOIN_SHARE), width * _JOIN_SHARE)
    result = _join(replace(task, outputs=joined), plan, store, run=run, tick=scaled)
    return _make_rest(task, joined, rest, result, run=run, tick=_scaled(tick, width, 1 - width)) if rest else result


def make_chunk(task: RunTask, plan: Plan, number: int, store: ChunkStore, *, run: RunChild, tick: Tick) -> None:
    """Make one chunk and store it. Raises InternalError when another engine than the plan's made it."""
    joined, _ = _divide(task.outputs)
    outputs = tuple(
        replace(output, path=output.path.with_name(f"chunk-{number}.{n}{output.path.suffix}"))
        for n, output in enumerate(joined)
    )
    facts = ChunkFacts.of(run(replace(task, outputs=outputs, chunk=plan.chunks[number]), tick))
    if facts.engine != plan.engine:
        raise InternalError("Another engine is used here than the one that the job began with.")
    if store.facts(number) is None:  # else another worker was faster, and its files may be in use
        store.put(number, [output.path for output in outputs], facts)
    get_logger(__name__).info("chunk made", chunk=number, chunks=len(plan.chunks))


def chunk_suffixes(outputs: Sequence[Output]) -> tuple[str, ...]:
    """Suffixes of the files of each chunk, such as ".webm": of the outputs that can be joined."""
    return tuple(output.path.suffix for output in _divide(outputs)[0])


def _divide(outputs: Sequence[Output]) -> tuple[tuple[Output, ...], tuple[Output, ...]]:
    """The outputs that are made in chunks, and those that are made of the joined matte."""
    joined = tuple(output for output in outputs if format_named(output.options.output_format).join is not None)
    return joined, tuple(output for output in outputs if output not in joined)


def _join(task: RunTask, plan: Plan, store: ChunkStore, *, run: RunChild, tick: Tick) -> RunResult:
    finished, stages = [], dict[str, float]()
    with ExitStack() as opened:
        for number, chunk in enumerate(plan.chunks):
            facts = store.facts(number)
            if facts is None:
                raise _chunk_gone()
            for stage, seconds in facts.stages.items():
                stages[stage] = stages.get(stage, 0.0) + seconds
            files = tuple(zip(store.local(number, opened), facts.frames, strict=True))
            finished.append(FinishedChunk(files, chunk, facts.frames_lost, facts.warnings))
        join = JoinTask(task.source, task.outputs, task.limits, tuple(finished), plan.engine)
        return replace(run(join, tick), stages=stages)


def _make_rest(
    task: RunTask,
    joined: Sequence[Output],
    rest: tuple[Output, ...],
    result: RunResult,
    *,
    run: RunChild,
    tick: Tick,
) -> RunResult:
    """The results of all outputs, in the task's order, after making ``rest`` of the matte among those joined."""
    matte = next((o.path for o in joined if o.options.output_format == LOSSLESS_MATTE), task.matte)
    made = run(replace(task, outputs=rest, matte=matte, chunk=None, previews=None), tick)
    by_path = dict(zip([output.path for output in (*joined, *rest)], (*result.results, *made.results), strict=True))
    return replace(result, results=tuple(by_path[output.path] for output in task.outputs))


def _chunk_gone() -> StorageFailed:
    return StorageFailed("A finished chunk of the job is gone from the store.")


def _scaled(tick: Tick, start: float, width: float) -> Tick:
    """Turn progress of a chunk into progress of the whole clip."""

    def scaled(progress: Progress | None) -> None:
        tick(None if progress is None else replace(progress, share=start + width * progress.share))

    return scaled
