"""Jobs, uploads and audit log entries as the API presents them."""

from collections import Counter
from typing import TYPE_CHECKING, Any

from alphareel.domain import options
from alphareel.domain.color import Rgb
from alphareel.http.schemas import corrections
from alphareel.http.schemas import jobs as schemas
from alphareel.http.schemas import tus as tus_schemas
from alphareel.http.schemas.uploads import Upload as UploadSchema
from alphareel.service.corrections.service import correction_of, row_number, undone_number
from alphareel.service.exports.layers import Layer
from alphareel.service.exports.service import is_current, revision_of
from alphareel.service.files import signed_urls
from alphareel.service.files.signed_urls import Link, UrlSigner
from alphareel.service.jobs.models import Billing, Job, JobEvent, Output, Status
from alphareel.service.jobs.output_targets import OutputTarget
from alphareel.service.services import Services
from alphareel.service.settings import Settings
from alphareel.service.tus.models import TusUpload
from alphareel.service.uploads.models import Upload

if TYPE_CHECKING:
    from fastapi import Request  # not for the worker, which serializes jobs for webhooks

_EXPIRED = "expired: the files of this job were removed when their retention period ended."


class JobSerializer:
    """Serializes jobs for responses, webhooks and event streams.

    ``base_url`` makes links absolute. ``show_pending`` reports queued jobs as pending instead of processing.
    """

    def __init__(self, base_url: str, signer: UrlSigner, *, show_pending: bool) -> None:
        self._base = base_url.rstrip("/")
        self._signer = signer
        self._show_pending = show_pending

    def job(self, job: Job) -> schemas.Job:
        link, preview = self._signer.output_link(job), self._signer.preview_link(job)
        has_expired = job.files_expired_at is not None or (job.output is not None and link is None)
        requested = job.options
        return schemas.Job(
            id=job.id,
            job_id=job.id,
            status=self.status(job.status),
            progress=100.0 if job.status is Status.COMPLETED else min(99.9, max(0.0, round(job.progress, 1))),
            queue_position=job.queue_position,
            output_url=self.absolute(link) if link else None,
            expires_at=link.expires_at if link else None,
            preview_url=self.absolute(preview) if preview else None,
            error=_error(job),
            error_code=job.error_code,
            model=requested.model,
            output_format=requested.output_format,
            bg_type=requested.background.requested_type or requested.background.type,
            background=_background(requested.background),
            composition=_composition(requested.composition),
            quality=requested.quality,
            poster_time=requested.poster_time,
            smoothing=requested.smoothing,
            text_prompt=requested.text_prompt,
            preview_duration=requested.preview_duration,
            requested_engine=requested.engine,
            key_color=_hex(requested.key_color),
            shadows=requested.shadows,
            grow=requested.grow,
            feather=requested.feather,
            video_url=job.video_url,
            metadata=job.metadata,
            webhook_url=job.webhook_url,
            webhook_events=job.webhook_events,
            billing_status=job.billing_status.value,
            credits_used=job.credits / 100 if job.billing_status is Billing.CHARGED else 0,
            credits_reserved=job.credits / 100 if job.billing_status is Billing.RESERVED else 0,
            pricing_version=job.pricing_version,
            duration_seconds=round(job.output.seconds, 3) if job.output else None,
            created_at=job.created_at,
            updated_at=job.updated_at,
            started_at=job.started_at,
            completed_at=job.completed_at,
            output=_output(job),
            outputs=self.outputs(job),
            requested_outputs=[
                _requested_output(each, job.targets[number] if job.targets else None)
                for number, each in enumerate(job.requested)
            ],
            keep_matte=job.keep_matte,
            layers=job.layers,
            matte=_matte(job),
            revision=job.revision,
            engine=schemas.Engine.model_validate(job.engine) if job.engine else None,
            warnings=[*job.warnings, *([_EXPIRED] if has_expired else [])],
            retention_seconds=job.retention_seconds,
            files_expire_at=job.files_expire_at,
            attempts=job.attempt,
            test=schemas.TestRun.model_validate(job.test) if job.test else None,
        )

    def outputs(self, job: Job) -> list[schemas.NamedOutput]:
        """All files of a job: the outputs of its run, then those of its exports, the current revision first."""
        exports = sorted(job.exports, key=lambda export: not is_current(export, job))
        files = [(made, asked, job.revision) for made, asked in zip(job.outputs, job.requested, strict=False)]
        files += [(each.output, each.options, revision_of(each)) for each in exports if each.output is not None]
        names = Counter[str]()
        outputs = []
        for output, requested, revision in files:
            names[output.format] += 1
            name = output.format if names[output.format] == 1 else f"{output.format}-{names[output.format]}"
            outputs.append(self._named_output(job, name, output, requested, revision=revision))
        return outputs

    def _named_output(
        self, job: Job, name: str, output: Output, requested: options.Options, *, revision: int
    ) -> schemas.NamedOutput:
        is_first = output is job.output
        link = self._signer.output_link(job) if is_first else self._signer.named_link(job, output.blob, name)
        return schemas.NamedOutput(
            name=name,
            url=self.absolute(link) if link else None,
            revision=revision,
            bytes=output.bytes,
            quality=requested.quality,
            background=_background(requested.background),
            keep=list(requested.keep),
            drop=list(requested.drop),
            delivery=_delivery(output),
            **_output_facts(output),
        )

    def export(self, export: Job) -> schemas.Export:
        """An export as a resource of its job."""
        link = self._signer.output_link(export)
        return schemas.Export(
            id=export.id,
            job_id=export.parent_id or export.id,
            status=self.status(export.status),
            progress=100.0 if export.status is Status.COMPLETED else min(99.9, max(0.0, round(export.progress, 1))),
            revision=revision_of(export),
            keep=list(export.options.keep),
            drop=list(export.options.drop),
            **_requested_output(export.options, export.targets[0] if export.targets else None).model_dump(),
            delivery=_delivery(export.output),
            output_url=self.absolute(link) if link else None,
            expires_at=link.expires_at if link else None,
            output=_output(export),
            error=_error(export),
            error_code=export.error_code,
            billing_status=export.billing_status.value,
            credits_used=export.credits / 100 if export.billing_status is Billing.CHARGED else 0,
            credits_reserved=export.credits / 100 if export.billing_status is Billing.RESERVED else 0,
            created_at=export.created_at,
            completed_at=export.completed_at,
        )

    def correction(self, row: Job, *, undone: bool) -> corrections.Correction:
        """A correction, or the undoing of one, as a resource of its job."""
        correction = correction_of(row)
        is_completed = row.status is Status.COMPLETED
        return corrections.Correction(
            id=row.id,
            job_id=row.parent_id or row.id,
            number=row_number(row),
            status=self.status(row.status),
            progress=_percent(row),
            revision=(row.task or {}).get("revision", 1) + 1 if is_completed else None,
            time=correction.time,
            frame=correction.frame,
            points=[corrections.CorrectionPoint(x=p.x, y=p.y, label=p.label) for p in correction.points],
            box=None if correction.box is None else list(correction.box),
            mask_url=correction.mask,
            keep=list(correction.keep),
            drop=list(correction.drop),
            undone=undone,
            undoes=undone_number(row),
            encoded_whole=[corrections.EncodedWhole(**each) for each in (row.report or {}).get("encoded_whole", ())],
            error=_error(row),
            error_code=row.error_code,
            created_at=row.created_at,
            completed_at=row.completed_at,
        )

    def correction_list(self, job: Job, rows: tuple[Job, ...]) -> corrections.CorrectionList:
        completed = [row for row in rows if row.status is Status.COMPLETED]
        undone = {undone_number(row) for row in completed}
        items = [self.correction(row, undone=row_number(row) in undone and row_number(row) is not None) for row in rows]
        return corrections.CorrectionList(job_id=job.id, revision=job.revision, items=items)

    def quality(self, job: Job, analysis: Job) -> corrections.QualityReport:
        report = (analysis.report or {}).get("quality", {})
        return corrections.QualityReport(
            **self._analysis(job, analysis),
            summary=report.get("summary", {}),
            strip=corrections.QualityStrip(**report.get("strip", {})),
            worst=[
                corrections.WorstMoment(
                    thumbnail_url=self._picture(analysis, each["thumbnail"]),
                    **{name: value for name, value in each.items() if name != "thumbnail"},
                )
                for each in report.get("worst", ())
            ],
            suggestions=report.get("suggestions", []),
            picture_url=self._picture(analysis, report.get("picture")),
        )

    def subjects(self, job: Job, analysis: Job) -> corrections.Subjects:
        report = analysis.report or {}
        return corrections.Subjects(
            **self._analysis(job, analysis),
            sampled=bool(report.get("sampled", analysis.task is not None and analysis.task.get("of") == "draft")),
            subjects=[
                corrections.Subject(
                    thumbnail_url=self._picture(analysis, each["thumbnail"]),
                    **{name: value for name, value in each.items() if name != "thumbnail"},
                )
                for each in report.get("subjects", ())
            ],
        )

    def _analysis(self, job: Job, analysis: Job) -> dict[str, Any]:
        return {
            "job_id": job.id,
            "status": self.status(analysis.status),
            "progress": _percent(analysis),
            "revision": (analysis.task or {}).get("revision", 1),
            "error": _error(analysis),
            "error_code": analysis.error_code,
        }

    def _picture(self, analysis: Job, name: str | None) -> str | None:
        """A link to one of the pictures of an analysis."""
        prefix = (analysis.report or {}).get("prefix")
        if name is None or prefix is None:
            return None
        link = self._signer.named_link(analysis, f"{prefix}{name}", name.partition(".")[0])
        return self.absolute(link) if link else None

    def status(self, status: Status) -> schemas.PublicStatus:
        """A queued job shows as processing unless ``show_pending`` is set."""
        if status is Status.PENDING and not self._show_pending:
            return "processing"
        return status.value

    def absolute(self, link: Link) -> str:
        return self._base + link.url if link.url.startswith("/") else link.url


def _percent(row: Job) -> float:
    return 100.0 if row.status is Status.COMPLETED else min(99.9, max(0.0, round(row.progress, 1)))


def _error(job: Job) -> str | None:
    """Never empty for a failed job: clients raise this text."""
    return (job.error or "Processing failed") if job.status is Status.FAILED else None


def _background(background: options.Background) -> schemas.Background:
    return schemas.Background(
        type=background.type,
        color=_hex(background.color),
        image_url=background.image_url,
        radius=background.radius,
        video_url=background.video_url,
    )


def _hex(color: Rgb | None) -> str | None:
    """As text, because small numbers of 0-255 would be read as shares when sent again."""
    return "#{:02X}{:02X}{:02X}".format(*color) if color else None


def _composition(composition: options.Composition | None) -> schemas.Composition | None:
    if composition is None:
        return None
    offset = schemas.Offset(x=composition.offset_x, y=composition.offset_y)
    return schemas.Composition(
        canvas=schemas.Canvas(width=composition.width, height=composition.height),
        foreground=schemas.Foreground(anchor=composition.anchor, scale=composition.scale, offset=offset),
    )


def _output(job: Job) -> schemas.Output | None:
    return None if job.output is None else schemas.Output(size=job.output.bytes, **_output_facts(job.output))


def _output_facts(output: Output) -> dict[str, Any]:
    """What the JSON of every output has, beside its size."""
    names = "format mime sha256 width height frames has_alpha alpha has_audio frames_lost"
    return {"seconds": round(output.seconds, 3), **{name: getattr(output, name) for name in names.split()}}


def _delivery(output: Output | None) -> schemas.Delivery | None:
    if output is None or output.delivery is None:
        return None
    return schemas.Delivery.model_validate(output.delivery)


def _requested_output(requested: options.Options, target: OutputTarget | None) -> schemas.RequestedOutput:
    return schemas.RequestedOutput(
        format=requested.output_format,
        quality=requested.quality,
        background=_background(requested.background),
        composition=_composition(requested.composition),
        poster_time=requested.poster_time,
        output_target_url=None if target is None else target.address,
    )


def _matte(job: Job) -> schemas.Matte | None:
    if job.matte is None or job.files_expired_at is not None:
        return None
    return schemas.Matte(bytes=job.matte.bytes, sha256=job.matte.sha256, frames=job.matte.frames)


class Serializers:
    """Serializers for one request: links become absolute on the host that the client used."""

    def __init__(self, request: "Request", services: Services, settings: Settings) -> None:
        base_url = settings.http.public_url or str(request.base_url)
        self._base_url = base_url
        self._jobs = JobSerializer(
            settings.http.cdn_url or base_url, services.files.signer, show_pending=settings.jobs.show_pending
        )
        self._signer = services.files.signer
        self._state = request.state

    def upload(self, upload: Upload) -> UploadSchema:
        self._state.video_id = upload.id  # for the request log
        url = self._jobs.absolute(self._signer.upload_link(upload))
        return UploadSchema(
            video_id=upload.id,
            video_url=url,
            filename=upload.filename,
            size=upload.size,
            url=url if upload.kind == "image" else None,
        )

    def tus(self, tus: TusUpload) -> tus_schemas.TusUpload:
        return tus_schemas.TusUpload(
            id=tus.id,
            status="completed" if tus.result is not None else "failed" if tus.error_code is not None else "receiving",
            offset=tus.offset,
            length=tus.length,
            expires_at=tus.expires_at,
            upload=self.upload(tus.result) if tus.result is not None else None,
            error=tus.error,
            error_code=tus.error_code,
        )

    def job(self, job: Job) -> schemas.Job:
        return self._jobs.job(job)

    def accepted(self, job: Job, message: str) -> schemas.AcceptedJob:
        self._state.job_id = job.id  # for the request log and the usage records
        self._state.video_id = signed_urls.upload_id(job.video_url)
        return schemas.AcceptedJob(message=message, **dict(self.job(job)))

    def absolute(self, link: Link) -> str:
        return self._jobs.absolute(link)

    def absolute_path(self, path: str) -> str:
        """A path of this server as an address."""
        return self._base_url.rstrip("/") + path

    def export(self, export: Job) -> schemas.Export:
        return self._jobs.export(export)

    def layers(self, job_id: str, analysis: Job, layers: tuple[Layer, ...]) -> schemas.Layers:
        statuses = {analysis.status, *(layer.export.status for layer in layers)}
        return schemas.Layers(
            job_id=job_id,
            status=self.status(analysis.status),
            ready=statuses == {Status.COMPLETED},
            error=_error(analysis),
            items=[schemas.Layer(subject=layer.subject, export=self.export(layer.export)) for layer in layers],
        )

    def accepted_export(self, export: Job) -> schemas.AcceptedExport:
        self._state.job_id = export.parent_id  # for the request log and the usage records
        return schemas.AcceptedExport(message="Export created", **dict(self.export(export)))

    def accepted_correction(self, row: Job, message: str = "Correction created") -> corrections.AcceptedCorrection:
        self._state.job_id = row.parent_id  # for the request log and the usage records
        return corrections.AcceptedCorrection(message=message, **dict(self._jobs.correction(row, undone=False)))

    def correction_list(self, job: Job, rows: tuple[Job, ...]) -> corrections.CorrectionList:
        return self._jobs.correction_list(job, rows)

    def quality(self, job: Job, analysis: Job) -> corrections.QualityReport:
        return self._jobs.quality(job, analysis)

    def subjects(self, job: Job, analysis: Job) -> corrections.Subjects:
        return self._jobs.subjects(job, analysis)

    def status(self, status: Status) -> schemas.PublicStatus:
        return self._jobs.status(status)

    def transition(self, event: JobEvent) -> dict[str, Any]:
        """A transition for the event stream, with the status that a poll would report."""
        row = schemas.Transition.model_validate(event).model_dump(mode="json")
        return {"id": event.job_id, "status": self.status(event.to_status), **row}

    def history(self, job_id: str, events: tuple[JobEvent, ...]) -> schemas.History:
        items = [schemas.Transition.model_validate(event) for event in events]
        return schemas.History(id=job_id, job_id=job_id, items=items)
