"""A file for each subject of a job: one export that keeps that subject alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alphareel.domain.errors import InvalidState
from alphareel.service.corrections.revisions import check_matte
from alphareel.service.exports.service import ExportService
from alphareel.service.jobs import validation
from alphareel.service.jobs.models import Job, Status
from alphareel.service.principal import Principal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from alphareel.service.analyses.service import AnalysisService


@dataclass(frozen=True)
class Layer:
    """A subject's ID, and the export that makes its file."""

    subject: str
    export: Job


@dataclass(frozen=True)
class LayerService:
    exports: ExportService
    analyses: AnalysisService

    def layers(self, principal: Principal, job_id: str, output: Mapping[str, Any]) -> tuple[Job, tuple[Layer, ...]]:
        """The analysis that finds the subjects of a completed job, and a layer for each as soon as they are known.

        ``output``: format, and quality, of the files. What is missing is exported, free of charge; one that failed
        stays failed. Raises NotFound, InvalidRequest, InvalidState where exports have a price or the job is not
        completed.
        """
        job = self.exports.jobs.get(principal, job_id)
        check_matte(job)
        options = validation.parse_export(output, job)
        self.exports.capabilities.check_format(options.output_format)
        if self.exports.prices.export_per_minute:
            hint = "Export each subject with POST /v1/jobs/{id}/exports and keep."
            raise InvalidState("Exports have a price here, so none is made by itself.", hint=hint)
        job, analysis = self.analyses.subjects(principal, job_id)
        found = (analysis.report or {}).get("subjects", ()) if analysis.status is Status.COMPLETED else ()
        subjects = [str(each["id"]) for each in found]
        return analysis, tuple(
            Layer(subject, self.exports.ensure(principal, job, replace(options, keep=(subject,), drop=())))
            for subject in subjects
        )
