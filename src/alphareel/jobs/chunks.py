"""A long job in chunks: each is made in a child of its own and kept in the store, so that any worker can go on."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from alphareel import observe
from alphareel.domain.errors import NotFound, StorageFailed
from alphareel.jobs.ports import Blobs
from alphareel.jobs.sandbox import Tick

_MARK = 16  # digits of a plan's mark that name its chunks
_FACTS = ("frames", "frames_lost", "warnings", "engine", "stages")

Run = Callable[[Mapping[str, Any], Tick], dict[str, Any]]
"""Carries out an order in a child."""


class Shelf:
    """The finished chunks of one job that go together. A chunk is there once its facts are."""

    def __init__(self, blobs: Blobs, job_id: str, mark: str, *, suffix: str) -> None:
        self._blobs = blobs
        self._prefix = f"{prefix_of(job_id)}{mark[:_MARK]}/"
        self._suffix = suffix

    def facts(self, number: int) -> dict[str, Any] | None:
        """What is known of a chunk; None while it is not made."""
        key = f"{self._prefix}{number}.json"
        try:
            text = b"".join(self._blobs.read(key, 0, self._blobs.size(key)))
        except NotFound:
            return None
        return dict(json.loads(text))

    def put(self, number: int, path: Path, result: Mapping[str, Any]) -> None:
        """Keep the chunk at ``path``, which may be moved."""
        note = path.with_suffix(".json")
        note.write_text(json.dumps({name: result[name] for name in _FACTS}))
        self._blobs.put_file(f"{self._prefix}{number}{self._suffix}", path)
        self._blobs.put_file(f"{self._prefix}{number}.json", note)

    def local(self, number: int, opened: ExitStack) -> Path:
        """The chunk as a file here, as long as ``opened`` is open."""
        try:
            return opened.enter_context(self._blobs.local(f"{self._prefix}{number}{self._suffix}"))
        except NotFound as error:
            raise StorageFailed("A finished chunk of the job is gone from the store.") from error


def prefix_of(job_id: str) -> str:
    """Where all chunks of a job are kept."""
    return f"chunks/{job_id}/"


def make_chunks(
    order: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]], shelf: Shelf, *, run: Run, tick: Tick
) -> dict[str, Any]:
    """Carry out an order chunk by chunk, without those that are on the shelf, and join them at its target.

    Returns the result as a child tells it. Raises what ``run`` and the store raise.
    """
    total, done = sum(chunk["frames"] for chunk in chunks), 0
    target = Path(order["target"])
    for number, chunk in enumerate(chunks):
        if shelf.facts(number) is None:
            place = target.with_name(f"chunk-{number}{target.suffix}")
            previews = Path(order["previews"]) / str(number)
            previews.mkdir()
            piece = {**order, "target": str(place), "previews": str(previews), "chunk": chunk, "chunk_seconds": 0}
            shelf.put(number, place, run(piece, _within(tick, done / total, chunk["frames"] / total)))
            observe.log(__name__).info("chunk made", chunk=number, chunks=len(chunks))
        done += chunk["frames"]
    return _joined(order, chunks, shelf, run=run, tick=tick)


def _joined(
    order: Mapping[str, Any], chunks: Sequence[Mapping[str, Any]], shelf: Shelf, *, run: Run, tick: Tick
) -> dict[str, Any]:
    made, engine, stages = [], {}, dict[str, float]()
    with ExitStack() as opened:
        for number, chunk in enumerate(chunks):
            facts = shelf.facts(number)
            if facts is None:
                raise StorageFailed("A finished chunk of the job is gone from the store.")
            engine = facts["engine"]
            for stage, seconds in facts["stages"].items():
                stages[stage] = stages.get(stage, 0.0) + seconds
            made.append({**facts, "path": str(shelf.local(number, opened)), "chunk": chunk})
        result = run({**order, "task": "join", "made": made, "engine": engine}, tick)
    return {**result, "stages": stages}


def _within(tick: Tick, start: float, width: float) -> Tick:
    """Progress of a chunk as progress of the whole."""

    def told(progress: Mapping[str, Any] | None) -> None:
        tick(None if progress is None else {**progress, "share": start + width * float(progress["share"])})

    return told
