"""Test jobs: every outcome that a client has to handle, on request, without processing its video and free of charge.

They are stored like real jobs, so polling, webhooks, event streams and history treat them alike. They are never
queued; a thread of each worker process advances them by the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from alphareel.domain.errors import AlphareelError, InvalidRequest, StorageFull, StorageQuotaExceeded, Unavailable
from alphareel.domain.options import Background, Options, to_json
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job, Output, Status
from alphareel.service.ports import Blobs, Clock
from alphareel.telemetry.logging import log_context

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore
    from alphareel.service.worker.events import RunResult

ScenarioOutcome = Literal["success", "failure", "timeout", "insufficient_credits", "slow"]
SCENARIO_OUTCOMES: tuple[ScenarioOutcome, ...] = get_args(ScenarioOutcome)
MAX_SECONDS = 3600.0
_DEFAULT_SECONDS: dict[ScenarioOutcome, float] = {
    "success": 3.0,
    "failure": 2.0,
    "timeout": 5.0,
    "insufficient_credits": 0.0,
    "slow": 60.0,
}
_FAILURES: dict[str, tuple[str, str]] = {
    "failure": ("internal_error", "Processing failed, as this test asked for."),
    "timeout": ("timeout", "The job took too long, as this test asked for."),
}
_ACTOR = "test"
_RUNNING_PERCENT = 99.0  # percent; 100 means delivered
_MAX_CACHED_RESULTS = 16
SAMPLE = Path(__file__).parent / "data" / "sample.mp4"
"""The source of every successful test job: one second of a person before a green screen, with sound."""

MakeResult: TypeAlias = "Callable[[Path, Path, Options], RunResult]"
"""Makes a result: source, target, options."""


@dataclass(frozen=True)
class Scenario:
    """The outcome of a test job, and how many seconds after its start it ends."""

    outcome: ScenarioOutcome
    seconds: float


def parse_scenario(value: Any) -> Scenario:
    """An outcome by its name, or an object with ``outcome`` and ``seconds``. Raises InvalidRequest."""
    values = {"outcome": value} if isinstance(value, str) else value
    if not isinstance(values, dict) or values.get("outcome") not in SCENARIO_OUTCOMES:
        raise InvalidRequest(f"must be one of {', '.join(SCENARIO_OUTCOMES)}, or an object with such an outcome.")
    seconds = values.get("seconds")
    if seconds is None:
        return Scenario(values["outcome"], _DEFAULT_SECONDS[values["outcome"]])
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_SECONDS:
        raise InvalidRequest(f"seconds must be a number between 0 and {MAX_SECONDS:g}.")
    return Scenario(values["outcome"], float(seconds))


def scenario_for_test_key(metadata: Mapping[str, Any]) -> Scenario:
    """The scenario of a job of a test key: ``metadata.test`` names it, for clients that can send no other field."""
    name = metadata.get("test")
    return parse_scenario(name if name in SCENARIO_OUTCOMES else "success")


class ScenarioRunner:
    """Advances the unfinished test jobs."""

    def __init__(
        self,
        *,
        jobs: JobStore,
        blobs: Blobs,
        make: MakeResult,
        clock: Clock,
        on_completed: Callable[[Job], None] = lambda _: None,
    ) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._make = make
        self._clock = clock
        self._on_completed = on_completed
        self._results: dict[str, tuple[bytes, RunResult]] = {}

    def run_due(self) -> None:
        """Move each test job as far as the clock says. Raises Unavailable."""
        for job in self._jobs.test_jobs():
            with log_context(job_id=job.id):
                self._advance(job)

    def _advance(self, job: Job) -> None:
        if job.status is Status.PENDING:
            self._jobs.begin_attempt(job.id, ticket=job.ticket, actor=_ACTOR)
            return
        assert job.test is not None
        started_at = job.started_at or job.updated_at
        share = (self._clock.now() - started_at).total_seconds() / max(job.test["seconds"], 1e-3)
        if 0 <= share < 1:  # below 0, the clock was set back; the job ends rather than wait for it
            self._jobs.set_progress(job.id, attempt=job.attempt, progress=round(share * _RUNNING_PERCENT, 1))
        elif job.test["outcome"] in _FAILURES:
            code, error = _FAILURES[job.test["outcome"]]
            self._fail(job, error, code)
        else:
            self._succeed(job)

    def _succeed(self, job: Job) -> None:
        try:
            self._deliver(job, [self._result(options) for options in job.requested])
        except Unavailable:
            raise
        except AlphareelError as error:
            self._fail(job, str(error), error.code)

    def _deliver(self, job: Job, samples: Sequence[tuple[bytes, RunResult]]) -> None:
        prefix = blob_keys.output_prefix(job.id, job.attempt)
        outputs = []
        with TemporaryDirectory() as folder:
            for number, (data, run) in enumerate(samples):
                result = run.results[0]
                name = blob_keys.output_name(result.format) if number else f"result{Path(result.path).suffix}"
                path = Path(folder) / name
                path.write_bytes(data)
                self._blobs.put_file(f"{prefix}{name}", path)
                outputs.append(Output.of(result, blob=f"{prefix}{name}", stages=run.stages))
        warnings = (*job.warnings, "test: this result was made of a sample, not of the video.")
        try:
            won = self._jobs.complete(
                job.id,
                attempt=job.attempt,
                output=outputs[0],
                more_outputs=tuple(outputs[1:]),
                engine=samples[0][1].results[0].engine,
                warnings=warnings,
                actor=_ACTOR,
            )
        except (StorageQuotaExceeded, StorageFull):
            self._blobs.delete_prefix(prefix)
            raise
        if not won:
            self._blobs.delete_prefix(prefix)
        elif (completed := self._jobs.job(job.id)) is not None:
            self._on_completed(completed)

    def _result(self, options: Options) -> tuple[bytes, RunResult]:
        """The result for the sample, cached by options."""
        plain = _offline(options)
        name = repr(to_json(plain))
        if name not in self._results:
            with TemporaryDirectory() as folder:
                target = Path(folder) / blob_keys.result_name(plain.output_format)
                run = self._make(SAMPLE, target, plain)
                entry = target.read_bytes(), run
            while len(self._results) >= _MAX_CACHED_RESULTS:
                del self._results[next(iter(self._results))]
            self._results[name] = entry
        return self._results[name]

    def _fail(self, job: Job, error: str, code: str) -> None:
        self._jobs.fail(job.id, attempt=job.attempt, error=error, error_code=code, actor=_ACTOR)


def _offline(options: Options) -> Options:
    """The options with everything replaced that needs a neural network or a download."""
    background = options.background
    if background.type in ("image", "video"):
        background = Background("color", color=(9, 162, 70))
    return replace(
        options, model="original", engine="chroma", text_prompt=None, background=background, key_color=None, plate=None
    )


def scenario_to_json(scenario: Scenario | None) -> dict[str, Any] | None:
    """As stored in ``Job.test``."""
    return None if scenario is None else asdict(scenario)
