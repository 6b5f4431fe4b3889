"""Signals that end the command become an exception, so that a run deletes its unfinished files before it stops."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_KINDS = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C, a supervisor, a terminal that was closed (not on Windows)


class Interrupted(KeyboardInterrupt):
    """The process was told to stop. ``exit_code``: the shell's for this signal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted at the first such signal and pass over further ones, which would interrupt the cleanup.

    For the main thread. A signal that is ignored already (``nohup``) stays so.
    """
    kinds = [getattr(signal, name) for name in _KINDS if hasattr(signal, name)]
    before = {kind: signal.getsignal(kind) for kind in kinds}
    heeded = [kind for kind in kinds if before[kind] is not signal.SIG_IGN]

    def stop(number: int, _: FrameType | None) -> None:
        for kind in heeded:
            signal.signal(kind, signal.SIG_IGN)
        raise Interrupted(number)

    for kind in heeded:
        signal.signal(kind, stop)
    try:
        yield
    finally:
        for kind in heeded:
            signal.signal(kind, before[kind])
