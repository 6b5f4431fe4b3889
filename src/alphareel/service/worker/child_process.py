"""Runs an order in a child process with bounded memory, time and patience, and survives whatever happens there."""

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from alphareel.domain.errors import AlphareelError, OutOfMemory, Timeout, WorkerCrashed, by_code
from alphareel.service.worker.memory_watch import MemoryWatch
from alphareel.telemetry.logging import get_logger

_TICK_SECONDS = 0.5
_LAST_SECONDS = 30.0
_LONGEST_LINE = 1024 * 1024
_STDERR_TAIL = 4000
_NOT_FOR_CHILDREN = re.compile(
    r"^ALPHAREEL_|^OTEL_|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE
)

Tick = Callable[[Mapping[str, Any] | None], None]
"""Called at least twice a second with the newest progress, or None when there is no news; raising ends the child."""


class BudgetExceeded(Timeout):
    """The time that a job may take at all is over; another try would take as long.

    ``computed``: the processor time that the child had until then, in seconds; None where the system does not tell.
    """

    retryable = False
    computed: float | None = None


class Stalled(Timeout):
    """The child made no progress for too long."""


class Killed(WorkerCrashed):
    """Somebody killed the child, and nothing tells that it was for lack of memory: no fault of the job."""


@dataclass(frozen=True)
class ResourceLimits:
    """What a child may use; 0 switches a limit off. ``progress_seconds``: how long it may do without any progress.

    ``spent_seconds``: of the wall time, by other children for the same job.
    """

    memory_bytes: int = 0
    cpu_seconds: int = 0
    wall_seconds: float = 0.0
    progress_seconds: float = 0.0
    open_files: int = 512
    spent_seconds: float = 0.0


def run(order: Mapping[str, Any], confinement: ResourceLimits, *, tick: Tick = lambda _: None) -> dict[str, Any]:
    """The result of the order. Raises the error that the child told, or Timeout, OutOfMemory, Killed, WorkerCrashed.

    The child and all its threads are gone when this returns or raises.
    """
    limits = {name: asdict(confinement)[name] for name in ("memory_bytes", "cpu_seconds", "open_files")}
    full = {**order, "confinement": limits, "parent": os.getpid()}
    with _child() as process:
        _send(process, full)
        talk, memory = _ChildOutput(process, confinement), MemoryWatch(process.pid)
        for progress in talk:
            memory.look()
            tick(progress)
        code = _exit_code(process)
    if talk.outcome is not None and code == 0:
        return _result(talk.outcome)
    raise _exit_error(code, talk.stderr_tail, ran_out=memory.ran_out())


@contextmanager
def _child() -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if not _NOT_FOR_CHILDREN.search(name)}
    process = subprocess.Popen(
        [sys.executable, "-m", "alphareel.service.worker.child_main"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=environment,
    )
    try:
        with process:  # closes the pipes
            try:
                yield process
            finally:
                _kill(process)
    finally:
        process.wait()


def _exit_code(process: subprocess.Popen[bytes]) -> int:
    """Of a child that said all it had to say. Raises WorkerCrashed when it does not end."""
    try:
        return process.wait(_LAST_SECONDS)
    except subprocess.TimeoutExpired:
        raise WorkerCrashed("The process that made the matte did not end.", hint="Start the job again.") from None


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _send(process: subprocess.Popen[bytes], order: Mapping[str, Any]) -> None:
    stdin = cast(Any, process.stdin)
    with contextlib.suppress(BrokenPipeError):  # it died at once; its exit code will tell
        stdin.write(json.dumps(order).encode() + b"\n")
        stdin.flush()  # and stays open: its end would tell the child that we died


class _ChildOutput:
    """Iterates over the child's progress, with None for each tick without news, until its output ends."""

    def __init__(self, process: subprocess.Popen[bytes], confinement: ResourceLimits) -> None:
        self.outcome: dict[str, Any] | None = None
        self._pid = process.pid
        self._out = cast(Any, process.stdout).fileno()
        self._err = cast(Any, process.stderr).fileno()
        self._confinement = confinement
        self._begun = self._moved = time.monotonic()
        self._partial = b""
        self._words = b""
        self._seen: Any = None

    @property
    def stderr_tail(self) -> str:
        return self._words.decode(errors="replace")

    def __iter__(self) -> Iterator[dict[str, Any] | None]:
        with selectors.DefaultSelector() as selector:
            for descriptor in (self._out, self._err):
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                news = None
                for key, _ in selector.select(_TICK_SECONDS):
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fd)
                    elif key.fd == self._out:
                        news = self._read_events(data) or news
                    else:
                        self._words = (self._words + data)[-_STDERR_TAIL:]
                self._check_deadlines()
                yield news

    def _read_events(self, data: bytes) -> dict[str, Any] | None:
        *lines, self._partial = (self._partial + data).split(b"\n")
        if len(self._partial) > _LONGEST_LINE:
            raise WorkerCrashed("The process that made the matte talked nonsense.")
        news = None
        for event in map(_parse, lines):
            if "progress" in event:
                news = event["progress"]
                self._note(news)
            else:
                self.outcome = event
        return news

    def _note(self, progress: Mapping[str, Any]) -> None:
        seen = (progress.get("done"), progress.get("share"))
        if seen != self._seen:
            self._seen, self._moved = seen, time.monotonic()

    def _check_deadlines(self) -> None:
        now, limits = time.monotonic(), self._confinement
        if limits.wall_seconds and now - self._begun + limits.spent_seconds > limits.wall_seconds:
            reached = BudgetExceeded(
                f"The job took longer than {limits.wall_seconds:g} seconds.",
                hint="Use a shorter video or raise the limit.",
            )
            reached.computed = _processor_seconds(self._pid)
            raise reached
        if limits.progress_seconds and now - self._moved > limits.progress_seconds:
            raise Stalled(f"The job made no progress for {limits.progress_seconds:g} seconds.")


def _processor_seconds(pid: int) -> float | None:
    try:
        told = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(told[11]) + int(told[12])) / os.sysconf("SC_CLK_TCK")


def _parse(line: bytes) -> dict[str, Any]:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not isinstance(event, dict):
        raise WorkerCrashed("The process that made the matte talked nonsense.")
    return event


def _result(outcome: Mapping[str, Any]) -> dict[str, Any]:
    error = outcome.get("error")
    if error is not None:
        raise by_code(error["code"], error["message"], hint=error["hint"])
    return dict(outcome["result"])


def _exit_error(code: int, stderr_tail: str, *, ran_out: bool) -> AlphareelError:
    """``ran_out``: there is evidence of too little memory, without which a SIGKILL says nothing about its reason."""
    get_logger(__name__).warning("child died", exit_code=code, stderr_tail=stderr_tail, memory_ran_out=ran_out)
    if code == -signal.SIGXCPU:
        return BudgetExceeded(
            "The job used more processor time than it may.", hint="Use a shorter video or raise the limit."
        )
    told = "bad_alloc" in stderr_tail or "MemoryError" in stderr_tail
    if told or (code == -signal.SIGKILL and ran_out):
        return OutOfMemory(
            "The process that made the matte was stopped for lack of memory.",
            hint="Use a smaller video or raise the limit.",
        )
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    kind = Killed if code == -signal.SIGKILL else WorkerCrashed
    return kind(f"The process that made the matte died {how}.", hint="Start the job again.")
