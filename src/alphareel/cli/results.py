"""What commands print: progress, results and reports."""

import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alphareel.cli.console import stderr, stdout
from alphareel.domain.clip import EngineFacts, Progress, Result
from alphareel.domain.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


def open_bar() -> "Bar":
    """A bar for tasks with a field ``fps``: their share, frames per second and remaining time."""
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% {task.fields[fps]:5.1f} fps"),
        TimeRemainingColumn(),
    )
    return Bar(*columns, console=stderr, transient=True)


@contextmanager
def progress_bar(name: str) -> Generator[Any, None, None]:
    """Yield a progress callback that draws a bar with fps and remaining time; None unless on a terminal."""
    if not stderr.is_terminal:
        yield None
        return
    with open_bar() as bar:
        task = bar.add_task(name, total=1.0, fps=0.0)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.share, fps=progress.fps)

        yield show


def print_results(results: Sequence[Result], *, as_json: bool, model: str | None) -> None:
    """Print one line per result, and warnings on standard error.

    A stand-in for the default model's engine is a warning only if the model was requested; otherwise it is a note, and
    only on a terminal.
    """
    from alphareel.matting import priorities, tiers

    priority = priorities.DEFAULT_PRIORITIES["original"]
    expected = tiers.fallback_warning("original", results[0].engine.name, priority) if model is None else ()
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        if warning not in expected:
            stderr.print(f"warning: {warning}", style="yellow", soft_wrap=True)
        elif stderr.is_terminal:
            stderr.print(f'note: {warning} See "alphareel models".', soft_wrap=True)
    for result in results:
        if result.encoded_whole is not None:
            stderr.print(f"note: {result.path} was encoded as a whole. {result.encoded_whole}", soft_wrap=True)
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))  # noqa: T201 - this is the output
        return
    for result in results:
        stdout.print(_summary(result), soft_wrap=True)


def read_results(path: Path) -> tuple[Result, ...]:
    """What ``print_results`` printed as JSON into this file. Raises InvalidRequest."""
    try:
        values = json.loads(path.read_text())
        return tuple(
            Result(
                **{
                    **each,
                    "path": str(each["path"]),
                    "engine": EngineFacts(**each["engine"]),
                    "warnings": tuple(each["warnings"]),
                }
            )
            for each in values
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidRequest(
            f"{path} does not hold the results of a command: {type(error).__name__}.",
            hint="Write them with --json: alphareel cut ... --json > results.json",
        ) from None


def write_report(findings: Mapping[str, Any], folder: Path, *, silent: bool = False) -> None:
    """Write the findings of ``alphareel.analyze`` to report.json; print their summary unless ``silent``."""
    path = folder / "report.json"
    path.write_text(json.dumps(findings, indent=2) + "\n")
    if silent:
        return
    for moment in findings["quality"]["worst"]:
        stdout.print(f"{moment['time']:8.2f} s  estimated error {moment['error']:.4f}  {moment['thumbnail']}")
    for suggestion in findings["quality"]["suggestions"]:
        stdout.print(suggestion["message"], soft_wrap=True)
    stdout.print(f"{path}", soft_wrap=True)


def _summary(result: Result) -> str:
    size = f"{result.bytes / 1e6:.1f} MB" if result.bytes >= 1e5 else f"{result.bytes / 1e3:.1f} kB"
    alpha = "transparent" if result.has_alpha else "opaque"
    engine = f"{result.engine.name} {result.engine.version}"
    frames = "1 frame" if result.frames == 1 else f"{result.frames} frames"
    lost = f", {result.frames_lost} damaged frames lost" if result.frames_lost else ""
    return (
        f"{result.path}: {result.format}, {result.width}x{result.height}, {frames}{lost}, "
        f"{result.seconds:.2f} s, {size}, {alpha}, engine {engine}"
    )
