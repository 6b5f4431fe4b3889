"""The composition root: builds the services of the API process and of the worker process from an installation."""

import math
import socket
from collections.abc import Callable, Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path

from alphareel.db.api_keys import ApiKeyAdminStore
from alphareel.db.billing import AccountStore
from alphareel.db.deletion import DeletionStore
from alphareel.db.idempotency import IdempotencyStore
from alphareel.db.multipart_uploads import MultipartStore
from alphareel.db.orphans import OrphanStore
from alphareel.db.retention import RetentionStore
from alphareel.db.runners import RunnerStore
from alphareel.db.stats import RunHistory, StatsStore
from alphareel.db.tus import TusStore
from alphareel.db.usage import CallStore
from alphareel.db.webhooks import WebhookStore
from alphareel.db.write_errors import drop_stale_connections, refuses_writes
from alphareel.domain.options import Options, Output
from alphareel.http.serializers import JobSerializer
from alphareel.machine import cores
from alphareel.matting.tiers import list_engines
from alphareel.queue.dbos_engine import DbosEngine
from alphareel.server.inspection import IsolatedFetchInspection, IsolatedInspection
from alphareel.server.installation import Installation, engine_url, sweep_work
from alphareel.server.settings import shown
from alphareel.service.analyses.service import AnalysisService
from alphareel.service.api_keys.admin import AdminService
from alphareel.service.api_keys.service import ApiKeyService, NewKey
from alphareel.service.batches.service import BatchService
from alphareel.service.clock_watch import ClockWatch
from alphareel.service.corrections.service import CorrectionService
from alphareel.service.exports.embed import EmbedService
from alphareel.service.exports.layers import LayerService
from alphareel.service.exports.service import ExportService
from alphareel.service.files.orphans import OrphanSweep
from alphareel.service.files.service import FileService
from alphareel.service.files.signed_urls import UrlSigner
from alphareel.service.health import HealthMonitor
from alphareel.service.idempotency import RENEWED
from alphareel.service.jobs.capabilities import Capabilities
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.estimate_service import EstimateService
from alphareel.service.jobs.retention import RetentionSweeper
from alphareel.service.jobs.service import JobService
from alphareel.service.jobs.test_mode import ScenarioRunner
from alphareel.service.jobs.watch import JobWatch
from alphareel.service.net.download import GuardedFetcher
from alphareel.service.net.post import GuardedPoster
from alphareel.service.periodic import PeriodicTask
from alphareel.service.ports import JobCapabilities
from alphareel.service.proofs.service import ProofService
from alphareel.service.runners.admin import RunnerAdmin
from alphareel.service.runners.service import RunnerService
from alphareel.service.services import Services
from alphareel.service.settings import HttpSettings, Settings
from alphareel.service.stats import StatsService
from alphareel.service.studio import SignInCodes
from alphareel.service.tus.service import TusService
from alphareel.service.uploads.multipart import MultipartService, MultipartSweep
from alphareel.service.uploads.probe_queue import ProbeQueue
from alphareel.service.uploads.service import InspectMedia, UploadService
from alphareel.service.usage.service import CallLog, UsageFlusher, UsageService
from alphareel.service.webhooks.dispatcher import WebhookDispatcher, WebhookSender
from alphareel.service.webhooks.events import Secrets
from alphareel.service.webhooks.service import WebhookService
from alphareel.service.worker import child_process
from alphareel.service.worker.child_process import SPAWNED, Children, ResourceLimits
from alphareel.service.worker.events import RunResult
from alphareel.service.worker.heartbeat import Heartbeat
from alphareel.service.worker.messages import Preload
from alphareel.service.worker.reconciler import Reconciler, ReconcilerConfig
from alphareel.service.worker.remote import RemoteTasks
from alphareel.service.worker.runner import Worker
from alphareel.service.worker.spare_usage import SECONDS, write_usage
from alphareel.service.worker.spares import SpareConfig, Spares
from alphareel.service.worker.tasks import RunTask
from alphareel.telemetry.logging import get_logger, hide_secret

_SWEEP_SECONDS = 60.0
_SWEEP_BATCH = 100
_CALLS_KEPT = timedelta(days=91)  # a day more than usage looks back


def build_services(installation: Installation, children: Children = SPAWNED) -> Services:
    """Everything that the HTTP layer may call. ``children`` inspect uploads."""
    settings, database, clock = installation.settings, installation.database, installation.clock
    retention = _retention_store(installation)
    idempotency = IdempotencyStore(database, clock=clock)
    prices = settings.billing.prices
    overrides = installation.overrides
    capabilities = _capabilities(installation)
    api_keys = ApiKeyService(installation.keys)
    calls = CallStore(database)
    jobs = _job_service(installation)
    layers = _layer_service(installation, jobs)
    uploads = _uploads(
        installation,
        overrides.inspect_media or IsolatedInspection(settings.limits.clip, settings.probes.seconds, children),
    )
    watch = JobWatch()
    installation.notifications.subscribe(watch.notify)
    health = HealthMonitor(
        jobs=installation.jobs, executors=installation.executors, blobs=installation.blobs, has_space=uploads.has_space
    )
    return Services(
        jobs=jobs,
        exports=layers.exports,
        embeds=EmbedService(layers.exports),
        layers=layers,
        batches=BatchService(jobs, installation.jobs, idempotency),
        proofs=_proofs(installation, jobs, idempotency),
        corrections=CorrectionService(jobs, installation.jobs, installation.resolver, idempotency, installation.blobs),
        analyses=layers.analyses,
        estimates=EstimateService(
            prices, RunHistory(database), installation.resolver, capabilities, AccountStore(database, clock=clock)
        ),
        uploads=uploads,
        tus=_tus(installation, uploads),
        multipart_uploads=_multipart_uploads(installation, uploads),
        files=FileService(
            _url_signer(installation), installation.blobs, installation.resolver, installation.jobs, retention, clock
        ),
        webhooks=WebhookService(_webhook_table(installation), _sender(installation), jobs=jobs, clock=clock),
        usage=UsageService(calls, installation.storage_usage, clock=clock),
        calls=CallLog(calls, clock=clock),
        api_keys=api_keys,
        admin=build_admin_service(installation),
        runners=RunnerService(_runner_store(installation), installation.blobs, settings.storage),
        runner_admin=build_runner_admin(installation),
        prices=prices,
        health=health,
        stats=StatsService(StatsStore(database, clock=clock), health),
        idempotency=idempotency,
        watch=watch,
    )


def _capabilities(installation: Installation) -> JobCapabilities:
    models = installation.settings.models
    return installation.overrides.capabilities or Capabilities(models.dir, models.priorities)


def _job_service(installation: Installation) -> JobService:
    settings = installation.settings
    return JobService(
        installation.jobs,
        deletion=DeletionService(installation.jobs, _deletion_store(installation), installation.blobs),
        api_keys=ApiKeyService(installation.keys),
        uploads=installation.resolver,
        capabilities=_capabilities(installation),
        prices=settings.billing.prices,
        idempotency=IdempotencyStore(installation.database, clock=installation.clock),
        settings=settings.jobs,
        retention=settings.retention,
        fetch=settings.fetch,
    )


def _layer_service(installation: Installation, jobs: JobService) -> LayerService:
    """Exports, analyses, and the layers that are made of both."""
    idempotency = IdempotencyStore(installation.database, clock=installation.clock)
    prices, capabilities = installation.settings.billing.prices, _capabilities(installation)
    exports = ExportService(jobs, installation.jobs, installation.resolver, capabilities, prices, idempotency)
    return LayerService(exports, AnalysisService(jobs, installation.jobs, installation.resolver))


def _uploads(installation: Installation, inspect_media: InspectMedia) -> UploadService:
    settings, clock = installation.settings, installation.clock
    return UploadService(
        installation.uploads,
        installation.blobs,
        storage=installation.storage_usage,
        deletion=DeletionService(installation.jobs, _deletion_store(installation), installation.blobs),
        idempotency=IdempotencyStore(installation.database, clock=clock),
        inspect_media=inspect_media,
        settings=settings.storage,
        limits=settings.limits,
        clock=clock,
        probes=ProbeQueue(settings.probes),
    )


def _proofs(installation: Installation, jobs: JobService, idempotency: IdempotencyStore) -> ProofService:
    settings = installation.settings
    return ProofService(
        jobs,
        installation.jobs,
        installation.resolver,
        partial(list_engines, settings.models.dir, settings.models.priorities),
        settings.billing.prices,
        idempotency,
        settings.retention,
    )


def _tus(installation: Installation, uploads: UploadService) -> TusService:
    settings = installation.settings
    return TusService(
        _tus_store(installation),
        uploads,
        installation.uploads,
        installation.blobs,
        DeletionService(installation.jobs, _deletion_store(installation), installation.blobs),
        settings=settings.tus,
        limits=settings.limits,
        incoming=settings.storage.incoming,
        clock=installation.clock,
    )


def _multipart_uploads(installation: Installation, uploads: UploadService) -> MultipartService:
    store = MultipartStore(installation.database, clock=installation.clock, storage=installation.storage_usage)
    settings = installation.settings
    return MultipartService(store, uploads, installation.blobs, installation.clock, settings.multipart, settings.limits)


def build_usage_flusher(services: Services, sweeps: Mapping[str, Callable[[], None]]) -> UsageFlusher:
    """Background writes of a process that answers requests."""
    return UsageFlusher(services.calls.flush, sweeps)


def build_sweeps(
    installation: Installation, current_executor: Callable[[], str | None]
) -> dict[str, Callable[[], None]]:
    """What one process of the data folder does every hour. ``current_executor``: ID of the executor that runs now."""
    idempotency = IdempotencyStore(installation.database, clock=installation.clock)

    def sweep_calls() -> None:
        CallStore(installation.database).sweep_calls(before=installation.clock.now() - _CALLS_KEPT)

    return {
        "sweep_calls": sweep_calls,
        "sweep_idempotency_keys": idempotency.sweep_idempotency_keys,
        "sweep_work": lambda: sweep_work(installation.settings.storage, current_executor),
    }


def build_renewal(services: Services) -> PeriodicTask:
    """Renews the idempotency leases of uploads in progress in this process."""
    return PeriodicTask("renew idempotency leases", services.idempotency.renew, seconds=RENEWED.total_seconds())


def _url_signer(installation: Installation) -> UrlSigner:
    lifetime = timedelta(seconds=installation.settings.retention.link_seconds)
    return UrlSigner(installation.resolver.link_secret, lifetime, installation.clock)


def build_admin_service(installation: Installation) -> AdminService:
    """What operators do, for HTTP and for the command."""
    key_admin = ApiKeyAdminStore(installation.database, clock=installation.clock)
    accounts = AccountStore(installation.database, clock=installation.clock)
    return AdminService(
        installation.keys, key_admin, accounts=accounts, clock=installation.clock, config=shown(installation.settings)
    )


def build_runner_admin(installation: Installation) -> RunnerAdmin:
    """What operators do with runners, for HTTP and for the command."""
    return RunnerAdmin(_runner_store(installation), installation.clock)


def _runner_store(installation: Installation) -> RunnerStore:
    return RunnerStore(installation.database, clock=installation.clock)


def build_remote_tasks(installation: Installation, executor_id: str, children: Children = SPAWNED) -> RemoteTasks:
    """Where the tasks of the worker process of this name run."""
    return RemoteTasks(
        executor_id,
        _runner_store(installation),
        installation.blobs,
        worker=installation.settings.worker,
        children=children,
        clock=installation.clock,
    )


def build_spares(settings: Settings, executor_id: str, connection: socket.socket | None = None) -> Spares:
    """Child processes for the jobs of the worker process of this name; needs no database.

    ``connection``: to the template process of the process that started this one.
    """
    worker, models = settings.worker, settings.models
    preload = Preload("light", None, models.dir, models.priorities.get("light"), worker.threads_per_job)
    config = SpareConfig(
        folder=settings.storage.work,
        owner=executor_id,
        count=worker.jobs if worker.spare_idle_seconds else 0,
        idle_seconds=worker.spare_idle_seconds or math.inf,
        max_bytes=worker.spare_max_bytes,
        lone_threads=0 if worker.threads else cores(),
        confined=worker.confined,
        preload=preload,
    )
    return Spares(config, connection=connection)


def build_spare_usage(settings: Settings, spares: Spares) -> PeriodicTask:
    """Says how much memory the spares hold, in a worker process."""
    path = settings.storage.spares
    return PeriodicTask("spare usage", lambda: write_usage(path, spares.usage()), seconds=SECONDS)


def build_worker(
    installation: Installation, executor_id: str, children: Children = SPAWNED, remote: RemoteTasks | None = None
) -> Worker:
    """What runs jobs in the worker process of this name."""
    settings = installation.settings
    return Worker(
        f"worker:{executor_id}",
        jobs=installation.jobs,
        blobs=installation.blobs,
        uploads=installation.resolver,
        fetcher=GuardedFetcher(settings.fetch),
        settings=settings,
        owner=executor_id,
        chunk_queue=installation.queue,
        inspect_fetched=IsolatedFetchInspection(settings.limits.clip, children),
        children=children,
        on_completed=_layer_service(installation, _job_service(installation)).follow,
        remote=remote,
    )


def build_engine(
    installation: Installation, executor_id: str, worker: Worker, more_slots: Callable[[], int] = lambda: 0
) -> DbosEngine:
    """The engine of the worker process of this name; one a process."""
    return DbosEngine(
        installation.database.engine,
        executor_id=executor_id,
        body=worker,
        worker=installation.settings.worker,
        fetch=installation.settings.fetch,
        database_url=engine_url(installation.settings.database),
        database_engine=installation.database.open_queue_engine(),
        more_slots=more_slots,
        prepare_engine=drop_stale_connections,
        refuses_writes=refuses_writes,
    )


def build_heartbeat_and_reconciler(
    installation: Installation, executor_id: str, engine: DbosEngine, *, on_evicted: Callable[[], None]
) -> tuple[Heartbeat, Reconciler]:
    """Background tasks of that process."""
    stuck = 2700.0  # a worker shows no sign of life while it downloads two files and uploads a big result
    reconciler = Reconciler(
        executor_id,
        jobs=installation.jobs,
        executors=installation.executors,
        engine=engine,
        clock=installation.clock,
        config=ReconcilerConfig(stuck=stuck, max_deaths=installation.settings.worker.max_deaths),
    )
    heartbeat = Heartbeat(executor_id, installation.executors, on_evicted=on_evicted, on_outage=reconciler.reset)
    return heartbeat, reconciler


def build_webhook_dispatcher(installation: Installation) -> WebhookDispatcher:
    """Sends webhooks in a worker process; their links begin with the public address."""
    settings = installation.settings
    serializer = JobSerializer(
        settings.http.cdn_url or _public_address(settings.http),
        _url_signer(installation),
        show_pending=settings.jobs.show_pending,
    )
    return WebhookDispatcher(
        _webhook_table(installation),
        _sender(installation),
        serialize_job=lambda job: serializer.job(job).model_dump(mode="json"),
        settings=settings.webhooks,
    )


def build_scenario_runner(installation: Installation, children: Children = SPAWNED) -> PeriodicTask:
    """Advances test jobs in a worker process."""
    limits = installation.settings.limits.clip
    resource_limits = ResourceLimits(memory_bytes=installation.settings.worker.memory_bytes, wall_seconds=60.0)

    def make(source: Path, target: Path, options: Options) -> RunResult:
        task = RunTask(source, (Output(target, options),), limits, threads=1)
        return child_process.run(task, resource_limits, children=children)

    runner = ScenarioRunner(
        jobs=installation.jobs,
        blobs=installation.blobs,
        make=make,
        clock=installation.clock,
        on_completed=_layer_service(installation, _job_service(installation)).follow,
    )
    return PeriodicTask("test-jobs", runner.run_due, seconds=1.0)


def build_sweeper(installation: Installation) -> PeriodicTask:
    """Removes expired files, and files without a record, in a worker process."""
    removal = DeletionService(installation.jobs, _deletion_store(installation), installation.blobs)
    retention = RetentionSweeper(
        _retention_store(installation),
        removal.delete_pending,
        installation.settings.retention.default,
        installation.clock,
    )
    age = timedelta(seconds=installation.settings.retention.orphan_seconds)
    orphans = OrphanSweep(OrphanStore(installation.database), installation.blobs, age=age, clock=installation.clock)

    tus = _tus_store(installation)
    multipart_sweep = MultipartSweep(
        MultipartStore(installation.database, clock=installation.clock, storage=installation.storage_usage),
        installation.blobs,
    )

    clock_watch = ClockWatch(installation.clock)

    def sweep() -> None:
        if clock_watch.is_doubtful():
            get_logger(__name__).warning("nothing is removed: the clock was set ahead", wait_hours=1)
            return
        while tus.expire(limit=_SWEEP_BATCH) == _SWEEP_BATCH:
            pass
        retention.sweep()
        multipart_sweep.sweep()
        if age:
            orphans.sweep_when_due()

    return PeriodicTask("retention", sweep, seconds=_SWEEP_SECONDS)


def _tus_store(installation: Installation) -> TusStore:
    return TusStore(installation.database, clock=installation.clock, storage=installation.storage_usage)


def _deletion_store(installation: Installation) -> DeletionStore:
    return DeletionStore(installation.database, clock=installation.clock)


def _retention_store(installation: Installation) -> RetentionStore:
    return RetentionStore(installation.database, clock=installation.clock)


def _sender(installation: Installation) -> WebhookSender:
    settings = installation.settings
    signing = [s.get_secret_value() for s in (settings.webhooks.secret, settings.webhooks.old_secret) if s is not None]
    for secret in signing:
        hide_secret(secret)
    poster = installation.overrides.poster or GuardedPoster(settings.fetch.allow_cidrs)
    return WebhookSender(poster, Secrets(tuple(signing)), installation.clock)


def _webhook_table(installation: Installation) -> WebhookStore:
    return WebhookStore(installation.database, clock=installation.clock)


def _public_address(http: HttpSettings) -> str:
    """The public address; the address of the service itself where none is set."""
    host = "127.0.0.1" if http.host in ("0.0.0.0", "::") else http.host  # noqa: S104  # compared, not bound
    literal = f"[{host}]" if ":" in host else host
    return http.public_url or f"http://{literal}:{http.port}"


def admit_keys(installation: Installation) -> NewKey | None:
    """Accept the key of the settings. Without one, make and return the first key of a new installation, to be shown."""
    keys = ApiKeyService(installation.keys)
    api_key = installation.settings.access.api_key
    if api_key is None:
        return keys.make_first()
    hide_secret(api_key.get_secret_value())
    keys.admit(api_key.get_secret_value())
    return None


def build_sign_in_codes(installation: Installation, first_key: str | None = None) -> SignInCodes:
    """Codes that open the studio with the key of the settings, else with ``first_key``, else with a key of its own."""
    configured = installation.settings.access.api_key
    return SignInCodes(
        installation.keys,
        installation.clock,
        secret=_url_signer(installation).secret,
        api_key=configured.get_secret_value() if configured is not None else first_key,
    )


def studio_link(settings: Settings, codes: SignInCodes) -> str:
    """A new link that opens the studio signed in. Browsers send nothing behind the ``#``, so no log has the code."""
    return f"{_public_address(settings.http).rstrip('/')}/#code={codes.make()}"
