"""Spare child processes: started ahead, confined and with an engine loaded, each for one job, then replaced.

A spare is confined to a workspace of its own before it loads anything. A job gets that folder, under the job's name,
and the process with it; its input files are linked into a second folder, which the spare may only read.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from alphareel.service.worker.child_process import (
    SpawnedChildren,
    StartedChild,
    child_environment,
    close_child,
    model_folders,
    send_line,
)
from alphareel.service.worker.confinement import Confinement
from alphareel.service.worker.events import Ready, event_from_json
from alphareel.service.worker.messages import ChildSetup, Preload
from alphareel.service.worker.spare_usage import SpareUsage
from alphareel.service.worker.tasks import ChildTask, RunTask, SplitTask, task_folder, task_inputs, with_inputs
from alphareel.service.worker.template_process import ForkedChild, TemplateGone, TemplateProcess
from alphareel.telemetry.logging import get_logger

_LOOK_SECONDS = 1.0
_MAX_DEATHS = 3  # of spares in a row, after which they pause
_PAUSE_SECONDS = 60.0
_REPLACE_SECONDS = 0.5  # without a job, until spares are replaced by those for a lone one
_COPIED_BYTES = 64 * 1024 * 1024  # of inputs on another file system, which cannot be linked


@dataclass(frozen=True)
class SpareConfig:
    """``count``: spares to keep. ``folder``, ``owner``: where their workspaces are, and how their names begin.

    ``idle_seconds``: how long spares wait for a job; then they and the template end until the next job. ``max_bytes``:
    memory that an idle spare may hold for itself. ``preload``: what the first ones load; later ones load what the last
    job used.
    """

    folder: Path
    owner: str = ""
    count: int = 1
    idle_seconds: float = 1800.0
    max_bytes: int = 0
    #: Threads of a spare that was started while nothing ran: its job is likely to be alone. 0 for those of the job.
    lone_threads: int = 0
    confined: bool = True
    preload: Preload | None = None


@dataclass
class _Spare:
    child: ForkedChild
    workspace: Path
    inputs: Path
    preload: Preload | None
    weights: Mapping[str, tuple[int, int]]
    ready: Ready | None = None
    is_dead: bool = False


class Spares:
    """Children for jobs: a spare for the first child of a job, others forked when they are needed.

    Where there is no template process, each child starts a new interpreter. Thread-safe.
    """

    def __init__(self, config: SpareConfig, *, connection: socket.socket | None = None) -> None:
        self._config = config
        self._preload = config.preload
        self._template = TemplateProcess(child_environment(), connection=connection)
        self._spawned = SpawnedChildren(confined=config.confined)
        self._waiting: list[_Spare] = []
        self._reserved: dict[Path, _Spare] = {}
        self._lock = threading.Lock()
        self._wake_up = threading.Event()
        self._stopping = threading.Event()
        self._asleep = False
        self._used_at = time.monotonic()
        self._busy = 0  # workspaces and children in use
        self._deaths = 0
        self._paused_until = 0.0
        self._logged: Confinement | None = None
        self._is_shared = connection is not None
        self._looked = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spares", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the spares and the template."""
        self._stopping.set()
        self._wake_up.set()
        if self._thread.ident is not None:
            self._thread.join()

    @property
    def template_pid(self) -> int | None:
        return self._template.pid

    def pids(self) -> list[int]:
        """Processes of the spares that wait."""
        with self._lock:
            return [spare.child.pid for spare in self._waiting]

    def usage(self) -> SpareUsage:
        """How many spares wait, and the memory that they hold for themselves."""
        pids = self.pids()
        return SpareUsage(len(pids), sum(map(private_bytes, pids)))

    def is_ready(self) -> bool:
        """Whether a spare is ready."""
        with self._lock:
            return any(spare.ready is not None for spare in self._waiting)

    def wait_until_ready(self, seconds: float) -> bool:
        """Wait until the first spare is ready, or none will be."""
        deadline = time.monotonic() + seconds
        while self._config.count and not self.is_ready() and time.monotonic() < deadline:
            if self._stopping.is_set() or self._deaths or time.monotonic() < self._paused_until:
                return False
            time.sleep(0.02)
        return self.is_ready()

    def connect(self) -> socket.socket | None:
        """A connection to the template for another process of ours; None without a template."""
        self._looked.wait(_LOOK_SECONDS)
        with contextlib.suppress(TemplateGone, OSError):
            return self._template.connect()
        return None

    @contextmanager
    def workspace(self, folder: Path) -> Iterator[Path]:
        """A new folder of this name, with a spare if there is one; both are gone at the end."""
        with self._template_in_use():
            spare = self._take()
            try:
                if spare is not None:
                    try:
                        spare.workspace.rename(folder)
                        self._reserved[folder] = spare
                    except OSError:  # an earlier attempt left it
                        self._discard(spare)
                folder.mkdir(parents=True, exist_ok=True)
                yield folder
            finally:
                if (unused := self._reserved.pop(folder, None)) is not None:
                    self._discard(unused)
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def child(self, task: ChildTask) -> Iterator[StartedChild]:
        """A process for this task."""
        with self._template_in_use():
            spare = self._reserved.pop(task_folder(task) or Path(), None)
            if spare is not None:
                try:
                    if isinstance(task, RunTask | SplitTask):
                        self._note_engine(task)
                        linked = _link_inputs(self._with_threads(task, spare.preload), spare.inputs)
                        if linked is not None and spare.child.poll() is None:
                            yield StartedChild(spare.child, linked, is_spare=True)
                            return
                finally:
                    self._discard(spare)
            with self._fresh(task) as started:
                yield started

    @contextmanager
    def _template_in_use(self) -> Iterator[None]:
        """Keep the template process while the context is open: its children end with it."""
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._used_at = time.monotonic()

    @contextmanager
    def _fresh(self, task: ChildTask) -> Iterator[StartedChild]:
        try:
            child = self._template.fork()
        except TemplateGone:
            with self._spawned.child(task) as started:
                yield started
            return
        try:
            setup = replace(self._spawned.setup(task), parent_pid=0)
            send_line(child, setup.to_json())
            yield StartedChild(child, task)
        finally:
            child.close()

    def note_confinement(self, ready: Ready) -> None:
        """Log once what the kernel enforces on children."""
        confinement = Confinement(ready.no_new_privileges, ready.seccomp, ready.landlock)
        if confinement == self._logged:
            return
        self._logged = confinement
        log = get_logger(__name__)
        tell = log.info if confinement.is_complete else log.warning
        tell("job processes are confined", complete=confinement.is_complete, by=confinement.describe())

    def _take(self) -> _Spare | None:
        """A living spare that is confined to its workspace and has loaded the current weights."""
        now = time.monotonic()
        with self._lock:
            self._used_at, self._asleep = now, False
            candidates = [spare for spare in self._waiting if spare.ready is not None]
            # The job that takes it is in use by now: alone it gets the most threads, else the fewest.
            candidates.sort(key=_threads, reverse=self._busy == 1)
            self._wake_up.set()
            for spare in candidates:
                self._waiting.remove(spare)
                if spare.child.poll() is None and spare.weights == _weights(spare.preload):
                    return spare
                self._discard(spare)
        return None

    def _with_threads(self, task: RunTask | SplitTask, loaded: Preload | None) -> RunTask | SplitTask:
        """The task with as many threads as its engine was loaded for, unless it is to get by with fewer."""
        run = task.run if isinstance(task, SplitTask) else task
        if not self._config.lone_threads or run.save_memory or loaded is None:
            return task
        run = replace(run, threads=loaded.threads)
        return replace(task, run=run) if isinstance(task, SplitTask) else run

    def _note_engine(self, task: RunTask | SplitTask) -> None:
        """Note the engine of a task: the next job is likely to need it."""
        self._preload = Preload.of(task.run if isinstance(task, SplitTask) else task)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake_up.clear()
            try:
                self._replenish()
            except TemplateGone:
                get_logger(__name__).warning("template process is gone")
            except Exception:  # noqa: BLE001  # without this thread every job would begin the slow way
                get_logger(__name__).exception("spares failed")
            self._looked.set()
            self._watch()
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for spare in waiting:
            self._discard(spare)
        self._template.stop()

    def _replenish(self) -> None:
        """Drop spares that are dead, outdated or too large, and start missing ones."""
        now, config = time.monotonic(), self._config
        if not self._asleep and self._is_idle():
            self._stop_when_idle()
        if self._asleep:
            return
        with contextlib.suppress(TemplateGone):
            self._template.start()
        if not self._template.is_alive or now < self._paused_until:
            return
        with self._lock:
            bad = [spare for spare in self._waiting if self._is_bad(spare)] or self._outdated()
            for spare in bad:
                self._waiting.remove(spare)
            missing = config.count - len(self._waiting)
        for spare in bad:
            self._discard(spare)
        if self._deaths >= _MAX_DEATHS:
            get_logger(__name__).error("spare child processes die; jobs begin without them", pause=_PAUSE_SECONDS)
            self._deaths, self._paused_until = 0, now + _PAUSE_SECONDS
            return
        for _ in range(missing):
            spare = self._start_spare()
            with self._lock:
                self._waiting.append(spare)

    def _is_bad(self, spare: _Spare) -> bool:
        if spare.is_dead or spare.child.poll() is not None:
            self._deaths += 1
            get_logger(__name__).warning("spare child process died", pid=spare.child.pid, exit_code=spare.child.poll())
            return True
        if spare.weights != _weights(spare.preload):
            return True
        size = private_bytes(spare.child.pid)
        if self._config.max_bytes and size > self._config.max_bytes:
            get_logger(__name__).warning("spare child process is too large", bytes=size, preload=str(spare.preload))
            self._preload = None
            return True
        return False

    def _outdated(self) -> list[_Spare]:
        """One spare that would load something else now, while nothing runs and another one is ready."""
        if not self._is_unused_for(_REPLACE_SECONDS):
            return []
        outdated = [spare for spare in self._waiting if spare.preload != self._next_preload()]
        others = [spare for spare in self._waiting if spare not in outdated[:1]]
        return outdated[:1] if not others or any(spare.ready for spare in others) else []

    def _is_idle(self) -> bool:
        return self._is_unused_for(self._config.idle_seconds)

    def _is_unused_for(self, seconds: float) -> bool:
        """Whether nothing has run for longer than this."""
        return not self._busy and time.monotonic() - self._used_at > seconds

    def _next_preload(self) -> Preload | None:
        """What the next spare loads."""
        if self._preload is None or not self._config.lone_threads or self._busy:
            return self._preload
        return replace(self._preload, threads=max(self._preload.threads or 0, self._config.lone_threads))

    def _stop_when_idle(self) -> None:
        """End the spares and the template, unless they are in use."""
        with self._lock:
            if not self._is_idle():
                return
            waiting, self._waiting = self._waiting, []
        for spare in waiting:
            self._discard(spare)
        with self._lock:
            if not self._is_idle():
                return
            self._asleep = True
            if not self._is_shared:
                self._template.stop()
        get_logger(__name__).info("spare child processes ended", idle_seconds=self._config.idle_seconds)

    def _start_spare(self) -> _Spare:
        config, name = self._config, uuid.uuid4().hex[:12]
        workspace = config.folder / f"{config.owner}.spare.{name}".removeprefix(".")
        inputs = workspace.with_name(f"{workspace.name}.inputs")
        preload = self._next_preload()
        spare = _Spare(self._template.fork(), workspace, inputs, preload, _weights(preload))
        try:
            for folder in (workspace, inputs):
                folder.mkdir(parents=True)
            models = () if preload is None or preload.models_dir is None else model_folders(preload.models_dir)
            reads = (*models, inputs)
            setup = ChildSetup(reads, (workspace,), confined=config.confined, preload=preload)
            send_line(spare.child, setup.to_json())
        except OSError:
            self._discard(spare)
            raise
        return spare

    def _watch(self) -> None:
        """Wait until a spare is taken, dies or becomes ready, at most for a second."""
        deadline = time.monotonic() + _LOOK_SECONDS
        with self._lock:
            waiting = {spare.child.stdout.fileno(): spare for spare in self._waiting if spare.ready is None}
        while not self._wake_up.wait(0.01 if waiting else max(0.0, deadline - time.monotonic())):
            if time.monotonic() > deadline:
                return
            with selectors.DefaultSelector() as selector, self._lock:
                for descriptor, spare in list(waiting.items()):
                    if spare in self._waiting:
                        selector.register(descriptor, selectors.EVENT_READ)
                    else:
                        del waiting[descriptor]
                for key, _ in selector.select(0):
                    self._note_ready(waiting.pop(key.fd))

    def _note_ready(self, spare: _Spare) -> None:
        """Read its first event. The caller holds the lock, so it is not taken meanwhile."""
        try:
            event = event_from_json(os.read(spare.child.stdout.fileno(), 4096).partition(b"\n")[0])
        except Exception:  # noqa: BLE001  # end of file, or an invalid message: it died
            spare.is_dead = True
            return
        if isinstance(event, Ready):
            spare.ready, self._deaths = event, 0
            self.note_confinement(event)
            get_logger(__name__).debug(
                "spare child process ready", pid=spare.child.pid, bytes=private_bytes(spare.child.pid)
            )

    def _discard(self, spare: _Spare) -> None:
        close_child(spare.child)
        for folder in (spare.workspace, spare.inputs):
            shutil.rmtree(folder, ignore_errors=True)


def _threads(spare: _Spare) -> int:
    return 0 if spare.preload is None else spare.preload.threads or 0


def private_bytes(pid: int) -> int:
    """Memory that a process does not share with others; 0 where the system does not say."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith(("Private_Dirty:", "Private_Clean:")))


def _weights(preload: Preload | None) -> dict[str, tuple[int, int]]:
    """Size and time of each file of the models folder: a spare with other weights is of no use."""
    files: dict[str, tuple[int, int]] = {}
    if preload is not None and preload.models_dir is not None:
        for path in sorted(preload.models_dir.glob("*")):
            with contextlib.suppress(OSError):
                status = path.stat()
                files[path.name] = (status.st_size, status.st_mtime_ns)
    return files


def _link_inputs(task: RunTask | SplitTask, folder: Path) -> RunTask | SplitTask | None:
    """The task with its files in this folder, as links or, across file systems, as copies of small files."""
    paths: dict[Path, Path] = {}
    try:
        for number, path in enumerate(dict.fromkeys(task_inputs(task))):
            paths[path] = folder / str(number) / path.name  # errors name the file
            paths[path].parent.mkdir()
            try:
                os.link(path.resolve(), paths[path])
            except OSError:
                if path.stat().st_size > _COPIED_BYTES:
                    return None
                shutil.copyfile(path, paths[path])
    except OSError:
        return None  # the child that is started instead reports it
    if isinstance(task, SplitTask):
        return replace(task, run=with_inputs(task.run, paths))
    return with_inputs(task, paths)
