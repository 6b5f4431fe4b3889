"""The composition root: puts the adapters of an installation behind the ports, for both processes. Wire: serving.py."""

import math
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from alphareel import observe
from alphareel.domain.clip import Limits
from alphareel.domain.errors import AlphareelError, BadVideo, OutOfMemory, Timeout, Unavailable, WorkerCrashed
from alphareel.domain.options import Options, to_json
from alphareel.http.job_views import JobViews
from alphareel.installation import Installation, engine_url, sweep_work
from alphareel.jobs import sandbox
from alphareel.jobs.admin import Administration
from alphareel.jobs.credits import parse_prices
from alphareel.jobs.fetch import FetchRules, GuardedFetcher
from alphareel.jobs.health import HealthMonitor
from alphareel.jobs.keys import Keys, NewKey
from alphareel.jobs.linker import Linker
from alphareel.jobs.offer import LocalOffer
from alphareel.jobs.orphans import OrphanSweep
from alphareel.jobs.post import GuardedPoster
from alphareel.jobs.postman import Courier, Postman, PostRules
from alphareel.jobs.probe_queue import ProbeQueue, ProbeRules
from alphareel.jobs.recurring import Recurring
from alphareel.jobs.rehearsal import Stage
from alphareel.jobs.removal import Removal
from alphareel.jobs.repeats import RENEWED
from alphareel.jobs.retention import FOR_EVER, Retention
from alphareel.jobs.sandbox import Confinement
from alphareel.jobs.service import Office, Service, ServiceRules, Stores
from alphareel.jobs.upkeep import Upkeep, UpkeepRules
from alphareel.jobs.uploads import Identity, UploadRules, Uploads
from alphareel.jobs.usage import Bookkeeper, CallLog, Usage
from alphareel.jobs.webhook_desk import WebhookDesk
from alphareel.jobs.webhooks import Secrets
from alphareel.jobs.worker import Worker, WorkRules
from alphareel.jobstore.accounts import AccountTable
from alphareel.jobstore.calls import CallTable
from alphareel.jobstore.census import CensusTable, RunTable
from alphareel.jobstore.expirations import ExpirationTable
from alphareel.jobstore.keyring import KeyRing
from alphareel.jobstore.orphans import OrphanTable
from alphareel.jobstore.removals import Removals
from alphareel.jobstore.repeats import RepeatTable
from alphareel.jobstore.webhooks import WebhookTable
from alphareel.matting.tiers import parse_orders
from alphareel.queue.dbos_engine import DbosEngine, EngineRules
from alphareel.settings import Settings, shown

_PROBE_MEMORY = 4 * 1024**3
_OWN_WORK = 0.25  # of the time that a probe may take: one that computed less was kept waiting by this machine
_EXPORT_AGAIN = "Check that it plays, or export it again as MP4 (H.264)."
_EXAMINE_FETCHED = Confinement(memory_bytes=4 * 1024**3, cpu_seconds=60, wall_seconds=120.0)
_MAX_DEATHS = 6
_SWEEP_SECONDS = 60.0
_CALLS_KEPT = timedelta(days=91)  # a day more than usage looks back


def build_service(place: Installation, office: Office, monitor: HealthMonitor | None = None) -> Service:
    """The use cases over this installation."""
    given = place.settings
    uploads = _uploads(place)
    return Service(
        Stores(
            place.jobs,
            place.executors,
            place.blobs,
            _removals(place),
            _expirations(place),
            CensusTable(place.database, clock=place.clock),
        ),
        keys=Keys(place.keys),
        office=office,
        uploads=uploads,
        sources=place.sources,
        webhooks=WebhookDesk(_webhook_table(place), _courier(place), clock=place.clock),
        offer=LocalOffer(given.models_dir, parse_orders(given.tiers)),
        rules=ServiceRules(
            place.sources.link_secret,
            timedelta(seconds=given.link_seconds),
            given.show_pending,
            retention_seconds=_retention_seconds(given),
            share_within_client=given.share_jobs_within_client,
        ),
        clock=place.clock,
        monitor=monitor,
    )


def _uploads(place: Installation) -> Uploads:
    given = place.settings
    return Uploads(
        place.uploads,
        place.blobs,
        shelves=place.stock,
        identify=IdentifyApart(place.limits, given.probe_seconds),
        rules=UploadRules(given.data_dir / "incoming", given.max_upload_bytes, given.min_free_bytes),
        clock=place.clock,
        probes=ProbeQueue(
            ProbeRules(
                given.probe_processes or min(8, max(3, processors() + 1)),
                given.probe_queue,
                given.probe_queue_per_caller,
            )
        ),
    )


def build_monitor(place: Installation) -> HealthMonitor:
    """What watches database, storage and workers beside the API."""
    has_space = _uploads(place).has_space
    return HealthMonitor(jobs=place.jobs, executors=place.executors, blobs=place.blobs, has_space=has_space)


def build_office(place: Installation) -> Office:
    """The operators' desk and the books."""
    store = CallTable(place.database)
    repeats = RepeatTable(place.database, clock=place.clock)
    prices = parse_prices(place.settings.credits_per_minute, place.settings.pricing_version)
    return Office(
        build_administration(place),
        Usage(store, place.stock, clock=place.clock),
        CallLog(store),
        prices,
        repeats,
        RunTable(place.database),
    )


def build_bookkeeper(place: Installation, office: Office, employed: Callable[[], str | None]) -> Bookkeeper:
    """What the API process does beside its requests. ``employed``: the executor that runs now."""

    def sweep_calls() -> None:
        CallTable(place.database).sweep_calls(before=place.clock.now() - _CALLS_KEPT)

    sweeps = {
        "sweep_calls": sweep_calls,
        "sweep_repeats": office.repeats.sweep_repeats,
        "sweep_work": lambda: sweep_work(place.settings.data_dir, employed),
    }
    return Bookkeeper(office.calls.flush, sweeps)


def build_renewal(office: Office) -> Recurring:
    """What keeps the names of uploads that are on their way in the API process."""
    return Recurring("renew_repeats", office.repeats.renew, seconds=RENEWED.total_seconds())


def build_administration(place: Installation) -> Administration:
    """What operators do, for the wire and for the command."""
    ring = KeyRing(place.database, clock=place.clock)
    accounts = AccountTable(place.database, clock=place.clock)
    return Administration(place.keys, ring, accounts=accounts, clock=place.clock, config=shown(place.settings))


def build_worker(place: Installation, executor_id: str) -> Worker:
    """What runs jobs in the worker process of this name."""
    given = place.settings
    rules = WorkRules(
        workspace=given.data_dir / "work",
        limits=place.limits,
        confinement=Confinement(
            memory_bytes=given.job_memory_bytes,
            cpu_seconds=given.job_cpu_seconds,
            wall_seconds=given.job_wall_seconds,
            progress_seconds=given.job_progress_seconds,
        ),
        models_dir=given.models_dir,
        engines=parse_orders(given.tiers),
        threads=given.job_threads or max(1, processors() // given.workers),
        max_deaths=_MAX_DEATHS,
        chunk_seconds=given.chunk_seconds,
        owner=executor_id,
    )
    return Worker(
        f"worker:{executor_id}",
        jobs=place.jobs,
        blobs=place.blobs,
        sources=place.sources,
        fetcher=GuardedFetcher(
            FetchRules(
                allowed=given.fetch_allow_cidrs,
                total_seconds=given.fetch_seconds,
                min_rate=given.min_fetch_rate,
            )
        ),
        rules=rules,
        helpers=place.queue,
        examine=ExamineApart(place.limits),
    )


def build_engine(place: Installation, executor_id: str, worker: Worker) -> DbosEngine:
    """The engine of the worker process of this name; one a process."""
    rules = EngineRules(
        engine_url(place.settings),
        concurrency=place.settings.workers,
        fetches=place.settings.fetch_concurrency,
        database_engine=place.database.open_queue_engine(),
    )
    return DbosEngine(place.database.engine, executor_id=executor_id, body=worker, rules=rules)


def build_upkeep(place: Installation, executor_id: str, engine: DbosEngine, *, die: Callable[[], None]) -> Upkeep:
    """What that process does beside its jobs."""
    # A worker shows no life while it fetches two files, at worst, and while it publishes a big result.
    stuck = 2 * place.settings.fetch_seconds + 900.0
    return Upkeep(
        executor_id,
        jobs=place.jobs,
        executors=place.executors,
        engine=engine,
        clock=place.clock,
        rules=UpkeepRules(stuck=stuck, max_deaths=_MAX_DEATHS),
        die=die,
    )


def build_postman(place: Installation) -> Postman:
    """What carries webhooks in a worker process; links in them stand under the public address."""
    given = place.settings
    linker = Linker(place.sources.link_secret, timedelta(seconds=given.link_seconds), place.clock)
    views = JobViews(_public_address(given), linker, show_pending=given.show_pending)
    return Postman(
        _webhook_table(place),
        _courier(place),
        present=lambda job: views.job(job).model_dump(mode="json"),
        rules=PostRules(),
    )


def build_stage(place: Installation) -> Recurring:
    """What plays test jobs, in a worker process."""
    confinement = Confinement(memory_bytes=place.settings.job_memory_bytes, wall_seconds=60.0)

    def make(source: Path, target: Path, options: Options) -> dict[str, Any]:
        facts = {"limits": asdict(place.limits), "models_dir": None, "threads": 1, "pipeline": "alphareel.pipeline"}
        order = {"task": "run", "source": str(source), "target": str(target), "options": to_json(options), **facts}
        return sandbox.run(order, confinement)

    stage = Stage(jobs=place.jobs, blobs=place.blobs, make=make, clock=place.clock)
    return Recurring("rehearsals", stage.play, seconds=1.0)


def build_sweeper(place: Installation) -> Recurring:
    """What removes files whose time is over, and those that no record speaks of, in a worker process."""
    removal = Removal(place.jobs, _removals(place), place.blobs)
    retention = Retention(_expirations(place), removal.empty, _retention_seconds(place.settings), place.clock)
    age = timedelta(seconds=place.settings.orphan_seconds)
    orphans = OrphanSweep(OrphanTable(place.database), place.blobs, age=age, clock=place.clock)

    def sweep() -> None:
        retention.sweep()
        if age:
            orphans.sweep_when_due()

    return Recurring("retention", sweep, seconds=_SWEEP_SECONDS)


def _removals(place: Installation) -> Removals:
    return Removals(place.database, clock=place.clock)


def _expirations(place: Installation) -> ExpirationTable:
    return ExpirationTable(place.database, clock=place.clock)


def _retention_seconds(settings: Settings) -> int | None:
    return None if settings.retention_seconds == FOR_EVER else settings.retention_seconds


def _courier(place: Installation) -> Courier:
    given = place.settings
    signing = [s.get_secret_value() for s in (given.webhook_secret, given.webhook_secret_old) if s is not None]
    for secret in signing:
        observe.hide(secret)
    return Courier(GuardedPoster(given.fetch_allow_cidrs), Secrets(tuple(signing)), place.clock)


def _webhook_table(place: Installation) -> WebhookTable:
    return WebhookTable(place.database, clock=place.clock)


def _public_address(settings: Settings) -> str:
    """Where no public address is set there is no request to take it from: the service's own."""
    host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104  # compared, not bound
    spoken = f"[{host}]" if ":" in host else host
    return settings.public_url or f"http://{spoken}:{settings.port}"


def admit_keys(place: Installation) -> NewKey | None:
    """Let the key of the settings in; without one, the first key of a new installation, which is to be shown."""
    keys = Keys(place.keys)
    given = place.settings.api_key
    if given is None:
        return keys.make_first()
    observe.hide(given.get_secret_value())
    keys.admit(given.get_secret_value())
    return None


@dataclass(frozen=True)
class IdentifyApart:
    """Identifies a file in a child process of its own; a file that breaks the process, or keeps it busy, is a bad one.

    A process that computed little in its ``seconds`` was kept waiting by this machine, and one that was killed from
    outside says nothing of the file: it gets a second process, and Unavailable when that is killed too.
    """

    limits: Limits
    seconds: float = 5.0

    def __call__(self, path: Path) -> Identity:
        order = {"task": "identify", "source": str(path), "limits": asdict(self.limits)}
        confinement = Confinement(_PROBE_MEMORY, cpu_seconds=math.ceil(4 * self.seconds), wall_seconds=self.seconds)
        try:
            return _run_again_if_killed(order, confinement)
        except sandbox.LimitReached as error:
            if error.computed is not None and error.computed < _OWN_WORK * self.seconds:
                raise Unavailable(
                    "The server is too busy to examine the file.", hint="Send it again.", retry_after=self.seconds
                ) from error
            told = f"The file cannot be examined within {self.seconds:g} seconds."
            raise BadVideo(told, hint=_EXPORT_AGAIN) from error
        except (OutOfMemory, Timeout, WorkerCrashed) as error:
            raise BadVideo("The file cannot be examined.", hint=_EXPORT_AGAIN) from error


def _run_again_if_killed(order: Mapping[str, Any], confinement: Confinement) -> Identity:
    for _ in range(2):
        try:
            return Identity(**sandbox.run(order, confinement))
        except sandbox.Killed as error:
            killed = error
        except OSError as error:
            raise Unavailable(
                "The server cannot start a process to examine the file.", hint="Send it again."
            ) from error
    raise Unavailable("The server was kept from examining the file.", hint="Send it again.") from killed


@dataclass(frozen=True)
class ExamineApart:
    """Examines a fetched file as uploads are, though with more patience, because nobody waits for an answer.

    Only a file that keeps the examiner busy is refused, before it keeps a job busy; everything else is for the job to
    judge.
    """

    limits: Limits

    def __call__(self, path: Path, tick: Callable[[], None]) -> None:
        order = {"task": "identify", "source": str(path), "limits": asdict(self.limits)}
        while not _examining_fetched.acquire(timeout=0.5):
            tick()
        try:
            sandbox.run(order, _EXAMINE_FETCHED, tick=lambda _: tick())
        except Timeout as error:
            raise BadVideo(
                f"The file could not be examined within {_EXAMINE_FETCHED.wall_seconds:g} seconds.",
                hint="Check that it plays, or export it again as MP4 (H.264).",
            ) from error
        except AlphareelError as error:
            observe.log(__name__).info("fetched file left to its job", error=str(error))
        finally:
            _examining_fetched.release()


def processors() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_examining_fetched = threading.BoundedSemaphore(max(2, processors()))
