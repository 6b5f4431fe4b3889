"""A background thread that repeats one task, whatever goes wrong."""

import threading
import time
from collections.abc import Callable

from alphareel.domain.errors import Unavailable
from alphareel.telemetry.logging import get_logger

_OUTAGE_SECONDS = 10.0  # a round that took so long waited for the database


class PeriodicTask:
    """Runs ``task`` every ``seconds``, counted from the end of a round. Errors are logged; the next round tries again.

    ``run_at_start``: run the first round at once, else after ``seconds``. ``on_outage`` is called after a round that
    raised Unavailable or took longer than ten seconds.
    """

    def __init__(
        self,
        name: str,
        task: Callable[[], object],
        *,
        seconds: float,
        run_at_start: bool = True,
        on_outage: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._task = task
        self._seconds = seconds
        self._run_at_start = run_at_start
        self._on_outage = on_outage
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def drain(self) -> None:
        """Begin no other round, and do not wait for one that runs."""
        self._stopping.set()

    def stop(self, *, timeout: float | None = None) -> None:
        """Begin no other round, and wait for one that runs, at most for ``timeout`` seconds."""
        self.drain()
        self._thread.join(timeout)

    def run_once(self) -> None:
        """One round, in the thread of the caller. Raises nothing."""
        began = time.monotonic()
        try:
            self._task()
            if time.monotonic() - began > _OUTAGE_SECONDS:
                self._on_outage()
        except Unavailable:
            self._on_outage()
            get_logger(__name__).warning("task waits for the database", task=self._name)
        except Exception:  # noqa: BLE001  # without this thread nobody would run the task
            get_logger(__name__).exception("task failed", task=self._name)

    def _run(self) -> None:
        if not self._run_at_start:
            self._stopping.wait(self._seconds)
        while not self._stopping.is_set():
            self.run_once()
            self._stopping.wait(self._seconds)
