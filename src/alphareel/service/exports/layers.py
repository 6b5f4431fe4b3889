"""A file for each subject of a job: one export that keeps that subject alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from alphareel.domain.errors import AlphareelError, InvalidState, Unavailable
from alphareel.domain.options import Options
from alphareel.service.corrections.revisions import check_matte
from alphareel.service.exports.service import ExportService
from alphareel.service.jobs import requests
from alphareel.service.jobs.models import Job, Kind, Status
from alphareel.service.principal import Principal
from alphareel.telemetry.logging import get_logger

if TYPE_CHECKING:
    from alphareel.service.analyses.service import AnalysisService

_ACTOR = "layers"


@dataclass(frozen=True)
class Layer:
    """A subject's ID, and the export that makes its file."""

    subject: str
    export: Job


@dataclass(frozen=True)
class LayerService:
    exports: ExportService
    analyses: AnalysisService

    def layers(
        self, principal: Principal, job_id: str, *, output_format: str | None = None
    ) -> tuple[Job, tuple[Layer, ...]]:
        """The analysis that finds the subjects of a completed job, and a layer for each as soon as they are known.

        ``output_format``: of transparent files; None for files like the job's first output. What is missing is
        exported, free of charge; one that failed stays failed. Raises NotFound, InvalidRequest, InvalidState where
        exports have a price or the job is not completed.
        """
        job = self.exports.jobs.get(principal, job_id)
        check_matte(job)
        options = job.options
        if output_format is not None:
            options = requests.parse_export({"format": output_format}, job)
        self.exports.capabilities.check_format(options.output_format)
        if self.exports.prices.export_per_minute:
            hint = "Export each subject with POST /v1/jobs/{id}/exports and keep."
            raise InvalidState("Exports have a price here, so none is made automatically.", hint=hint)
        return self._ensure(
            job, options, key_id=principal.key_id, actor=principal.actor, request_id=principal.request_id
        )

    def follow(self, ended: Job) -> None:
        """Request what the layers of a job need next: after the job, a correction or an analysis of it has completed.

        Repeating it changes nothing. A layer that cannot be requested now is requested when a client asks for it.
        Raises Unavailable.
        """
        if ended.kind not in (Kind.JOB, Kind.CORRECTION, Kind.ANALYSIS):
            return
        job = ended if ended.parent_id is None else self.exports.store.job(ended.parent_id)
        if job is None or not job.layers or job.status is not Status.COMPLETED or job.files_expired_at is not None:
            return
        try:
            self._ensure(job, job.options, key_id=job.key_id, actor=_ACTOR, request_id=job.request_id)
        except Unavailable:
            raise
        except AlphareelError as error:
            get_logger(__name__).warning("layers not requested", job_id=job.id, error=str(error))

    def _ensure(
        self, job: Job, options: Options, *, key_id: str | None, actor: str, request_id: str | None
    ) -> tuple[Job, tuple[Layer, ...]]:
        analysis = self.analyses.subjects_of(job, actor=actor, request_id=request_id)
        subjects = (analysis.report or {}).get("subjects", ()) if analysis.status is Status.COMPLETED else ()
        return analysis, tuple(
            Layer(
                subject,
                self.exports.ensure(
                    job,
                    replace(options, keep=(subject,), drop=()),
                    key_id=key_id,
                    actor=actor,
                    request_id=request_id,
                ),
            )
            for subject in (str(each["id"]) for each in subjects)
        )
