"""Blobs on a local disk. A blob appears atomically, and survives power loss once ``put_file`` returns."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urlsplit

from alphareel.domain.errors import InvalidRequest, StorageFailed
from alphareel.service.ports import StoredPart
from alphareel.storage._keys import no_blob, parts_of

_READ_SIZE = 128 * 1024  # bytes in memory for each download
_INCOMING = ".incoming"
_MAX_TRIES = 20  # of a rename whose folder others remove meanwhile


def open_blobs(url: str) -> "LocalBlobs":
    """Open the store in the folder of a ``file:///absolute/folder`` URL, which is created if it does not exist."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InvalidRequest(f"{url!r} names no local folder.", hint="Write file:///absolute/folder.")
    return LocalBlobs(Path(unquote(parts.path)))


class LocalBlobs:
    """Stores each blob as a file under ``root``, with its key as the relative path."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._incoming = self._root / _INCOMING
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"The storage folder {self._root} cannot be created: {error.strerror or error}.",
                hint="Check its owner and that its disk is not mounted read-only, or set ALPHAREEL_STORAGE_URL.",
            ) from error

    def put_file(self, key: str, path: Path) -> None:
        target = self._path(key)
        with _translate_errors(), self._on_same_disk(path) as staged:
            _sync_file(staged)
            self._move(staged, target)
            _sync_folder(target.parent)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        if not path.is_file():
            raise no_blob(key)
        yield path

    def size(self, key: str) -> int:
        with _translate_errors(missing=key):
            return self._path(key).stat().st_size

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        with _translate_errors(missing=key), self._path(key).open("rb") as file:
            file.seek(start)
            while length > 0 and (data := file.read(min(length, _READ_SIZE))):
                length -= len(data)
                yield data

    def delete(self, key: str) -> None:
        with _translate_errors():
            path = self._path(key)
            path.unlink(missing_ok=True)
            self._remove_empty_folders(path.parent)

    def delete_prefix(self, prefix: str) -> None:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} must end in a slash")
        path = self._path(prefix[:-1])
        with _translate_errors(), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
        self._remove_empty_folders(path.parent)

    def sweep(self) -> None:
        with _translate_errors():
            for path in self._incoming.iterdir():
                path.unlink(missing_ok=True)
            for folder, _, _ in os.walk(self._root, topdown=False):
                self._remove_empty_folders(Path(folder))

    def older(self, than: datetime) -> Iterator[str]:
        with _translate_errors():
            for folder, _, names in os.walk(self._root):
                for path in (Path(folder, name) for name in names):
                    key = path.relative_to(self._root).as_posix()
                    if not key.startswith(".") and _modified_at(path) < than.timestamp():
                        yield key

    def free(self) -> int | None:
        with _translate_errors():
            return shutil.disk_usage(self._root).free

    def sign_puts(self, keys: Sequence[str], lifetime: timedelta) -> tuple[str, ...] | None:  # noqa: ARG002
        return None

    def parts(self, prefix: str) -> tuple[StoredPart, ...]:  # noqa: ARG002
        return ()

    def is_ready(self) -> bool:
        return os.access(self._root, os.W_OK | os.X_OK)

    def _move(self, staged: Path, target: Path) -> None:
        """Rename into the target's folder, which a concurrent delete of its last file may remove; then retry."""
        for tries_left in reversed(range(_MAX_TRIES)):
            try:
                _make_folder(target.parent, root=self._root)
                staged.replace(target)
            except (FileNotFoundError, FileExistsError):  # the latter by mkdir, for a folder that is gone again
                if tries_left == 0 or not staged.exists():
                    raise
            else:
                return

    def _remove_empty_folders(self, folder: Path) -> None:
        """Remove the folder and its parents while they are empty, except top-level ones ('uploads', 'outputs')."""
        with contextlib.suppress(OSError):  # not empty, or gone
            while self._root not in (folder, folder.parent):
                folder.rmdir()
                folder = folder.parent

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*parts_of(key))

    @contextmanager
    def _on_same_disk(self, path: Path) -> Iterator[Path]:
        """``path`` itself, or a copy of it if it is on another file system, from where it cannot be renamed."""
        if path.stat().st_dev == self._incoming.stat().st_dev:
            yield path
            return
        copy = self._incoming / uuid.uuid4().hex
        try:
            shutil.copyfile(path, copy)
            yield copy
        finally:
            copy.unlink(missing_ok=True)


@contextmanager
def _translate_errors(*, missing: str | None = None) -> Iterator[None]:
    """Raise StorageFailed for errors of the disk; NotFound if the blob ``missing`` does not exist."""
    try:
        yield
    except OSError as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise no_blob(missing) from None
        raise StorageFailed(
            f"The storage folder failed: {error.strerror or error}.", hint="Check its free space and permissions."
        ) from error


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # deleted in the meantime
        return float("inf")


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _make_folder(path: Path, *, root: Path) -> None:
    """Create ``path`` and sync each folder that got an entry, so that power loss cannot remove the path to a file."""
    missing = []
    while not path.exists() and path != root:
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)
