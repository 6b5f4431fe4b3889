"""``alphareel migrate``, ``move``, ``backup`` and ``restore``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from alphareel.cli.console import stdout
from alphareel.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from alphareel.server.transfer import TransferSummary
    from alphareel.service.settings import Settings


def migrate() -> None:
    """Bring the database to the schema of this version, as every start of the service does."""
    from alphareel.server import transfer

    transfer.migrate_database(_settings())
    stdout.print("The database has the schema of this version.")


def move(*, database: str | None = None, storage: str | None = None, files_only: bool = False) -> None:
    """Move the installation to another database, another storage, or both. Stop the service first.

    Parameters
    ----------
    database
        URL of an empty database, as in ALPHAREEL_DATABASE_URL.
    storage
        URL of a storage, as in ALPHAREEL_STORAGE_URL.
    files_only
        Copy only the files, while the service still runs, so that the move itself is short.
    """
    from alphareel.server import transfer

    if database is None and storage is None:
        raise InvalidRequest("Nothing to move.", hint="Give --database, --storage, or both.")
    settings = _settings()
    if files_only:
        if storage is None:
            raise InvalidRequest("--files-only needs --storage.")
        files = transfer.copy_files(settings, storage_url=storage)
        stdout.print(f"{files.blobs} files copied, {files.kept} were there.")
        return
    _report(transfer.move(settings, database_url=database, storage_url=storage))
    if database is not None:
        stdout.print("Start the service with ALPHAREEL_DATABASE_URL set to the new database.")
    if storage is not None:
        stdout.print("Start the service with ALPHAREEL_STORAGE_URL set to the new storage.")


def backup(folder: Path, /) -> None:
    """Write the database and all files into FOLDER; the service may run. Repeat it to bring FOLDER up to date.

    Parameters
    ----------
    folder
        Where to write; it is made. Neither the data folder nor the storage.
    """
    from alphareel.server import transfer

    _report(transfer.back_up(_settings(), folder))


def restore(folder: Path, /) -> None:
    """Fill the empty installation of the settings from the backup in FOLDER.

    Parameters
    ----------
    folder
        What alphareel backup has written.
    """
    from alphareel.server import transfer

    _report(transfer.restore(_settings(), folder))


def _settings() -> "Settings":
    from alphareel.server.settings import load_settings
    from alphareel.telemetry.logging import configure_logging

    configure_logging("warning")
    return load_settings()


def _report(transfer: "TransferSummary") -> None:
    stdout.print(
        f"{transfer.rows} rows; {transfer.files.blobs} files copied, {transfer.files.kept} were there; "
        f"{transfer.requeued} unfinished jobs queued again."
    )
    for key in transfer.missing:
        print(f"missing in the storage: {key}", file=sys.stderr)  # noqa: T201
