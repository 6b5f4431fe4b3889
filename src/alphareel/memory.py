"""Returns memory to the system that libraries of this process hold without need. Only with glibc; elsewhere a no-op.

Figures: docs/decisions/0043-memory.md.
"""

import ctypes
import mmap
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

_Range: TypeAlias = tuple[int, int]  # addresses: the first, and the one after the last

_M_ARENA_MAX = -8  # of mallopt
_ARENAS = 1
_MADV_DONTNEED = 4
_IS_MAPPED, _FLAGS = 2, 7  # bits of a chunk's size
_PAGE = mmap.PAGESIZE
_MAPS = Path("/proc/self/maps")

_allocating = threading.Lock()


def limit_arenas() -> None:
    """Let all threads of this process allocate from one heap, unless ``MALLOC_ARENA_MAX`` says otherwise.

    By default most threads have a heap of their own, which keeps the largest amount that this thread ever needed.
    """
    library = _glibc()
    if library is not None and "MALLOC_ARENA_MAX" not in os.environ:
        library.mallopt(_M_ARENA_MAX, _ARENAS)


def trim() -> None:
    """Return freed memory to the system. Takes milliseconds, so call it after something large."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def release_zeros(allocate: Callable[[], object], size: int) -> bool:
    """Call ``allocate``, then return to the system the block of ``size`` bytes that it allocated and set to zero.

    The block stays valid: its pages read as zeros and come back when they are written. Nothing is released unless
    exactly one new block of the C library has this size and holds only zeros. Nobody may write to it meanwhile. Tells
    whether it was released. Raises what ``allocate`` raises.
    """
    library = _glibc()
    if library is None:
        allocate()
        return False
    with _allocating:
        before = _mappings()
        allocate()
        after = _mappings()
        if before is None or after is None:
            return False
        chunks = _chunks(library, _without(after, before))
        blocks = [(first, end) for first, end in chunks if 0 <= end - first - size <= 2 * _PAGE]
        return len(blocks) == 1 and _release(library, *blocks[0])


@cache
def _glibc() -> Any:
    """The C library of a 64-bit Linux if it is glibc, else None."""
    if not _MAPS.exists() or ctypes.sizeof(ctypes.c_size_t) != 8:
        return None
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return None
    library.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    library.write.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    library.malloc_trim.argtypes = [ctypes.c_size_t]
    return library


def _mappings() -> list[_Range] | None:
    """Private memory that can be written and belongs to no file, in order. None where the system does not tell."""
    try:
        lines = [line.split() for line in _MAPS.read_text().splitlines()]
    except OSError:
        return None
    spans = (fields[0].partition("-") for fields in lines if fields[1] == "rw-p" and len(fields) == 5)
    return [(int(first, 16), int(end, 16)) for first, _, end in spans]


def _without(ranges: Iterable[_Range], others: Iterable[_Range]) -> list[_Range]:
    """The parts of ``ranges`` outside of ``others``."""
    left = list(ranges)
    for first, end in others:
        parts = [[(a, min(b, first)), (max(a, end), b)] for a, b in left]
        left = [(a, b) for pair in parts for a, b in pair if a < b]
    return left


def _chunks(library: Any, ranges: Iterable[_Range]) -> Iterator[_Range]:
    """Large blocks, for each of which the C library made a mapping. Their first 16 bytes are a header."""
    try:
        reading, writing = os.pipe()
    except OSError:  # too many open files
        return
    try:
        for start, end in ranges:
            first = start
            while first < end:
                # Unlike a read of our own, write() survives that another thread has just unmapped the address.
                if library.write(writing, first, 16) != 16:
                    break
                before, size = np.frombuffer(os.read(reading, 16), np.uint64).tolist()
                length = size & ~_FLAGS
                if before or size & _FLAGS != _IS_MAPPED or length % _PAGE or not 0 < length <= end - first:
                    break
                yield first, first + length
                first += length
    finally:
        os.close(reading)
        os.close(writing)


def _release(library: Any, first: int, end: int) -> bool:
    """Return all pages but the one with the header, if they hold only zeros."""
    first += _PAGE
    pages = np.frombuffer(memoryview((ctypes.c_char * (end - first)).from_address(first)), np.uint64)
    return not pages.any() and library.madvise(first, end - first, _MADV_DONTNEED) == 0
