"""A job in chunks goes on where it was, whatever ended it, and keeps nothing once it is done."""

from pathlib import Path

import pytest

from alphareel.domain.errors import InternalError, StorageFailed, WorkerCrashed
from alphareel.service.worker.chunks import ChunkStore, Plan, make_chunk, make_chunks
from alphareel.testing.fakes import MemoryBlobs

CHUNKS = [
    {"start": 0, "end": 10, "frames": 10},
    {"start": 10, "end": 20, "frames": 10},
    {"start": 20, "end": None, "frames": 20},
]
ENGINE = {"name": "fake", "version": "1"}
PLAN = Plan(CHUNKS, "a" * 64, ENGINE)


class Children:
    """Runs orders without a child. ``dies_at``: the start of the chunk that it never finishes."""

    def __init__(self):
        self.made = []
        self.joined = []
        self.dies_at = None

    def __call__(self, order, tick):
        if order.get("task") == "join":
            self.joined.append([Path(m["path"]).read_text() for m in order["made"]])
            assert [m["chunk"] for m in order["made"]] == CHUNKS
            return {"frames": sum(m["frames"] for m in order["made"]), "engine": order["engine"]}
        start = order["chunk"]["start"]
        tick({"share": 0.5})
        tick(None)
        if start == self.dies_at:
            raise WorkerCrashed("It died.")
        self.made.append(start)
        Path(order["target"]).write_text(f"from {start}")
        facts = {"frames": order["chunk"]["frames"], "frames_lost": 0, "warnings": [], "engine": ENGINE}
        return {**facts, "stages": {"matte": 1.0}, "path": "not kept"}


@pytest.fixture
def order(tmp_path):
    (tmp_path / "previews").mkdir()
    return {"task": "run", "target": str(tmp_path / "result.webm"), "previews": str(tmp_path / "previews")}


@pytest.fixture
def blobs():
    return MemoryBlobs()


@pytest.fixture
def shelf(blobs):
    return ChunkStore(blobs, "job_1", "a" * 64, suffix=".webm")


def nobody_asks(progress):
    pass


def test_chunks_are_made_in_order_and_joined(order, shelf):
    children, shares = Children(), []
    result = make_chunks(order, PLAN, shelf, run=children, tick=lambda p: shares.append(p and p["share"]))
    assert children.made == [0, 10, 20]
    assert children.joined == [["from 0", "from 10", "from 20"]]
    assert result == {"frames": 40, "engine": ENGINE, "stages": {"matte": 3.0}}
    assert shares == [0.125, None, 0.375, None, 0.75, None]


def test_what_was_made_before_is_not_made_again(order, shelf, blobs, tmp_path):
    children = Children()
    children.dies_at = 20
    with pytest.raises(WorkerCrashed):
        make_chunks(order, PLAN, shelf, run=children, tick=nobody_asks)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "previews").mkdir(parents=True)
    moved = {**order, "target": str(elsewhere / "result.webm"), "previews": str(elsewhere / "previews")}
    children.dies_at = None
    make_chunks(moved, PLAN, ChunkStore(blobs, "job_1", "a" * 64, suffix=".webm"), run=children, tick=nobody_asks)
    assert children.made == [0, 10, 20]
    assert children.joined == [["from 0", "from 10", "from 20"]]


def test_chunks_of_another_plan_are_not_taken(order, shelf, blobs, tmp_path):
    children = Children()
    make_chunks(order, PLAN, shelf, run=children, tick=nobody_asks)
    (tmp_path / "b" / "previews").mkdir(parents=True)
    again = {**order, "previews": str(tmp_path / "b" / "previews")}
    make_chunks(again, PLAN, ChunkStore(blobs, "job_1", "b" * 64, suffix=".webm"), run=children, tick=nobody_asks)
    assert children.made == [0, 10, 20, 0, 10, 20]


def test_a_chunk_counts_only_once_its_facts_are_kept(order, shelf, blobs):
    children = Children()
    children.dies_at = 10
    with pytest.raises(WorkerCrashed):
        make_chunks(order, PLAN, shelf, run=children, tick=nobody_asks)
    assert sorted(blobs.blobs) == [f"chunks/job_1/{'a' * 16}/0.json", f"chunks/job_1/{'a' * 16}/0.webm"]
    del blobs.blobs[f"chunks/job_1/{'a' * 16}/0.json"]
    assert shelf.facts(0) is None


def test_a_chunk_that_vanished_is_a_failure_that_may_pass(order, shelf, blobs):
    class Vanishing(Children):
        def __call__(self, order, tick):
            result = super().__call__(order, tick)
            blobs.blobs.pop(f"chunks/job_1/{'a' * 16}/0.webm", None)
            return result

    with pytest.raises(StorageFailed) as caught:
        make_chunks(order, PLAN, shelf, run=Vanishing(), tick=nobody_asks)
    assert caught.value.retryable


def test_a_chunk_that_somebody_else_made_meanwhile_is_taken(order, shelf, tmp_path):
    class Helped(Children):
        def __call__(self, order, tick):
            if order.get("chunk") == CHUNKS[0]:
                make_chunk({**order, "target": str(tmp_path / "theirs.webm")}, PLAN, 2, shelf, run=helper, tick=tick)
            return super().__call__(order, tick)

    helper, children = Children(), Helped()
    make_chunks(order, PLAN, shelf, run=children, tick=nobody_asks)
    assert (children.made, helper.made) == ([0, 10], [20])
    assert children.joined == [["from 0", "from 10", "from 20"]]


def test_a_helper_with_another_engine_leaves_no_chunk(order, shelf):
    with pytest.raises(InternalError, match="Another engine"):
        make_chunk(order, Plan(CHUNKS, "a" * 64, {"name": "other"}), 1, shelf, run=Children(), tick=nobody_asks)
    assert shelf.facts(1) is None


def test_those_who_help_find_the_plan(shelf, tmp_path):
    assert shelf.plan() is None
    shelf.put_plan(PLAN, tmp_path)
    assert shelf.plan() == PLAN


def test_a_chunk_whose_file_is_gone_is_made_again(order, shelf, blobs, tmp_path):
    children = Children()
    make_chunks(order, PLAN, shelf, run=children, tick=nobody_asks)
    del blobs.blobs[f"chunks/job_1/{'a' * 16}/1.webm"]
    (tmp_path / "b" / "previews").mkdir(parents=True)
    make_chunks({**order, "previews": str(tmp_path / "b" / "previews")}, PLAN, shelf, run=children, tick=nobody_asks)
    assert children.made == [0, 10, 20, 10]


def test_of_two_who_made_the_same_chunk_the_first_is_kept(order, shelf, blobs, tmp_path):
    class Slow(Children):
        def __call__(self, order, tick):
            make_chunk({**order, "target": str(tmp_path / "fast.webm")}, PLAN, 1, shelf, run=Children(), tick=tick)
            result = super().__call__(order, tick)
            Path(order["target"]).write_text("slow")
            return result

    make_chunk(order, PLAN, 1, shelf, run=Slow(), tick=nobody_asks)
    assert blobs.blobs[f"chunks/job_1/{'a' * 16}/1.webm"] == b"from 10"
