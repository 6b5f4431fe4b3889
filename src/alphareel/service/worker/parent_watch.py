"""Ties the life of a process to that of its parent, however the parent ends."""

import contextlib
import ctypes
import os
import signal
import sys
import threading
import time

PULSE_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1


def exit_with_parent(parent: int) -> None:
    """End this process when process ``parent`` ends: by the kernel's signal on Linux, by end of input elsewhere too.

    Standard input must be a pipe that the parent holds open and writes no more to. The kernel's signal comes
    already when the parent's thread that started this process ends, so that thread has to stay.
    """
    bind_to_parent(parent)
    watch_input()


def bind_to_parent(parent: int) -> None:
    """The kernel's half of ``exit_with_parent``, which needs no thread."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def watch_input() -> None:
    """The other half: end this process at the end of its standard input."""
    threading.Thread(target=_await_end_of_input, name="parent-watch", daemon=True).start()


def pulse_into(descriptor: int) -> None:
    """Write a byte every second for as long as this process can run threads; its reader sees when it hangs."""
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
