"""Runs the tasks of a worker process on joined runners, or in its own slots.

A runner gets the task as a row: the settings, names of its inputs and outputs. What it returns is kept in the store
until a child process here has verified it. Nothing that a runner does, or fails to do, ends a job: after three failures
the task runs here. A worker process that ends leaves its tasks to whichever one goes on with their jobs.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from alphareel import __version__
from alphareel.domain.clip import EngineFacts, Progress
from alphareel.domain.errors import AlphareelError, NotFound, StorageFailed, Unavailable
from alphareel.matting import tiers
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job
from alphareel.service.ports import Blobs, Clock
from alphareel.service.runners.models import LEASE_SECONDS, ReturnedFile, RunnerTask, TaskState
from alphareel.service.settings import WorkerSettings
from alphareel.service.worker import child_process
from alphareel.service.worker.child_process import Children, ResourceLimits, Tick
from alphareel.service.worker.events import ErrorEvent, InvalidMessage, RunResult, event_from_values
from alphareel.service.worker.progress import WorkerStopping
from alphareel.service.worker.tasks import RunTask, VerifyTask, run_task_to_values, task_inputs, with_inputs
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.runners import RunnerStore

_MAX_FAILURES = 3
_CACHED_SECONDS = 1.0  # for which the number of free runner slots is not read again
_VERIFY_SECONDS = 900.0
_VERIFY_MEMORY = 4 * 1024**3

RunHere = Callable[[RunTask], RunResult]


class LocalBlobs(ExitStack):
    """Local files of blobs, and which blob each is."""

    def __init__(self, blobs: Blobs) -> None:
        super().__init__()
        self._blobs = blobs
        self.keys: dict[Path, str] = {}

    def open(self, key: str) -> Path:
        """The blob as a local file, until the context ends. Raises NotFound, StorageFailed."""
        path = self.enter_context(self._blobs.local(key))
        self.keys[path] = key
        return path


@dataclass(frozen=True)
class RemoteTimes:
    """Times in seconds. ``poll``: between two looks at a task. ``lease``: how long it may go without renewal.

    ``preference``: how long a task waits for a runner while a slot is free here. ``look``: between two looks at which
    runners there are, while a task may run on them alone.
    """

    poll: float = 0.5
    lease: float = LEASE_SECONDS
    preference: float = 2.0
    look: float = 5.0


class RunnerFailed(Exception):
    """The runner did not do the task, and must not get it again unless that is ``is_forgiven``."""

    def __init__(self, reason: str, runner_id: str | None = None, *, is_forgiven: bool = False) -> None:
        super().__init__(reason)
        self.runner_id = runner_id
        self.is_forgiven = is_forgiven


class RemoteTasks:
    """Where the tasks of one worker process run. Thread-safe."""

    def __init__(
        self,
        executor_id: str,
        store: RunnerStore,
        blobs: Blobs,
        *,
        worker: WorkerSettings,
        children: Children,
        clock: Clock,
        times: RemoteTimes | None = None,
    ) -> None:
        self._executor_id = executor_id
        self._store = store
        self._blobs = blobs
        self._worker = worker
        self._children = children
        self._clock = clock
        self._times = times or RemoteTimes()
        self._slots = threading.Semaphore(max(1, worker.jobs))
        self._lock = threading.Lock()
        self._cached: tuple[float, int] = (-_CACHED_SECONDS, 0)

    def more_slots(self) -> int:
        """Jobs that this process may take in addition to its own slots, because runners are idle or work for it."""
        if not self._worker.runner_slots:
            return 0
        with self._lock:
            read_at, count = self._cached
            if time.monotonic() - read_at >= _CACHED_SECONDS:
                with suppress(Unavailable):
                    count = self._count_slots()
                self._cached = (time.monotonic(), count)
        return min(self._worker.runner_slots, count)

    def are_wanted(self, task: RunTask) -> bool:
        """Whether a runner may get parts of this task."""
        if not _is_portable(task) or not self._worker.runner_slots:
            return False
        with suppress(Unavailable):
            return self._worker.runners_only or bool(self._store.living(__version__))
        return False

    @contextmanager
    def slot(self, tick: Tick) -> Iterator[None]:
        """A slot of this machine, as soon as one is free. Raises what ``tick`` raises."""
        while not self._slots.acquire(timeout=self._times.poll):
            tick(None)
        try:
            yield
        finally:
            self._slots.release()

    def run(
        self,
        job: Job,
        task: RunTask,
        keys: Mapping[Path, str],
        limits: ResourceLimits,
        tick: Tick,
        *,
        run_here: RunHere,
        engine: EngineFacts | None = None,
    ) -> RunResult:
        """Run the task on a runner or here. ``engine``: that of the plan, if the task is a chunk.

        ``run_here`` runs it in a child process of this machine. Raises what that and ``tick`` raise.
        """
        refused: list[str] = []
        for _ in range(_MAX_FAILURES):
            row = self._adopt(job, task, keys, engine) or self._add(job, task, keys, engine, refused)
            if row is None:
                break
            refused = [*row.refused]
            try:
                with self._removing(row):
                    made = self._run_there(row, task, limits, tick, engine)
            except RunnerFailed as failure:
                get_logger(__name__).warning(
                    "runner failed", task=row.id, reason=str(failure), runner=failure.runner_id
                )
                self._count(failure.runner_id, is_done=False)
                if failure.runner_id is not None and not failure.is_forgiven:
                    refused.append(failure.runner_id)
                continue
            if made is not None:
                return made
            try:
                return run_here(task)
            finally:
                self._slots.release()
        with self.slot(tick):
            return run_here(task)

    def _run_there(
        self, row: RunnerTask, task: RunTask, limits: ResourceLimits, tick: Tick, engine: EngineFacts | None
    ) -> RunResult | None:
        """The verified result of a runner; None when a slot of this machine, which is held now, was free first.

        Raises RunnerFailed.
        """
        ended = self._wait(row, limits, _Previews(self._blobs, task.previews), tick)
        if ended is None:
            return None
        runner_id = ended.runner_id
        try:
            outcome = event_from_values(ended.outcome or {})
            if isinstance(outcome, ErrorEvent):
                raise RunnerFailed(f"it reported {outcome.code}: {outcome.message}"[:400], runner_id)
            if not isinstance(outcome, RunResult):
                raise RunnerFailed("it reported no result", runner_id)
            self._fetch(ended, task, tick)
            verified = self._verify(ended, task, outcome, tick, engine)
        except InvalidMessage:
            raise RunnerFailed("its result cannot be read", runner_id) from None
        except Unavailable:
            raise
        except (AlphareelError, OSError) as error:
            raise RunnerFailed(str(error), runner_id) from error
        get_logger(__name__).info("runner made the task", task=ended.id, runner=runner_id)
        self._count(runner_id, is_done=True)
        return verified

    def _wait(self, row: RunnerTask, limits: ResourceLimits, previews: _Previews, tick: Tick) -> RunnerTask | None:
        """The task once its runner has ended it; None once a slot of this machine is held instead."""
        watch = _LeaseWatch(self._times, limits)
        added_at = looked_at = time.monotonic()
        is_logged, must_wait = False, self._must_wait(row.engine, row.refused)
        while True:
            try:
                current = self._store.task(row.id)
            except Unavailable:  # nobody could renew meanwhile
                watch.reset()
                tick(None)
                time.sleep(self._times.poll)
                continue
            if current is None or current.executor_id != self._executor_id:
                raise RunnerFailed("its record is gone")
            if current.state is TaskState.ENDED:
                return current
            if current.state is TaskState.WAITING:
                watch.reset()
                now = time.monotonic()
                if must_wait and now - looked_at > self._times.look:
                    must_wait, looked_at = self._must_wait(row.engine, current.refused), now
                if not must_wait and now - added_at > self._times.preference and self._take_slot(row):
                    return None
            elif watch.is_silent(current):
                lease = {"executor_id": self._executor_id, "lease": current.lease or ""}
                if self._store.take_back(row.id, beat=current.beat, **lease):
                    raise RunnerFailed("its lease was not renewed", current.runner_id, is_forgiven=True)
            elif (problem := watch.problem()) is not None:
                raise RunnerFailed(problem, current.runner_id)
            elif not is_logged:
                is_logged = True
                get_logger(__name__).info("runner has the task", task=row.id, runner=current.runner_id)
            news = watch.news()
            tick(None if news is None else replace(news, preview=previews.newest(current.preview)))
            time.sleep(self._times.poll)

    def _count(self, runner_id: str | None, *, is_done: bool) -> None:
        if runner_id is not None:
            with suppress(Unavailable):
                self._store.count_task(runner_id, is_done=is_done)

    def _take_slot(self, row: RunnerTask) -> bool:
        if not self._slots.acquire(blocking=False):
            return False
        try:
            taken = self._store.remove_task(row.id, executor_id=self._executor_id, only_waiting=True)
        except Unavailable:
            taken = False
        if not taken:
            self._slots.release()
        return taken

    def _fetch(self, ended: RunnerTask, task: RunTask, tick: Tick) -> None:
        """Copy what the runner returned to the paths of the outputs. Raises StorageFailed, RunnerFailed."""
        for output in task.outputs:
            file = ended.files.get(output.path.name)
            if file is None:
                raise RunnerFailed(f"it returned no {output.path.name}", ended.runner_id)
            digest = hashlib.sha256()
            try:
                with output.path.open("wb") as target:
                    for piece in self._blobs.read(file.blob, 0, file.bytes):
                        target.write(piece)
                        digest.update(piece)
                        tick(None)
            except NotFound as error:
                raise StorageFailed("A file of a runner is gone from the store.") from error
            if digest.hexdigest() != file.sha256:
                raise StorageFailed("A file of a runner changed in the store.")

    def _verify(
        self, ended: RunnerTask, task: RunTask, reported: RunResult, tick: Tick, engine: EngineFacts | None
    ) -> RunResult:
        """Verify in a confined child: the files may be hostile. Raises VerificationFailed and the like."""
        check = VerifyTask(replace(task, engines=(ended.engine,), previews=None), reported, engine)
        limits = ResourceLimits(_VERIFY_MEMORY, wall_seconds=_VERIFY_SECONDS)
        with self.slot(tick):
            return child_process.run(check, limits, tick=lambda _: tick(None), children=self._children)

    def _adopt(
        self, job: Job, task: RunTask, keys: Mapping[Path, str], engine: EngineFacts | None
    ) -> RunnerTask | None:
        """The same task as a worker process left it that is gone: its runner goes on, or has ended it."""
        if not _is_portable(task):
            return None
        with suppress(Unavailable):
            left = self._store.left_tasks(job.id)
            name = self._engine_for(task, engine) if left else None
            row = None if name is None else self._describe(job, task, keys, name)
            for same in (each for each in left if row is not None and _is_same(each, row)):
                adopted = self._store.adopt(same, executor_id=self._executor_id, attempt=job.attempt)
                if adopted is not None:
                    get_logger(__name__).info("task adopted", task=adopted.id, runner=adopted.runner_id)
                    return adopted
        return None

    def _add(
        self, job: Job, task: RunTask, keys: Mapping[Path, str], engine: EngineFacts | None, refused: list[str]
    ) -> RunnerTask | None:
        """None where no runner may get it, an input is no blob, or the database does not answer."""
        name = self._engine_for(task, engine) if self.are_wanted(task) else None
        if name is None or not (self._has_runner(name, refused) or self._must_wait(name, refused)):
            return None
        row = self._describe(job, task, keys, name, refused)
        if row is not None:
            try:
                self._store.add_task(row)
            except Unavailable:
                return None
        return row

    def _describe(
        self, job: Job, task: RunTask, keys: Mapping[Path, str], engine: str, refused: Sequence[str] = ()
    ) -> RunnerTask | None:
        """The task for a runner; None where an input is no blob."""
        paths = {path: Path(f"input-{n}{path.suffix}") for n, path in enumerate(dict.fromkeys(task_inputs(task)))}
        if not all(path in keys for path in paths):
            return None
        outputs = tuple(replace(output, path=Path(output.path.name)) for output in task.outputs)
        portable = with_inputs(
            replace(
                task,
                outputs=outputs,
                models_dir=None,
                previews=None if task.previews is None else Path("previews"),
                threads=None,
                engines=(engine,),
            ),
            paths,
        )
        return RunnerTask(
            id=uuid.uuid4().hex,
            executor_id=self._executor_id,
            job_id=job.id,
            attempt=job.attempt,
            engine=engine,
            version=__version__,
            created_at=self._clock.now(),
            request=run_task_to_values(portable),
            inputs={name.name: keys[path] for path, name in paths.items()},
            outputs=tuple(output.path.name for output in outputs),
            refused=tuple(refused),
        )

    @contextmanager
    def _removing(self, row: RunnerTask) -> Iterator[None]:
        """Remove the task at the end, unless this process stops: whoever goes on with the job adopts it."""
        try:
            yield
        except WorkerStopping:
            with suppress(Unavailable):
                self._store.remove_task(row.id, executor_id=self._executor_id, only_waiting=True)
            raise
        except BaseException:
            self._remove(row)
            raise
        self._remove(row)

    def _remove(self, row: RunnerTask) -> None:
        """Remove the task; its runner learns that at its next renewal. A row that stays goes when its job has ended."""
        is_adopted = True  # unless the database says otherwise
        with suppress(Unavailable):
            self._store.remove_task(row.id, executor_id=self._executor_id)
            is_adopted = self._store.task(row.id) is not None
        if not is_adopted:
            with suppress(StorageFailed):  # removed with the job's other temporary files
                self._blobs.delete_prefix(blob_keys.returned_prefix(row.job_id, row.id))

    def _engine_for(self, task: RunTask, engine: EngineFacts | None) -> str | None:
        if engine is not None:
            return engine.name
        with contextlib.suppress(AlphareelError):  # the child process reports it
            return tiers.expected_engine(task.outputs[0].options, task.models_dir, task.engines)
        return None

    def _must_wait(self, engine: str, refused: Sequence[str]) -> bool:
        """Whether the task may run on runners alone: unless they are there and cannot do it, or failed at it."""
        if not self._worker.runners_only:
            return False
        with suppress(Unavailable):
            living = self._store.living(__version__)
            return any(engine in runner.engines and runner.id not in refused for runner in living) or not (
                living or refused
            )
        return True

    def _has_runner(self, engine: str, refused: Sequence[str]) -> bool:
        with suppress(Unavailable):
            living = self._store.living(__version__)
            return any(engine in runner.engines and runner.id not in refused for runner in living)
        return False

    def _count_slots(self) -> int:
        open_tasks = self._store.open_tasks()
        idle = sum(runner.slots for runner in self._store.living(__version__)) - sum(open_tasks.values())
        return open_tasks.get(self._executor_id, 0) + max(0, idle)


@dataclass
class _LeaseWatch:
    """Judges a lease by its counter and this machine's monotonic clock, and the work under it by its progress."""

    times: RemoteTimes
    limits: ResourceLimits
    lease: str | None = None
    beat: int = -1
    beat_at: float = 0.0
    leased_at: float = 0.0
    position: tuple[int, float] | None = None
    position_at: float = 0.0
    _news: Progress | None = field(default=None, repr=False)

    def reset(self) -> None:
        self.lease = None

    def is_silent(self, current: RunnerTask) -> bool:
        now = time.monotonic()
        if current.lease != self.lease:
            self.lease, self.beat = current.lease, -1
            self.leased_at, self.position, self.position_at = now, None, now
        if current.beat != self.beat:
            self.beat, self.beat_at = current.beat, now
            self._note(current.progress, now)
        return now - self.beat_at > self.times.lease

    def problem(self) -> str | None:
        now, limits = time.monotonic(), self.limits
        if limits.wall_seconds and now - self.leased_at + limits.spent_seconds > limits.wall_seconds:
            return "it took longer than a job may"
        if limits.progress_seconds and now - self.position_at > limits.progress_seconds:
            return "it made no progress"
        return None

    def news(self) -> Progress | None:
        """Progress that was not reported yet."""
        news, self._news = self._news, None
        return news

    def _note(self, values: Mapping[str, object] | None, now: float) -> None:
        if values is None:
            return
        with suppress(InvalidMessage):
            progress = event_from_values({"event": "progress", **values})
            if isinstance(progress, Progress):
                share = min(1.0, max(0.0, progress.share))
                self._news = replace(progress, share=share, preview=None)
                if (position := (progress.done, progress.share)) != self.position:
                    self.position, self.position_at = position, now


class _Previews:
    """Previews of one task, copied from the store into the folder that its job shows them from; None for none."""

    def __init__(self, blobs: Blobs, folder: Path | None) -> None:
        self._blobs = blobs
        self._folder = folder
        self._count = 0
        self._blob: str | None = None
        self._path: str | None = None

    def newest(self, preview: ReturnedFile | None) -> str | None:
        """The path of ``preview``, or of the one before if it cannot be read."""
        if self._folder is not None and preview is not None and preview.blob != self._blob:
            path = self._folder / f"preview-{self._count}.webp"
            with suppress(NotFound, StorageFailed, OSError):  # a newer one may have replaced it
                path.write_bytes(b"".join(self._blobs.read(preview.blob, 0, preview.bytes)))
                self._path, self._blob, self._count = str(path), preview.blob, self._count + 1
        return self._path


def _is_same(left: RunnerTask, row: RunnerTask) -> bool:
    """Whether whoever does one of them does the other. Previews change nothing."""
    names = ("engine", "version", "inputs", "outputs")
    requests = [{**each.request, "previews": None} for each in (left, row)]
    return requests[0] == requests[1] and all(getattr(left, name) == getattr(row, name) for name in names)


def _is_portable(task: RunTask) -> bool:
    """Runs with an engine. What is made of a kept matte costs more to send than to compute."""
    return task.matte is None and not task.corrections and not task.save_memory
