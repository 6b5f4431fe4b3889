"""Weights files: what is known about them, where they are, and whether they match their hash. Downloads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from alphareel.domain.errors import ModelUnavailable, WeightsInvalid
from alphareel.paths import file_sha256

MIN_BYTES = 1024
# Licenses that allow any use with attribution, commercial use included, so nobody has to accept anything.
_PERMISSIVE = frozenset({"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "MIT"})


@dataclass(frozen=True)
class WeightsFile:
    """A file to download: ``path`` in the models folder (with ``/``), ``url`` (HTTPS), and its expected content.

    ``size`` (bytes) and ``sha256`` (hex) are None if they are not published. The hash of the first download is then
    written next to the file and pinned.
    """

    path: str
    url: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Weights:
    """The weights of one engine.

    ``pattern``: name of the file that the engine opens, with wildcards where publishers vary it. ``sha256``: accepted
    hashes of that file; empty to accept any. ``source``: the page with the file and its license. ``files``: what
    ``alphareel models pull`` downloads.
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
        """Whether the licenses of code and weights allow any use, so that nobody has to accept them."""
        return {self.code_license, self.weights_license} <= _PERMISSIVE


def missing_reason(weights: Weights, models_dir: Path | None) -> str | None:
    """Why the engine cannot run, as for ``available`` of a model file; None when its weights are installed.

    Raises WeightsInvalid.
    """
    path = find_weights(weights, [models_dir])
    if path is None:
        return f"No {weights.pattern} in the models folder; download it with: alphareel models pull {weights.name}."
    verify(weights, path)
    return None


def require_weights(weights: Weights, models_dir: Path | None) -> tuple[Path, str]:
    """The path and SHA-256 of the weights. Raises ModelUnavailable when they are missing, WeightsInvalid when wrong."""
    path = find_weights(weights, [models_dir])
    if path is None:
        raise ModelUnavailable(
            f"The engine {weights.name} needs {weights.pattern}, which is not in the models folder.",
            hint=f"Read its license on {weights.source}, then download it with: alphareel models pull {weights.name}.",
        )
    return path, verify(weights, path)


def find_weights(weights: Weights, folders: Sequence[Path | None]) -> Path | None:
    """The first match of the pattern: folders in order, files alphabetically. None when there is none."""
    for folder in folders:
        if folder is not None and folder.is_dir():
            files = sorted(p for p in folder.glob(weights.pattern) if p.is_file())
            if files:
                return files[0]
    return None


def verify(weights: Weights, path: Path) -> str:
    """SHA-256 of the file, checked against the known hashes, else against ``<file>.sha256`` next to it.

    Without either, only a minimum size is required. Raises WeightsInvalid.
    """
    actual = verify_file(weights, path)
    if path.stat().st_size < MIN_BYTES:
        raise WeightsInvalid(f"{path.name} is too small to be a network.", hint=f"Download it from {weights.source}.")
    return actual


def verify_file(weights: Weights, path: Path) -> str:
    """Like ``verify``, for files of any size."""
    actual = sha256_of(path)
    expected = weights.sha256 or read_hash_file(path)
    if expected and actual not in expected:
        raise WeightsInvalid(
            f"{path.name} has SHA-256 {actual[:16]}..., not {expected[0][:16]}...",
            hint=f"Download it again from {weights.source}.",
        )
    return actual


def sha256_of(path: Path) -> str:
    """SHA-256 in hex. Cached until the file's size or modification time changes. Raises WeightsInvalid."""
    try:
        status = path.stat()
        return _cached_hash(path.resolve(), status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise WeightsInvalid(
            f"{path.name} cannot be read: {error.strerror}.", hint="Check that the file is there and readable."
        ) from error


@lru_cache(maxsize=64)
def _cached_hash(path: Path, _size: int, _modified: int) -> str:
    return file_sha256(path)


def hash_file_of(path: Path) -> Path:
    """The path of ``<file>.sha256``, in the format of sha256sum."""
    return path.with_name(path.name + ".sha256")


def read_hash_file(path: Path) -> tuple[str, ...]:
    """The hash in ``<file>.sha256``; empty when there is none."""
    hash_file = hash_file_of(path)
    words = hash_file.read_text("ascii", "replace").split() if hash_file.is_file() else []
    return (words[0].lower(),) if words else ()
