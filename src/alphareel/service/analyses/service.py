"""Analyzes the matte of a job when a client first asks for its quality or its subjects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alphareel.service.corrections.revisions import check_job, check_matte, first_matte
from alphareel.service.jobs.models import Job, Kind, Status
from alphareel.service.jobs.service import JobService, make_job_id
from alphareel.service.jobs.test_mode import Scenario, scenario_to_json
from alphareel.service.ports import JobExists, NewJob
from alphareel.service.principal import Principal
from alphareel.service.uploads.resolver import UploadResolver

if TYPE_CHECKING:
    from alphareel.db.jobs import JobStore

_TEST_SECONDS = 1.0
_MAX_TRIES = 3
DRAFT = "draft"


@dataclass(frozen=True)
class AnalysisService:
    """An analysis is a row of the table of jobs whose ``parent_id`` is the job. There is one for each matte.

    A failed one is repeated when a client asks again, up to three times in all.
    """

    jobs: JobService
    store: JobStore
    uploads: UploadResolver

    def quality(self, principal: Principal, job_id: str) -> tuple[Job, Job]:
        """The job, and the analysis of its newest matte, queued if there is none. Raises NotFound, InvalidState."""
        job = self.jobs.get(principal, job_id)
        check_matte(job)
        return job, self._ensure(job, self._newest_matte(job), actor=principal.actor, request_id=principal.request_id)

    def subjects(self, principal: Principal, job_id: str) -> tuple[Job, Job]:
        """The job, and the analysis of its first matte, or of sample frames while it has none.

        Of the first one, so that subjects keep their IDs when some of them are dropped. Raises NotFound, InvalidState.
        """
        job = self.jobs.get(principal, job_id)
        return job, self.subjects_of(job, actor=principal.actor, request_id=principal.request_id)

    def subjects_of(self, job: Job, *, actor: str, request_id: str | None) -> Job:
        """Like ``subjects``, requested by ``actor``, who may see the job."""
        check_job(job)
        if job.status in (Status.CREATED, Status.PENDING, Status.PROCESSING):
            return self._ensure(job, DRAFT, actor=actor, request_id=request_id)
        check_matte(job)
        first = first_matte(job, self.store.children(job.id, Kind.CORRECTION))
        return self._ensure(job, first or self._newest_matte(job), actor=actor, request_id=request_id)

    def _uploads(self, job: Job, matte: str) -> tuple[str, ...]:
        if matte == DRAFT:
            return self.uploads.of_job(job.video_url, (job.options,), key_id=job.key_id).ids
        return self.uploads.of_matte(job.video_url, (), key_id=job.key_id)

    def _newest_matte(self, job: Job) -> str:
        return "test" if job.matte is None else job.matte.blob

    def _ensure(self, job: Job, matte: str, *, actor: str, request_id: str | None) -> Job:
        def check_siblings(rows: tuple[Job, ...]) -> None:
            analyses = [analysis for analysis in rows if (analysis.task or {}).get("of") == matte]
            good = [analysis for analysis in analyses if analysis.status is not Status.FAILED]
            if good or len(analyses) >= _MAX_TRIES:
                raise JobExists((good or analyses)[0])

        task: dict[str, Any] = {"of": matte, "revision": job.revision}
        if matte != DRAFT and job.matte is not None:
            task |= {"matte": matte, "source": job.matte.source}
        new = NewJob(
            id=make_job_id(),
            key_id=job.key_id,
            video_url=job.video_url,
            options=job.options,
            webhook_url=None,
            metadata={},
            request_id=request_id,
            warnings=(),
            uploads=self._uploads(job, matte),
            quote=None,
            retention_seconds=job.retention_seconds,
            test=scenario_to_json(Scenario("success", _TEST_SECONDS)) if job.test is not None else None,
            kind=Kind.ANALYSIS,
            parent_id=job.id,
            task=task,
            guard=check_siblings,
        )
        try:
            check_siblings(
                self.store.children(job.id, Kind.ANALYSIS)
            )  # most requests find one, and need no transaction
            return self.store.add_job(new, start=True, actor=actor)
        except JobExists as equal:
            return equal.job
