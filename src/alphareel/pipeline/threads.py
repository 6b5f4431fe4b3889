"""Stages that overlap, with bounded queues between: a source that runs ahead of us, a consumer that follows behind."""

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


class BackgroundConsumer(Generic[T, R]):
    """``consume``, called in a thread of its own with an iterator of what it is given, up to ``depth`` items late.

    An error in it is raised to whoever gives it the next item or asks for its result. Leaving the context before the
    result was asked for stops it at its next item: its iterator raises there, so nothing behind its loop runs.
    ``taken``: items it has finished with; ``spent``: seconds it took, those without an item not counted.
    """

    def __init__(self, consume: Callable[[Iterator[T]], R], *, name: str, depth: int = 2) -> None:
        self.taken = 0
        self.spent = 0.0
        self._consume = consume
        self._items: queue.Queue[object] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._made: list[R] = []
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

    def give(self, item: T) -> None:
        """Hand over the next item; waits while ``depth`` of them lie there. Raises what the consumer raised."""
        self._put(item)

    def end(self) -> None:
        """Say that there is no more; the consumer goes on with what comes after its loop."""
        self._put(_END)

    def result(self) -> R:
        """Wait, after ``end``, for what the consumer returns. Raises what it raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._made[0]

    def _put(self, item: object) -> None:
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
            self._made.append(self._consume(self._drop_none()))
        except _Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - crosses to the giver's thread, which raises it
            self._error = error
        finally:
            self.spent += time.perf_counter() - self._resumed

    def _drop_none(self) -> Iterator[T]:
        while True:
            self.spent += time.perf_counter() - self._resumed
            item = self._wait()
            self._resumed = time.perf_counter()
            if item is _END:
                return
            yield item  # type: ignore[misc]
            self.taken += 1

    def _wait(self) -> object:
        while not self._stopped.is_set():
            try:
                return self._items.get(timeout=0.1)
            except queue.Empty:
                continue
        self._resumed = time.perf_counter()
        raise _Stopped


class _Stopped(Exception):
    """The consumer is no longer wanted."""
