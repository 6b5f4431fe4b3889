"""Memory that libraries hold without need goes back to the system, and nothing else does."""

import ctypes
import os
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from alphareel import memory

MIB = 2**20
SIZE = 64 * MIB + 12345
glibc = memory._glibc()
pytestmark = pytest.mark.skipif(glibc is None, reason="only with glibc")


def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * memory._PAGE


class Block:
    """Memory of the C library, set to one value as libraries do it: every page is written."""

    def __init__(self, value=0, size=SIZE):
        glibc.malloc.restype = ctypes.c_void_p
        glibc.free.argtypes = [ctypes.c_void_p]
        self._value, self._size, self.address = value, size, None

    def allocate(self):
        self.address = glibc.malloc(self._size)
        ctypes.memset(self.address, self._value, self._size)

    @property
    def bytes(self):
        return np.frombuffer((ctypes.c_char * self._size).from_address(self.address), np.uint8)


def no_pipe():
    raise OSError(24, "Too many open files")


@contextmanager
def blocks(*made):
    try:
        yield made
    finally:
        for block in made:
            if block.address:
                glibc.free(block.address)


def test_a_block_of_zeros_is_returned_and_stays_usable():
    with blocks(Block()) as (block,):
        before = resident()
        assert memory.release_zeros(block.allocate, SIZE)
        assert resident() - before < 8 * MIB
        ctypes.memset(block.address + SIZE // 2, 7, 100)
        written = np.flatnonzero(block.bytes)
        assert (written[0], len(written)) == (SIZE // 2, 100)


def test_a_block_that_lies_beside_others_is_found():
    with blocks(Block(5, SIZE + 3 * MIB), Block(), Block(6, SIZE + 5 * MIB)) as made:
        assert memory.release_zeros(lambda: [block.allocate() for block in made], SIZE)
        assert [int(block.bytes.max()) for block in made] == [5, 0, 6]
        assert [int(block.bytes.min()) for block in made] == [5, 0, 6]


@pytest.mark.parametrize(
    "made",
    [
        [Block(1)],
        [Block(0, SIZE + 3 * MIB)],
        [Block(0, SIZE - 3 * MIB)],
        [Block(), Block()],
    ],
    ids=["not zeros", "larger", "smaller", "two that fit"],
)
def test_anything_else_is_kept(made):
    with blocks(*made):
        assert not memory.release_zeros(lambda: [block.allocate() for block in made], SIZE)
        assert all(block.bytes.min() == block.bytes.max() for block in made)


def test_a_block_that_was_there_before_is_kept():
    with blocks(Block()) as (old,):
        old.allocate()
        assert not memory.release_zeros(lambda: None, SIZE)


def test_errors_are_raised_and_the_next_call_works():
    with pytest.raises(ZeroDivisionError):
        memory.release_zeros(lambda: 1 // 0, SIZE)
    with blocks(Block()) as (block,):
        assert memory.release_zeros(block.allocate, SIZE)


@pytest.mark.parametrize("missing", ["the list of mappings", "glibc", "descriptors"])
def test_without_what_it_needs_it_only_allocates(monkeypatch, tmp_path, missing):
    if missing == "glibc":
        monkeypatch.setattr(memory, "_glibc", lambda: None)
        memory.limit_arenas()
        memory.trim()
    elif missing == "descriptors":
        monkeypatch.setattr(os, "pipe", no_pipe)
    else:
        monkeypatch.setattr(memory, "_MAPS", tmp_path / "none")
    with blocks(Block()) as (block,):
        assert not memory.release_zeros(block.allocate, SIZE)
        assert block.address


def test_addresses_that_are_unmapped_meanwhile_are_not_read():
    assert list(memory._chunks(glibc, [(memory._PAGE, 4 * memory._PAGE)])) == []


def test_ranges_are_cut_out_of_ranges():
    assert memory._without([(0, 10), (20, 30)], [(0, 2), (5, 6), (25, 40)]) == [(2, 5), (6, 10), (20, 25)]
    assert memory._without([(0, 10)], []) == [(0, 10)]
    assert memory._without([(3, 4)], [(0, 10)]) == []


def test_trimming_returns_what_was_freed():
    size = MIB // 16  # below the size for which the C library makes a mapping
    many = [Block(1, size) for _ in range(512)]
    with blocks(Block(1, 64)) as (last,):
        for block in many:
            block.allocate()
        last.allocate()  # keeps the end of the heap in use, so that freeing alone returns nothing
        full = resident()
        for block in many:
            glibc.free(block.address)
        memory.trim()
        assert resident() < full - 24 * MIB


def test_the_number_of_heaps_is_limited_unless_the_environment_says_otherwise(monkeypatch):
    calls = []
    monkeypatch.setattr(memory, "_glibc", lambda: type("C", (), {"mallopt": staticmethod(lambda *a: calls.append(a))}))
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    memory.limit_arenas()
    monkeypatch.setenv("MALLOC_ARENA_MAX", "7")
    memory.limit_arenas()
    assert calls == [(-8, 1)]
