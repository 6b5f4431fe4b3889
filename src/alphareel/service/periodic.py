"""A thread that does one thing every so often, whatever goes wrong meanwhile."""

import threading
from collections.abc import Callable

from alphareel.domain.errors import Unavailable
from alphareel.telemetry.logging import get_logger


class PeriodicTask:
    """``task`` runs at the start and then every ``seconds``; its errors are logged, and the next round tries again."""

    def __init__(self, name: str, task: Callable[[], None], *, seconds: float) -> None:
        self._name = name
        self._task = task
        self._seconds = seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Let a round that runs end, and begin no other."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._task()
            except Unavailable:
                get_logger(__name__).warning("waits for the database", task=self._name)
            except Exception:  # noqa: BLE001  # without this thread nobody would do it
                get_logger(__name__).exception("failed", task=self._name)
            self._stopping.wait(self._seconds)
