"""A job that is made in chunks resumes with the missing ones, whatever interrupted it."""

from dataclasses import replace
from pathlib import Path

import pytest

from alphareel.domain.clip import Chunk, EngineFacts, Limits, Progress, Result
from alphareel.domain.errors import InternalError, StorageFailed, WorkerCrashed
from alphareel.domain.options import Options, Output
from alphareel.service.worker.chunks import ChunkStore, chunk_suffixes, make_chunk, make_chunks
from alphareel.service.worker.events import Plan, RunResult
from alphareel.service.worker.tasks import JoinTask, RunTask
from alphareel.testing.fakes import MemoryBlobs

CHUNKS = (Chunk(0, 10, 10), Chunk(10, 20, 10), Chunk(20, None, 20))
ENGINE = EngineFacts("fake", "1")
PLAN = Plan(CHUNKS, "a" * 64, ENGINE)


def _result(path, frames):
    return Result(
        path=str(path), format="webm", mime="video/webm", bytes=6, sha256="ab", frames=frames, seconds=1.0, width=64,
        height=48, has_alpha=True, has_audio=False, engine=ENGINE,
    )  # fmt: skip


class FakeChildren:
    """Runs tasks without a child process. ``dies_at``: the start of the chunk that it never finishes."""

    def __init__(self):
        self.made = []
        self.joined = []
        self.dies_at = None

    def __call__(self, task, tick):
        if isinstance(task, JoinTask):
            self.joined.append([chunk.files[0][0].read_text() for chunk in task.chunks])
            assert tuple(chunk.chunk for chunk in task.chunks) == CHUNKS
            assert task.engine == ENGINE
            tick(Progress(done=20, total=40, share=0.5, seconds=1.0, fps=0.0, remaining_seconds=None))
            return RunResult((_result(task.outputs[0].path, sum(chunk.files[0][1] for chunk in task.chunks)),))
        start = task.chunk.start
        tick(Progress(done=5, total=10, share=0.5, seconds=1.0, fps=5.0, remaining_seconds=None))
        tick(None)
        if start == self.dies_at:
            raise WorkerCrashed("It died.")
        self.made.append(start)
        for output in task.outputs:
            output.path.write_text(f"from {start}")
        return RunResult(tuple(_result(o.path, task.chunk.frames) for o in task.outputs), {"matte": 1.0})


@pytest.fixture
def task(tmp_path):
    return task_in(tmp_path)


def task_in(folder):
    (folder / "previews").mkdir(parents=True)
    return RunTask(folder / "in.mp4", (Output(folder / "result.webm"),), Limits(), previews=folder / "previews")


@pytest.fixture
def blobs():
    return MemoryBlobs()


@pytest.fixture
def chunk_store(blobs):
    return ChunkStore(blobs, "job_1", "a" * 64, suffixes=(".webm",))


def no_tick(progress):
    pass


def test_chunks_are_made_in_order_and_joined(task, chunk_store):
    children, shares = FakeChildren(), []
    result = make_chunks(task, PLAN, chunk_store, run=children, tick=lambda p: shares.append(p and p.share))
    assert children.made == [0, 10, 20]
    assert children.joined == [["from 0", "from 10", "from 20"]]
    assert (result.results[0].frames, result.results[0].engine, result.stages) == (40, ENGINE, {"matte": 3.0})
    made = 0.95  # the rest is for joining them
    assert [share for share in shares if share] == pytest.approx([0.125 * made, 0.375 * made, 0.75 * made, 0.975])
    assert shares.count(None) == 3


def test_chunks_that_are_stored_are_not_made_again(task, chunk_store, blobs, tmp_path):
    children = FakeChildren()
    children.dies_at = 20
    with pytest.raises(WorkerCrashed):
        make_chunks(task, PLAN, chunk_store, run=children, tick=no_tick)
    moved = task_in(tmp_path / "elsewhere")
    children.dies_at = None
    make_chunks(moved, PLAN, ChunkStore(blobs, "job_1", "a" * 64, suffixes=(".webm",)), run=children, tick=no_tick)
    assert children.made == [0, 10, 20]
    assert children.joined == [["from 0", "from 10", "from 20"]]


def test_chunks_of_another_plan_are_not_used(task, chunk_store, blobs, tmp_path):
    children = FakeChildren()
    make_chunks(task, PLAN, chunk_store, run=children, tick=no_tick)
    again = task_in(tmp_path / "b")
    make_chunks(again, PLAN, ChunkStore(blobs, "job_1", "b" * 64, suffixes=(".webm",)), run=children, tick=no_tick)
    assert children.made == [0, 10, 20, 0, 10, 20]


def test_a_chunk_counts_only_once_its_facts_are_stored(task, chunk_store, blobs):
    children = FakeChildren()
    children.dies_at = 10
    with pytest.raises(WorkerCrashed):
        make_chunks(task, PLAN, chunk_store, run=children, tick=no_tick)
    assert sorted(blobs.blobs) == [f"chunks/job_1/{'a' * 16}/0.0.webm", f"chunks/job_1/{'a' * 16}/0.json"]
    del blobs.blobs[f"chunks/job_1/{'a' * 16}/0.json"]
    assert chunk_store.facts(0) is None


def test_a_chunk_that_vanished_is_a_retryable_failure(task, chunk_store, blobs):
    class Vanishing(FakeChildren):
        def __call__(self, task, tick):
            result = super().__call__(task, tick)
            blobs.blobs.pop(f"chunks/job_1/{'a' * 16}/0.0.webm", None)
            return result

    with pytest.raises(StorageFailed) as caught:
        make_chunks(task, PLAN, chunk_store, run=Vanishing(), tick=no_tick)
    assert caught.value.retryable


def test_a_chunk_that_another_worker_made_meanwhile_is_used(task, chunk_store, tmp_path):
    class Helped(FakeChildren):
        def __call__(self, task, tick):
            if isinstance(task, RunTask) and task.chunk == CHUNKS[0]:
                theirs = replace(task, outputs=(Output(tmp_path / "theirs.webm"),))
                make_chunk(theirs, PLAN, 2, chunk_store, run=helper, tick=tick)
            return super().__call__(task, tick)

    helper, children = FakeChildren(), Helped()
    make_chunks(task, PLAN, chunk_store, run=children, tick=no_tick)
    assert (children.made, helper.made) == ([0, 10], [20])
    assert children.joined == [["from 0", "from 10", "from 20"]]


def test_a_worker_with_another_engine_stores_no_chunk(task, chunk_store):
    with pytest.raises(InternalError, match="Another engine"):
        make_chunk(
            task, Plan(CHUNKS, "a" * 64, EngineFacts("other", "1")), 1, chunk_store, run=FakeChildren(), tick=no_tick
        )
    assert chunk_store.facts(1) is None


def test_other_workers_find_the_plan_in_the_store(chunk_store, tmp_path):
    assert chunk_store.plan() is None
    chunk_store.put_plan(PLAN, tmp_path)
    assert chunk_store.plan() == PLAN


def test_a_chunk_whose_file_is_gone_is_made_again(task, chunk_store, blobs, tmp_path):
    children = FakeChildren()
    make_chunks(task, PLAN, chunk_store, run=children, tick=no_tick)
    del blobs.blobs[f"chunks/job_1/{'a' * 16}/1.0.webm"]
    make_chunks(task_in(tmp_path / "b"), PLAN, chunk_store, run=children, tick=no_tick)
    assert children.made == [0, 10, 20, 10]


def test_of_two_copies_of_a_chunk_the_first_is_kept(task, chunk_store, blobs, tmp_path):
    class Slow(FakeChildren):
        def __call__(self, task, tick):
            fast = replace(task, outputs=(Output(tmp_path / "fast.webm"),))
            make_chunk(fast, PLAN, 1, chunk_store, run=FakeChildren(), tick=tick)
            result = super().__call__(task, tick)
            task.outputs[0].path.write_text("slow")
            return result

    make_chunk(task, PLAN, 1, chunk_store, run=Slow(), tick=no_tick)
    assert blobs.blobs[f"chunks/job_1/{'a' * 16}/1.0.webm"] == b"from 10"


def test_outputs_that_cannot_be_joined_are_made_of_the_joined_matte(tmp_path, blobs):
    class Children(FakeChildren):
        def __call__(self, task, tick):
            if isinstance(task, RunTask) and task.chunk is None:
                self.rest = [o.path.name for o in task.outputs], task.matte.name
                return RunResult(tuple(_result(o.path, 40) for o in task.outputs))
            if isinstance(task, JoinTask):
                return RunResult(tuple(_result(o.path, 40) for o in task.outputs))
            return super().__call__(task, tick)

    names = {"a.gif": "gif", "b.webm": "webm", "m.mkv": "lossless_matte"}
    outputs = tuple(Output(tmp_path / path, Options(output_format=name)) for path, name in names.items())
    store = ChunkStore(blobs, "job_1", "a" * 64, suffixes=chunk_suffixes(outputs))
    children = Children()
    task = RunTask(tmp_path / "in.mp4", outputs, Limits())
    result = make_chunks(task, PLAN, store, run=children, tick=no_tick)
    assert children.rest == (["a.gif"], "m.mkv")
    assert [Path(r.path).name for r in result.results] == list(names)
    assert sum(key.endswith((".webm", ".mkv")) for key in blobs.blobs) == 2 * len(CHUNKS)
