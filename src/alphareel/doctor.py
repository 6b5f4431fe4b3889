"""What is installed here and whether it is enough to work: engines, formats, disk, limits. Changes nothing."""

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import alphareel
from alphareel.domain.options import FORMATS, TIERS
from alphareel.settings import Settings

_NEEDED_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class Check:
    """One finding; ``fine`` is False only for what keeps alphareel from working."""

    name: str
    fine: bool
    detail: str


def examine(settings: Settings) -> Iterator[Check]:
    """Every check in the order in which a person would ask."""
    yield Check(
        "alphareel", True, f"{alphareel.__version__} on Python {platform.python_version()}, {os.cpu_count()} cores"
    )
    yield from _engines(settings.models_dir)
    yield _formats()
    yield _disk(settings.data_dir)
    yield _limits(settings)


def _engines(models_dir: Path | None) -> Iterator[Check]:
    offers = alphareel.models(models_dir=models_dir)
    for offer in offers:
        detail = offer.reason or f"ready; cuts out {offer.spec.subject}; weights {offer.spec.weights_licence}"
        yield Check(f"engine {offer.spec.name}", True, detail)
    for tier in TIERS:
        name = next((o.spec.name for o in offers if tier in o.serving), None)
        told = f"served by {name}" if name else "nothing serves it here; jobs that ask for it answer model_unavailable"
        yield Check(f"tier {tier}", name is not None or tier == "pro", told)


def _formats() -> Check:
    made = alphareel.formats()
    absent = [name for name in FORMATS if name not in made]
    also = f"; not written here: {', '.join(absent)}" if absent else ""
    return Check("formats", bool(made), ", ".join(made) + also)


def _disk(data_dir: Path) -> Check:
    """Room and permission in the data folder, or in the nearest folder above it that exists."""
    folder = next(p for p in (data_dir, *data_dir.parents) if p.exists())
    free = shutil.disk_usage(folder).free
    writable = os.access(folder, os.W_OK)
    told = f"{data_dir}: {free / 1024**3:.0f} GiB free" + ("" if writable else "; may not be written by this user")
    return Check("data folder", writable and free >= _NEEDED_BYTES, told)


def _limits(settings: Settings) -> Check:
    size = settings.max_upload_bytes / 1024**2
    hours = settings.max_seconds / 3600
    return Check("limits", True, f"{size:.0f} MiB a file, {settings.max_side} pixels a side, {hours:g} h a clip")
