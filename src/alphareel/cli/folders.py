"""Many videos in one call: ``alphareel cut FOLDER OUT/`` and ``alphareel watch FOLDER OUT/``."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from alphareel.cli.console import stderr, stdout
from alphareel.cli.results import open_bar
from alphareel.domain import errors
from alphareel.domain.clip import Progress, Result

SUFFIXES = frozenset(
    f".{name}"
    for name in "mp4 mov m4v webm mkv avi mpg mpeg ts mts wmv flv 3gp mxf ogv".split()  # noqa: SIM905
)
_SETTLED_SECONDS = 2.0  # a file that has not changed for so long was written completely

CutOne = Callable[[Path, Path, Callable[[Progress], None] | None], Sequence[Result]]
"""Cuts one video (source, target, progress callback)."""


@dataclass
class Summary:
    """The outcome of each video of a folder. ``failed``: the error of each."""

    written: list[Path] = field(default_factory=list)
    results: list[Result] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    failed: dict[Path, errors.AlphareelError] = field(default_factory=dict)


def is_many(source: Path) -> bool:
    """Whether a source names several videos: a folder, or a pattern that no shell has expanded."""
    return source.is_dir() or (not source.exists() and bool(set("*?[") & set(str(source))))


def find_videos(source: Path, target: Path) -> list[Path]:
    """The videos in a folder (not in its subfolders), or those that a pattern matches, sorted by name.

    Raises NotFound when a pattern matches none, InvalidRequest when results would land among the sources.
    """
    if source.is_dir():
        paths = [path for path in source.iterdir() if path.suffix.lower() in SUFFIXES]
    else:
        anchor = Path(source.anchor) if source.anchor else Path()
        paths = list(anchor.glob(str(source.relative_to(source.anchor) if source.anchor else source)))
    videos = sorted(p for p in paths if p.is_file() and not p.name.startswith("."))
    if any(p.resolve().parent == target.resolve() for p in videos):
        raise errors.InvalidRequest(
            f"The results would be among the sources, in {target}.", hint="Name another folder for the results."
        )
    if not videos and not source.is_dir():
        raise errors.NotFound(f"No file matches {source}.", hint="Check the pattern.")
    return videos


def plan(videos: Sequence[Path], target: Path, suffix: str) -> dict[Path, Path]:
    """The target of each video. Raises InvalidRequest when two have the same."""
    planned: dict[Path, Path] = {}
    for video in videos:
        path = target / f"{video.stem}{suffix}"
        if path in planned.values():
            other = next(v for v, p in planned.items() if p == path)
            raise errors.InvalidRequest(
                f"{video.name} and {other.name} would both become {path}.", hint="Rename one, or cut them one by one."
            )
        planned[video] = path
    return planned


def cut_all(planned: dict[Path, Path], cut_one: CutOne, *, overwrite: bool) -> Summary:
    """Cut each video whose target does not exist yet; a failure ends that one only.

    A target appears once it is complete, so an interrupted call can be resumed.
    """
    summary = Summary()
    with _bars(len(planned)) as bars:
        for video, target in planned.items():
            if target.exists() and not overwrite:
                summary.skipped.append(target)
            else:
                try:
                    summary.results += cut_one(video, target, bars.begin(video.name))
                except errors.AlphareelError as error:
                    summary.failed[video] = error
                else:
                    summary.written.append(target)
            bars.advance()
    return summary


def report(summary: Summary, *, as_json: bool = False) -> None:
    """Print what was written, then the failures."""
    if as_json:
        print(json.dumps([asdict(result) for result in summary.results], indent=2))  # noqa: T201 - this is the output
    else:
        for path in summary.written:
            stdout.print(f"{path}", soft_wrap=True)
    skipped = f", {len(summary.skipped)} were there already" if summary.skipped else ""
    stderr.print(f"{len(summary.written)} written{skipped}, {len(summary.failed)} failed", soft_wrap=True)
    for video, error in summary.failed.items():
        stderr.print(f"{video}: {error}", style="red", soft_wrap=True)


def watch_forever(
    source: Path, target: Path, suffix: str, cut_one: CutOne, *, seconds: float, passes: int | None = None
) -> None:
    """Cut each video that appears in a folder, once it no longer changes.

    ``passes``: how often to look at the folder; None for no limit. A video that failed is tried again only when it
    changes.
    """
    failed: dict[Path, float] = {}
    while passes is None or passes > 0:
        for video in find_videos(source, target):
            changed = _changed_at(video)
            path = target / f"{video.stem}{suffix}"
            is_settled = changed is not None and time.time() - changed >= _SETTLED_SECONDS
            if path.exists() or not is_settled or failed.get(video) == changed:
                continue
            summary = cut_all({video: path}, cut_one, overwrite=False)
            if summary.failed and changed is not None:
                failed[video] = changed
            report(summary)
        passes = None if passes is None else passes - 1
        if passes != 0:
            time.sleep(seconds)


def _changed_at(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:  # it was moved away
        return None


class _Bars:
    """A bar for all videos and one for the current one; none when not on a terminal."""

    def __init__(self, bar: Any, total: int) -> None:
        self._bar = bar
        self._all = None if bar is None else bar.add_task("all", total=total, fps=0.0)
        self._one: Any = None

    def begin(self, name: str) -> Callable[[Progress], None] | None:
        """The progress callback of the next video."""
        if self._bar is None:
            return None
        if self._one is not None:
            self._bar.remove_task(self._one)
        self._one = task = self._bar.add_task(name, total=1.0, fps=0.0)

        def show(progress: Progress) -> None:
            self._bar.update(task, completed=progress.share, fps=progress.fps)

        return show

    def advance(self) -> None:
        if self._bar is not None:
            self._bar.advance(self._all)


@contextmanager
def _bars(total: int) -> Iterator[_Bars]:
    if not stderr.is_terminal:
        yield _Bars(None, total)
        return
    with open_bar() as bar:
        yield _Bars(bar, total)
