"""``alphareel doctor --bundle``: a ZIP file for bug reports, without secrets and without what users sent."""

import importlib.metadata
import json
import os
import platform
import sys
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import alphareel
from alphareel.cli.doctor import Check
from alphareel.domain.errors import AlphareelError
from alphareel.telemetry.logging import redacted

if TYPE_CHECKING:
    from alphareel.service.settings import Settings


def write_bundle(path: Path, checks: Iterable[Check]) -> None:
    """Write the bundle; a part that cannot be read says why. Raises OSError."""
    parts: dict[str, Callable[[], Any]] = {
        "checks.json": lambda: [check.__dict__ for check in checks],
        "machine.json": _machine,
        "packages.json": _packages,
        "settings.json": _settings,
        "installation.json": _installation,
    }
    with zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED) as archive:
        for name, read in parts.items():
            try:
                content = read()
            except (AlphareelError, OSError, ImportError) as error:
                content = {"error": f"{type(error).__name__}: {error}"}
            archive.writestr(name, json.dumps(redacted(content), indent=2, default=str) + "\n")


def _machine() -> dict[str, Any]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else None
    limits = {name: _read(Path("/sys/fs/cgroup", name)) for name in ("memory.max", "cpu.max")}
    return {
        "version": alphareel.__version__,
        "python": sys.version,
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "memory_bytes": memory,
        "cgroup": limits,
    }


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _packages() -> dict[str, str]:
    installed_names = ((d.metadata["Name"], d.version) for d in importlib.metadata.distributions())
    return dict(sorted((name, version) for name, version in installed_names if name))


def _settings() -> Mapping[str, Any]:
    """Settings that are set, and the names of unknown variables."""
    from alphareel.server.settings import load_settings, shown, unknown_variables

    settings = load_settings()
    # As text: a mapping would lose whether a secret is set, because of its name.
    return {
        "settings": [f"{name}={value}" for name, value in shown(settings).items()],
        "unknown": sorted(unknown_variables(os.environ)),
    }


def _installation() -> Mapping[str, Any]:
    """Counts and the ends of failed jobs, from a database that exists. It changes nothing."""
    from alphareel.server.settings import load_settings

    settings = load_settings()
    return _recorded_jobs(settings)


def _recorded_jobs(settings: "Settings") -> Mapping[str, Any]:
    from alphareel.db import migrate
    from alphareel.db.database import Database, normalized, open_engine
    from alphareel.db.stats import StatsStore, latest_failures
    from alphareel.server.installation import SystemClock

    url = normalized(settings.database.url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        return {"database": "not made yet"}
    database = Database(open_engine(settings.database.url))
    try:
        stats = StatsStore(database, clock=SystemClock()).collect()
        return {
            "schema_is_current": migrate.is_current(database),
            "jobs": stats.jobs,
            "failures": stats.failures,
            "webhooks": stats.webhooks,
            "workers": stats.executors,
            "oldest_queued_seconds": stats.oldest_seconds,
            "latest_failures": latest_failures(database),
        }
    finally:
        database.close()
