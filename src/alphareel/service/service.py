"""Use cases of the service: the rules are here, storage and queue behind the ports."""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from alphareel.domain.errors import (
    AlphareelError,
    InvalidState,
    JobNotCompleted,
    MissingApiKey,
    ModelUnavailable,
    NotFound,
)
from alphareel.domain.options import TIERS, Options, Tier
from alphareel.service.api_keys.admin import AdminService
from alphareel.service.api_keys.service import ApiKeyService
from alphareel.service.billing.credits import PriceList, Quote, insufficient
from alphareel.service.files import signed_urls
from alphareel.service.files.downloads import FileDownload
from alphareel.service.files.url_signer import Link, UrlSigner
from alphareel.service.health import HealthMonitor
from alphareel.service.idempotency import IdempotencyStore, IdempotentRequest, IdempotentUpload
from alphareel.service.jobs import validation
from alphareel.service.jobs.deletion import DeletionService, DeletionStore
from alphareel.service.jobs.estimates import LATEST, Estimate, RunHistory, SourceFacts, Speed, estimate, speed
from alphareel.service.jobs.models import ApiKey, Job, JobEvent, Status, Upload
from alphareel.service.jobs.retention import DOWNLOADED_GRACE, RetentionStore
from alphareel.service.jobs.test_mode import Scenario, scenario_for_test_key, scenario_to_json
from alphareel.service.ports import Blobs, Clock, ExecutorStore, JobCapabilities, JobStore, NewJob, Page
from alphareel.service.stats import ServiceStats, StatsStore
from alphareel.service.uploads import sources
from alphareel.service.uploads.probe_queue import Uploader
from alphareel.service.uploads.service import UploadResolver, UploadService
from alphareel.service.usage.service import ApiCall, CallEvent, CallLog, KeyUsageBucket, Summary, UsageService
from alphareel.service.use_cases import Health, Principal, UploadSession
from alphareel.service.webhooks.events import SerializeJob, Webhook
from alphareel.service.webhooks.service import WebhookService, WebhookTestResult


@dataclass(frozen=True)
class ServiceRules:
    """``link_secret`` signs links and is one for the installation; ``show_pending``: queued jobs show as pending.

    ``retention_seconds``: how long files stay where a job does not say; None for ever. ``share_within_client``: a
    client's keys see each other's jobs.
    """

    link_secret: str
    link_lifetime: timedelta
    show_pending: bool = False
    retention_seconds: int | None = None
    share_within_client: bool = False


@dataclass(frozen=True)
class Stores:
    jobs: JobStore
    executors: ExecutorStore
    blobs: Blobs
    removals: DeletionStore
    expirations: RetentionStore
    counting: StatsStore


@dataclass(frozen=True)
class Office:
    """What is kept beside the jobs: keys for their operators, and the books on who used what."""

    admin: AdminService
    usage: UsageService
    calls: CallLog
    prices: PriceList
    repeats: IdempotencyStore
    experience: RunHistory


class Service:
    """UseCases over the ports; holds no state of its own, so any number of processes may serve at once."""

    def __init__(
        self,
        stores: Stores,
        *,
        keys: ApiKeyService,
        office: Office,
        uploads: UploadService,
        sources: UploadResolver,
        webhooks: WebhookService,
        offer: JobCapabilities,
        rules: ServiceRules,
        clock: Clock,
        monitor: HealthMonitor | None = None,
    ) -> None:
        self._stores = stores
        self._removal = DeletionService(stores.jobs, stores.removals, stores.blobs)
        self._keys = keys
        self._office = office
        self._uploads = uploads
        self._sources = sources
        self._webhooks = webhooks
        self._linker = UrlSigner(rules.link_secret, rules.link_lifetime, clock)
        self._offer = offer
        self._rules = rules
        self._clock = clock
        self._monitor = monitor or HealthMonitor(
            jobs=stores.jobs, executors=stores.executors, blobs=stores.blobs, has_space=uploads.has_space
        )

    @property
    def admin(self) -> AdminService:
        return self._office.admin

    @property
    def prices(self) -> PriceList:
        return self._office.prices

    def note_call(self, key_id: str, **facts: Any) -> None:
        self._office.calls.note(ApiCall(key_id, self._clock.now(), **facts))

    def usage_summary(self, caller: Principal, *, days: int) -> Summary:
        return self._office.usage.summary(_key_of(caller).id, days=days)

    def usage_by_key(self, *, days: int, client_id: str | None) -> tuple[KeyUsageBucket, ...]:
        return self._office.usage.by_key(client_id, days=days)

    def usage_events(self, caller: Principal, *, limit: int) -> tuple[CallEvent, ...]:
        return self._office.usage.events(_key_of(caller).id, limit=limit)

    def authenticate(self, secret: str | None) -> ApiKey:
        return self._keys.authenticate(secret)

    def check_quota_for(self, caller: Principal, size: int) -> None:
        self._uploads.check_quota_for(_key_id(caller), size)

    def check_uploads(self, caller: Principal) -> None:
        self._uploads.check_queue(_uploader(caller))

    def begin_upload(self, caller: Principal, *, filename: str, declared_type: str | None) -> UploadSession:
        return self._uploads.begin(_uploader(caller), filename=filename, declared_type=declared_type)

    def begin_idempotent_upload(
        self,
        caller: Principal,
        *,
        filename: str,
        declared_type: str | None,
        name: str,
        render: Callable[[Upload], str],
    ) -> UploadSession:
        claim = self._office.repeats.begin(_key_of(caller).id, name)
        try:
            session = self._uploads.begin(_uploader(caller), filename=filename, declared_type=declared_type)
        except AlphareelError:
            self._office.repeats.forget(claim)
            raise
        return IdempotentUpload(session, self._office.repeats, claim, render=render)

    def create(
        self,
        caller: Principal,
        body: Mapping[str, Any],
        *,
        auto_start: bool | None = None,
        once: IdempotentRequest | None = None,
    ) -> Job:
        self._recall(once)
        asked = validation.parse_creation(body, retention_seconds=self._rules.retention_seconds)
        used = self._find_uploads(caller, asked.video_url, asked.options)
        start = asked.auto_start if auto_start is None else auto_start
        test = self._rehearse(caller, asked.test, asked.metadata, start=start)
        new = NewJob(
            id=make_job_id(),
            key_id=_key_id(caller),
            video_url=asked.video_url,
            options=asked.options,
            webhook_url=asked.webhook_url,
            metadata=asked.metadata,
            request_id=caller.request_id,
            warnings=self._warnings(asked.options, runs=start and test is None),
            uploads=used.ids,
            bill=None if test else self._bill(asked.options, used),
            retention_seconds=asked.retention_seconds,
            test=scenario_to_json(test),
        )
        return self._stores.jobs.add_job(new, start=start, actor=_actor(caller), once=once)

    def start(
        self, caller: Principal, job_id: str, body: Mapping[str, Any], *, once: IdempotentRequest | None = None
    ) -> Job:
        self._recall(once)
        job = self._own(caller, job_id)
        asked = validation.parse_start(body, job, retention_seconds=self._rules.retention_seconds)
        if _is_startable(job):
            started = self._start(caller, job, asked, once)
            job = started or self._own(caller, job_id)  # None: another request moved it meanwhile
        if job.status is Status.COMPLETED:
            raise InvalidState("The job is completed and cannot be started again.", hint="Create a new job.")
        return job

    def _start(
        self, caller: Principal, job: Job, asked: validation.Start, once: IdempotentRequest | None
    ) -> Job | None:
        used = self._find_uploads(caller, asked.video_url, asked.options)
        test = self._rehearse(caller, asked.test, asked.metadata, start=True)
        return self._stores.jobs.start_job(
            job.id,
            video_url=asked.video_url,
            options=asked.options,
            webhook_url=asked.webhook_url,
            metadata=asked.metadata,
            warnings=self._warnings(asked.options, runs=test is None),
            uploads=used.ids,
            bill=None if test else self._bill(asked.options, used),
            retention_seconds=asked.retention_seconds,
            test=scenario_to_json(test),
            actor=_actor(caller),
            request_id=caller.request_id,
            once=once,
        )

    def estimate(self, caller: Principal, body: Mapping[str, Any]) -> tuple[Estimate, int | None]:
        asked, facts = validation.parse_estimate(body, retention_seconds=self._rules.retention_seconds)
        options = asked.options
        self._offer.check(options)
        if (upload := self._find_uploads(caller, asked.video_url, options).source) is not None:
            facts = SourceFacts(upload.seconds, upload.width, upload.height, upload.rate)
        runs = self._office.experience.latest_runs(limit=LATEST)
        found = estimate(options, facts, prices=self.prices, runs=runs)
        return found, self.admin.account(_key_of(caller).client_id).balance

    def speeds(self) -> Mapping[Tier, Speed]:
        runs = self._office.experience.latest_runs(limit=LATEST)
        return {tier: speed(tier, runs) for tier in TIERS}

    def _recall(self, once: IdempotentRequest | None) -> None:
        if once is not None:
            self._office.repeats.recall(once)

    def get(self, caller: Principal, job_id: str) -> Job:
        return self._own(caller, job_id)

    def cancel(self, caller: Principal, job_id: str) -> Job:
        self._removal.cancel(self._own(caller, job_id), actor=_actor(caller))
        return self._own(caller, job_id)

    def delete(self, caller: Principal, job_id: str) -> None:
        self._removal.delete_job(self._own(caller, job_id), actor=_actor(caller))

    def webhooks(self, caller: Principal, job_id: str) -> tuple[Webhook, ...]:
        return self._webhooks.log(self._own(caller, job_id))

    def resend_webhook(self, caller: Principal, job_id: str, webhook_id: str) -> Webhook:
        return self._webhooks.resend(self._own(caller, job_id), webhook_id)

    def test_webhook(self, caller: Principal, body: Mapping[str, Any], *, present: SerializeJob) -> WebhookTestResult:
        return self._webhooks.test(body, client=_key_of(caller).client_id, present=present)

    def delete_upload(self, caller: Principal, upload_id: str) -> None:
        self._removal.delete_upload(self._uploads.own(_key_id(caller), upload_id))

    def list(self, caller: Principal, *, limit: int, offset: int, status: str | None) -> Page:
        validation.check_page(limit, offset)
        statuses = validation.parse_statuses(status, show_pending=self._rules.show_pending)
        others = self._siblings(caller)
        return self._stores.jobs.jobs(_key_id(caller), others=others, statuses=statuses, limit=limit, offset=offset)

    def events(self, caller: Principal, job_id: str) -> tuple[JobEvent, ...]:
        return self._stores.jobs.events(self._own(caller, job_id).id)

    def download(self, caller: Principal, job_id: str) -> Job:
        job = self._own(caller, job_id)
        if job.files_expired_at is not None:
            raise NotFound("The result has expired and was removed.", hint="Create a new job.")
        if job.output is None:
            raise JobNotCompleted("Job not completed", hint="Ask again when its status is completed.")
        return job

    def output_link(self, job: Job) -> Link | None:
        return self._linker.output_link(job)

    def preview_link(self, job: Job) -> Link | None:
        return self._linker.preview_link(job)

    def upload_link(self, upload: Upload) -> Link:
        return self._linker.upload_link(upload)

    def deliver(self, blob: str, query: Mapping[str, str]) -> FileDownload:
        claim = signed_urls.verify(blob, query, self._rules.link_secret, now=self._clock.now())
        return FileDownload.of(replace(claim, blob=self._sources.blob_of(claim.blob)), self._stores.blobs)

    def mark_downloaded(self, blob: str) -> None:
        job = self._stores.jobs.job(blob.split("/")[1]) if blob.startswith("outputs/") else None
        if job is not None and job.retention_seconds == 0:
            self._stores.expirations.expire_after_download(job.id, until=self._clock.now() + DOWNLOADED_GRACE)

    def census(self) -> ServiceStats:
        return replace(self._stores.counting.census(), executors=self._monitor.workers())

    def health(self) -> Health:
        return self._monitor.health()

    def _own(self, caller: Principal, job_id: str) -> Job:
        job = self._stores.jobs.job(job_id)
        if job is None or not self._may_see(caller, job):
            raise NotFound("Job not found", hint="Check the id, and that the key is the one that made the job.")
        return job

    def _may_see(self, caller: Principal, job: Job) -> bool:
        return caller.key is None or job.key_id == caller.key.id or job.key_id in self._siblings(caller)

    def _siblings(self, caller: Principal) -> tuple[str, ...]:
        """Keys whose jobs the caller sees beside its own: those of its client, where the operator wants it so."""
        if caller.key is None or not self._rules.share_within_client:
            return ()
        return self._keys.of_client(caller.key.client_id)

    def _find_uploads(self, caller: Principal, video_url: str, options: Options) -> "_Used":
        """The uploads that the addresses stand for. Raises InvalidRequest for those that may not be used."""
        behind = sources.background(options)
        return _Used(
            source=self._sources.find(sources.source(video_url), key_id=_key_id(caller)),
            background=None if behind is None else self._sources.find(behind, key_id=_key_id(caller)),
        )

    def _rehearse(
        self, caller: Principal, asked: Scenario | None, metadata: Mapping[str, Any], *, start: bool
    ) -> Scenario | None:
        """The test that a job is, by its own word or by its key. Raises InsufficientCredits where that is the test."""
        if asked is None and caller.key is not None and caller.key.test:
            asked = scenario_for_test_key(metadata)
        if start and asked is not None and asked.outcome == "insufficient_credits":
            raise insufficient()
        return asked

    def _warnings(self, options: Options, *, runs: bool) -> tuple[str, ...]:
        """What the caller should know of these options here.

        A draft and a test job (``runs`` false) need no engine: that there is none is a warning to them. Raises
        ModelUnavailable for others, InvalidRequest.
        """
        try:
            return (*options.warnings(), *self._offer.check(options))
        except ModelUnavailable as error:
            if runs:
                raise
            return (*options.warnings(), str(error))

    def _bill(self, options: Options, used: "_Used") -> Quote:
        """What the source costs; what stands behind it costs nothing."""
        return self._office.prices.bill(options, used.source.seconds if used.source else None)


@dataclass(frozen=True)
class _Used:
    """Uploads that a job refers to; None for addresses on the network, and for no background."""

    source: Upload | None
    background: Upload | None

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(upload.id for upload in (self.source, self.background) if upload is not None)


def make_job_id() -> str:
    """``job_`` and 160 random bits: on the routes without a key the id alone opens the job."""
    return "job_" + secrets.token_hex(20)


def _is_startable(job: Job) -> bool:
    return job.status in (Status.CREATED, Status.FAILED)


def _key_id(caller: Principal) -> str | None:
    return caller.key.id if caller.key is not None else None


def _uploader(caller: Principal) -> Uploader:
    return Uploader(_key_id(caller), caller.address)


def _key_of(caller: Principal) -> ApiKey:
    if caller.key is None:
        raise MissingApiKey("The request carries no API key.", hint="Send it in the header X-Api-Key.")
    return caller.key


def _actor(caller: Principal) -> str:
    return f"key:{caller.key.id}" if caller.key is not None else "anonymous"
