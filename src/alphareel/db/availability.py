"""Whether the database answers, known without asking it, so that a database that hangs keeps nobody waiting."""

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from alphareel.domain.errors import Unavailable
from alphareel.telemetry.logging import get_logger

_PAUSE = 0.3


@dataclass(frozen=True)
class DatabaseLimits:
    """Seconds; 0 for no limit where it says so. The defaults suit a process in which nobody waits for an answer.

    ``connect``: for a connection to PostgreSQL. ``statement``: for one statement there (0: any). ``lock``: for a row
    there (0: any), for the turn among the writers of this process on SQLite. ``pool``: for a free connection.
    ``hang``: how long the database may show no sign of life, or another process hold SQLite's write lock, until it
    counts as away.
    """

    connect: float = 10.0
    statement: float = 120.0
    lock: float = 30.0
    pool: float = 30.0
    hang: float = 10.0


WITHOUT_LIMITS = DatabaseLimits(statement=0, lock=0, hang=30.0)
"""For migrations, which may take as long as they take."""


def away() -> Unavailable:
    """What a request is told."""
    return Unavailable("The database does not answer.", hint="Try again in a moment.")


class Availability:
    """Up until a probe fails or somebody reports a loss; down until a probe succeeds.

    ``probe`` raises when it fails; ``close`` lets go of what it holds.
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
        """Raises Unavailable at once while the database is away."""
        if not self._up.is_set():
            raise away()

    def wait(self, seconds: float) -> bool:
        """Until the database is there; whether it is."""
        return self._up.wait(seconds)

    def watch(self) -> None:
        """Probe all the time from now on."""
        if not self._watched:
            self._watched = True
            self._start()

    def lose(self) -> None:
        """Somebody saw that the database is away; probe until it is back."""
        self._change(up=False)
        self._start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread is None:
            self._close()
        else:
            self._thread.join(timeout=1.0)  # one that hangs closes later

    def _start(self) -> None:
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._run, name="database-probe", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stopping.wait(_PAUSE):
            try:
                self._probe()
            except Exception:  # noqa: BLE001  # whatever it is, nothing came back
                self._change(up=False)
                continue
            self._change(up=True)
            with self._lock:
                if not self._watched and self._up.is_set():
                    self._thread = None
                    return
        self._close()

    def _change(self, *, up: bool) -> None:
        if up == self._up.is_set() or self._stopping.is_set():
            return
        if up:
            self._up.set()
            get_logger(__name__).info("database answers again")
        else:
            self._up.clear()
            get_logger(__name__).error("database does not answer")


@dataclass
class _Ticket:
    called: threading.Event
    granted: bool = False


class Turns:
    """Writers of one process, one after another, first come first served.

    SQLite itself lets writers race for its lock: some wait for ever, and how long the lock is held by *another*
    process nobody can tell.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting = deque[_Ticket]()
        self._taken = False

    @contextmanager
    def turn(self, seconds: float) -> Iterator[None]:
        """Raises Unavailable when it does not come, or nobody's can."""
        if not self._take(seconds):
            raise away()
        try:
            yield
        finally:
            self._pass_on()

    def dismiss(self) -> None:
        """Whoever waits shall wait no longer: the database is away."""
        with self._lock:
            while self._waiting:
                self._waiting.popleft().called.set()

    def _take(self, seconds: float) -> bool:
        with self._lock:
            if not self._taken:
                self._taken = True
                return True
            ticket = _Ticket(threading.Event())
            self._waiting.append(ticket)
        ticket.called.wait(seconds)
        with self._lock:
            with contextlib.suppress(ValueError):
                self._waiting.remove(ticket)
            return ticket.granted

    def _pass_on(self) -> None:
        with self._lock:
            self._taken = bool(self._waiting)
            if self._waiting:
                ticket = self._waiting.popleft()
                ticket.granted = True
                ticket.called.set()
