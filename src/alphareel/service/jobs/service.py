"""Create, start, read, cancel and delete jobs on behalf of a principal."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from alphareel.domain.errors import (
    FieldProblem,
    FormatUnavailable,
    InvalidRequest,
    InvalidState,
    JobNotCompleted,
    ModelUnavailable,
    NotFound,
)
from alphareel.domain.options import Options
from alphareel.service.api_keys.service import ApiKeyService
from alphareel.service.billing.credits import PriceList, Quote, insufficient
from alphareel.service.idempotency import IdempotentRequest
from alphareel.service.jobs import list_filters, requests
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.models import Job, JobEvent, Kind, Status
from alphareel.service.jobs.output_targets import FIELD, Targets
from alphareel.service.jobs.requests import JobRequest
from alphareel.service.jobs.test_mode import Scenario, scenario_for_test_key, scenario_to_json
from alphareel.service.net.ssrf_guard import REFUSED_HINT, is_refused
from alphareel.service.ports import JobCapabilities, NewJob, Page
from alphareel.service.principal import Principal
from alphareel.service.settings import FetchSettings, JobSettings, RetentionSettings
from alphareel.service.uploads.resolver import JobUploads, UploadResolver

if TYPE_CHECKING:
    from alphareel.db.idempotency import IdempotencyStore
    from alphareel.db.jobs import JobStore


_ERASED = (
    "output_target: what granted access was erased when the job ended, so this run is not delivered. "
    "Start a job with output_target to have it delivered."
)


class JobService:
    def __init__(
        self,
        store: JobStore,
        *,
        deletion: DeletionService,
        api_keys: ApiKeyService,
        uploads: UploadResolver,
        capabilities: JobCapabilities,
        prices: PriceList,
        idempotency: IdempotencyStore,
        settings: JobSettings,
        retention: RetentionSettings,
        fetch: FetchSettings,
    ) -> None:
        self._store = store
        self._deletion = deletion
        self._api_keys = api_keys
        self._uploads = uploads
        self._capabilities = capabilities
        self._prices = prices
        self._idempotency = idempotency
        self._settings = settings
        self._retention = retention
        self._fetch = fetch

    def create(
        self,
        principal: Principal,
        body: Mapping[str, Any],
        *,
        auto_start: bool | None = None,
        once: IdempotentRequest | None = None,
    ) -> Job:
        """Create a job, queued unless the body (or ``auto_start``) asks for a draft.

        Raises InvalidRequest, ModelUnavailable, InsufficientCredits; for a repeated ``once`` ReplayedResponse or
        IdempotencyConflict.
        """
        self._check_replay(once)
        job, start = self.prepare(principal, body, auto_start=auto_start)
        return self._store.add_job(job, start=start, actor=principal.actor, once=once)

    def prepare(
        self, principal: Principal, body: Mapping[str, Any], *, auto_start: bool | None = None
    ) -> tuple[NewJob, bool]:
        """The job that the body describes, checked and not stored, and whether to start it. Raises like ``create``."""
        request = requests.parse_creation(body, retention_seconds=self._retention.default)
        self._check_layers(request)
        self.check_targets(request.targets)
        uploads = self._uploads.of_job(request.video_url, request.requested, key_id=principal.key_id)
        start = request.auto_start if auto_start is None else auto_start
        scenario = self._scenario(principal, request.test, request.metadata, start=start)
        job = NewJob(
            id=make_job_id(),
            key_id=principal.key_id,
            video_url=request.video_url,
            options=request.options,
            webhook_url=request.webhook_url,
            metadata=request.metadata,
            request_id=principal.request_id,
            warnings=self._warnings(request, uploads, runs=start and scenario is None),
            more_options=request.more_options,
            keep_matte=request.keep_matte,
            task=_task(request),
            uploads=uploads.ids,
            quote=None if scenario else self._quote(request.options, uploads),
            retention_seconds=request.retention_seconds,
            test=scenario_to_json(scenario),
            targets=request.targets,
        )
        return job, start

    def start(
        self, principal: Principal, job_id: str, body: Mapping[str, Any], *, once: IdempotentRequest | None = None
    ) -> Job:
        """Queue a draft or a failed job; a queued or running job is returned unchanged.

        Raises InvalidState for a completed job and for what belongs to another job, and everything ``create`` raises.
        """
        self._check_replay(once)
        job = self.get(principal, job_id)
        if job.kind is not Kind.JOB:
            raise InvalidState(
                "This cannot be started on its own.", hint="Request it again with the route that created it."
            )
        request = requests.parse_start(body, job, retention_seconds=self._retention.default)
        self._check_layers(request)
        if _is_startable(job):
            if (started := self._start(principal, job, request, once)) is not None:
                return started
            job = self.get(principal, job_id)  # another request moved it meanwhile
        if job.status is Status.COMPLETED:
            raise InvalidState("The job is completed and cannot be started again.", hint="Create a new job.")
        if not _is_startable(job):
            self._idempotency.record(once, job)
        return job

    def _start(self, principal: Principal, job: Job, request: JobRequest, once: IdempotentRequest | None) -> Job | None:
        self.check_targets(request.targets)
        uploads = self._uploads.of_job(request.video_url, request.requested, key_id=principal.key_id)
        scenario = self._scenario(principal, request.test, request.metadata, start=True)
        return self._store.start_job(
            job.id,
            video_url=request.video_url,
            options=request.options,
            webhook_url=request.webhook_url,
            metadata=request.metadata,
            warnings=(
                *self._warnings(request, uploads, runs=scenario is None),
                *((_ERASED,) if any(job.targets) and not request.targets else ()),
            ),
            more_options=request.more_options,
            keep_matte=request.keep_matte,
            task=_task(request, job.task),
            uploads=uploads.ids,
            quote=None if scenario else self._quote(request.options, uploads),
            retention_seconds=request.retention_seconds,
            test=scenario_to_json(scenario),
            targets=request.targets,
            actor=principal.actor,
            request_id=principal.request_id,
            once=once,
        )

    def find(self, principal: Principal, job_id: str) -> Job | None:
        """A job the principal may see; None if there is none."""
        job = self._store.job(job_id)
        return job if job is not None and self._may_see(principal, job) else None

    def get(self, principal: Principal, job_id: str) -> Job:
        """A job the principal may see; without a key the ID alone grants access. Raises NotFound."""
        job = self.find(principal, job_id)
        if job is None:
            raise not_found()
        return job

    def list(self, principal: Principal, *, limit: int, offset: int, status: str | None) -> Page:
        """The principal's jobs, newest first; ``limit`` 1-100. Raises InvalidRequest."""
        list_filters.check_page(limit, offset)
        return self._store.jobs(
            principal.key_id,
            others=self._sibling_keys(principal),
            statuses=list_filters.parse_statuses(status, show_pending=self._settings.show_pending),
            limit=limit,
            offset=offset,
        )

    def list_of_all_keys(self, *, client_id: str | None, status: str | None, limit: int, offset: int) -> Page:
        """Jobs of every key, or of one client's keys, newest first, for operators. Raises InvalidRequest."""
        list_filters.check_page(limit, offset)
        return self._store.jobs_of_all_keys(
            key_ids=None if client_id is None else self._api_keys.of_client(client_id),
            statuses=list_filters.parse_statuses(status, show_pending=True),
            limit=limit,
            offset=offset,
        )

    def events(self, principal: Principal, job_id: str) -> tuple[JobEvent, ...]:
        """The job's audit log, oldest first. Raises NotFound."""
        return self._store.events(self.get(principal, job_id).id)

    def completed(self, principal: Principal, job_id: str) -> Job:
        """The job, if its output can be downloaded. Raises JobNotCompleted, NotFound."""
        job = self.get(principal, job_id)
        if job.files_expired_at is not None:
            raise result_expired()
        if job.output is None:
            raise JobNotCompleted("Job not completed", hint="Ask again when its status is completed.")
        return job

    def cancel(self, principal: Principal, job_id: str) -> Job:
        """End the job; its compute stops within seconds. Idempotent. Raises InvalidState, NotFound."""
        self._deletion.cancel(self.get(principal, job_id), actor=principal.actor)
        return self.get(principal, job_id)

    def delete(self, principal: Principal, job_id: str) -> None:
        """Cancel the job if it runs, and remove its files and everything the caller sent.

        Raises NotFound, InvalidState for a correction: its files may be those of its job.
        """
        job = self.get(principal, job_id)
        if job.kind is Kind.CORRECTION:
            raise InvalidState("The job's files may come from this correction.", hint="Undo it, or delete the job.")
        self._deletion.delete_job(job, actor=principal.actor)

    def _check_replay(self, once: IdempotentRequest | None) -> None:
        if once is not None:
            self._idempotency.lookup(once)

    def _may_see(self, principal: Principal, job: Job) -> bool:
        if principal.key is None or job.key_id == principal.key.id:
            return True
        return job.key_id in self._sibling_keys(principal)

    def _sibling_keys(self, principal: Principal) -> tuple[str, ...]:
        """Keys of the same client whose jobs the principal also sees; none unless the operator shares them."""
        if principal.key is None or not self._settings.share_within_client:
            return ()
        return self._api_keys.of_client(principal.key.client_id)

    def _check_layers(self, request: JobRequest) -> None:
        """Raises InvalidRequest for layers where exports, which make them, have a price."""
        if request.layers and self._prices.export_per_minute:
            message = "is for services where exports are free. Export each subject with keep instead."
            raise InvalidRequest(f"layers: {message}", details=[FieldProblem("layers", message)])

    def _scenario(
        self, principal: Principal, requested: Scenario | None, metadata: Mapping[str, Any], *, start: bool
    ) -> Scenario | None:
        """The scenario of a test job, requested by the body or implied by a test key; None for a real job.

        Raises InsufficientCredits where that is the scenario's outcome.
        """
        scenario = requested
        if scenario is None and principal.key is not None and principal.key.test:
            scenario = scenario_for_test_key(metadata)
        if start and scenario is not None and scenario.outcome == "insufficient_credits":
            raise insufficient()
        return scenario

    def _warnings(self, request: JobRequest, uploads: JobUploads, *, runs: bool) -> tuple[str, ...]:
        """Warnings about what is requested on this server.

        Drafts and test jobs (``runs`` false) need no engine and no encoder: a missing one is only a warning. Raises
        ModelUnavailable and FormatUnavailable for other jobs, InvalidRequest.
        """
        warnings = (*request.options.warnings(), *self._refused_urls(request.webhook_url, uploads))
        try:
            return (*warnings, *self._capabilities.check(request.requested))
        except (FormatUnavailable, ModelUnavailable) as error:
            if runs:
                raise
            return (*warnings, str(error))

    def _refused_urls(self, webhook_url: str | None, uploads: JobUploads) -> tuple[str, ...]:
        """A warning for each URL whose address is known to be refused, before anything connects to it."""
        urls = [(url.field, url.url) for url in uploads.fetched]
        if webhook_url is not None:
            urls.append(("webhook_url", webhook_url))
        return tuple(
            f"{field}: this server does not connect to {urlsplit(url).hostname}. {REFUSED_HINT}"
            for field, url in urls
            if is_refused(url, self._fetch.allow_cidrs)
        )

    def check_targets(self, targets: Targets) -> None:
        """Raises InvalidRequest for an address that this server never sends to."""
        for number, target in enumerate(targets):
            if target is not None and is_refused(target.url, self._fetch.allow_cidrs):
                name = f"{FIELD}.url" if len(targets) == 1 else f"outputs.{number}.{FIELD}.url"
                message = f"this server does not connect to {urlsplit(target.url).hostname}."
                details = [FieldProblem(name, message)]
                raise InvalidRequest(f"{name}: {message}", hint=REFUSED_HINT, details=details)

    def _quote(self, options: Options, uploads: JobUploads) -> Quote:
        """The price of the source; a background is free."""
        return self._prices.quote(options, uploads.source.seconds if uploads.source else None)


def result_expired() -> NotFound:
    return NotFound("The result has expired and was removed.", hint="Create a new job.")


def not_found() -> NotFound:
    """The error for a job that does not exist, or that the principal may not see."""
    return NotFound("Job not found", hint="Check the id, and that the key is the one that made the job.")


def make_job_id() -> str:
    """``job_`` and 160 random bits: on the routes without a key the ID alone grants access."""
    return "job_" + secrets.token_hex(20)


def _task(request: JobRequest, stored: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
    """The task of the job, added to the ``stored`` one, such as its number in a batch."""
    task = {name: value for name, value in (stored or {}).items() if name != "layers"}
    return task | {"layers": True} if request.layers else task or None


def _is_startable(job: Job) -> bool:
    return job.status in (Status.CREATED, Status.FAILED)
