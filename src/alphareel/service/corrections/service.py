"""Corrects the matte of a completed job. Every change remakes its outputs as the job's next revision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from alphareel.domain.corrections import Correction, correction_from_json, correction_to_json, parse_correction
from alphareel.domain.errors import FieldProblem, InvalidRequest, InvalidState, NotFound
from alphareel.service.corrections.revisions import (
    active_corrections,
    check_matte,
    check_subjects,
    first_matte,
    previous_outputs,
)
from alphareel.service.idempotency import IdempotentRequest
from alphareel.service.jobs import requests
from alphareel.service.jobs.models import TERMINAL, Job, Kind
from alphareel.service.jobs.service import JobService, make_job_id
from alphareel.service.jobs.test_mode import Scenario, scenario_to_json
from alphareel.service.ports import Blobs, NewJob
from alphareel.service.principal import Principal
from alphareel.service.uploads import source_urls
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.resolver import UploadResolver

if TYPE_CHECKING:
    from alphareel.db.idempotency import IdempotencyStore
    from alphareel.db.jobs import JobStore

_TEST_SECONDS = 1.0
MAX_CORRECTIONS = 200
_PNG_HEADER = 24  # bytes up to the end of its size
_END_SLACK = 0.05  # seconds; clients round times


@dataclass(frozen=True)
class CorrectionService:
    """A correction, and the undoing of one, is a row of the table of jobs whose ``parent_id`` is the job.

    Its ``task`` lists all corrections that then apply, in order, and the job's first matte. So a revision depends on
    that list alone, and is the same each time it is made. It also names the files of the revision before, from which
    what is equal is copied.
    """

    jobs: JobService
    store: JobStore
    uploads: UploadResolver
    idempotency: IdempotencyStore
    blobs: Blobs

    def create(
        self, principal: Principal, job_id: str, body: Mapping[str, Any], *, once: IdempotentRequest | None = None
    ) -> Job:
        """Queue a correction.

        Raises NotFound, InvalidRequest, InvalidState for a job without a kept matte or while another correction of it
        is in progress; for a repeated ``once`` ReplayedResponse or IdempotencyConflict.
        """
        if once is not None:
            self.idempotency.lookup(once)
        job = self._correctable(principal, job_id)
        correction = parse_correction(body)
        if correction.mask is not None:
            correction = replace(correction, mask=requests.parse_mask_url(correction.mask))
        self._check_place(job, correction)
        rows = self._settled_rows(job)
        if correction.selects_subjects:
            analyses = self.store.children(job.id, Kind.ANALYSIS)
            check_subjects(first_matte(job, rows), analyses, keep=correction.keep, drop=correction.drop)
        if len(rows) >= MAX_CORRECTIONS:
            raise InvalidState(f"The job has had {MAX_CORRECTIONS} corrections.", hint="Create a new job.")
        number = 1 + max((row_number(row) or 0 for row in rows), default=0)
        own = correction_to_json(correction)
        active = [*active_corrections(rows), {"number": number, **own}]
        return self._queue(principal, job, rows, own={"number": number, "correction": own}, active=active, once=once)

    def undo(self, principal: Principal, job_id: str, number: int) -> Job:
        """Queue the revision without correction ``number``; the row of the undoing. Raises NotFound, InvalidState."""
        job = self._correctable(principal, job_id)
        rows = self._settled_rows(job)
        active = active_corrections(rows)
        if not any(each["number"] == number for each in active):
            raise NotFound("There is no such correction.", hint="GET /v1/jobs/{id}/corrections lists those that apply.")
        remaining = [each for each in active if each["number"] != number]
        return self._queue(principal, job, rows, own={"undone": number}, active=remaining, once=None)

    def list(self, principal: Principal, job_id: str) -> tuple[Job, tuple[Job, ...]]:
        """The job, and its corrections with what undid them, oldest first. Raises NotFound."""
        job = self.jobs.get(principal, job_id)
        return job, self.store.children(job.id, Kind.CORRECTION)

    def _correctable(self, principal: Principal, job_id: str) -> Job:
        job = self.jobs.get(principal, job_id)
        check_matte(job)
        return job

    def _settled_rows(self, job: Job) -> tuple[Job, ...]:
        rows = self.store.children(job.id, Kind.CORRECTION)
        if any(row.status not in TERMINAL for row in rows):
            raise _in_progress()
        return rows

    def _check_place(self, job: Job, correction: Correction) -> None:
        """Raise InvalidRequest for a place outside the clip, or a mask of another size, as far as they are known."""
        output, frames = job.output, None if job.matte is None else job.matte.frames
        seconds = None if output is None else output.source_seconds or output.seconds
        if correction.time is not None and seconds is not None and correction.time > seconds + _END_SLACK:
            raise _refused("time", f"the clip ends at {seconds:.2f} s.")
        if correction.frame is not None and frames is not None and correction.frame >= frames:
            raise _refused("frame", f"the clip has {frames} frames, counted from 0.")
        source = self.uploads.find(source_urls.source(job.video_url), key_id=job.key_id)
        size = None if source is None or not source.width or not source.height else (source.width, source.height)
        if size is not None:
            _check_inside(correction, size)
        if correction.mask is not None:
            mask = self.uploads.of_mask(correction.mask, key_id=job.key_id)
            if mask is not None:
                _check_mask(mask, self._png_size(mask), size)

    def _png_size(self, mask: Upload) -> tuple[int, int] | None:
        """(width, height) in the header of an uploaded PNG; None for another file."""
        header = b"".join(self.blobs.read(mask.blob, 0, _PNG_HEADER))
        if len(header) < _PNG_HEADER or not header.startswith(b"\x89PNG"):
            return None
        return int.from_bytes(header[16:20], "big"), int.from_bytes(header[20:24], "big")

    def _queue(
        self,
        principal: Principal,
        job: Job,
        rows: Sequence[Job],
        *,
        own: Mapping[str, Any],
        active: Sequence[Mapping[str, Any]],
        once: IdempotentRequest | None,
    ) -> Job:
        uploads = self.uploads.of_matte(job.video_url, job.requested, key_id=job.key_id)
        masks = self.uploads.of_masks(active, key_id=job.key_id)
        matte = {} if job.matte is None else {"matte": first_matte(job, rows), "source": job.matte.source}

        def check_unchanged(now: tuple[Job, ...]) -> None:
            if {row.id for row in now} != {row.id for row in rows}:
                raise _in_progress()

        new = NewJob(
            id=make_job_id(),
            key_id=job.key_id,
            video_url=job.video_url,
            options=job.options,
            more_options=job.more_options,
            keep_matte=True,
            webhook_url=None,
            metadata={},
            request_id=principal.request_id,
            warnings=(),
            uploads=(*uploads, *masks),
            quote=None,
            retention_seconds=job.retention_seconds,
            test=scenario_to_json(Scenario("success", _TEST_SECONDS)) if job.test is not None else None,
            kind=Kind.CORRECTION,
            parent_id=job.id,
            task={
                **own,
                "corrections": [dict(each) for each in active],
                "revision": job.revision,
                "previous": previous_outputs(job),
                **matte,
            },
            guard=check_unchanged,
        )
        return self.store.add_job(new, start=True, actor=principal.actor, once=once)


def _in_progress() -> InvalidState:
    return InvalidState("Another correction of this job is in progress.", hint="Wait until its status is completed.")


def row_number(row: Job) -> int | None:
    """The number of a correction; None for the undoing of one."""
    number = (row.task or {}).get("number")
    return None if number is None else int(number)


def undone_number(row: Job) -> int | None:
    """The number of the correction that a row undid; None for a correction."""
    number = (row.task or {}).get("undone")
    return None if number is None else int(number)


def correction_of(row: Job) -> Correction:
    return correction_from_json((row.task or {}).get("correction", {}))


def _check_inside(correction: Correction, size: tuple[int, int]) -> None:
    width, height = size
    for index, point in enumerate(correction.points):
        if point.x >= width or point.y >= height:
            raise _refused(f"points.{index}", f"is outside the video of {width}x{height} pixels.")
    if correction.box is not None and (correction.box[0] >= width or correction.box[1] >= height):
        raise _refused("box", f"is outside the video of {width}x{height} pixels.")


def _check_mask(mask: Upload, own: tuple[int, int] | None, size: tuple[int, int] | None) -> None:
    if mask.content_type != "image/png" or own is None:
        raise _refused("mask_url", "must be a PNG.")
    if size is not None and (own[0] // 2, own[1] // 2) != (size[0] // 2, size[1] // 2):
        raise _refused("mask_url", f"has {own[0]}x{own[1]} pixels, the video {size[0]}x{size[1]}.")


def _refused(field: str, message: str) -> InvalidRequest:
    return InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])
