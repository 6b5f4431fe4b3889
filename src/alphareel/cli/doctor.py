"""The checks of ``alphareel doctor``: whether this installation can work, and if not, why. They change nothing."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alphareel import plugins
from alphareel.domain.errors import AlphareelError
from alphareel.domain.options import TIERS, Tier
from alphareel.imaging import kernels
from alphareel.machine import cores
from alphareel.matting import kernel_network, priorities, tiers
from alphareel.paths import default_models_dir

if TYPE_CHECKING:
    from alphareel.service.settings import Settings

_OPTIONAL_TIERS = ("pro",)
_LITTLE_SPACE = 2 * 1024**3


@dataclass(frozen=True)
class Check:
    name: str
    fine: bool
    detail: str


def examine() -> Iterator[Check]:
    """One check after the other; none of them raises. Raises InvalidRequest for invalid settings of the service."""
    try:
        from alphareel.server.settings import load_settings
    except ModuleNotFoundError:
        yield from _engines(default_models_dir(), priorities.DEFAULT_PRIORITIES)
        yield from _formats()
        yield _kernels()
        yield Check("service", fine=True, detail='not installed, which is optional: pip install "alphareel[service]"')
        return
    yield from _service(load_settings())


def _service(settings: "Settings") -> Iterator[Check]:

    yield from _engines(settings.models.dir, settings.models.priorities)
    yield from _formats()
    yield _kernels()
    for name, look in (("data folder", _data_dir), ("database", _database), ("storage", _storage)):
        yield _run_check(name, look, settings)
    yield _confinement(settings)
    yield Check("processors", fine=True, detail=f"{cores()} for {settings.worker.jobs} job(s) at a time")


def _confinement(settings: "Settings") -> Check:
    from alphareel.service.worker import confinement

    if not settings.worker.confined:
        return Check("confinement", fine=True, detail="off, by ALPHAREEL_CONFINE_JOBS")
    return Check("confinement", fine=True, detail=f"job processes: {confinement.available().describe()}")


def _run_check(name: str, look: "Callable[[Settings], Check]", settings: "Settings") -> Check:
    try:
        return look(settings)
    except (AlphareelError, OSError) as error:
        return Check(name, fine=False, detail=str(error))


def _engines(models_dir: Path, priorities: Mapping[Tier, tuple[str, ...]]) -> Iterator[Check]:
    statuses = tiers.list_engines(models_dir, priorities)
    for tier in TIERS:
        serving = next((status.info.name for status in statuses if tier in status.serving), None)
        missing = "nothing serves it" + (", which is optional" if tier in _OPTIONAL_TIERS else "")
        yield Check(f"model {tier}", fine=serving is not None or tier in _OPTIONAL_TIERS, detail=serving or missing)


def _formats() -> Iterator[Check]:
    for name, load in plugins.discover("alphareel.media.formats", "alphareel.formats").items():
        try:
            missing = load().FORMAT.missing()
        except (LookupError, ImportError) as error:
            yield Check(f"format {name}", fine=False, detail=str(error))
        else:
            yield Check(
                f"format {name}", fine=True, detail=f"{missing}; it is optional" if missing else "can be written"
            )


def _kernels() -> Check:
    if kernels.library() is None:
        detail = 'NumPy, which is slower: pip install "alphareel[fast]"'
    elif kernel_network.is_supported():
        detail = "compiled, and so are the networks builtin and subject, in 16-bit integers"
    else:
        detail = "compiled; ONNX Runtime runs all networks, because this processor has no AVX-512 VNNI"
    return Check("pixel loops", fine=True, detail=detail)


def _data_dir(settings: "Settings") -> Check:
    data_dir = settings.storage.data_dir
    existing = next(folder for folder in (data_dir, *data_dir.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    writable = os.access(existing, os.W_OK | os.X_OK)
    state = "writable" if writable else f"{existing} is not writable"
    return Check(
        "data folder", fine=writable and free >= _LITTLE_SPACE, detail=f"{state}, {free / 1024**3:.1f} GiB free"
    )


def _database(settings: "Settings") -> Check:
    from alphareel.db import migrate
    from alphareel.db.database import Database, normalized, open_engine

    url = normalized(settings.database.url)
    backend = url.get_backend_name()
    if backend == "sqlite" and not Path(url.database or "").exists():
        return Check("database", fine=True, detail="SQLite; made at the first start")
    database = Database(open_engine(settings.database.url))
    try:
        current = migrate.is_current(database)
    finally:
        database.close()
    return Check(
        "database", fine=True, detail=f"{backend}, {'up to date' if current else 'migrated at the next start'}"
    )


def _storage(settings: "Settings") -> Check:
    from alphareel.server import installation

    scheme = settings.storage.url.partition(":")[0]
    if scheme == "file" and not settings.storage.data_dir.exists():
        return Check("storage", fine=True, detail=f"{scheme}; made at the first start")
    fine = installation.open_blobs(settings.storage.url).is_ready()
    return Check("storage", fine=fine, detail=f"{scheme}, {'can be written' if fine else 'cannot be written'}")
