"""``alphareel models``: what engines there are, and the weights they need: pull, verify, remove, import."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import cyclopts
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column, Table

import alphareel
from alphareel.cli.settings import load_library_settings
from alphareel.domain import errors
from alphareel.matting.weights import Weights, WeightsFile
from alphareel.weights.catalog import catalog, weights_named
from alphareel.weights.installer import Installer, ProgressListener
from alphareel.weights.store import FileStatus, ModelsFolder

app = cyclopts.App(name="models", help="List the engines; pull, verify, remove and import the weights they need.")
_out = Console(highlight=False, markup=False)
_err = Console(stderr=True, highlight=False, markup=False)

_ENGINE_TITLES = ("engine", "cuts out", "serves", "license (code / weights)", "state")
_Folder = Annotated[Path | None, cyclopts.Parameter(name="--models-dir")]


@app.default
@app.command(name="list")
def list_models(
    *, models_dir: _Folder = None, as_json: Annotated[bool, cyclopts.Parameter(name="--json")] = False
) -> None:
    """List the engines (what they cut out, licenses, which serve which tier here) and the weights to install.

    Parameters
    ----------
    models_dir
        Folder of weights; ALPHAREEL_MODELS_DIR, else in the data folder.
    as_json
        Print one JSON object instead of tables.
    """
    folder = _folder(models_dir)
    if as_json:
        print(json.dumps(_listing(folder), indent=2))  # noqa: T201 - this is the output
        return
    # In a narrow terminal or a pipe, names and commands to copy are broken rather than cut off.
    columns = (Column(title, overflow="fold", no_wrap=title == "engine") for title in _ENGINE_TITLES)
    engines = Table(*columns)
    for engine in alphareel.models(models_dir=folder.path):
        info = engine.info
        license = f"{info.code_license} / {info.weights_license}"
        needs_weights = (engine.reason or "").endswith(f"alphareel models pull {info.name}.")
        state = "no weights" if needs_weights else engine.reason or "ready"
        engines.add_row(info.name, info.subject, ", ".join(engine.serving) or "-", license, state)
    _out.print(engines)
    table = Table("weights", "MB", "here", title=f"to be fetched into {folder.path}")
    for weights in catalog():
        table.add_row(weights.name, _megabytes(weights), _state(weights, folder))
    _out.print(table)
    _out.print("Download them with: alphareel models pull NAME", soft_wrap=True)


@app.command
def pull(*names: str, accept_license: bool = False, mirror: str | None = None, models_dir: _Folder = None) -> None:
    """Download the weights of these engines; an interrupted download resumes.

    Parameters
    ----------
    names
        Weights as "alphareel models" lists them.
    accept_license
        Confirm that you have read the licenses of the weights and may use them under their terms.
    mirror
        https address of a copy of a models folder, instead of the publishers; ALPHAREEL_MODELS_MIRROR.
    models_dir
        Folder of weights; ALPHAREEL_MODELS_DIR, else in the data folder.
    """
    selection = [weights_named(name) for name in names]
    if not selection:
        raise errors.InvalidRequest(
            "No weights are named.", hint=f"Name one or more of {', '.join(w.name for w in catalog())}."
        )
    with _watching() as watcher:
        installer = Installer(
            _folder(models_dir), accept_license, mirror or load_library_settings().models_mirror, watcher
        )
        for weights in selection:
            installer.pull(weights)


@app.command(name="import")
def import_weights(source: Path, /, *, accept_license: bool = False, models_dir: _Folder = None) -> None:
    """Copy weights from SOURCE, a file or a folder (a disk, a models folder of another machine), and check them.

    Parameters
    ----------
    source
        The file or folder to copy from.
    accept_license
        Confirm that you have read the licenses of the weights and may use them under their terms.
    models_dir
        Folder of weights; ALPHAREEL_MODELS_DIR, else in the data folder.
    """
    with _watching() as watcher:
        Installer(_folder(models_dir), accept_license, listener=watcher).import_files(source, catalog())


@app.command
def verify(*names: str, models_dir: _Folder = None) -> None:
    """Check the hashes of the installed weights; exit code 4 when one is wrong.

    Parameters
    ----------
    names
        Weights as "alphareel models" lists them; default: all that are installed.
    models_dir
        Folder of weights; ALPHAREEL_MODELS_DIR, else in the data folder.
    """
    folder = _folder(models_dir)
    statuses = [folder.verify(f) for w in (_named(names) or catalog()) for f in w.files]
    rows = [s for s in statuses if names or s.state in ("ready", "wrong")]
    table = Table("file", "state", "detail")
    for status in rows:
        table.add_row(status.file.path, status.state, status.detail or "-")
    _out.print(table if rows else f"No known weights in {folder.path}.", soft_wrap=not rows)
    if any(s.state == "wrong" or (names and s.state != "ready") for s in rows):
        sys.exit(4)


@app.command
def remove(*names: str, forget_hash: bool = False, models_dir: _Folder = None) -> None:
    """Delete the weights of these engines, and partial downloads of them.

    Parameters
    ----------
    names
        Weights as "alphareel models" lists them.
    forget_hash
        Where no hash is published, trust the next download instead of the hash of the first one.
    models_dir
        Folder of weights; ALPHAREEL_MODELS_DIR, else in the data folder.
    """
    folder = _folder(models_dir)
    freed = sum(folder.remove(file, forget_hash=forget_hash) for w in _named(names) for file in w.files)
    _out.print(f"{freed / 1e6:.1f} MB freed")


def _named(names: tuple[str, ...]) -> list[Weights]:
    return [weights_named(name) for name in names]


def _folder(path: Path | None) -> ModelsFolder:
    return ModelsFolder((path or load_library_settings().models_dir).expanduser().absolute())


def _listing(folder: ModelsFolder) -> dict[str, object]:
    return {
        "models_dir": str(folder.path),
        "engines": [
            {
                "name": engine.info.name,
                "subject": engine.info.subject,
                "serves": list(engine.serving),
                "code_license": engine.info.code_license,
                "weights_license": engine.info.weights_license,
                "training_data": engine.info.training_data,
                "author_statement": engine.info.author_statement,
                "permissive": engine.info.permissive,
                "missing": engine.reason,
            }
            for engine in alphareel.models(models_dir=folder.path)
        ],
        "weights": [
            {
                "name": weights.name,
                "code_license": weights.code_license,
                "weights_license": weights.weights_license,
                "permissive": weights.permissive,
                "source": weights.source,
                "files": [_file_listing(folder.status(file)) for file in weights.files],
            }
            for weights in catalog()
        ],
    }


def _file_listing(status: FileStatus) -> dict[str, object]:
    file = status.file
    return {
        "path": file.path,
        "url": file.url,
        "bytes": file.size,
        "sha256": file.sha256,
        "state": status.state,
        "bytes_here": status.bytes,
    }


def _megabytes(weights: Weights) -> str:
    sizes = [f.size for f in weights.files]
    known = sum(s for s in sizes if s is not None) / 1e6
    if None in sizes:
        return f"{known:.1f} and more" if known else "unknown"
    return f"{known:.1f}"


def _state(weights: Weights, folder: ModelsFolder) -> str:
    statuses = [folder.status(f) for f in weights.files]
    wrong = next((s for s in statuses if s.state == "wrong"), None)
    if wrong is not None:
        return f"wrong: {wrong.file.path} {wrong.detail}"
    if all(s.state == "ready" for s in statuses):
        return "whole"
    here = sum(s.bytes for s in statuses)
    if here:
        return f"{here / 1e6:.1f} MB of it: pull goes on"
    return "-" if weights.permissive else "- (needs --accept-license)"


class _Lines(ProgressListener):
    """One line for each file, for logs."""

    def wait(self, file: WeightsFile) -> None:
        _err.print(f"{file.path}: another process is at it; waiting", soft_wrap=True)

    def finish(self, path: Path, *, new: bool) -> None:
        _err.print(f"{path}: {'here and verified' if new else 'was here already'}", soft_wrap=True)


class _Bars(_Lines):
    """A bar for the current file."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._task: TaskID | None = None

    def begin(self, file: WeightsFile) -> None:
        if self._task is not None:
            self._bars.remove_task(self._task)
        self._task = self._bars.add_task(file.path, total=file.size)

    def advance(self, done: int, total: int | None) -> None:
        assert self._task is not None
        self._bars.update(self._task, completed=done, total=total)


@contextmanager
def _watching() -> Iterator[ProgressListener]:
    if not _err.is_terminal:
        yield _Lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=_err, transient=True) as bars:
        yield _Bars(bars)
