"""Runs a task in a child process with bounded memory and time. A crash of the child cannot harm this process."""

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, cast, overload

from alphareel.domain.clip import Progress
from alphareel.domain.errors import AlphareelError, OutOfMemory, Timeout, WorkerCrashed, by_code
from alphareel.service.settings import WorkerSettings
from alphareel.service.uploads.models import MediaInfo
from alphareel.service.worker.cleanup import workspace
from alphareel.service.worker.events import (
    Accepted,
    Analysis,
    ChildEvent,
    ErrorEvent,
    InvalidMessage,
    Plan,
    ProofResult,
    Ready,
    RunResult,
    event_from_json,
)
from alphareel.service.worker.memory_watch import MemoryWatch
from alphareel.service.worker.messages import ChildRequest, ChildSetup
from alphareel.service.worker.tasks import (
    AnalyzeTask,
    ChildTask,
    InspectTask,
    JoinTask,
    ProofTask,
    RunTask,
    SplitTask,
    VerifyTask,
    task_folder,
    task_inputs,
)
from alphareel.telemetry.logging import get_logger

_TICK_SECONDS = 0.5
_EXIT_SECONDS = 30.0
_MAX_LINE_BYTES = 1024 * 1024
_STDERR_TAIL_BYTES = 4000
_HIDDEN_VARIABLES = re.compile(
    r"^ALPHAREEL_|^OTEL_|SECRET|TOKEN|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY", re.IGNORECASE
)

SHOWN_VARIABLES = frozenset({"ALPHAREEL_ONLY_PERMISSIVE"})  # rules that the child has to keep as well

Tick = Callable[[Progress | None], None]
"""Called at least twice a second with the newest progress, or None when there is none; raising ends the child."""


class BudgetExceeded(Timeout):
    """The job exceeded its time limit; another try would take as long.

    ``computed``: processor seconds that the child used; None where the system does not say.
    """

    retryable = False
    computed: float | None = None


class Stalled(Timeout):
    """The child made no progress for too long."""


class Killed(WorkerCrashed):
    """The child was killed without evidence of a lack of memory: not the job's fault."""


@dataclass(frozen=True)
class ResourceLimits:
    """What a child may use; 0 for no limit."""

    memory_bytes: int = 0
    cpu_seconds: int = 0
    wall_seconds: float = 0.0
    #: How long the child may run without any progress.
    progress_seconds: float = 0.0
    open_files: int = 512
    #: How much of ``wall_seconds`` other children of the same job have used.
    spent_seconds: float = 0.0

    @classmethod
    def of_jobs(cls, worker: WorkerSettings) -> Self:
        """Limits of the children that run jobs."""
        return cls(worker.memory_bytes, worker.cpu_seconds, worker.wall_seconds, worker.progress_seconds)


class ChildProcess(Protocol):
    """A process whose pipes are open: ``subprocess.Popen``, or one that the template process forked."""

    pid: int
    stdin: Any
    stdout: Any
    stderr: Any

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


@dataclass(frozen=True)
class StartedChild:
    """A child that has its setup, and the task with the paths that it can open.

    ``is_spare``: it waited for a task, and may have died meanwhile.
    """

    process: ChildProcess
    task: ChildTask
    is_spare: bool = False


class Children(Protocol):
    """Makes child processes and their workspaces."""

    def workspace(self, folder: Path) -> AbstractContextManager[Path]:
        """A new folder for the files of a job, removed at the end of the context."""

    def child(self, task: ChildTask) -> AbstractContextManager[StartedChild]:
        """A child for this task, killed at the end of the context."""

    def note_confinement(self, ready: Ready) -> None:
        """What the kernel enforces on a child."""


class SpawnedChildren:
    """Starts a new interpreter for each child, which takes about a second."""

    def __init__(self, *, confined: bool = True) -> None:
        self._confined = confined

    def workspace(self, folder: Path) -> AbstractContextManager[Path]:
        return workspace(folder)

    @contextmanager
    def child(self, task: ChildTask) -> Iterator[StartedChild]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "alphareel.service.worker.child_main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            env=child_environment(),
        )
        try:
            send_line(process, self.setup(task).to_json())
            yield StartedChild(cast(ChildProcess, process), task)
        finally:
            close_child(process)

    def setup(self, task: ChildTask) -> ChildSetup:
        """What a child for this task gets first."""
        folder = task_folder(task)
        reads = [path.resolve() for path in task_inputs(task)]
        if (models_dir := _models_dir(task)) is not None:
            reads += model_folders(models_dir)
        return ChildSetup(tuple(reads), () if folder is None else (folder,), os.getpid(), self._confined)

    def note_confinement(self, ready: Ready) -> None:
        """Does nothing: only spares report it."""


SPAWNED = SpawnedChildren()


@overload
def run(task: InspectTask, limits: ResourceLimits, *, tick: Tick = ..., children: Children = ...) -> MediaInfo: ...
@overload
def run(
    task: RunTask | JoinTask | VerifyTask, limits: ResourceLimits, *, tick: Tick = ..., children: Children = ...
) -> RunResult: ...
@overload
def run(task: ProofTask, limits: ResourceLimits, *, tick: Tick = ..., children: Children = ...) -> ProofResult: ...
@overload
def run(task: AnalyzeTask, limits: ResourceLimits, *, tick: Tick = ..., children: Children = ...) -> Analysis: ...
@overload
def run(task: SplitTask, limits: ResourceLimits, *, tick: Tick = ..., children: Children = ...) -> Plan | RunResult: ...
def run(
    task: ChildTask, limits: ResourceLimits, *, tick: Tick = lambda _: None, children: Children = SPAWNED
) -> MediaInfo | RunResult | ProofResult | Plan | Analysis:
    """Run the task and return its result.

    Raises the error that the child reports, Timeout, OutOfMemory, Killed or WorkerCrashed. The child and all its
    threads are gone when this returns or raises.
    """
    while True:
        with children.child(task) as started:
            process = started.process
            request = ChildRequest(started.task, limits.memory_bytes, limits.cpu_seconds, limits.open_files)
            send_line(process, request.to_json())
            output, memory = _ChildOutput(process, limits), MemoryWatch(process.pid)
            for progress in output:
                memory.sample()
                tick(progress)
            code = _exit_code(process)
        if output.ready is not None:
            children.note_confinement(output.ready)
        if output.outcome is not None and code == 0:
            return _result(task, output.outcome)
        if started.is_spare and not output.is_accepted:
            get_logger(__name__).warning("spare child process died before it took its task", exit_code=code)
            continue
        raise _exit_error(code, output.stderr_tail, ran_out=memory.ran_out())


def child_environment() -> dict[str, str]:
    """The environment of children: without secrets, and without what starts threads before they are confined."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in SHOWN_VARIABLES or not _HIDDEN_VARIABLES.search(name)
    }
    return {**kept, "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


def send_line(process: ChildProcess | subprocess.Popen[bytes], line: str) -> None:
    stdin = cast(Any, process.stdin)
    with contextlib.suppress(BrokenPipeError):  # it died at once; its exit code says why
        stdin.write(line.encode() + b"\n")
        stdin.flush()  # and stays open: end of input tells the child that this process died


def close_child(process: ChildProcess | subprocess.Popen[bytes]) -> None:
    """Kill the child and its process group, wait for its end, close its pipes."""
    if isinstance(process, subprocess.Popen):
        with process, contextlib.suppress(ProcessLookupError, PermissionError):  # the former closes the pipes
            os.killpg(process.pid, signal.SIGKILL)
    else:
        cast(Any, process).close()


def model_folders(models_dir: Path) -> tuple[Path, ...]:
    """The folder with the weights, and what its links lead to."""
    with contextlib.suppress(OSError):
        return (models_dir, *(path.resolve() for path in models_dir.iterdir() if path.is_symlink()))
    return (models_dir,)


def _models_dir(task: ChildTask) -> Path | None:
    match task:
        case SplitTask():
            return task.run.models_dir
        case RunTask() | ProofTask() | AnalyzeTask():
            return task.models_dir
    return None


def _exit_code(process: ChildProcess) -> int:
    """Wait for a child that closed its output. Raises WorkerCrashed when it does not exit."""
    try:
        return process.wait(_EXIT_SECONDS)
    except subprocess.TimeoutExpired:
        raise WorkerCrashed("The processing subprocess did not exit.", hint="Start the job again.") from None


class _ChildOutput:
    """Iterates over the child's progress until its output ends, with None for each tick without progress."""

    def __init__(self, process: ChildProcess, limits: ResourceLimits) -> None:
        self.ready: Ready | None = None
        self.is_accepted = False
        self.outcome: ChildEvent | None = None
        self._pid = process.pid
        self._out = process.stdout.fileno()
        self._err = process.stderr.fileno()
        self._limits = limits
        self._started_at = self._progress_at = time.monotonic()
        self._partial_line = b""
        self._stderr = b""
        self._position: tuple[int, float] | None = None

    @property
    def stderr_tail(self) -> str:
        return self._stderr.decode(errors="replace")

    def __iter__(self) -> Iterator[Progress | None]:
        with selectors.DefaultSelector() as selector:
            for descriptor in (self._out, self._err):
                selector.register(descriptor, selectors.EVENT_READ)
            while selector.get_map():
                progress = None
                for key, _ in selector.select(_TICK_SECONDS):
                    data = os.read(key.fd, 65536)
                    if not data:
                        selector.unregister(key.fd)
                    elif key.fd == self._out:
                        progress = self._read_events(data) or progress
                    else:
                        self._stderr = (self._stderr + data)[-_STDERR_TAIL_BYTES:]
                self._check_deadlines()
                yield progress

    def _read_events(self, data: bytes) -> Progress | None:
        *lines, self._partial_line = (self._partial_line + data).split(b"\n")
        if len(self._partial_line) > _MAX_LINE_BYTES:
            raise _invalid_message()
        newest = None
        for line in lines:
            event = _parse(line)
            if isinstance(event, Progress):
                newest = event
                self._note_position(event)
            elif isinstance(event, Ready):
                self.ready = event
            elif isinstance(event, Accepted):
                self.is_accepted = True
            else:
                self.outcome = event
        return newest

    def _note_position(self, progress: Progress) -> None:
        position = (progress.done, progress.share)
        if position != self._position:
            self._position, self._progress_at = position, time.monotonic()

    def _check_deadlines(self) -> None:
        now, limits = time.monotonic(), self._limits
        if limits.wall_seconds and now - self._started_at + limits.spent_seconds > limits.wall_seconds:
            error = BudgetExceeded(
                f"The job took longer than {limits.wall_seconds:g} seconds.",
                hint="Use a shorter video or raise the limit.",
            )
            error.computed = _processor_seconds(self._pid)
            raise error
        if limits.progress_seconds and now - self._progress_at > limits.progress_seconds:
            raise Stalled(f"The job made no progress for {limits.progress_seconds:g} seconds.")


def _processor_seconds(pid: int) -> float | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _parse(line: bytes) -> ChildEvent:
    try:
        return event_from_json(line)
    except InvalidMessage as error:
        raise _invalid_message() from error


def _invalid_message() -> WorkerCrashed:
    return WorkerCrashed("The processing subprocess sent an invalid message.", hint="Start the job again.")


def _result(task: ChildTask, outcome: ChildEvent) -> MediaInfo | RunResult | ProofResult | Plan | Analysis:
    match task, outcome:
        case _, ErrorEvent():
            raise by_code(outcome.code, outcome.message, hint=outcome.hint)
        case InspectTask(), MediaInfo():
            return outcome
        case RunTask() | JoinTask() | SplitTask() | VerifyTask(), RunResult():
            return outcome
        case SplitTask(), Plan():
            return outcome
        case ProofTask(), ProofResult():
            return outcome
        case AnalyzeTask(), Analysis():
            return outcome
    raise _invalid_message()


def _exit_error(code: int, stderr_tail: str, *, ran_out: bool) -> AlphareelError:
    """``ran_out``: there is evidence that memory ran out; without it the reason for a SIGKILL is unknown."""
    get_logger(__name__).warning("child died", exit_code=code, stderr_tail=stderr_tail, memory_ran_out=ran_out)
    if code == -signal.SIGXCPU:
        return BudgetExceeded(
            "The job used more processor time than it may.", hint="Use a shorter video or raise the limit."
        )
    reports_memory = "bad_alloc" in stderr_tail or "MemoryError" in stderr_tail
    if reports_memory or (code == -signal.SIGKILL and ran_out):
        return OutOfMemory(
            "The processing subprocess was stopped for lack of memory.",
            hint="Use a smaller video or raise the limit.",
        )
    how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    kind = Killed if code == -signal.SIGKILL else WorkerCrashed
    return kind(f"The processing subprocess died {how}.", hint="Start the job again.")
