"""A long job in chunks: each is made in a child of its own and kept in the store, so that any worker can go on."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from alphareel import __version__
from alphareel.domain.errors import (
    AlphareelError,
    BadVideo,
    InternalError,
    NotFound,
    StorageFailed,
    Unavailable,
    VerificationFailed,
)
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job
from alphareel.service.ports import Blobs, ChunkQueue
from alphareel.service.worker.child_process import Tick
from alphareel.service.worker.progress import WorkerStopping
from alphareel.telemetry.logging import get_logger

_FACTS = ("frames", "frames_lost", "warnings", "engine", "stages")
_PLAN = "plan.json"

FALL_BACK_TO_SINGLE_PASS = (BadVideo, VerificationFailed, InternalError)
"""What chunks fail with where the whole may succeed: damage at their edges, which what is not divided does not have."""

Run = Callable[[Mapping[str, Any], Tick], dict[str, Any]]
"""Carries out an order in a child."""


@dataclass(frozen=True)
class Plan:
    """A job divided, as its first child told: facts of ``domain.clip.Chunk``, and of the engine for all of them.

    ``mark``: what the bytes of the chunks follow from. ``version``: of alphareel.
    """

    chunks: Sequence[Mapping[str, Any]]
    mark: str
    engine: Mapping[str, Any]
    version: str = __version__


class ChunkStore:
    """The finished chunks of one job that go together, beside their plan. A chunk is there once its facts are.

    ``kept`` is called after each chunk that is put there.
    """

    def __init__(
        self, blobs: Blobs, job_id: str, mark: str, *, suffix: str, kept: Callable[[], None] = lambda: None
    ) -> None:
        self._blobs = blobs
        self._kept = kept
        self._prefix = blob_keys.chunk_prefix(job_id, mark)
        self._suffix = suffix

    def plan(self) -> Plan | None:
        """The plan, None where there is no such job any more."""
        told = self._read(_PLAN)
        return None if told is None else Plan(**told)

    def put_plan(self, plan: Plan, folder: Path) -> None:
        """Keep the plan for those who help; ``folder`` takes a file on its way."""
        self._write(_PLAN, asdict(plan), folder)

    def facts(self, number: int) -> dict[str, Any] | None:
        """What is known of a chunk; None while it is not made, and once its file is gone."""
        try:
            self._blobs.size(f"{self._prefix}{number}{self._suffix}")
        except NotFound:
            return None
        return self._read(f"{number}.json")

    def put(self, number: int, path: Path, result: Mapping[str, Any]) -> None:
        """Keep the chunk at ``path``, which may be moved."""
        self._blobs.put_file(f"{self._prefix}{number}{self._suffix}", path)
        self._write(f"{number}.json", {name: result[name] for name in _FACTS}, path.parent)
        self._kept()

    def local(self, number: int, opened: ExitStack) -> Path:
        """The chunk as a file here, as long as ``opened`` is open."""
        try:
            return opened.enter_context(self._blobs.local(f"{self._prefix}{number}{self._suffix}"))
        except NotFound as error:
            raise _gone() from error

    def _read(self, name: str) -> dict[str, Any] | None:
        key = f"{self._prefix}{name}"
        try:
            return dict(json.loads(b"".join(self._blobs.read(key, 0, self._blobs.size(key)))))
        except NotFound:
            return None

    def _write(self, name: str, told: Mapping[str, Any], folder: Path) -> None:
        note = folder / name
        note.write_text(json.dumps(told))
        self._blobs.put_file(f"{self._prefix}{name}", note)


@contextmanager
def distributed(helpers: ChunkQueue | None, job: Job, plan: Plan) -> Iterator[None]:
    """Idle workers make chunks from the end on, while the job's own comes from the start.

    Where the job is only interrupted the offer stands: they go on meanwhile, and what was withdrawn cannot be offered
    to them again.
    """
    if helpers is None:
        yield
        return
    offer = (job.id, job.ticket, plan.mark, range(len(plan.chunks) - 1, 0, -1))
    with suppress(Unavailable):
        helpers.offer(*offer)
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
                helpers.withdraw(*offer)


def make_chunks(order: Mapping[str, Any], plan: Plan, shelf: ChunkStore, *, run: Run, tick: Tick) -> dict[str, Any]:
    """Carry out an order chunk by chunk, without those that are on the shelf by then, and join them at its target.

    Returns the result as a child tells it. Raises what ``run`` and the store raise.
    """
    total, done = sum(chunk["frames"] for chunk in plan.chunks), 0
    for number, chunk in enumerate(plan.chunks):
        if shelf.facts(number) is None:
            previews = Path(order["previews"]) / str(number)
            previews.mkdir()
            within = _within(tick, done / total, chunk["frames"] / total)
            make_chunk({**order, "previews": str(previews)}, plan, number, shelf, run=run, tick=within)
        done += chunk["frames"]
    return _joined(order, plan, shelf, run=run, tick=tick)


def make_chunk(order: Mapping[str, Any], plan: Plan, number: int, shelf: ChunkStore, *, run: Run, tick: Tick) -> None:
    """Make one chunk and put it on the shelf. Raises InternalError where another engine serves than in the plan."""
    target = Path(order["target"])
    place = target.with_name(f"chunk-{number}{target.suffix}")
    result = run({**order, "target": str(place), "chunk": plan.chunks[number], "chunk_seconds": 0}, tick)
    if result["engine"] != plan.engine:
        raise InternalError("Another engine serves here than the one that the job began with.")
    if shelf.facts(number) is None:  # or somebody was faster, and the file may be in use
        shelf.put(number, place, result)
    get_logger(__name__).info("chunk made", chunk=number, chunks=len(plan.chunks))


def _joined(order: Mapping[str, Any], plan: Plan, shelf: ChunkStore, *, run: Run, tick: Tick) -> dict[str, Any]:
    made, stages = [], dict[str, float]()
    with ExitStack() as opened:
        for number, chunk in enumerate(plan.chunks):
            facts = shelf.facts(number)
            if facts is None:
                raise _gone()
            for stage, seconds in facts["stages"].items():
                stages[stage] = stages.get(stage, 0.0) + seconds
            made.append({**facts, "path": str(shelf.local(number, opened)), "chunk": chunk})
        result = run({**order, "task": "join", "made": made, "engine": plan.engine}, tick)
    return {**result, "stages": stages}


def _gone() -> StorageFailed:
    return StorageFailed("A finished chunk of the job is gone from the store.")


def _within(tick: Tick, start: float, width: float) -> Tick:
    """Progress of a chunk as progress of the whole."""

    def told(progress: Mapping[str, Any] | None) -> None:
        tick(None if progress is None else {**progress, "share": start + width * float(progress["share"])})

    return told
