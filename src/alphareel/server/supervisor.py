"""Supervises a worker process or request process: starts it, watches its heartbeat, and replaces it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from alphareel.service.worker.child_process import SHOWN_VARIABLES
from alphareel.telemetry.logging import get_logger

SETTING_PREFIX = "ALPHAREEL_"
WORKER_MODULE = "alphareel.server.worker_process"
MIN_RESTART_DELAY = 1.0
MAX_RESTART_DELAY = 30.0
STABLE_AFTER = 60.0
KILL_AFTER = 10.0  # seconds after the worker's own grace period
POLL_INTERVAL = 0.2
MAX_POLL_GAP = 1.0
STARTUP_TIMEOUT = 120.0  # before its first heartbeat a worker imports its modules, possibly from a slow disk


def new_executor_id() -> str:
    """A unique ID for one start of one worker process."""
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:12]}"


class Supervisor:
    """A thread that restarts the worker process when it exits and kills it when it hangs.

    ``settings``: variables that the worker gets through a pipe, because the environment of a process can be read by
    others of its user. ``hang_seconds``: maximum time between heartbeats. ``deregister`` is called with the executor ID
    of a process that exited. ``heartbeat_file``: touched at each heartbeat, for ``alphareel health``.
    ``connect_template`` returns a socket to a template process for each worker.

    ``module``: what the process runs. ``kind``: what the log calls it. ``inherited``: descriptors for it, by the option
    that names them.

    A process that was started loads its modules and waits until ``release`` is called.
    """

    def __init__(
        self,
        settings: Mapping[str, str],
        *,
        home: str,
        lock: int,
        stop_seconds: float,
        hang_seconds: float,
        deregister: Callable[[str], None],
        heartbeat_file: Path | None = None,
        connect_template: Callable[[], socket.socket | None] = lambda: None,
        module: str = WORKER_MODULE,
        kind: str = "worker",
        inherited: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        self._module = module
        self._kind = kind
        self._inherited = dict(inherited)
        self._settings = json.dumps(dict(settings))
        variables = {**os.environ, **settings}
        self._environment = {
            name: value
            for name, value in variables.items()
            if name in SHOWN_VARIABLES or not name.startswith(SETTING_PREFIX)
        }
        self._connect_template = connect_template
        self._released = threading.Event()
        #: Set at the first sign of life of a process.
        self.begun = threading.Event()
        self._home = home
        self._lock = lock
        self._stop_seconds = stop_seconds
        self._hang_seconds = hang_seconds
        self._deregister_executor = deregister
        self._heartbeat_file = heartbeat_file
        self._stopping = threading.Event()
        self._executor_id: str | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def release(self) -> None:
        """Let workers begin: the data folder is prepared."""
        self._released.set()

    def current_executor(self) -> str | None:
        """ID of the running executor; None if none is running."""
        return self._executor_id

    def ask_to_stop(self) -> None:
        """Start to stop without blocking; safe to call from a signal handler."""
        self._stopping.set()

    def stop(self) -> None:
        """Stop the worker gracefully and wait for it; kill it if it exceeds its grace period."""
        self._stopping.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def _run(self) -> None:
        pause = MIN_RESTART_DELAY
        while not self._stopping.is_set():
            started = time.monotonic()
            executor_id = new_executor_id()
            # Start it from this thread: PR_SET_PDEATHSIG fires when the starting thread exits (parent_watch).
            self._executor_id = executor_id
            try:
                code: int | None = self._run_one(executor_id)
            except OSError as error:  # no memory or no process left for it: the next try may find some
                get_logger(__name__).error(f"{self._kind} cannot be started", error=str(error))
                code = None
            self._executor_id = None
            self._deregister_executor(executor_id)
            if self._stopping.is_set():
                return
            stable = time.monotonic() - started > STABLE_AFTER
            pause = MIN_RESTART_DELAY if stable else min(pause * 2, MAX_RESTART_DELAY)
            get_logger(__name__).error(f"{self._kind} ended", exit_code=code, executor=executor_id, restart_in=pause)
            self._stopping.wait(pause)

    def _run_one(self, executor_id: str) -> int:
        """Run one worker process to its end; returns its exit code."""
        read_end, write_end = os.pipe()
        try:
            process = self._start(executor_id, write_end)
        finally:
            os.close(write_end)
        try:
            return self._watch(process, HeartbeatReader(read_end, self._hang_seconds, self._heartbeat_file))
        finally:
            os.close(read_end)

    def _start(self, executor_id: str, pulse: int) -> subprocess.Popen[bytes]:
        template = self._connect_template()
        arguments = [
            "--executor",
            executor_id,
            "--home",
            self._home,
            "--parent",
            str(os.getpid()),
            "--pulse",
            str(pulse),
        ]
        inherited = [self._lock, pulse, *self._inherited.values()]
        for option, descriptor in self._inherited.items():
            arguments += [option, str(descriptor)]
        if template is not None:
            arguments += ["--template", str(template.fileno())]
            inherited.append(template.fileno())
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module, *arguments],
            stdin=subprocess.PIPE,  # kept open; EOF tells the worker that this process died
            env=self._environment,
            pass_fds=inherited,
        )
        if template is not None:
            template.close()
        while not self._released.wait(POLL_INTERVAL):
            if self._stopping.is_set() or process.poll() is not None:
                return process
        with contextlib.suppress(BrokenPipeError):  # its exit code says why
            assert process.stdin is not None
            process.stdin.write(self._settings.encode() + b"\n")
            process.stdin.flush()
        return process

    def _watch(self, process: subprocess.Popen[bytes], pulse: "HeartbeatReader") -> int:
        with process:
            deadline: float | None = None
            while process.poll() is None:
                if deadline is None and self._stopping.is_set():
                    process.send_signal(signal.SIGTERM)
                    deadline = time.monotonic() + self._stop_seconds + KILL_AFTER
                late = deadline is not None and time.monotonic() > deadline
                overdue = pulse.is_overdue()
                if pulse.has_begun:
                    self.begun.set()
                if overdue or late:
                    get_logger(__name__).error(f"{self._kind} killed", overdue=overdue, pid=process.pid)
                    process.kill()
                    process.wait()
                elif deadline is None:
                    self._stopping.wait(POLL_INTERVAL)
                else:
                    time.sleep(POLL_INTERVAL)
        return process.returncode


class HeartbeatReader:
    """Heartbeats of one worker process: bytes in a pipe, independent of the database.

    Silence is summed over polls, and each poll counts for at most MAX_POLL_GAP: time in which this process itself did
    not run (suspend, overload) says nothing about the worker.
    """

    def __init__(self, descriptor: int, timeout: float, file: Path | None = None) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._timeout = timeout
        self._file = file
        self.has_begun = False
        self._silence = 0.0
        self._polled_at = time.monotonic()

    def is_overdue(self) -> bool:
        """Whether the last heartbeat is too old. Call several times a second."""
        now = time.monotonic()
        self._silence += min(now - self._polled_at, MAX_POLL_GAP)
        self._polled_at = now
        if self._read():
            self.has_begun, self._silence = True, 0.0
            if self._file is not None:
                with suppress(OSError):  # a full disk does not end the worker
                    self._file.touch()
        return self._silence > (self._timeout if self.has_begun else max(self._timeout, STARTUP_TIMEOUT))

    def _read(self) -> bool:
        try:
            return bool(os.read(self._descriptor, 65536))
        except BlockingIOError:
            return False
