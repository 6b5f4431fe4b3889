"""Test jobs: every outcome a client has to deal with, on request, without computing on its video and without charge.

They move through the same store as real jobs, so polling, webhooks, event streams and history cannot tell them apart.
They never stand in the workers' line; a thread of each worker process plays them by the clock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, get_args

from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import AlphareelError, InvalidRequest, StorageFull, StorageQuotaExceeded, Unavailable
from alphareel.domain.options import Background, Options, to_json
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import Job, Output, Status
from alphareel.service.ports import Blobs, Clock
from alphareel.telemetry.logging import log_context

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore

ScenarioOutcome = Literal["success", "failure", "timeout", "insufficient_credits", "slow"]
SCENARIO_OUTCOMES: tuple[ScenarioOutcome, ...] = get_args(ScenarioOutcome)
LONGEST = 3600.0
_USUAL_SECONDS: dict[ScenarioOutcome, float] = {
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
_ACTOR = "rehearsal"
_WHILE_RUNNING = 99.0  # percent; 100 means delivered
_MOST_KEPT = 16
SAMPLE = Path(__file__).parent / "data" / "sample.mp4"
"""The clip that every test job that succeeds is made of: one second, a figure before green, with sound."""

Make = Callable[[Path, Path, Options], Mapping[str, Any]]
"""Source, target, options -> the result as the pipeline tells it."""


@dataclass(frozen=True)
class Scenario:
    """What a test job is to come to, so many seconds after a worker would have begun with it."""

    outcome: ScenarioOutcome
    seconds: float


def parse_scenario(value: Any) -> Scenario:
    """An outcome by its name, or an object with ``outcome`` and ``seconds``. Raises InvalidRequest."""
    wish = {"outcome": value} if isinstance(value, str) else value
    if not isinstance(wish, dict) or wish.get("outcome") not in SCENARIO_OUTCOMES:
        raise InvalidRequest(f"must be one of {', '.join(SCENARIO_OUTCOMES)}, or an object with such an outcome.")
    seconds = wish.get("seconds")
    if seconds is None:
        return Scenario(wish["outcome"], _USUAL_SECONDS[wish["outcome"]])
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST:
        raise InvalidRequest(f"seconds must be a number between 0 and {LONGEST:g}.")
    return Scenario(wish["outcome"], float(seconds))


def scenario_for_test_key(metadata: Mapping[str, Any]) -> Scenario:
    """What a job of a test key comes to: what ``metadata.test`` names, for clients that can send nothing else."""
    named = metadata.get("test")
    return parse_scenario(named if named in SCENARIO_OUTCOMES else "success")


class ScenarioRunner:
    """Plays the test jobs that are under way: ``play`` moves each as far as the clock says."""

    def __init__(self, *, jobs: JobStore, blobs: Blobs, make: Make, clock: Clock) -> None:
        self._jobs = jobs
        self._blobs = blobs
        self._make = make
        self._clock = clock
        self._made: dict[str, tuple[bytes, Mapping[str, Any]]] = {}

    def play(self) -> None:
        """Raises Unavailable."""
        for job in self._jobs.test_jobs():
            with log_context(job_id=job.id):
                self._move(job)

    def _move(self, job: Job) -> None:
        if job.status is Status.PENDING:
            self._jobs.begin_attempt(job.id, ticket=job.ticket, actor=_ACTOR)
            return
        assert job.test is not None
        begun = job.started_at or job.updated_at
        share = (self._clock.now() - begun).total_seconds() / max(job.test["seconds"], 1e-3)
        if share < 1:
            self._jobs.set_progress(job.id, attempt=job.attempt, progress=round(share * _WHILE_RUNNING, 1))
        elif job.test["outcome"] in _FAILURES:
            code, error = _FAILURES[job.test["outcome"]]
            self._fail(job, error, code)
        else:
            self._succeed(job)

    def _succeed(self, job: Job) -> None:
        try:
            self._deliver(job, *self._perform(job.options))
        except Unavailable:
            raise
        except AlphareelError as error:
            self._fail(job, str(error), error.code)

    def _deliver(self, job: Job, data: bytes, result: Mapping[str, Any]) -> None:
        suffix = Path(result["path"]).suffix
        prefix = blob_keys.output_prefix(job.id, job.attempt)
        blob = f"{prefix}result{suffix}"
        with TemporaryDirectory() as folder:
            path = Path(folder) / f"result{suffix}"
            path.write_bytes(data)
            self._blobs.put_file(blob, path)
        facts = {field.name: result[field.name] for field in fields(Output) if field.name in result}
        told = (*job.warnings, "test: this result was made of a sample, not of the video.")
        try:
            won = self._jobs.complete(
                job.id,
                attempt=job.attempt,
                output=Output(**{**facts, "blob": blob}),
                engine=EngineFacts(**result["engine"]),
                warnings=told,
                actor=_ACTOR,
            )
        except (StorageQuotaExceeded, StorageFull):
            self._blobs.delete_prefix(prefix)
            raise
        if not won:
            self._blobs.delete_prefix(prefix)

    def _perform(self, options: Options) -> tuple[bytes, Mapping[str, Any]]:
        """The sample's result, made once for each kind of options."""
        plain = _playable(options)
        name = repr(to_json(plain))
        if name not in self._made:
            with TemporaryDirectory() as folder:
                target = Path(folder) / blob_keys.result_name(plain.output_format)
                result = self._make(SAMPLE, target, plain)
                made = target.read_bytes(), result
            while len(self._made) >= _MOST_KEPT:
                del self._made[next(iter(self._made))]
            self._made[name] = made
        return self._made[name]

    def _fail(self, job: Job, error: str, code: str) -> None:
        self._jobs.fail(job.id, attempt=job.attempt, error=error, error_code=code, actor=_ACTOR)


def _playable(options: Options) -> Options:
    """What can be made of the sample with no network and no download."""
    behind = options.background
    if behind.type in ("image", "video"):
        behind = Background("color", color=(9, 162, 70))
    return replace(
        options, model="original", engine="chroma", text_prompt=None, background=behind, key_color=None, plate=None
    )


def scenario_to_json(rehearsal: Scenario | None) -> dict[str, Any] | None:
    """As a job's row keeps it."""
    return None if rehearsal is None else asdict(rehearsal)
