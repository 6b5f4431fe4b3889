"""Blobs on a local disk: what ``put_file`` acknowledged survives power loss and is never seen half written."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

from alphareel.domain.errors import InvalidRequest, StorageFailed
from alphareel.storage._keys import no_blob, parts_of

_PIECE = 128 * 1024  # held in memory for each download, however slow its reader
_INCOMING = ".incoming"


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
        with _failures_as_ours():
            self._incoming.mkdir(parents=True, exist_ok=True)

    def put_file(self, key: str, path: Path) -> None:
        target = self._path(key)
        with _failures_as_ours(), self._beside(path) as near:
            _sync_file(near)
            _make_folder(target.parent, above=self._root)
            near.replace(target)
            _sync_folder(target.parent)

    @contextmanager
    def local(self, key: str) -> Iterator[Path]:
        path = self._path(key)
        if not path.is_file():
            raise no_blob(key)
        yield path

    def size(self, key: str) -> int:
        with _failures_as_ours(missing=key):
            return self._path(key).stat().st_size

    def read(self, key: str, start: int, length: int) -> Iterator[bytes]:
        with _failures_as_ours(missing=key), self._path(key).open("rb") as file:
            file.seek(start)
            while length > 0 and (piece := file.read(min(length, _PIECE))):
                length -= len(piece)
                yield piece

    def delete(self, key: str) -> None:
        with _failures_as_ours():
            self._path(key).unlink(missing_ok=True)

    def delete_prefix(self, prefix: str) -> None:
        if not prefix.endswith("/"):
            raise ValueError(f"{prefix!r} must end in a slash")
        with _failures_as_ours(), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self._path(prefix[:-1]))

    def sweep(self) -> None:
        with _failures_as_ours():
            for left in self._incoming.iterdir():
                left.unlink(missing_ok=True)

    def is_ready(self) -> bool:
        return os.access(self._root, os.W_OK | os.X_OK)

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
def _failures_as_ours(*, missing: str | None = None) -> Iterator[None]:
    """Our errors for the system's; a file that is not there is the missing blob named, else a failure like others."""
    try:
        yield
    except OSError as error:
        if missing is not None and isinstance(error, FileNotFoundError):
            raise no_blob(missing) from None
        raise StorageFailed(
            f"The storage folder failed: {error.strerror or error}.", hint="Check its free space and permissions."
        ) from error


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
