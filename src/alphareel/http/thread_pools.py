"""Threads that are counted apart from those that serve all routes, so that no kind of request can take them all."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

T = TypeVar("T")

_UPLOADS = 8
_BUFFERED = 64 * 1024 * 1024  # bytes that all uploads together hold in memory, before they are written
_MOST, _LEAST = 4 * 1024 * 1024, 64 * 1024


class UploadPool:
    """Disk and database work of uploads: some threads at a time, and memory shared out among those on their way.

    For the event loop's thread only.
    """

    def __init__(self) -> None:
        self._limiter = CapacityLimiter(_UPLOADS)
        self._receiving = 0

    @contextmanager
    def receiving(self) -> Iterator[None]:
        """One more upload is on its way."""
        self._receiving += 1
        try:
            yield
        finally:
            self._receiving -= 1

    @property
    def piece(self) -> int:
        """Bytes that an upload gathers before it writes them."""
        return max(_LEAST, min(_MOST, _BUFFERED // max(1, self._receiving)))

    async def run(self, work: Callable[..., T], *given: object) -> T:
        return await anyio.to_thread.run_sync(work, *given, limiter=self._limiter)
