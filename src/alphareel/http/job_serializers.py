"""A job as the contract shows it, wherever it is shown: in answers, in webhooks, in event streams."""

from typing import Protocol

from alphareel.domain import options
from alphareel.http.schemas import responses
from alphareel.service.files.signed_urls import Link
from alphareel.service.jobs.models import Billing, Job, Status

_EXPIRED = "expired: the files of this job were removed when their time was over."


class Links(Protocol):
    def output_link(self, job: Job) -> Link | None:
        """A fresh link; None while there is no output."""

    def preview_link(self, job: Job) -> Link | None:
        """To the newest small picture; None unless the job runs and has one."""


class JobSerializer:
    """Shows jobs with absolute addresses under ``base_url``; ``show_pending``: queued ones as pending."""

    def __init__(self, base_url: str, links: Links, *, show_pending: bool) -> None:
        self._base = base_url.rstrip("/")
        self._links = links
        self._show_pending = show_pending

    def job(self, job: Job) -> responses.Job:
        link, preview = self._links.output_link(job), self._links.preview_link(job)
        asked = job.options
        return responses.Job(
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
            model=asked.model,
            output_format=asked.output_format,
            bg_type=asked.background.type,
            background=_background(asked.background),
            composition=_composition(asked.composition),
            quality=asked.quality,
            poster_time=asked.poster_time,
            text_prompt=asked.text_prompt,
            preview_duration=asked.preview_duration,
            video_url=job.video_url,
            metadata=job.metadata,
            webhook_url=job.webhook_url,
            webhook_events=job.webhook_events,
            billing_status=job.billing_status.value,
            credits_used=job.credits / 100 if job.billing_status is Billing.CHARGED else 0,
            credits_reserved=job.credits / 100 if job.billing_status is Billing.RESERVED else 0,
            pricing_version=job.pricing_version,
            duration_seconds=job.output.seconds if job.output else None,
            created_at=job.created_at,
            updated_at=job.updated_at,
            started_at=job.started_at,
            completed_at=job.completed_at,
            output=_output(job),
            engine=responses.Engine.model_validate(job.engine) if job.engine else None,
            warnings=[*job.warnings, *([_EXPIRED] if job.files_expired_at else [])],
            retention_seconds=job.retention_seconds,
            files_expire_at=job.files_expire_at,
            attempts=job.attempt,
            test=responses.TestRun.model_validate(job.test) if job.test else None,
        )

    def status(self, status: Status) -> responses.ShownStatus:
        """A queued job shows as processing unless the operator wants ``pending`` seen."""
        if status is Status.PENDING and not self._show_pending:
            return "processing"
        return status.value

    def absolute(self, link: Link) -> str:
        return self._base + link.url if link.url.startswith("/") else link.url


def _error(job: Job) -> str | None:
    """Never empty for a failed job: clients raise this text."""
    return (job.error or "Processing failed") if job.status is Status.FAILED else None


def _background(background: options.Background) -> responses.Background:
    """The color as hex, because small numbers of 0-255 would be read as shares when sent again."""
    color = "#{:02X}{:02X}{:02X}".format(*background.color) if background.color else None
    return responses.Background(
        type=background.type,
        color=color,
        image_url=background.image_url,
        radius=background.radius,
        video_url=background.video_url,
    )


def _composition(composition: options.Composition | None) -> responses.Composition | None:
    if composition is None:
        return None
    offset = responses.Offset(x=composition.offset_x, y=composition.offset_y)
    return responses.Composition(
        canvas=responses.Canvas(width=composition.width, height=composition.height),
        foreground=responses.Foreground(anchor=composition.anchor, scale=composition.scale, offset=offset),
    )


def _output(job: Job) -> responses.Output | None:
    if job.output is None:
        return None
    facts = job.output
    return responses.Output(
        format=facts.format,
        mime=facts.mime,
        size=facts.bytes,
        sha256=facts.sha256,
        width=facts.width,
        height=facts.height,
        frames=facts.frames,
        seconds=facts.seconds,
        has_alpha=facts.has_alpha,
        alpha=facts.alpha,
        has_audio=facts.has_audio,
        frames_lost=facts.frames_lost,
    )
