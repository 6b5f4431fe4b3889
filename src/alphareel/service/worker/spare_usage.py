"""How much memory the spares of a data folder hold: the worker process writes it to a file, /metrics shows it."""

import contextlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

SECONDS = 5.0  # between two checks
_STALE_SECONDS = 60.0  # after which the worker that wrote it counts as gone


@dataclass(frozen=True)
class SpareUsage:
    """``memory_bytes``: what the spares share with no other process."""

    count: int
    memory_bytes: int


def write_usage(path: Path, usage: SpareUsage) -> None:
    """Replace the file; a full disk is no error."""
    fresh = path.with_suffix(".new")
    with contextlib.suppress(OSError):
        fresh.write_text(f"{usage.count} {usage.memory_bytes}\n")
        fresh.replace(path)


def read_usage(path: Path) -> SpareUsage | None:
    """None where no worker of this data folder writes it."""
    with contextlib.suppress(OSError, ValueError), path.open() as file:
        if time.time() - os.fstat(file.fileno()).st_mtime < _STALE_SECONDS:
            return SpareUsage(*map(int, file.read().split()))
    return None
