"""A thread pool for uploads, so that they cannot occupy every thread that serves requests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

T = TypeVar("T")

_MAX_THREADS = 8
_TOTAL_BUFFER = 64 * 1024 * 1024  # bytes that all uploads together buffer in memory
_MAX_BUFFER, _MIN_BUFFER = 1024 * 1024, 64 * 1024  # bytes for each upload


class UploadPool:
    """Runs disk and database work of uploads in a few threads, and shares buffer memory among them.

    Only for the event loop's thread.
    """

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(_MAX_THREADS)
        self._active_uploads = 0

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """Counts one active upload."""
        self._active_uploads += 1
        try:
            yield
        finally:
            self._active_uploads -= 1

    @property
    def buffer_size(self) -> int:
        """Bytes that an upload buffers before it writes them. As much again is being written meanwhile."""
        return max(_MIN_BUFFER, min(_MAX_BUFFER, _TOTAL_BUFFER // 2 // max(1, self._active_uploads)))

    async def run(self, function: Callable[..., T], *args: object) -> T:
        return await anyio.to_thread.run_sync(function, *args, limiter=self._limiter)
