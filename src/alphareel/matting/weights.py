"""Weights files: what is known of each, where one lies, and whether it is what its hash says. Fetches nothing."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from alphareel.domain.errors import ModelUnavailable, WeightsInvalid

_CHUNK = 1 << 20
_SHORTEST = 1024
# Licenses that allow any use, commercial use included, for a mention: nothing there that somebody must agree to.
_PERMISSIVE = frozenset({"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "MIT"})


@dataclass(frozen=True)
class WeightsFile:
    """A file that can be fetched: ``path`` in the models folder (with ``/``), its ``url`` (HTTPS), what it must be.

    ``size`` in bytes and ``sha256`` in hex are None where nobody publishes them; the hash of the first file that came
    is then written beside it, and holds from there on.
    """

    path: str
    url: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Weights:
    """The weights of one engine, as its card describes them.

    ``pattern``: the file that the engine opens, with wildcards where publishers vary its name. ``sha256`` lists the
    hashes that are right for it (none when any file of that name is the user's own choice). ``source``: the page where
    a person finds it and its license. ``files``: what ``alphareel models pull`` fetches.
    """

    name: str
    pattern: str
    code_license: str
    weights_license: str
    source: str
    sha256: tuple[str, ...] = ()
    files: tuple[WeightsFile, ...] = ()

    @property
    def permissive(self) -> bool:
        """Whether code and weights may be used for anything, so that nobody need accept anything."""
        return {self.code_license, self.weights_license} <= _PERMISSIVE


def missing_reason(weights: Weights, models_dir: Path | None) -> str | None:
    """Why the engine cannot run for want of its weights, None when they lie there and are what they should be.

    What ``available`` of an engine answers. Raises WeightsInvalid.
    """
    path = find_weights(weights, [models_dir])
    if path is None:
        return f"No {weights.pattern} in the models folder; fetch it with: alphareel models pull {weights.name}."
    verify(weights, path)
    return None


def require_weights(weights: Weights, models_dir: Path | None) -> tuple[Path, str]:
    """The weights and their SHA-256. Raises ModelUnavailable when there are none, WeightsInvalid for wrong ones."""
    path = find_weights(weights, [models_dir])
    if path is None:
        raise ModelUnavailable(
            f"The engine {weights.name} needs {weights.pattern}, which is not in the models folder.",
            hint=f"Read its license on {weights.source}, then fetch it with: alphareel models pull {weights.name}.",
        )
    return path, verify(weights, path)


def find_weights(weights: Weights, folders: Sequence[Path | None]) -> Path | None:
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
    actual = verify_file(weights, path)
    if path.stat().st_size < _SHORTEST:
        raise WeightsInvalid(f"{path.name} is too short to be a network.", hint=f"Fetch it from {weights.source}.")
    return actual


def verify_file(weights: Weights, path: Path) -> str:
    """Like ``verify`` for any file of these weights, however short."""
    actual = sha256_of(path)
    expected = weights.sha256 or read_note(path)
    if expected and actual not in expected:
        raise WeightsInvalid(
            f"{path.name} has SHA-256 {actual[:16]}..., not {expected[0][:16]}...",
            hint=f"Fetch it again from {weights.source}.",
        )
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


def note_beside(path: Path) -> Path:
    """Where the hash of a file is kept, as sha256sum writes it."""
    return path.with_name(path.name + ".sha256")


def read_note(path: Path) -> tuple[str, ...]:
    """The hash in that note, none without one."""
    note = note_beside(path)
    words = note.read_text("ascii", "replace").split() if note.is_file() else []
    return (words[0].lower(),) if words else ()
