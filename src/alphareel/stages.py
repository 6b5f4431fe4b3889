"""Stages that overlap: an iterator that runs ahead of its consumer in a thread, behind a bounded queue."""

import queue
import threading
import time
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")

_END = object()


class Ahead(Generic[T]):
    """Items of ``source``, produced up to ``depth`` ahead by a thread of its own.

    An error in the source is raised to the consumer in its place. Leaving the context stops the thread, waits for it,
    and closes the source, so that whatever the source holds open is released before the ``with`` block ends.
    ``spent``: seconds the source took, all told; ``waited``: seconds the consumer stood waiting for it.
    """

    def __init__(self, source: Generator[T, None, None], *, name: str, depth: int = 4) -> None:
        self.spent = 0.0
        self.waited = 0.0
        self._source = source
        self._items: queue.Queue[object] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            self._drain()
            self._thread.join(0.05)

    def __iter__(self) -> Iterator[T]:
        while True:
            began = time.perf_counter()
            item = self._items.get()
            self.waited += time.perf_counter() - began
            if item is _END:
                break
            yield item  # type: ignore[misc]
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._produce()
        except BaseException as error:  # noqa: BLE001 - crosses to the consumer's thread, which raises it
            self._error = error
        finally:
            self._source.close()
            self._put(_END)

    def _produce(self) -> None:
        while not self._stopped.is_set():
            began = time.perf_counter()
            item = next(self._source, _END)
            self.spent += time.perf_counter() - began
            if item is _END:
                return
            self._put(item)

    def _put(self, item: object) -> None:
        while not self._stopped.is_set():
            try:
                self._items.put(item, timeout=0.1)
            except queue.Full:
                continue
            return

    def _drain(self) -> None:
        try:
            while True:
                self._items.get_nowait()
        except queue.Empty:
            pass
