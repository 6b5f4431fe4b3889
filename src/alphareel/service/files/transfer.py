"""Copies blobs from one store to another. Blobs never change under their key, so that a copy can be continued."""

import shutil
import tempfile
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alphareel.domain.errors import NotFound, StorageFailed
from alphareel.service.files import blob_keys
from alphareel.service.ports import Blobs

_WRITERS = 4


@dataclass(frozen=True)
class FileTransferSummary:
    """Blobs and bytes that were copied; blobs that the target had already."""

    blobs: int
    bytes: int
    kept: int


def copy_blobs(
    source: Blobs, target: Blobs, *, folder: Path, accepts: Callable[[str], bool] = lambda _: True
) -> FileTransferSummary:
    """Copy the blobs of our layout that ``accepts`` accepts and that the target lacks, or has with another size.

    ``folder`` takes temporary files. A blob that is deleted meanwhile is left out. Raises StorageFailed.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    future = datetime.now(UTC) + timedelta(days=366)
    keys = (key for key in source.older(future) if blob_keys.parse(key) is not None and accepts(key))
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="copy") as pool:
        sizes = list(pool.map(lambda key: _copy(source, target, key, folder), keys))
    copied = [size for size in sizes if size is not None and size >= 0]
    return FileTransferSummary(len(copied), sum(copied), sum(size is None for size in sizes))


def missing_blobs(store: Blobs, keys: Iterable[str]) -> list[str]:
    """Those of the keys that the store does not have. Raises StorageFailed."""

    def is_missing(key: str) -> bool:
        try:
            store.size(key)
        except NotFound:
            return True
        return False

    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="look") as pool:
        listed = list(keys)
        return [key for key, missing in zip(listed, pool.map(is_missing, listed), strict=True) if missing]


def _copy(source: Blobs, target: Blobs, key: str, folder: Path) -> int | None:
    """Bytes that were copied; None when the target has the blob, -1 when the source lost it."""
    try:
        size = source.size(key)
        if _size(target, key) == size:
            return None
        with source.local(key) as path, tempfile.TemporaryDirectory(dir=folder) as temporary:
            copy = Path(temporary, "blob")
            shutil.copyfile(path, copy)  # the target may move what it is given
            target.put_file(key, copy)
    except (NotFound, FileNotFoundError):
        return -1
    if _size(target, key) != size:
        raise StorageFailed(f"{key} has another size in the target.", hint="Run the same command again.")
    return size


def _size(store: Blobs, key: str) -> int | None:
    try:
        return store.size(key)
    except NotFound:
        return None
