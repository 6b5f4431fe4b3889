"""Requests further outputs of a completed job. They run like jobs, without a network, and are listed with the job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alphareel.domain.corrections import Correction, correction_to_json
from alphareel.domain.errors import InvalidState, NotFound
from alphareel.domain.options import Options
from alphareel.service.billing.credits import PriceList, Quote, billed_seconds, processed_seconds
from alphareel.service.corrections.revisions import active_corrections, check_matte, check_subjects, first_matte
from alphareel.service.idempotency import IdempotentRequest
from alphareel.service.jobs import requests
from alphareel.service.jobs.models import Job, Kind, Status
from alphareel.service.jobs.output_targets import Targets, parse_targets
from alphareel.service.jobs.service import JobService, make_job_id
from alphareel.service.jobs.test_mode import Scenario, scenario_to_json
from alphareel.service.ports import JobCapabilities, JobExists, NewJob
from alphareel.service.principal import Principal
from alphareel.service.uploads.resolver import UploadResolver

if TYPE_CHECKING:
    from alphareel.db.idempotency import IdempotencyStore
    from alphareel.db.jobs import JobStore

_TEST_SECONDS = 1.0
MAX_EXPORTS = 100  # of one revision of a job


@dataclass(frozen=True)
class ExportService:
    """An export is a row of the table of jobs whose ``parent_id`` is the job."""

    jobs: JobService
    store: JobStore
    uploads: UploadResolver
    capabilities: JobCapabilities
    prices: PriceList
    idempotency: IdempotencyStore

    def create(
        self, principal: Principal, job_id: str, body: Mapping[str, Any], *, once: IdempotentRequest | None = None
    ) -> Job:
        """Queue an output of the job's matte; an equal one that has not failed is returned instead.

        One with an ``output_target`` is always made, because it is sent.

        Raises NotFound, InvalidState for a job without a kept matte or with too many exports, InvalidRequest,
        InsufficientCredits, StorageQuotaExceeded; for a repeated ``once`` ReplayedResponse or IdempotencyConflict.
        """
        if once is not None:
            self.idempotency.lookup(once)
        job = self.jobs.get(principal, job_id)
        check_matte(job)
        options, targets = requests.parse_export(body, job), parse_targets(body, 1)
        self.jobs.check_targets(targets)
        self.capabilities.check_format(options.output_format)
        self._check_subjects(job, options)
        if not targets and (existing := self._equal(job, options)) is not None:
            self.idempotency.record(once, existing)
            return existing
        return self._queue(
            job,
            options,
            key_id=principal.key_id,
            actor=principal.actor,
            request_id=principal.request_id,
            quote=self._quote(job),
            once=once,
            targets=targets,
        )

    def ensure(self, job: Job, options: Options, *, key_id: str | None, actor: str, request_id: str | None) -> Job:
        """The export with these options, queued free of charge unless there is one, which may have failed.

        It belongs to ``key_id``. Raises like ``create``.
        """
        export = self._equal(job, options) or self._equal(job, options, failed=True)
        return export or self._queue(job, options, key_id=key_id, actor=actor, request_id=request_id, quote=None)

    def list(self, principal: Principal, job_id: str) -> tuple[Job, ...]:
        """The job's exports, oldest first. Raises NotFound."""
        return self.store.exports(self.jobs.get(principal, job_id).id)

    def get(self, principal: Principal, job_id: str, export_id: str) -> Job:
        """One of the job's exports. Raises NotFound."""
        for export in self.list(principal, job_id):
            if export.id == export_id:
                return export
        raise NotFound("Export not found", hint="Check the id; GET /v1/jobs/{id}/exports lists the job's exports.")

    def _check_subjects(self, job: Job, options: Options) -> None:
        if (options.keep, options.drop) == (job.options.keep, job.options.drop):
            return
        first = first_matte(job, self.store.children(job.id, Kind.CORRECTION))
        analyses = self.store.children(job.id, Kind.ANALYSIS)
        check_subjects(first, analyses, keep=options.keep, drop=options.drop)

    def _equal(self, job: Job, options: Options, *, failed: bool = False) -> Job | None:
        """An export of the current matte with the same options: one that was made or is being made, or ``failed``."""
        for export in self._current(job):
            if export.options == options and (export.status is Status.FAILED) is failed:
                return export
        return None

    def _current(self, job: Job) -> tuple[Job, ...]:
        """The exports of the job's current revision."""
        return tuple(export for export in self.store.exports(job.id) if is_current(export, job))

    def _queue(
        self,
        job: Job,
        options: Options,
        *,
        key_id: str | None,
        actor: str,
        request_id: str | None,
        quote: Quote | None,
        once: IdempotentRequest | None = None,
        targets: Targets = (),
    ) -> Job:
        def check_siblings(exports: tuple[Job, ...]) -> None:
            current = [export for export in exports if is_current(export, job)]
            for export in () if targets else current:
                if export.options == options and export.status is not Status.FAILED:
                    raise JobExists(export)
            if len(current) >= MAX_EXPORTS:
                hint = "Delete one of them, or create a new job."
                raise InvalidState(f"The job has {MAX_EXPORTS} exports.", hint=hint)

        uploads = self.uploads.of_matte(job.video_url, (options,), key_id=key_id)
        task = self._task(job, options)
        masks = self.uploads.of_masks(task.get("corrections", ()), key_id=job.key_id)
        new = NewJob(
            id=make_job_id(),
            key_id=key_id,
            video_url=job.video_url,
            options=options,
            webhook_url=None,
            metadata={},
            request_id=request_id,
            warnings=(),
            uploads=(*uploads, *masks),
            quote=quote if job.test is None else None,
            retention_seconds=job.retention_seconds,
            test=scenario_to_json(Scenario("success", _TEST_SECONDS)) if job.test is not None else None,
            kind=Kind.EXPORT,
            parent_id=job.id,
            task=task,
            targets=targets,
            guard=check_siblings,
        )
        try:
            return self.store.add_job(new, start=True, actor=actor, once=once)
        except JobExists as equal:
            self.idempotency.record(once, equal.job)
            return equal.job

    def _task(self, job: Job, options: Options) -> dict[str, Any]:
        """What the export is made of: the current matte, or for a choice of subjects the first one and its corrections.

        Subjects have their IDs in the first matte.
        """
        task: dict[str, Any] = {"revision": job.revision}
        if job.matte is None:
            return task
        task["source"] = job.matte.source
        if (options.keep, options.drop) == (job.options.keep, job.options.drop):
            return task | {"matte": job.matte.blob}
        rows = self.store.children(job.id, Kind.CORRECTION)
        selection = correction_to_json(Correction(keep=options.keep, drop=options.drop))
        return task | {"matte": first_matte(job, rows), "corrections": [*active_corrections(rows), selection]}

    def _quote(self, job: Job) -> Quote | None:
        """None where exports are free."""
        if not self.prices.export_per_minute or job.output is None:
            return None
        seconds = job.output.source_seconds or processed_seconds({"seconds": job.output.seconds})
        return Quote(self.prices.export_per_minute, self.prices.version, billed_seconds(job.options, seconds))


def is_current(export: Job, job: Job) -> bool:
    """Whether the export was made of the job's current revision, or is being made of it."""
    return revision_of(export) == job.revision


def revision_of(export: Job) -> int:
    """The revision of its job that an export is made of."""
    return int((export.task or {}).get("revision", 1))
