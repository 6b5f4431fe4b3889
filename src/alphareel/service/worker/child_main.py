"""The child process that opens hostile files and runs networks: one request on stdin, events on stdout, then it exits.

It exits with its parent, confines itself before it gets its request, and limits its resources before it opens a file.
Started by ``child_process``, or forked from the template process.
"""

import contextlib
import importlib
import math
import os
import resource
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any, TextIO

from alphareel.domain.clip import EngineFacts
from alphareel.domain.corrections import correction_from_json
from alphareel.domain.errors import AlphareelError, InternalError, OutOfMemory
from alphareel.service.worker.confinement import Confinement, confine
from alphareel.service.worker.events import (
    Accepted,
    Analysis,
    ChildEvent,
    ErrorEvent,
    Plan,
    ProofResult,
    Ready,
    RunResult,
    event_to_json,
)
from alphareel.service.worker.messages import ChildRequest, ChildSetup, Preload
from alphareel.service.worker.parent_watch import bind_to_parent, watch_input
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
)

_REFRESH_SECONDS = 100.0
_PIPELINE, _SPLICE_PIPELINE = "alphareel.pipeline.run", "alphareel.pipeline.splice"
_MEMORY_WORDS = ("bad_alloc", "cannot allocate memory", "failed to allocate memory", "insufficient memory")


def main() -> int:
    """The program of a child process that was started, not forked from the template."""
    return serve(_take_stdout())


def serve(out: TextIO, *, on_task: Callable[[], None] = lambda: None) -> int:
    """Read the setup and the request from stdin, and perform it. The exit code is 0 if an event reports the outcome.

    ``on_task`` is called when the request is there.
    """
    lines = _Lines()
    setup = ChildSetup.from_json(lines.read())
    if setup.parent_pid:
        bind_to_parent(setup.parent_pid)
    confinement = confine(reads=setup.reads, writes=setup.writes) if setup.confined else Confinement()
    _write(out, Ready(confinement.no_new_privileges, confinement.seccomp, confinement.landlock))
    if setup.preload is not None:
        _preload(setup.preload)
        while not lines.wait(_REFRESH_SECONDS):
            _preload(setup.preload)  # unused sessions are dropped
    line = lines.read()
    if not line:
        return 0  # this process is no longer needed
    request = ChildRequest.from_json(line)
    if (folder := task_folder(request.task)) is not None:
        os.environ["TMPDIR"] = str(folder)  # other folders for temporary files cannot be written
    on_task()
    _write(out, Accepted())
    watch_input()
    _limit_resources(request)
    try:
        for event in _perform(request.task):
            _write(out, event)
    except AlphareelError as error:
        _write(out, ErrorEvent.of(error))
    except MemoryError:
        _write(out, ErrorEvent.of(_out_of_memory()))
    except Exception as error:  # noqa: BLE001  # codecs and networks may raise anything
        traceback.print_exc()
        _write(out, ErrorEvent.of(_translate(error)))
    return 0


class _Lines:
    """Lines of standard input, which a child may also wait for without reading them."""

    def __init__(self) -> None:
        self._data = b""

    def wait(self, seconds: float) -> bool:
        return bool(self._data or select.select([0], [], [], seconds)[0])

    def read(self) -> bytes:
        """The next line; what is left at the end of input."""
        while b"\n" not in self._data and (data := os.read(0, 65536)):
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        return line


def _preload(preload: Preload) -> None:
    """Load an engine that the request is likely to need. Problems are left to the request."""
    from alphareel.domain.options import Options
    from alphareel.matting import tiers

    with contextlib.suppress(Exception):
        tiers.choose(
            Options(model=preload.model, engine=preload.engine),
            preload.models_dir,
            preload.threads,
            engine_priority=preload.engines,
        )


def _perform(task: ChildTask) -> Iterator[ChildEvent]:
    match task:
        case InspectTask():
            # Imported after the limits are set: this is the import that loads the codecs.
            from alphareel.service.uploads.inspect import inspect_media

            yield inspect_media(task.source, task.limits)
        case SplitTask():
            plan = _plan(task)
            if plan is None and task.only_plan:
                yield Plan((), "", EngineFacts("", ""))
            elif plan is None:
                yield from _run(task.run)
            else:
                yield plan
        case RunTask():
            yield from _run(task)
        case JoinTask():
            yield from _join(task)
        case ProofTask():
            yield from _prove(task)
        case AnalyzeTask():
            yield from _analyze(task)
        case VerifyTask():
            yield _verify(task)


def _run(task: RunTask) -> Iterator[ChildEvent]:
    is_spliced = bool(task.previous) and task.pipeline == _PIPELINE
    pipeline = importlib.import_module(_SPLICE_PIPELINE if is_spliced else task.pipeline)
    optional: dict[str, Any] = {"previous": task.previous} if is_spliced else {}
    if task.chunk is not None:
        optional["chunk"] = task.chunk
    if task.matte is not None:
        optional["matte"] = task.matte
    if task.corrections:
        optional["corrections"] = [correction_from_json(each) for each in task.corrections]
    if task.save_memory:
        optional["frames_ahead"] = 1
    run = pipeline.run(
        task.source,
        task.outputs,
        **_engine_kwargs(task),
        limits=task.limits,
        previews=task.previews,
        overwrite=True,  # an earlier attempt may have left its file in the job's folder
        paid_seconds=task.paid_seconds,
        **optional,
    )
    with contextlib.closing(run):
        for progress in run:
            yield replace(progress, results=())
            if progress.results:
                yield RunResult(progress.results, progress.stages)


def _analyze(task: AnalyzeTask) -> Iterator[ChildEvent]:
    from alphareel.pipeline.analysis import analyze

    report = yield from analyze(
        task.source,
        task.matte,
        task.folder,
        options=task.options,
        limits=task.limits,
        models_dir=task.models_dir,
        engine_priority=task.engines,
        threads=task.threads,
    )
    yield Analysis(report)


def _verify(task: VerifyTask) -> RunResult:
    from alphareel.pipeline import returned

    run = task.run
    results = returned.verify_returned(
        run.source,
        run.outputs,
        task.reported.results,
        engine=task.engine or (run.engines or ("",))[0],
        limits=run.limits,
        chunk=run.chunk,
        paid_seconds=run.paid_seconds,
    )
    return RunResult(results, task.reported.stages)


def _plan(task: SplitTask) -> Plan | None:
    from alphareel.pipeline import chunks

    run = task.run
    plan = chunks.plan(
        run.source,
        run.outputs,
        seconds=task.seconds,
        matte=run.matte,
        limits=run.limits,
        paid_seconds=run.paid_seconds,
        **_engine_kwargs(run),
    )
    return None if plan is None else Plan(plan.chunks, plan.plan_hash, plan.engine)


def _join(task: JoinTask) -> Iterator[ChildEvent]:
    from alphareel.pipeline import chunks

    parts = [chunks.ChunkResult(c.files, c.chunk, c.frames_lost, c.warnings) for c in task.chunks]
    for progress in chunks.join(task.source, task.outputs, parts, task.engine, limits=task.limits, overwrite=True):
        yield replace(progress, results=())
        if progress.results:
            yield RunResult(progress.results)


def _prove(task: ProofTask) -> Iterator[ChildEvent]:
    from alphareel.pipeline import proof

    steps = proof.prove(
        task.source,
        task.target,
        task.engines,
        options=task.options,
        limits=task.limits,
        models_dir=task.models_dir,
        threads=task.threads,
        overwrite=True,
    )
    with contextlib.closing(steps):
        for step in steps:
            yield ProofResult(asdict(step)) if isinstance(step, proof.Proof) else step


def _engine_kwargs(task: RunTask) -> dict[str, Any]:
    return {"models_dir": task.models_dir, "engine_priority": task.engines, "threads": task.threads}


def _take_stdout() -> TextIO:
    """Return a stream to the real stdout for events, and send what libraries print there to stderr."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _write(out: TextIO, event: ChildEvent) -> None:
    out.write(event_to_json(event) + "\n")
    out.flush()


def _translate(error: Exception) -> AlphareelError:
    text = str(error).lower()
    if any(words in text for words in _MEMORY_WORDS):
        return _out_of_memory()
    return InternalError(f"Processing failed: {type(error).__name__}.", hint="The service's log has the details.")


def _out_of_memory() -> OutOfMemory:
    return OutOfMemory("The job needed more memory than it may have.", hint="Use a smaller video or raise the limit.")


def _limit_resources(request: ChildRequest) -> None:
    _set_limit(resource.RLIMIT_CORE, 0)
    if request.memory_bytes:
        _set_limit(resource.RLIMIT_AS, request.memory_bytes)
    if request.cpu_seconds:
        used = math.ceil(time.process_time())  # before the task, by imports and the engine that was loaded
        # the soft limit sends SIGXCPU, which has a reason
        _set_limit(resource.RLIMIT_CPU, used + request.cpu_seconds, slack=5)
    if request.open_files:
        _set_limit(resource.RLIMIT_NOFILE, request.open_files)


def _set_limit(name: int, soft: int, *, slack: int = 0) -> None:
    """``slack``: how much higher the hard limit is."""
    _, hard = resource.getrlimit(name)
    ceiling = soft + slack if hard == resource.RLIM_INFINITY else min(soft + slack, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS has RLIMIT_AS but refuses to set it
        resource.setrlimit(name, (min(soft, ceiling), ceiling))


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    os._exit(code)  # everything is written, and taking libraries apart takes time
