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

from alphareel.domain.errors import StorageFailed, Unavailable
from alphareel.telemetry.logging import get_logger

_LOCK_PATIENCE = 5.0  # a service that was killed needs a moment until its worker is gone too
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 60.0
_KILL_AFTER = 10.0  # beyond the grace the worker gives its jobs
_LOOK_SECONDS = 0.2
_LONGEST_LOOK = 1.0
_START_SECONDS = 120.0  # before its first sign of life a worker loads its modules, from a slow disk perhaps


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[int]:
    """Hold the lock of a data folder; yields its descriptor, for the worker to hold as well.

    The lock is free only when every process that holds the descriptor is gone, so its owner knows that no
    executor of this folder lives. Raises Unavailable when another service has it, StorageFailed.
    """
    try:
        descriptor = os.open(data_dir / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageFailed(
            f"The data folder {data_dir} cannot be written: {error.strerror}.",
            hint="Check its owner and that its disk is not mounted read-only, or set ALPHAREEL_DATA_DIR.",
        ) from error
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


def load_installation_id(data_dir: Path) -> str:
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
    """A thread that starts the worker process again whenever it ends, and ends it when it hangs.

    ``hang_seconds``: how long a worker may show no life. ``deregister`` is told whose process ended.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        *,
        home: str,
        lock: int,
        stop_seconds: float,
        hang_seconds: float,
        deregister: Callable[[str], None],
    ) -> None:
        self._environment = {**os.environ, **environment}
        self._home = home
        self._lock = lock
        self._stop_seconds = stop_seconds
        self._hang_seconds = hang_seconds
        self._deregister_executor = deregister
        self._stopping = threading.Event()
        self._employed: str | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def employed(self) -> str | None:
        """The executor whose process runs; None while none does."""
        return self._employed

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
            self._employed = executor_id
            code = self._run_one(executor_id)
            self._employed = None
            self._deregister_executor(executor_id)
            if self._stopping.is_set():
                return
            steady = time.monotonic() - begun > _STEADY_SECONDS
            pause = _FIRST_PAUSE if steady else min(pause * 2, _LONGEST_PAUSE)
            get_logger(__name__).error("worker ended", exit_code=code, executor=executor_id, restart_in=pause)
            self._stopping.wait(pause)

    def _run_one(self, executor_id: str) -> int:
        """The exit code of a worker process from its start to its end."""
        reading, writing = os.pipe()
        try:
            process = self._start(executor_id, writing)
        finally:
            os.close(writing)
        try:
            return self._watch(process, Pulse(reading, self._hang_seconds))
        finally:
            os.close(reading)

    def _start(self, executor_id: str, pulse: int) -> subprocess.Popen[bytes]:
        words = ["--executor", executor_id, "--home", self._home, "--parent", str(os.getpid()), "--pulse", str(pulse)]
        return subprocess.Popen(
            [sys.executable, "-m", "alphareel.server.worker_process", *words],
            stdin=subprocess.PIPE,  # held open: its end tells the worker that we died
            env=self._environment,
            pass_fds=(self._lock, pulse),
        )

    def _watch(self, process: subprocess.Popen[bytes], pulse: "Pulse") -> int:
        with process:
            deadline: float | None = None
            while process.poll() is None:
                if deadline is None and self._stopping.is_set():
                    process.send_signal(signal.SIGTERM)
                    deadline = time.monotonic() + self._stop_seconds + _KILL_AFTER
                late = deadline is not None and time.monotonic() > deadline
                if (hangs := pulse.hangs()) or late:
                    get_logger(__name__).error("worker killed", hangs=hangs, pid=process.pid)
                    process.kill()
                    process.wait()
                elif deadline is None:
                    self._stopping.wait(_LOOK_SECONDS)
                else:
                    time.sleep(_LOOK_SECONDS)
        return process.returncode


class Pulse:
    """The signs of life of one worker process, bytes in a pipe; whether its database answers plays no part.

    Silence is summed over our own looks, each of which counts a second at most: while this process itself did not
    run, because the machine slept or was overloaded, nothing can be said of the other one.
    """

    def __init__(self, descriptor: int, patience: float) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._patience = patience
        self._began = False
        self._silence = 0.0
        self._looked = time.monotonic()

    def hangs(self) -> bool:
        """Whether it was silent for too long. Ask several times a second."""
        now = time.monotonic()
        self._silence += min(now - self._looked, _LONGEST_LOOK)
        self._looked = now
        if self._heard():
            self._began, self._silence = True, 0.0
        return self._silence > (self._patience if self._began else max(self._patience, _START_SECONDS))

    def _heard(self) -> bool:
        try:
            return bool(os.read(self._descriptor, 65536))
        except BlockingIOError:
            return False
