"""Ends a process when its parent ends, for whatever reason."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time

PULSE_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def bind_to_parent(parent: int) -> None:
    """On Linux, let the kernel kill this process when process ``parent`` ends. Ends it at once if that has happened.

    The kernel's signal comes already when the parent's thread that started this process ends, so that thread has to
    stay.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def watch_input() -> None:
    """End this process at the end of its standard input: a pipe that the parent holds open and writes no more to."""
    threading.Thread(target=_await_end_of_input, name="parent-watch", daemon=True).start()


def first_line() -> bytes:
    """Of standard input, from which nothing else is read. Ends this process when the parent ended before it wrote."""
    line = b""
    while not line.endswith(b"\n") and (data := os.read(0, 65536)):
        line += data
    if not line:
        os._exit(0)
    return line


def pulse_into(descriptor: int) -> None:
    """Write a byte every second, so that the reader notices when this process hangs."""
    os.set_blocking(descriptor, False)  # a reader that stopped must not stop us
    threading.Thread(target=_pulse, args=(descriptor,), name="pulse", daemon=True).start()


def _pulse(descriptor: int) -> None:
    while True:
        with contextlib.suppress(OSError):  # full, or nobody reads any more
            os.write(descriptor, b".")
        time.sleep(PULSE_SECONDS)


def _await_end_of_input() -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    os._exit(1)
