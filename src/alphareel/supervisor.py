"""Keeps one worker process alive beside the API, and proves that a data folder has one owner."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from alphareel import observe
from alphareel.domain.errors import Unavailable

_LOCK_PATIENCE = 5.0  # a service that was killed needs a moment until its worker is gone too
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 60.0
_KILL_AFTER = 10.0  # beyond the grace the worker gives its jobs


@contextmanager
def own(data_dir: Path) -> Iterator[int]:
    """Hold the lock of a data folder; yields its descriptor, for the worker to hold as well.

    The lock is free only when every process that holds the descriptor is gone, so its owner knows that no
    executor of this folder lives. Raises Unavailable when another service has it.
    """
    descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(descriptor, data_dir)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, data_dir: Path) -> None:
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Another alphareel service uses the data folder {data_dir}.",
                    hint="Stop it, or set ALPHAREEL_DATA_DIR to another folder.",
                ) from None
            time.sleep(0.1)
        else:
            return


def home_of(data_dir: Path) -> str:
    """The lasting name of a data folder, whatever host or container it is mounted in."""
    path = data_dir / "home"
    if not path.exists():
        fresh = path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(uuid.uuid4().hex)
            file.flush()
            os.fsync(file.fileno())  # an empty name after a power failure would be that of every such folder
        fresh.replace(path)
    return path.read_text().strip()


def new_executor_id() -> str:
    """A name for one start of one worker process, never used again."""
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"


class Supervisor:
    """A thread that starts the worker process again whenever it ends. ``bury`` is told whose process ended."""

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        home: str,
        lock: int,
        stop_seconds: float,
        bury: Callable[[str], None],
    ) -> None:
        self._environment = {**os.environ, **environment}
        self._home = home
        self._lock = lock
        self._stop_seconds = stop_seconds
        self._bury = bury
        self._stopping = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask_to_stop(self) -> None:
        """Begin to stop without waiting; callable from a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop the worker in good order and wait for it; it is killed when it takes longer than it may."""
        self._stopping.set()
        if self._thread.ident is not None:  # else it was never started
            self._thread.join()

    def _run(self) -> None:
        pause = _FIRST_PAUSE
        while not self._stopping.is_set():
            begun = time.monotonic()
            executor_id = new_executor_id()
            # Started from this thread, which lives as long as we do: see lifeline.die_with.
            code = self._watch(self._start(executor_id))
            self._bury(executor_id)
            if self._stopping.is_set():
                return
            steady = time.monotonic() - begun > _STEADY_SECONDS
            pause = _FIRST_PAUSE if steady else min(pause * 2, _LONGEST_PAUSE)
            observe.log(__name__).error("worker ended", exit_code=code, executor=executor_id, restart_in=pause)
            self._stopping.wait(pause)

    def _start(self, executor_id: str) -> subprocess.Popen[bytes]:
        words = ["--executor", executor_id, "--home", self._home, "--parent", str(os.getpid())]
        return subprocess.Popen(
            [sys.executable, "-m", "alphareel.workshop", *words],
            stdin=subprocess.PIPE,  # held open: its end tells the worker that we died
            env=self._environment,
            pass_fds=(self._lock,),
        )

    def _watch(self, process: subprocess.Popen[bytes]) -> int:
        with process:
            while process.poll() is None:
                if self._stopping.wait(0.2):
                    return self._end(process)
        return process.returncode

    def _end(self, process: subprocess.Popen[bytes]) -> int:
        process.send_signal(signal.SIGTERM)
        try:
            return process.wait(self._stop_seconds + _KILL_AFTER)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
