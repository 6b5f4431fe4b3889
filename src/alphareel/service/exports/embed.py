"""The files with which a web page shows a job with transparency in every browser."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from alphareel.domain.errors import AlphareelError
from alphareel.domain.options import Options
from alphareel.media.format import format_named
from alphareel.service.corrections.revisions import check_job, check_matte
from alphareel.service.exports.service import ExportService, is_current
from alphareel.service.jobs.models import Job, Output, Status
from alphareel.service.principal import Principal

WEBM, HEVC, STACKED, POSTER = "webm", "hevc_mov", "stacked_mp4", "poster"


@dataclass(frozen=True)
class MissingFile:
    """A file that does not exist yet. ``export``: the running export; None if there is none, for this ``reason``."""

    format: str
    export: Job | None
    reason: str


@dataclass(frozen=True)
class Embed:
    """``files``: those that are there, by format."""

    job: Job
    files: dict[str, Output]
    missing: tuple[MissingFile, ...]


@dataclass(frozen=True)
class EmbedService:
    exports: ExportService

    def embed(self, principal: Principal, job_id: str) -> Embed:
        """The files of a completed job; what is missing is exported once, unless exports cost something.

        Raises NotFound, JobNotCompleted, InvalidState for what belongs to a job, such as an export.
        """
        job = self.exports.jobs.completed(principal, job_id)
        check_job(job)
        files = {output.format: output for output, options in _files(job) if _shows_all(options, job)}
        formats = [WEBM, *_for_safari(), POSTER]
        missing = [self._missing(principal, job, name) for name in formats if name not in files]
        return Embed(job, {name: files[name] for name in formats if name in files}, tuple(missing))

    def _missing(self, principal: Principal, job: Job, name: str) -> MissingFile:
        options = replace(job.options.matting_options, output_format=name, quality=job.options.quality)
        try:
            check_matte(job)
            if self.exports.prices.export_per_minute:
                return MissingFile(name, None, "Exports have a price here: request it with POST /v1/jobs/{id}/exports.")
            export = self.exports.ensure(
                job, options, key_id=principal.key_id, actor=principal.actor, request_id=principal.request_id
            )
        except AlphareelError as error:
            return MissingFile(name, None, str(error))
        if export.status is Status.FAILED:
            failure = (export.error or "It failed").rstrip(".")
            return MissingFile(name, None, f"{failure}. Request it again with POST /v1/jobs/{{id}}/exports.")
        return MissingFile(name, export, "It is being made.")


def _files(job: Job) -> Iterator[tuple[Output, Options]]:
    """The files of the job's current revision: its exports first, then its own, which take precedence."""
    for export in job.exports:
        if export.output is not None and export.status is Status.COMPLETED and is_current(export, job):
            yield export.output, export.options
    yield from zip(job.outputs, job.requested, strict=False)


def _shows_all(options: Options, job: Job) -> bool:
    """Whether a file is transparent, and no layer of one subject."""
    own = (options.keep, options.drop) == (job.options.keep, job.options.drop)
    return own and options.background.type == "transparent"


def _for_safari() -> tuple[str, ...]:
    """HEVC with alpha where it can be written, and always the stacked video for the player's shader."""
    return (HEVC, STACKED) if format_named(HEVC).missing() is None else (STACKED,)
