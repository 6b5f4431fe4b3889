"""Weights files: what is known of each, where one lies, and whether it is what its hash says. Fetches nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from alphareel.domain.errors import WeightsInvalid

_CHUNK = 1 << 20
_SHORTEST = 1024


@dataclass(frozen=True)
class Weights:
    """A weights file as its card describes it.

    ``pattern`` is the file name, with wildcards where publishers vary it. ``sha256`` lists the hashes that are known
    to be right (none when any file of that name is the user's own choice). ``source``: where a person finds it.
    """

    name: str
    pattern: str
    code_licence: str
    weights_licence: str
    source: str
    sha256: tuple[str, ...] = ()
    size: int | None = None


def find(weights: Weights, folders: Sequence[Path | None]) -> Path | None:
    """The first file of that name in the folders, in their order and alphabetically inside one; None without one."""
    for folder in folders:
        if folder is not None and folder.is_dir():
            files = sorted(p for p in folder.glob(weights.pattern) if p.is_file())
            if files:
                return files[0]
    return None


def verify(weights: Weights, path: Path) -> str:
    """SHA-256 of the file, checked against ``<file>.sha256`` beside it and the known hashes.

    A file of the user's own (no hash is known, none lies beside it) passes on its size alone; its hash is
    reported with every result all the same. Raises WeightsInvalid.
    """
    actual = sha256_of(path)
    expected = weights.sha256 or _written_beside(path)
    if expected and actual not in expected:
        raise WeightsInvalid(
            f"{path.name} has SHA-256 {actual[:16]}..., not {expected[0][:16]}...",
            hint=f"Fetch it again from {weights.source}.",
        )
    if path.stat().st_size < _SHORTEST:
        raise WeightsInvalid(f"{path.name} is too short to be a network.", hint=f"Fetch it from {weights.source}.")
    return actual


def sha256_of(path: Path) -> str:
    """SHA-256 in hex, computed again only when size or time of change differ. Raises WeightsInvalid."""
    try:
        facts = path.stat()
        return _hash(path.resolve(), facts.st_size, facts.st_mtime_ns)
    except OSError as error:
        raise WeightsInvalid(
            f"{path.name} cannot be read: {error.strerror}.", hint="Check that the file is there and readable."
        ) from error


@lru_cache(maxsize=64)
def _hash(path: Path, _size: int, _changed: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _written_beside(path: Path) -> tuple[str, ...]:
    """The hash in ``<file>.sha256``, as sha256sum writes it."""
    note = path.with_name(path.name + ".sha256")
    words = note.read_text("ascii", "replace").split() if note.is_file() else []
    return (words[0].lower(),) if words else ()
