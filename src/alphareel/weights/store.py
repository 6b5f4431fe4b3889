"""The models folder on disk: the state of its files, their verification, installation and removal."""

import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from alphareel.domain.errors import StorageFailed, WeightsInvalid
from alphareel.matting.weights import Weights, WeightsFile, hash_file_of, read_hash_file, sha256_of
from alphareel.paths import file_sha256
from alphareel.weights import downloader

State = Literal["ready", "wrong", "unfinished", "absent"]

_PARTIAL = ".partial"


@dataclass(frozen=True)
class FileStatus:
    """The state of one file. ``bytes``: its size so far. ``detail``: what is wrong, or the origin of its hash."""

    file: WeightsFile
    state: State
    bytes: int
    detail: str


@dataclass(frozen=True)
class ModelsFolder:
    """The files in ``path``. Partial downloads are in a hidden folder there, which engines ignore."""

    path: Path

    def file(self, file: WeightsFile) -> Path:
        return self.path / file.path

    def part(self, file: WeightsFile) -> Path:
        return self.path / _PARTIAL / (file.path.replace("/", "--") + ".part")

    def pinned(self, file: WeightsFile) -> str | None:
        """The hash that this file must have: the published one, else that of the first download."""
        return file.sha256 or next(iter(read_hash_file(self.file(file))), None)

    def status(self, file: WeightsFile) -> FileStatus:
        """The state of a file by its size, without reading it."""
        path = self.file(file)
        if not path.is_file():
            part = self.part(file)
            partial_bytes = part.stat().st_size if part.is_file() else 0
            return FileStatus(file, "unfinished" if partial_bytes else "absent", partial_bytes, "")
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            return FileStatus(file, "wrong", size, f"has {size} bytes, not {file.size}")
        return FileStatus(file, "ready", size, "")

    def verify(self, file: WeightsFile) -> FileStatus:
        """Like ``status``, but also checks the hash."""
        status = self.status(file)
        if status.state != "ready":
            return status
        actual, expected = sha256_of(self.file(file)), self.pinned(file)
        if expected is None:
            return FileStatus(file, "ready", status.bytes, f"SHA-256 {actual}, unverified: no hash is known")
        if actual != expected:
            return FileStatus(file, "wrong", status.bytes, f"has SHA-256 {actual[:16]}..., not {expected[:16]}...")
        return FileStatus(
            file, "ready", status.bytes, "published hash" if file.sha256 else "hash of the first download"
        )

    @contextmanager
    def lock(self, file: WeightsFile, *, on_wait: Callable[[], None]) -> Iterator[None]:
        """Lock this file against other processes. ``on_wait`` is called once if another process holds it."""
        part = self.part(file)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(part.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise _write_error(self.path, error) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def install(self, file: WeightsFile, *, origin: str, accepted: bool, weights: Weights) -> Path:
        """Verify the partial file and move it into place, with its hash and its origin next to it.

        The hash is written first, so that no engine ever sees the file without it. Raises WeightsInvalid.
        """
        part, target = self.part(file), self.file(file)
        actual, expected = file_sha256(part), self.pinned(file)
        if expected is not None and actual != expected:
            downloader.discard(part)
            raise WeightsInvalid(
                f"{target.name} was downloaded with SHA-256 {actual}, not {expected}, and was deleted.",
                hint="Try again. If it recurs, the publisher has changed the file, or someone tampers with it.",
            )
        record = {
            "weights": weights.name,
            "from": origin,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "bytes": part.stat().st_size,
            "sha256": actual,
            "hash": "published" if file.sha256 else "first download",
            "code_license": weights.code_license,
            "weights_license": weights.weights_license,
            "license_accepted": accepted,
        }
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(hash_file_of(target), f"{actual}  {target.name}\n")
            _write(_origin_file(target), json.dumps(record, indent=2) + "\n")
            _fsync(part)
            part.replace(target)
            _fsync(target.parent)
        except OSError as error:
            raise _write_error(target, error) from error
        downloader.discard(part)
        return target

    def remove(self, file: WeightsFile, *, forget_hash: bool) -> int:
        """Delete the file and its partial download. Returns the number of bytes freed.

        An unpublished hash is kept, so that another file of this name is detected, unless ``forget_hash``.
        """
        freed = 0
        path, part = self.file(file), self.part(file)
        for file_path in (path, part):
            freed += file_path.stat().st_size if file_path.is_file() else 0
        path.unlink(missing_ok=True)
        _origin_file(path).unlink(missing_ok=True)
        downloader.discard(part)
        if file.sha256 or forget_hash:
            hash_file_of(path).unlink(missing_ok=True)
        return freed


def _origin_file(path: Path) -> Path:
    return path.with_name(path.name + ".origin.json")


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text)
    temporary.replace(path)


def _fsync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_error(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"{path} cannot be written: {error.strerror or error}.",
        hint="Choose a writable folder with --models-dir or ALPHAREEL_MODELS_DIR.",
    )
