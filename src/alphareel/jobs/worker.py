"""Runs one job: get the source, cut it in a child process, publish, settle. No step trusts that it is alone."""

import contextlib
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from alphareel import observe, traces
from alphareel.domain.clip import EngineFacts, Limits
from alphareel.domain.errors import (
    AlphareelError,
    InternalError,
    StorageFailed,
    StorageFull,
    StorageQuotaExceeded,
    Unavailable,
    WorkerCrashed,
)
from alphareel.domain.options import Options, Tier, to_json
from alphareel.jobs import chunks, references, sandbox
from alphareel.jobs.chunks import Shelf, make_chunks
from alphareel.jobs.credits import billed_seconds
from alphareel.jobs.job import TERMINAL, Billing, Job, Output, Status
from alphareel.jobs.ports import Blobs, Fetcher, JobStore, Outcome
from alphareel.jobs.references import Reference
from alphareel.jobs.sandbox import Confinement
from alphareel.jobs.stills import Stills, stills
from alphareel.jobs.uploads import Sources

_EXTENSIONS = {
    "png_sequence": "zip", "stacked_mp4": "mp4", "matte": "mp4", "prores_hq": "mov", "ffv1": "mkv", "hevc_mov": "mov",
    "poster": "png", "thumbnail": "webp",
}  # fmt: skip
_NEWS_SECONDS = 1.0
_SILENCE_SECONDS = 10.0
_WHILE_RUNNING = 99.0  # percent; 100 means delivered


@dataclass(frozen=True)
class WorkRules:
    """``workspace``: folder for files of running attempts. ``pipeline``: module whose ``run`` makes results.

    ``max_tries``: executions in one run of a job before a failure that may pass is taken as final.
    ``max_deaths``: executions before a job is given up that outlived no worker.
    ``chunk_seconds``: length of the chunks in which long clips are made, 0 for none.
    """

    workspace: Path
    limits: Limits
    confinement: Confinement
    models_dir: Path | None = None
    engines: Mapping[Tier, Sequence[str]] = field(default_factory=dict)
    threads: int | None = None
    max_tries: int = 3
    max_deaths: int = 6
    chunk_seconds: float = 0.0
    retry_seconds: float = 2.0
    pipeline: str = "alphareel.pipeline"


class Overtaken(Exception):
    """Another attempt has the job now, or nobody needs it any more."""


class Stopping(Exception):
    """The worker stops and must leave the attempt to another."""


class Worker:
    """JobBody over the ports. ``name`` is the actor in the audit log."""

    def __init__(
        self, name: str, *, jobs: JobStore, blobs: Blobs, sources: Sources, fetcher: Fetcher, rules: WorkRules
    ) -> None:
        self._name = name
        self._jobs = jobs
        self._blobs = blobs
        self._sources = sources
        self._fetcher = fetcher
        self._rules = rules
        self._stopping = threading.Event()
        self._running: dict[str, Job] = {}

    def execute(self, job_id: str, ticket: int) -> Outcome:
        with observe.bound(job_id=job_id):
            while True:
                if self._stopping.is_set():
                    _park()
                job = self._jobs.begin_attempt(job_id, ticket=ticket, actor=self._name)
                if job is None:
                    self._clear_up(job_id)
                    return _GONE
                outcome = self._traced_attempt(job)
                if outcome == _GONE:
                    self._clear_up(job_id)
                if not outcome.get("retryable") or job.tries >= self._rules.max_tries:
                    return outcome
                observe.log(__name__).warning("attempt failed", attempt=job.attempt, error=outcome["error"])
                self._stopping.wait(self._rules.retry_seconds * 2 ** (job.tries - 1))

    def settle(self, job_id: str, ticket: int, outcome: Outcome) -> None:  # noqa: ARG002
        with observe.bound(job_id=job_id):
            if outcome["kind"] == "done":
                self._deliver(job_id, outcome)
            elif outcome["kind"] == "failed":
                error, code = outcome["error"], outcome["error_code"]
                self._jobs.fail(job_id, attempt=outcome["attempt"], error=error, error_code=code, actor=self._name)
            self._clear_up(job_id)

    def _clear_up(self, job_id: str) -> None:
        """A job that has ended keeps no chunks; one that was deleted leaves nothing.

        Not even what a worker published that died before it was told.
        """
        job = self._jobs.job(job_id)
        if job is not None and job.status not in TERMINAL:
            return
        places = () if job is not None else (f"outputs/{job_id}/", f"previews/{job_id}/")
        for prefix in (*places, chunks.prefix_of(job_id)):
            try:
                self._blobs.delete_prefix(prefix)
            except StorageFailed as error:
                observe.log(__name__).warning("blobs of an ended job stay", prefix=prefix, error=str(error))

    def abandon(self) -> None:
        self._stopping.set()
        for job in list(self._running.values()):
            with contextlib.suppress(Unavailable):
                self._jobs.hand_back(job.id, attempt=job.attempt, actor=self._name, reason="the worker stopped")

    def _traced_attempt(self, job: Job) -> Outcome:
        with traces.span(
            "attempt", parent=job.traceparent, kind="consumer", job_id=job.id, attempt=job.attempt
        ) as span:
            if span is not None and job.tries == 1:
                began = max(e.at for e in self._jobs.events(job.id) if e.to_status is Status.PENDING)
                traces.note("queue", began=began, seconds=((job.progress_at or began) - began).total_seconds())
            outcome = self._attempt(job)
            if span is not None and outcome["kind"] == "failed":
                span.fail(outcome["error_code"])
            return outcome

    def _attempt(self, job: Job) -> Outcome:
        self._running[job.id] = job
        try:
            return self._make(job)
        except Overtaken:
            return _GONE
        except Stopping:
            _park()
        except AlphareelError as error:
            return _failure(job, error)
        except Exception as error:  # noqa: BLE001  # a fault of ours fails this job and no other
            observe.log(__name__).exception("attempt broke", attempt=job.attempt)
            return _failure(job, InternalError(f"Processing failed: {type(error).__name__}."))
        finally:
            del self._running[job.id]

    def _make(self, job: Job) -> Outcome:
        if job.tries > self._rules.max_deaths:
            raise WorkerCrashed(f"Its worker died {self._rules.max_deaths} times while it processed this job.")
        with ExitStack() as opened:
            folder = opened.enter_context(self._workspace(job))
            pictures = opened.enter_context(stills(self._blobs, job, folder / "previews"))
            reporter = Reporter(self._jobs, job, self._stopping, pictures)
            obtain = Obtaining(opened, job, reporter)
            with traces.span("obtain"):
                source = self._obtain(obtain, references.source(job.video_url), folder / "source")
            self._reserve(job, source, reporter)
            options = job.options
            if (behind := references.background(options)) is not None:
                options = references.at_hand(options, self._obtain(obtain, behind, folder / "background"))
            target = folder / result_name(options.output_format)
            order = self._order(source, target, options, previews=pictures.folder)
            result = self._run(order, reporter)
            if (plan := result.get("plan")) is not None:
                result = self._make_chunks(job, order, plan, reporter)
            with traces.span("publish"):
                return self._publish(job, target, result)

    def _make_chunks(
        self, job: Job, order: Mapping[str, Any], plan: Mapping[str, Any], reporter: "Reporter"
    ) -> dict[str, Any]:
        """The result of a long clip. What was made before this attempt is not made again."""
        began, confinement = time.monotonic(), self._rules.confinement

        def run(piece: Mapping[str, Any], tick: sandbox.Tick) -> dict[str, Any]:
            """The time that a job may take is that of all its children."""
            spent = time.monotonic() - began
            rest = max(1.0, confinement.wall_seconds - spent) if confinement.wall_seconds else 0.0
            return self._run(piece, tick, replace(confinement, wall_seconds=rest))

        shelf = Shelf(self._blobs, job.id, plan["mark"], suffix=Path(order["target"]).suffix)
        return make_chunks(order, plan["chunks"], shelf, run=run, tick=reporter)

    def _run(
        self, order: Mapping[str, Any], tick: sandbox.Tick, confinement: Confinement | None = None
    ) -> dict[str, Any]:
        """In a child process, which is confined and so tells us alone how long each stage worked."""
        with traces.span("child") as span:
            began = datetime.now(UTC)
            result = sandbox.run(order, confinement or self._rules.confinement, tick=tick)
            if span is not None and "stages" in result:
                span.tell(frames=result["frames"], engine=result["engine"]["name"])
                for stage, seconds in result["stages"].items():
                    traces.note(stage, began=began, seconds=seconds)
            return result

    @contextmanager
    def _workspace(self, job: Job) -> Iterator[Path]:
        folder = self._rules.workspace / f"{job.id}.{job.attempt}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _obtain(self, attempt: "Obtaining", wanted: Reference, target: Path) -> Path:
        """The file behind an address, here until the attempt ends; a download goes to ``target``."""
        upload = self._sources.find(wanted, key_id=attempt.job.key_id)
        if upload is not None:
            return attempt.opened.enter_context(self._blobs.local(upload.blob))
        most = self._rules.limits.max_bytes
        return self._fetcher.fetch(wanted.url, target, max_bytes=most, tick=lambda: attempt.reporter(None)).path

    def _reserve(self, job: Job, source: Path, reporter: "Reporter") -> None:
        """Reserve credits for a clip whose length nobody knew when its job was started. Raises InsufficientCredits."""
        if job.price is None or job.billing_status is not Billing.NOT_BILLED:
            return
        order = {"task": "identify", "source": str(source), "limits": asdict(self._rules.limits)}
        length = sandbox.run(order, self._rules.confinement, tick=reporter)["seconds"]
        most = self._rules.limits.max_seconds
        seconds, most = billed_seconds(job.options, length), billed_seconds(job.options, most) or most
        if not self._jobs.reserve_credits(job.id, attempt=job.attempt, seconds=seconds, most=most):
            raise Overtaken

    def _order(self, source: Path, target: Path, options: Options, *, previews: Path) -> dict[str, Any]:
        return {
            "task": "run",
            "pipeline": self._rules.pipeline,
            "source": str(source),
            "target": str(target),
            "previews": str(previews),
            "options": to_json(options),
            "limits": asdict(self._rules.limits),
            "models_dir": str(self._rules.models_dir) if self._rules.models_dir else None,
            "engines": self._rules.engines.get(options.model),
            "threads": self._rules.threads,
            "chunk_seconds": self._rules.chunk_seconds,
        }

    def _publish(self, job: Job, target: Path, result: Mapping[str, Any]) -> Outcome:
        key = f"{_attempt_prefix(job.id, job.attempt)}{target.name}"
        self._blobs.put_file(key, target)
        facts = {field.name: result[field.name] for field in fields(Output) if field.name in result}
        return {
            "kind": "done",
            "attempt": job.attempt,
            "output": asdict(Output(**{**facts, "blob": key})),
            "engine": result["engine"],
            "warnings": list(dict.fromkeys((*job.warnings, *result["warnings"]))),
        }

    def _deliver(self, job_id: str, outcome: Outcome) -> None:
        """Name this attempt's file the output, unless another won; the losers' files go."""
        attempt, output = outcome["attempt"], Output(**outcome["output"])
        won = self._complete(job_id, outcome, output)
        stored = None if won else self._jobs.job(job_id)
        if won or (stored is not None and stored.output == output):  # the latter: this step ran before, and won then
            losers = range(1, attempt)
        else:
            losers = range(attempt, attempt + 1)
        for loser in losers:
            self._blobs.delete_prefix(_attempt_prefix(job_id, loser))

    def _complete(self, job_id: str, outcome: Outcome, output: Output) -> bool:
        try:
            return self._jobs.complete(
                job_id,
                attempt=outcome["attempt"],
                output=output,
                engine=EngineFacts(**outcome["engine"]),
                warnings=tuple(outcome["warnings"]),
                actor=self._name,
            )
        except (StorageQuotaExceeded, StorageFull) as error:
            told = {"error": str(error), "error_code": error.code}
            self._jobs.fail(job_id, attempt=outcome["attempt"], actor=self._name, **told)
            return False


@dataclass(frozen=True)
class Obtaining:
    """The attempt that files are got for: what is opened for it is released with ``opened``."""

    opened: ExitStack
    job: Job
    reporter: "Reporter"


class Reporter:
    """Turns a child's ticks into progress in the store, and the store's news into the end of the child."""

    def __init__(self, jobs: JobStore, job: Job, stopping: threading.Event, pictures: Stills) -> None:
        self._jobs = jobs
        self._job = job
        self._stopping = stopping
        self._pictures = pictures
        self._share = 0.0
        self._preview: str | None = None
        self._news = False
        self._told = self._looked = time.monotonic()

    def __call__(self, progress: Mapping[str, Any] | None) -> None:
        """Raises Overtaken, Stopping."""
        if self._stopping.is_set():
            raise Stopping
        if progress is not None:
            self._share, self._news = float(progress["share"]), True
            self._preview = progress.get("preview")
        if time.monotonic() - self._looked < _NEWS_SECONDS:
            return
        self._looked = time.monotonic()
        try:
            current = self._tell() if self._news or self._looked - self._told >= _SILENCE_SECONDS else self._ask()
        except Unavailable:
            return  # the child need not suffer for a database that is away for a while
        if not current:
            raise Overtaken

    def _tell(self) -> bool:
        self._told, self._news = self._looked, False
        share = round(self._share * _WHILE_RUNNING, 1)
        preview = self._pictures.publish(self._preview)
        return self._jobs.set_progress(self._job.id, attempt=self._job.attempt, progress=share, preview=preview)

    def _ask(self) -> bool:
        """Whether the job was cancelled is asked as often as news is told, but reading costs the disk nothing."""
        found = self._jobs.job(self._job.id)
        return found is not None and found.status is Status.PROCESSING and found.attempt == self._job.attempt


_GONE: Outcome = {"kind": "gone"}


def _failure(job: Job, error: AlphareelError) -> Outcome:
    return {
        "kind": "failed",
        "attempt": job.attempt,
        "error": str(error),
        "error_code": error.code,
        "retryable": error.retryable,
    }


def result_name(output_format: str) -> str:
    """What the file of a result is called in the store."""
    return f"result.{_EXTENSIONS.get(output_format, output_format)}"


def _attempt_prefix(job_id: str, attempt: int) -> str:
    return f"outputs/{job_id}/{attempt}/"


def _park() -> NoReturn:
    """Wait for the end of the process: an execution that returned would be recorded as done."""
    while True:
        time.sleep(3600)
