"""Starts writing a file to disk while more of it arrives, so that the fsync at its end is short."""

import ctypes
import sys

_SYNC_FILE_RANGE_WRITE = 2
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def begin_writeback(descriptor: int, start: int, length: int) -> None:
    """Begin to write these bytes. A hint: errors are left to the sync, and where there is no such call nothing happens.

    The pages stay in memory, unlike those that ``posix_fadvise`` gives up: the file is about to be inspected.
    """
    if _libc is not None and hasattr(_libc, "sync_file_range"):
        _libc.sync_file_range(descriptor, ctypes.c_int64(start), ctypes.c_int64(length), _SYNC_FILE_RANGE_WRITE)
