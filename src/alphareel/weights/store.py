"""The models folder on disk: what lies there, whether it is right, and how a file gets its name there."""

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from alphareel.domain.errors import StorageFailed, WeightsInvalid
from alphareel.matting.weights import Weights, WeightsFile, note_beside, read_note, sha256_of
from alphareel.weights import downloader

State = Literal["ready", "wrong", "unfinished", "absent"]

_PARTIAL = ".partial"


@dataclass(frozen=True)
class FileStatus:
    """How one file stands. ``bytes`` that lie there; ``detail``: what is wrong, or by what its hash is known."""

    file: WeightsFile
    state: State
    bytes: int
    detail: str


@dataclass(frozen=True)
class ModelsFolder:
    """Files below ``path``; what is not whole yet lies in a hidden folder there, where no engine looks."""

    path: Path

    def file(self, file: WeightsFile) -> Path:
        return self.path / file.path

    def part(self, file: WeightsFile) -> Path:
        return self.path / _PARTIAL / (file.path.replace("/", "--") + ".part")

    def pinned(self, file: WeightsFile) -> str | None:
        """The hash that this file must have: the published one, else that of the first which came."""
        return file.sha256 or next(iter(read_note(self.file(file))), None)

    def standing(self, file: WeightsFile) -> FileStatus:
        """Look without reading the file: its size tells a lot."""
        path = self.file(file)
        if not path.is_file():
            part = self.part(file)
            begun = part.stat().st_size if part.is_file() else 0
            return FileStatus(file, "unfinished" if begun else "absent", begun, "")
        size = path.stat().st_size
        if file.size is not None and size != file.size:
            return FileStatus(file, "wrong", size, f"has {size} bytes, not {file.size}")
        return FileStatus(file, "ready", size, "")

    def verify(self, file: WeightsFile) -> FileStatus:
        """Like ``standing``, with the hash of every byte."""
        seen = self.standing(file)
        if seen.state != "ready":
            return seen
        actual, expected = sha256_of(self.file(file)), self.pinned(file)
        if expected is None:
            return FileStatus(file, "ready", seen.bytes, f"SHA-256 {actual}, which nothing vouches for")
        if actual != expected:
            return FileStatus(file, "wrong", seen.bytes, f"has SHA-256 {actual[:16]}..., not {expected[:16]}...")
        return FileStatus(file, "ready", seen.bytes, "published hash" if file.sha256 else "hash of the first that came")

    @contextmanager
    def claim(self, file: WeightsFile, *, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold this file against other processes; ``waiting`` is called once when another holds it."""
        part = self.part(file)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(part.with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o644)
        except OSError as error:
            raise _unwritable(self.path, error) from error
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def settle(self, file: WeightsFile, *, origin: str, accepted: bool, weights: Weights) -> Path:
        """Check the part and give it its name, with its hash and its origin beside it. Raises WeightsInvalid.

        The hash is written first, so that no engine ever sees the file without it.
        """
        part, target = self.part(file), self.file(file)
        actual, expected = hash_of(part), self.pinned(file)
        if expected is not None and actual != expected:
            downloader.forget(part)
            raise WeightsInvalid(
                f"What came as {target.name} has SHA-256 {actual}, not {expected}; it was thrown away.",
                hint="Try again; if it stays so, somebody changes the file on its way, or its publisher has.",
            )
        record = {
            "weights": weights.name,
            "from": origin,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "bytes": part.stat().st_size,
            "sha256": actual,
            "hash": "published" if file.sha256 else "first that came",
            "code_license": weights.code_license,
            "weights_license": weights.weights_license,
            "license_accepted": accepted,
        }
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(note_beside(target), f"{actual}  {target.name}\n")
            _write(_origin_of(target), json.dumps(record, indent=2) + "\n")
            _sync(part)
            part.replace(target)
            _sync(target.parent)
        except OSError as error:
            raise _unwritable(target, error) from error
        downloader.forget(part)
        return target

    def remove(self, file: WeightsFile, *, forget_hash: bool) -> int:
        """Delete the file and what was begun of it; returns the bytes that were freed.

        A hash that only we know stays, so that another file under this name is noticed, unless ``forget_hash``.
        """
        freed = 0
        path, part = self.file(file), self.part(file)
        for gone in (path, part):
            freed += gone.stat().st_size if gone.is_file() else 0
        path.unlink(missing_ok=True)
        _origin_of(path).unlink(missing_ok=True)
        downloader.forget(part)
        if file.sha256 or forget_hash:
            note_beside(path).unlink(missing_ok=True)
        return freed


def hash_of(path: Path) -> str:
    """SHA-256 in hex, of the bytes as they are now."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _origin_of(path: Path) -> Path:
    return path.with_name(path.name + ".origin.json")


def _write(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text)
    fresh.replace(path)


def _sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unwritable(path: Path, error: OSError) -> StorageFailed:
    return StorageFailed(
        f"{path} cannot be written: {error.strerror or error}.",
        hint="Name a folder of yours with --models-dir or ALPHAREEL_MODELS_DIR.",
    )
