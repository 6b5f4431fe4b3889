"""Stores the result of an attempt, and makes it the result of its job unless another attempt was faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphareel.domain import options as domain
from alphareel.domain.clip import Result
from alphareel.domain.errors import StorageFull, StorageQuotaExceeded
from alphareel.paths import file_sha256
from alphareel.service.files import blob_keys
from alphareel.service.jobs.attempts import AttemptCompleted
from alphareel.service.jobs.models import Job, Kind, Output, StoredMatte
from alphareel.service.ports import Blobs
from alphareel.service.worker.cleanup import JobCleanup
from alphareel.service.worker.events import Analysis, ProofResult, RunResult
from alphareel.service.worker.tasks import AnalyzeTask, ProofTask, RunTask
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore

_NO_ROOM_FOR_MATTE = "The matte was not kept: there is no storage left for it. Further outputs need a new job."


class ResultPublisher:
    """``name``: of the worker, the actor in the audit log."""

    def __init__(self, name: str, *, jobs: JobStore, blobs: Blobs, cleanup: JobCleanup) -> None:
        self._name = name
        self._jobs = jobs
        self._blobs = blobs
        self._cleanup = cleanup

    def store_run(self, job: Job, task: RunTask, run: RunResult, source_blob: str) -> AttemptCompleted:
        """Store the files of the run. Does not use the database."""
        count = len(job.requested)
        kept = task.outputs[count:]
        prefix = blob_keys.output_prefix(job.id, job.attempt)
        stored = [self._store(prefix, output.path) for output in task.outputs[:count]]
        first, *more = (
            Output.of(result, blob=blob, stages=run.stages)
            for result, blob in zip(run.results[:count], stored, strict=True)
        )
        warnings = (warning for result in run.results for warning in result.warnings)
        return AttemptCompleted(
            attempt=job.attempt,
            output=first,
            engine=run.results[0].engine,
            warnings=tuple(dict.fromkeys((*job.warnings, *warnings))),
            more_outputs=tuple(more),
            matte=self._store_matte(job, kept[0], run.results[count], source_blob) if kept else None,
            report=_correction_report(job, run.results[:count]) if job.kind is Kind.CORRECTION else None,
        )

    def store_proof(self, job: Job, task: ProofTask, proof: ProofResult) -> AttemptCompleted:
        """Store the sheet; what each engine took becomes the report."""
        blob = self._store(blob_keys.output_prefix(job.id, job.attempt), task.target)
        report = proof.report
        sheet = Output(
            blob=blob,
            format="poster",
            mime="image/png",
            bytes=report["bytes"],
            sha256=report["sha256"],
            width=report["width"],
            height=report["height"],
            frames=1,
            seconds=0.0,
            has_alpha=False,
            has_audio=False,
        )
        return AttemptCompleted(job.attempt, sheet, None, job.warnings, report=report)

    def store_analysis(self, job: Job, task: AnalyzeTask, analysis: Analysis) -> AttemptCompleted:
        """Store the pictures of an analysis; the strip over time is the output."""
        prefix = blob_keys.output_prefix(job.id, job.attempt)
        strip = task.folder / str(analysis.report["quality"]["picture"])
        size, sha256 = strip.stat().st_size, file_sha256(strip)
        for path in sorted(task.folder.iterdir()):
            self._store(prefix, path)
        output = Output(
            blob=f"{prefix}{strip.name}",
            format="png",
            mime="image/png",
            width=0,
            height=0,
            frames=1,
            seconds=0.0,
            has_alpha=False,
            has_audio=False,
            bytes=size,
            sha256=sha256,
        )
        return AttemptCompleted(
            attempt=job.attempt, output=output, engine=None, warnings=(), report={**analysis.report, "prefix": prefix}
        )

    def _store(self, prefix: str, path: Path) -> str:
        key = f"{prefix}{path.name}"
        self._blobs.put_file(key, path)
        return key

    def _store_matte(self, job: Job, output: domain.Output, result: Result, source: str) -> StoredMatte:
        key = blob_keys.parse(source)
        is_fetched = key is not None and key.folder == blob_keys.FETCHED and key.owner == job.id
        return StoredMatte(
            blob=self._store(blob_keys.matte_prefix(job.id, job.attempt), output.path),
            bytes=result.bytes,
            sha256=result.sha256,
            frames=result.frames,
            source=source,
            source_bytes=self._blobs.size(source) if is_fetched else 0,
        )

    def complete(self, job_id: str, outcome: AttemptCompleted) -> None:
        """Make this attempt's file the job's output unless another attempt won; remove files of attempts that lost."""
        won = self._try_to_complete(job_id, outcome)
        stored = None if won else self._jobs.job(job_id)
        if won or (stored is not None and _has_result(stored, outcome)):  # the latter: an earlier call won
            losers = range(1, outcome.attempt)
        else:
            losers = range(outcome.attempt, outcome.attempt + 1)
        for loser in losers:
            self._cleanup.delete_prefix(blob_keys.output_prefix(job_id, loser))
            self._cleanup.delete_prefix(blob_keys.matte_prefix(job_id, loser))

    def _try_to_complete(self, job_id: str, outcome: AttemptCompleted) -> bool:
        try:
            return self._jobs.complete(
                job_id,
                attempt=outcome.attempt,
                output=outcome.output,
                more_outputs=outcome.more_outputs,
                matte=outcome.matte,
                report=outcome.report,
                engine=outcome.engine,
                warnings=outcome.warnings,
                actor=self._name,
            )
        except (StorageQuotaExceeded, StorageFull) as error:
            if outcome.matte is not None and self._is_own_job(job_id):  # the client asked for the outputs first of all
                self._cleanup.delete_prefix(blob_keys.matte_prefix(job_id, outcome.attempt))
                return self._try_to_complete(
                    job_id, replace(outcome, matte=None, warnings=(*outcome.warnings, _NO_ROOM_FOR_MATTE))
                )
            self._jobs.fail(job_id, attempt=outcome.attempt, error=str(error), error_code=error.code, actor=self._name)
            return False

    def _is_own_job(self, job_id: str) -> bool:
        """False for a correction: without its matte, its job would have none to correct or to undo."""
        job = self._jobs.job(job_id)
        return job is not None and job.kind is Kind.JOB


def _correction_report(job: Job, results: Sequence[Result]) -> dict[str, Any]:
    """Which outputs of a correction were encoded as a whole, and why. Logs them too."""
    whole = [{"format": result.format, "reason": result.encoded_whole} for result in results if result.encoded_whole]
    for each in whole:
        get_logger(__name__).info("correction was encoded as a whole", corrected_job_id=job.parent_id, **each)
    return {"encoded_whole": whole}


def _has_result(job: Job, outcome: AttemptCompleted) -> bool:
    """Whether the job's output, or the one that is being delivered, is that of this attempt."""
    blobs = {None if job.output is None else job.output.blob}
    if job.undelivered is not None:
        blobs.add(job.undelivered["output"]["blob"])
    return outcome.output.blob in blobs
