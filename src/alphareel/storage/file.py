"""Blobs on a local disk: what ``put_file`` acknowledged survives power loss and is never seen half written."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from alphareel.domain.errors import InvalidRequest, StorageFailed
from alphareel.storage._keys import no_blob, parts_of

_PIECE = 128 * 1024  # held in memory for each download, however slow its reader
_INCOMING = ".incoming"
_TRIES = 5


def open_blobs(url: str) -> "LocalBlobs":
    """The store under the folder of a ``file:///absolute/folder`` URL; the folder is made when missing."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
        raise InvalidRequest(f"{url!r} names no local folder.", hint="Write file:///absolute/folder.")
    return LocalBlobs(Path(unquote(parts.path)))


class LocalBlobs:
    """One file a blob, under ``root``, at the path that its key spells."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._incoming = self._root / _INCOMING
        try:
            self._incoming.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageFailed(
                f"The storage folder {self._root} cannot be made: {error.strerror or error}.",
                hint="Check its owner and that its disk is not mounted read-only, or set ALPHAREEL_STORAGE_URL.",
            ) from error

    def put_file(self, key: str, path: Path) -> None:
        target = self._path(key)
        with translate_errors(), self._beside(path) as near:
            _sync_file(near)
            self._move(near, target)
            _sync_folder(target.parent)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        if not path.is_file():
            raise no_blob(key)
        yield path

    def size(self, key: str) -> int:
        with translate_errors(missing=key):
            return self._path(key).stat().st_size

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        with translate_errors(missing=key), self._path(key).open("rb") as file:
            file.seek(start)
            while length > 0 and (piece := file.read(min(length, _PIECE))):
                length -= len(piece)
                yield piece

    def delete(self, key: str) -> None:
        with translate_errors():
            path = self._path(key)
            path.unlink(missing_ok=True)
            self._fold(path.parent)

    def delete_prefix(self, prefix: str) -> None:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} must end in a slash")
        path = self._path(prefix[:-1])
        with translate_errors(), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
        self._fold(path.parent)

    def sweep(self) -> None:
        with translate_errors():
            for left in self._incoming.iterdir():
                left.unlink(missing_ok=True)
            for folder, _, _ in os.walk(self._root, topdown=False):
                self._fold(Path(folder))

    def older(self, than: datetime) -> Iterator[str]:
        with translate_errors():
            for folder, _, names in os.walk(self._root):
                for path in (Path(folder, name) for name in names):
                    key = path.relative_to(self._root).as_posix()
                    if not key.startswith(".") and _written(path) < than.timestamp():
                        yield key

    def free(self) -> int | None:
        with translate_errors():
            return shutil.disk_usage(self._root).free

    def is_ready(self) -> bool:
        return os.access(self._root, os.W_OK | os.X_OK)

    def _move(self, near: Path, target: Path) -> None:
        """Rename into a folder that somebody who deletes its last file may remove under our hands."""
        for left in reversed(range(_TRIES)):
            try:
                _make_folder(target.parent, above=self._root)
                near.replace(target)
            except FileNotFoundError:
                if left == 0 or not near.exists():
                    raise
            else:
                return

    def _fold(self, folder: Path) -> None:
        """Remove folders in which nothing is left, up to those that sort the keys by kind ('uploads', 'outputs')."""
        with contextlib.suppress(OSError):  # not empty, or gone
            while self._root not in (folder, folder.parent):
                folder.rmdir()
                folder = folder.parent

    def _path(self, key: str) -> Path:
        return self._root.joinpath(*parts_of(key))

    @contextmanager
    def _beside(self, path: Path) -> Iterator[Path]:
        """``path`` itself, or a copy on our file system when it lies on another, from where it can be renamed."""
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
def translate_errors(*, missing: str | None = None) -> Iterator[None]:
    """Our errors for the system's; a file that is not there is the missing blob named, else a failure like others."""
    try:
        yield
    except OSError as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise no_blob(missing) from None
        raise StorageFailed(
            f"The storage folder failed: {error.strerror or error}.", hint="Check its free space and permissions."
        ) from error


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # deleted meanwhile
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


def _make_folder(path: Path, *, above: Path) -> None:
    """Make ``path`` and sync each folder that got a new entry, or the path to a durable file may vanish."""
    missing = []
    while not path.exists() and path != above:
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)
