"""An installation: what lies under the data folder and behind the URLs of the settings, opened for one process."""

import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from alphareel import plugins
from alphareel.db import migrate
from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.availability import WITHOUT_LIMITS, DatabaseLimits
from alphareel.db.database import Database, normalized, open_database
from alphareel.db.jobs import JobStore
from alphareel.db.notifications import QUEUE, Notifications, notify
from alphareel.db.queue import Enqueue
from alphareel.db.storage_quotas import StorageUsage
from alphareel.db.transfer import moved_to
from alphareel.db.uploads import UploadStore
from alphareel.db.workers import ExecutorStore
from alphareel.domain.errors import AlphareelError, InvalidRequest, Unavailable
from alphareel.queue.dbos_engine import DbosQueue, prepare
from alphareel.server.data_folder import make_private_folder
from alphareel.service.jobs.models import Step
from alphareel.service.jobs.queue_limits import QueueLimits
from alphareel.service.ports import Blobs, Clock, JobCapabilities
from alphareel.service.settings import DatabaseSettings, Settings, StorageSettings
from alphareel.service.uploads.resolver import UploadResolver
from alphareel.service.uploads.service import InspectMedia
from alphareel.service.webhooks.events import Poster
from alphareel.telemetry.logging import get_logger, hide_secret


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Parts that tests replace; None for the real one."""

    clock: Clock | None = None
    blobs: Blobs | None = None
    enqueue: Enqueue | None = None
    queue_limits: QueueLimits | None = None
    capabilities: JobCapabilities | None = None
    poster: Poster | None = None
    inspect_media: InspectMedia | None = None


@dataclass(frozen=True)
class Installation:
    """What lies under the data folder and behind the URLs of the settings, opened."""

    settings: Settings
    database: Database
    queue: DbosQueue
    jobs: JobStore
    uploads: UploadStore
    storage_usage: StorageUsage
    keys: ApiKeyStore
    executors: ExecutorStore
    blobs: Blobs
    resolver: UploadResolver
    clock: Clock
    overrides: Overrides
    notifications: Notifications


def limits_of_requests(settings: DatabaseSettings) -> DatabaseLimits:
    """Timeouts of a process that answers requests: shorter than those of workers."""
    return DatabaseLimits(
        connect=settings.connect_seconds,
        statement=settings.statement_seconds,
        lock=settings.lock_seconds,
        pool=settings.pool_seconds,
        hang=settings.hang_seconds,
    )


@contextmanager
def open_installation(settings: Settings, limits: DatabaseLimits | None = None) -> Iterator[Installation]:
    """Open the database and storage of the settings, and migrate the database; many processes may do so at once.

    ``limits``: timeouts of the database; None for those of a worker.
    """
    make_private_folder(settings.storage.data_dir)
    _migrate(settings.database)
    database = open_database(settings.database.url, limits or DatabaseLimits())
    notifications = database.open_notifications(settings.storage.data_dir / "notify")
    try:
        _check_was_not_moved(database)
        yield assemble(settings, database, notifications=notifications)
    finally:
        notifications.stop()
        database.close()


def assemble(
    settings: Settings,
    database: Database,
    overrides: Overrides | None = None,
    *,
    notifications: Notifications | None = None,
) -> Installation:
    """The installation on an open database with the current schema."""
    overrides = overrides or Overrides()
    clock = overrides.clock or SystemClock()
    queue = DbosQueue(database.engine)
    keys = ApiKeyStore(database, clock=clock)
    storage_usage = StorageUsage(database, settings.storage)
    uploads = UploadStore(database, clock=clock, storage=storage_usage)
    secret = keys.set_setting_once("link_secret", secrets.token_hex(32))
    hide_secret(secret)
    return Installation(
        settings=settings,
        database=database,
        queue=queue,
        jobs=JobStore(
            database,
            enqueue=_waking_workers(overrides.enqueue or queue.enqueue),
            clock=clock,
            limits=overrides.queue_limits or _queue_limits(settings),
            storage=storage_usage,
        ),
        uploads=uploads,
        storage_usage=storage_usage,
        keys=keys,
        executors=ExecutorStore(database, clock=clock),
        blobs=overrides.blobs or open_blobs(settings.storage.url),
        resolver=UploadResolver(uploads, secret, clock),
        clock=clock,
        overrides=overrides,
        notifications=notifications or _own_notifications(database),
    )


def _check_was_not_moved(database: Database) -> None:
    if (new := moved_to(database)) is not None:
        raise Unavailable(
            f"This installation was moved to {new}.", hint="Set ALPHAREEL_DATABASE_URL to the new database."
        )


def _own_notifications(database: Database) -> Notifications:
    """Notifications of a process that shares its database with no other."""
    notifications = Notifications()
    database.send_notification = notifications.send
    return notifications


def _waking_workers(enqueue: Enqueue) -> Enqueue:
    """``enqueue``, which also wakes the workers."""

    def enqueue_and_wake(c: sa.Connection, job_id: str, ticket: int, step: Step, key_id: str | None) -> None:
        enqueue(c, job_id, ticket, step, key_id)
        notify(c, QUEUE)

    return enqueue_and_wake


def _address(settings: DatabaseSettings) -> str:
    """Where the database is, without the login."""
    url = normalized(settings.url)
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "of this machine"
    return f"{host}{f':{url.port}' if url.port else ''}, {url.database}"


def _migrate(settings: DatabaseSettings) -> None:
    database = open_database(settings.url, WITHOUT_LIMITS)
    try:
        migrate.upgrade(database)
        prepare(engine_url(settings))
    except (SQLAlchemyError, Unavailable) as error:
        cause = error if isinstance(error, SQLAlchemyError) else error.__cause__
        if not isinstance(cause, SQLAlchemyError):
            raise
        reason = str(getattr(cause, "orig", cause)).partition("\n")[0]
        raise Unavailable(
            f"The database {_address(settings)} cannot be used: {reason}.",
            hint="Check that it runs, and ALPHAREEL_DATABASE_URL.",
        ) from error
    finally:
        database.close()


def open_blobs(url: str) -> Blobs:
    """The store that serves the URL's scheme. Raises InvalidRequest."""
    scheme = url.partition(":")[0].lower()
    try:
        adapter = plugins.module("alphareel.storage", scheme)
    except ModuleNotFoundError as error:
        raise InvalidRequest(
            f"{scheme}:// cannot be used here: {error.name} is missing.",
            hint='Install it: pip install "alphareel[s3]".',
        ) from error
    blobs: Blobs = adapter.open_blobs(url)
    return blobs


def _queue_limits(settings: Settings) -> QueueLimits:
    return QueueLimits(
        running=settings.queue.max_running_per_key,
        queued=settings.queue.max_queued_per_key,
        queued_in_all=settings.queue.max_queued,
        ahead=max(1, settings.worker.jobs),  # what one process can take at once, so that a key alone keeps it busy
    )


def sweep(installation: Installation) -> None:
    """Remove what processes that died left behind. The caller holds the lock of the data folder."""
    storage = installation.settings.storage
    if storage.url.startswith(storage.data_dir.as_uri() + "/"):  # else other processes may be writing to it
        installation.blobs.sweep()
    for folder in (storage.incoming, storage.work, storage.shared):
        shutil.rmtree(folder, ignore_errors=True)


def deregister_executor(installation: Installation, executor_id: str) -> None:
    """Remove the record and the files of a worker process that exited, so that its jobs return to the queue at once."""
    sweep_work(installation.settings.storage, lambda: None)
    try:
        installation.executors.remove_executor(executor_id)
    except AlphareelError:  # the reconciler will find that its heartbeat stops
        get_logger(__name__).warning("executor could not be removed", executor=executor_id)


def sweep_work(storage: StorageSettings, current_executor: Callable[[], str | None]) -> None:
    """Remove work folders of dead workers; ``current_executor``: the only one of this data folder that may be alive."""
    folders = list(storage.work.glob("*"))
    owner = current_executor()  # asked after the look: what a later executor makes is not among the folders
    for folder in folders:
        if owner is None or not folder.name.startswith(f"{owner}."):
            shutil.rmtree(folder, ignore_errors=True)


def engine_url(settings: DatabaseSettings) -> str:
    """The database URL for the queue engine, with its password."""
    return normalized(settings.url).render_as_string(hide_password=False)
