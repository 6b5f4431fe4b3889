"""Whether the database is up, tracked in the background, so that no request waits for a database that hangs."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from alphareel.domain.errors import Unavailable
from alphareel.telemetry.logging import get_logger

_PROBE_INTERVAL = 0.3


@dataclass(frozen=True)
class DatabaseLimits:
    """Timeouts in seconds. The defaults suit a background process; requests need shorter ones.

    ``connect``: for a connection to PostgreSQL. ``statement``: for one statement there (0: unlimited). ``lock``: for a
    row lock there (0: unlimited); on SQLite, for the wait behind other writers of this process. ``pool``: for a free
    connection. ``hang``: how long the database may not answer, or another process may hold SQLite's write lock, until
    the database counts as down.
    """

    connect: float = 10.0
    statement: float = 120.0
    lock: float = 30.0
    pool: float = 30.0
    hang: float = 10.0


WITHOUT_LIMITS = DatabaseLimits(statement=0, lock=0, hang=30.0)
"""For migrations, which may take any time."""


def no_answer() -> Unavailable:
    """The error while the database is down."""
    return Unavailable("The database does not answer.", hint="Try again in a moment.")


class Availability:
    """Whether the database is up: until a probe fails or ``report_down`` is called, then again once a probe succeeds.

    ``probe`` raises an exception when it fails. ``close`` releases its resources.
    """

    def __init__(self, probe: Callable[[], None], *, close: Callable[[], None] = lambda: None) -> None:
        self._probe = probe
        self._close = close
        self._up = threading.Event()
        self._up.set()
        self._watched = False
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    def check(self) -> None:
        """Raise Unavailable while the database is down."""
        if not self._up.is_set():
            raise no_answer()

    def wait(self, seconds: float) -> bool:
        """Wait until the database is up, at most this many seconds; return whether it is."""
        return self._up.wait(seconds)

    def watch(self) -> None:
        """Probe continuously from now on."""
        if not self._watched:
            self._watched = True
            self._start()

    def report_down(self) -> None:
        """Mark the database as down and probe until it is up again."""
        self._set(up=False)
        self._start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is None:
            self._close()
        else:
            self._thread.join(timeout=1.0)  # a probe that hangs closes later

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="database-probe", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(_PROBE_INTERVAL):
            try:
                self._probe()
            except Exception:  # noqa: BLE001  # any error means that the database did not answer
                self._set(up=False)
                continue
            self._set(up=True)
            with self._lock:
                if not self._watched and self._up.is_set():
                    self._thread = None
                    return
        self._close()

    def _set(self, *, up: bool) -> None:
        if up == self._up.is_set() or self._stopping.is_set():
            return
        if up:
            self._up.set()
            get_logger(__name__).info("database answers again")
        else:
            self._up.clear()
            get_logger(__name__).error("database does not answer")


@dataclass
class _QueueEntry:
    called: threading.Event
    granted: bool = False


class WriteQueue:
    """Serializes the writers of one process in the order of their arrival.

    SQLite lets writers race for its lock, so some could wait forever, and a writer could not tell how long *another*
    process holds the lock.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = deque[_QueueEntry]()
        self._busy = False

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Wait for the turn. Raises Unavailable after ``seconds``, or when ``cancel_all`` is called."""
        if not self._acquire(seconds):
            raise no_answer()
        try:
            yield
        finally:
            self._release()

    def cancel_all(self) -> None:
        """Let all waiting writers fail, because the database is down."""
        with self._lock:
            while self._waiting:
                self._waiting.popleft().called.set()

    def _acquire(self, seconds: float) -> bool:
        with self._lock:
            if not self._busy:
                self._busy = True
                return True
            ticket = _QueueEntry(threading.Event())
            self._waiting.append(ticket)
        ticket.called.wait(seconds)
        with self._lock:
            with contextlib.suppress(ValueError):
                self._waiting.remove(ticket)
            return ticket.granted

    def _release(self) -> None:
        with self._lock:
            self._busy = bool(self._waiting)
            if self._waiting:
                ticket = self._waiting.popleft()
                ticket.granted = True
                ticket.called.set()
