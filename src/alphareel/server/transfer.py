"""Move, back up and restore an installation: its database, and the files in its storage."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from alphareel.db import migrate, transfer
from alphareel.db.availability import WITHOUT_LIMITS
from alphareel.db.database import Database, normalized, open_database
from alphareel.db.jobs import JobStore
from alphareel.db.workers import ExecutorStore
from alphareel.domain.errors import InvalidRequest, InvalidState, NotFound, StorageFailed
from alphareel.queue.dbos_engine import DbosQueue, prepare
from alphareel.server.data_folder import LOCK_NAME, load_installation_id, lock_data_dir, make_private_folder
from alphareel.server.installation import SystemClock, open_blobs
from alphareel.service.files import blob_keys
from alphareel.service.files.transfer import FileTransferSummary, copy_blobs, missing_blobs
from alphareel.service.settings import Settings

_DATABASE = "alphareel.db"
_OBJECTS = "objects"


@dataclass(frozen=True)
class TransferSummary:
    """``rows`` of our tables, ``requeued`` unfinished jobs, ``missing`` blobs that rows refer to and no storage has."""

    files: FileTransferSummary
    rows: int = 0
    requeued: int = 0
    missing: tuple[str, ...] = ()


def move(settings: Settings, *, database_url: str | None, storage_url: str | None) -> TransferSummary:
    """Move the installation of these settings to another database, another storage, or both.

    The service must be stopped everywhere. Unfinished jobs continue at the target. The old database is marked, so
    that no service starts with it; nothing is deleted. Raises InvalidState, Unavailable, StorageFailed.
    """
    with lock_data_dir(settings.storage.data_dir), _opened(settings.database.url) as source:
        _check_is_stopped(settings, source)
        files = FileTransferSummary(0, 0, 0)
        blobs = open_blobs(settings.storage.url)
        if storage_url is not None:
            files = copy_files(settings, storage_url=storage_url)
            blobs = open_blobs(storage_url)
        missing = tuple(missing_blobs(blobs, transfer.stored_blobs(source)[0]))
        if database_url is None:
            return TransferSummary(files, missing=missing)
        with _opened(database_url, make=True) as target:
            rows = transfer.copy_tables(source, target)
            requeued = _requeue(target)
        transfer.mark_moved(source, normalized(database_url).render_as_string(hide_password=True))
        return TransferSummary(files, sum(rows.values()), requeued, missing)


def copy_files(settings: Settings, *, storage_url: str) -> FileTransferSummary:
    """Copy the files to another storage. Repeating it copies what is new; the service may run."""
    blobs, target = open_blobs(settings.storage.url), open_blobs(storage_url)
    return copy_blobs(blobs, target, folder=settings.storage.data_dir / "transfer")


def back_up(settings: Settings, folder: Path) -> TransferSummary:
    """Write the database and the files into ``folder`` while the service may run.

    Repeating it replaces the copy of the database and adds the files that are new. Raises InvalidRequest when an
    installation uses the folder, StorageFailed, Unavailable.
    """
    _check_is_apart(settings, folder)
    _make_backup_folder(folder)
    fresh = folder / f"{_DATABASE}.new"
    for path in (fresh, *(fresh.with_name(fresh.name + end) for end in ("-wal", "-shm"))):
        path.unlink(missing_ok=True)
    with _opened(settings.database.url) as source, _opened(f"sqlite:///{fresh.absolute()}", make=True) as copy:
        rows = transfer.copy_tables(source, copy)
        kept, owners = transfer.stored_blobs(copy)

    def is_wanted(key: str) -> bool:
        parsed = blob_keys.parse(key)
        return key in kept or (parsed is not None and parsed.owner in owners)

    storage = open_blobs((folder.absolute() / _OBJECTS).as_uri())
    files = copy_blobs(open_blobs(settings.storage.url), storage, folder=folder / "transfer", accepts=is_wanted)
    missing = tuple(missing_blobs(storage, kept))
    for end in ("-wal", "-shm"):  # left by a restore that was killed: SQLite would replay them onto the new copy
        (folder / f"{_DATABASE}{end}").unlink(missing_ok=True)
    fresh.replace(folder / _DATABASE)  # the last step, so that a broken backup does not replace a good one
    return TransferSummary(files, sum(rows.values()), missing=missing)


def restore(settings: Settings, folder: Path) -> TransferSummary:
    """Fill an empty installation from a backup; its unfinished jobs are queued again.

    Raises NotFound, InvalidState when the installation is not empty or its service runs, StorageFailed, Unavailable.
    """
    if not (folder / _DATABASE).is_file():
        raise NotFound(
            f"{folder} is not a backup: it has no file {_DATABASE}.",
            hint="Name a folder that alphareel backup has written.",
        )
    make_private_folder(settings.storage.data_dir)
    copy = open_database(f"sqlite:///{(folder / _DATABASE).absolute()}", WITHOUT_LIMITS)
    try:
        with lock_data_dir(settings.storage.data_dir), _opened(settings.database.url, make=True) as target:
            _check_is_stopped(settings, target)
            migrate.upgrade(copy)  # the backup may be of an older version
            source, storage = open_blobs((folder.absolute() / _OBJECTS).as_uri()), open_blobs(settings.storage.url)
            files = copy_blobs(source, storage, folder=settings.storage.data_dir / "transfer")
            rows = transfer.copy_tables(copy, target)
            missing = tuple(missing_blobs(storage, transfer.stored_blobs(target)[0]))
            return TransferSummary(files, sum(rows.values()), _requeue(target), missing)
    finally:
        copy.close()


def migrate_database(settings: Settings) -> None:
    """Bring the database to the schema of this version. Raises Unavailable."""
    make_private_folder(settings.storage.data_dir)
    with _opened(settings.database.url, make=True):
        pass


@contextmanager
def _opened(url: str, *, make: bool = False) -> Iterator[Database]:
    """``make``: create or migrate its tables first."""
    database = open_database(url, WITHOUT_LIMITS)
    try:
        if make:
            migrate.upgrade(database)
            prepare(normalized(url).render_as_string(hide_password=False))
        yield database
    finally:
        database.close()


def _check_is_apart(settings: Settings, folder: Path) -> None:
    """A backup would replace the database of an installation, or be swept as files without a record."""
    folder, database, storage = folder.resolve(), normalized(settings.database.url), urlsplit(settings.storage.url)
    is_data_folder = (folder / LOCK_NAME).exists() or folder == settings.storage.data_dir.resolve()
    replaces = database.get_backend_name() == "sqlite" and Path(database.database or "").resolve() == folder / _DATABASE
    is_stored = storage.scheme == "file" and folder.is_relative_to(Path(unquote(storage.path)).resolve())
    if is_data_folder or replaces or is_stored:
        raise InvalidRequest(
            f"The folder {folder} belongs to an installation.", hint="Name a folder of its own for the backup."
        )


def _make_backup_folder(folder: Path) -> None:
    """What is written there is for its owner alone. What else is there, and its mode, are not ours to change."""
    os.umask(0o077)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / _OBJECTS).mkdir(exist_ok=True)
        (folder / _OBJECTS).chmod(0o700)
    except OSError as error:
        raise StorageFailed(
            f"The folder {folder} cannot be written: {error.strerror}.", hint="Name a folder that this user may write."
        ) from error


def _check_is_stopped(settings: Settings, database: Database) -> None:
    """The caller holds the lock of the data folder, so no worker of this folder is alive, whatever the records say."""
    ExecutorStore(database, clock=SystemClock()).remove_home(load_installation_id(settings.storage.data_dir))
    if workers := transfer.count_executors(database):
        raise InvalidState(
            f"The service runs: {workers} worker(s) are registered.",
            hint="Stop it on every machine. A killed worker must be started and stopped once.",
        )


def _requeue(database: Database) -> int:
    """Queue the unfinished jobs in the new database, whose queue is empty."""
    queue = DbosQueue(database.engine)
    store = JobStore(database, enqueue=queue.enqueue, clock=SystemClock())
    unfinished = store.unfinished()
    for job in unfinished:
        store.requeue(job.id, ticket=job.ticket, actor="transfer", reason="moved to another database")
    return len(unfinished)
