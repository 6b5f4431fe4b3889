"""Pipeline stages in threads of their own, connected by bounded queues."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_END = object()


class Prefetcher(Generic[T]):
    """Iterates over ``source``, which runs in a thread of its own up to ``depth`` items ahead.

    An error in the source is raised in the consumer after the items before it. Leaving the context stops the thread
    and closes the source, so its resources are released before the ``with`` block ends.
    ``spent``: seconds the source worked. ``waited``: seconds the consumer waited for it.
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
            del item  # its memory, while the next one is awaited
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._produce()
        except BaseException as error:  # noqa: BLE001 - raised in the consumer's thread
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
            del item

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


class BackgroundConsumer(Generic[T, R]):
    """Calls ``consume`` in a thread of its own with an iterator over the items that ``put`` queues, at most ``depth``.

    An error in ``consume`` is raised by the next ``put`` or ``result``. Leaving the context before ``result`` stops it
    at its next item: its iterator raises there, so code after its loop does not run.
    ``consumed``: items it has finished. ``spent``: seconds it worked, without the time waiting for items.
    """

    def __init__(self, consume: Callable[[Iterator[T]], R], *, name: str, depth: int = 2) -> None:
        self.consumed = 0
        self.spent = 0.0
        self._consume = consume
        self._items: queue.Queue[object] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._results: list[R] = []
        self._resumed = 0.0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def put(self, item: T) -> None:
        """Queue the next item; blocks while the queue is full. Raises the consumer's error."""
        self._enqueue(item)

    def end(self) -> None:
        """End the items. The consumer continues after its loop."""
        self._enqueue(_END)

    def result(self) -> R:
        """Wait, after ``end``, for the consumer's return value. Raises its error."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._results[0]

    def _enqueue(self, item: object) -> None:
        while self._thread.is_alive():
            try:
                self._items.put(item, timeout=0.1)
            except queue.Full:
                continue
            return
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        self._resumed = time.perf_counter()
        try:
            self._results.append(self._consume(self._queued_items()))
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - raised in the thread that calls put
            self._error = error
        finally:
            self.spent += time.perf_counter() - self._resumed

    def _queued_items(self) -> Iterator[T]:
        while True:
            self.spent += time.perf_counter() - self._resumed
            item = self._wait()
            self._resumed = time.perf_counter()
            if item is _END:
                return
            yield item  # type: ignore[misc]
            del item
            self.consumed += 1

    def _wait(self) -> object:
        while not self._stopped.is_set():
            try:
                return self._items.get(timeout=0.1)
            except queue.Empty:
                continue
        self._resumed = time.perf_counter()
        raise _Stopped


class _Stopped(Exception):
    """The context was left before the consumer finished."""
