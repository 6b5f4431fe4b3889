"""``alphareel cut``: the command over ``alphareel.cut``, and its protection of existing files."""

import json
import os
import sys
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import cyclopts

import alphareel
from alphareel.cli import folders
from alphareel.cli.console import stderr, stdout
from alphareel.cli.signals import interruptible
from alphareel.domain import errors
from alphareel.domain.clip import Progress, Result
from alphareel.domain.options import LOSSLESS_MATTE

PerTarget = list[str] | None
"""A value for all targets, or "TARGET=value" for one."""

ModelsDir = Annotated[Path | None, cyclopts.Parameter(env_var="ALPHAREEL_MODELS_DIR")]
ResultsAsJson = Annotated[bool, cyclopts.Parameter(name="--json", help="Print the results as a JSON list.")]


def _per_target(help_text: str) -> cyclopts.Parameter:
    return cyclopts.Parameter(help=help_text, negative=())


def _target_path(_type: Any, tokens: Sequence[Any]) -> Path:
    """The path of a target. One with a slash at its end is a folder, which is made: a Path does not keep the slash."""
    (token,) = tokens
    path = Path(token.value)
    if token.value.endswith(("/", os.sep)):
        make_folder(path)
    return path


def make_folder(path: Path) -> None:
    """Make a folder for results. Raises StorageFailed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else (error.strerror or str(error)).lower()
        raise errors.StorageFailed(f"{path} cannot be made a folder: {reason}.", hint="Name another folder.") from error


_Source = Annotated[Path, cyclopts.Parameter(help="The video to read.")]
_Target = Annotated[
    Path, cyclopts.Parameter(help="The file to write, or with --format a folder.", converter=_target_path)
]
_Others = Annotated[Path, cyclopts.Parameter(help="More files to write.", converter=_target_path)]
Background = Annotated[
    PerTarget, _per_target('A color ("#09A246"), an image or video file, or "blur"; default: transparent.')
]
Quality = Annotated[PerTarget, _per_target("web (small), balanced (default) or master (for editing).")]
_Composition = Annotated[
    PerTarget, _per_target("Canvas and position of the picture: JSON as in the HTTP API, or a file with it.")
]
_Engine = Annotated[
    str | None, cyclopts.Parameter(help='Engine to use instead of the model\'s ("alphareel models" lists them).')
]
_Prompt = Annotated[str | None, cyclopts.Parameter(help="What to keep, in words; for the model pro.")]
_Preview = Annotated[float | None, cyclopts.Parameter(help="Process only the first N seconds.")]
Threads = Annotated[int | None, cyclopts.Parameter(help="Threads for the network; default: all cores.")]
_KeyColor = Annotated[str | None, cyclopts.Parameter(help="Screen color for the engine chroma; detected by default.")]
_Plate = Annotated[
    Path | None,
    cyclopts.Parameter(help="Image of the empty scene (fixed camera). With --engine plate alone it is estimated."),
]
_Shadows = Annotated[bool, cyclopts.Parameter(help="Keep shadows (engines chroma and plate).", negative=())]
_Grow = Annotated[float, cyclopts.Parameter(help="Grow the matte by N pixels; negative shrinks it.")]
_Feather = Annotated[float, cyclopts.Parameter(help="Soften the edge of the matte by N pixels.")]
PosterTime = Annotated[
    float | None, cyclopts.Parameter(help="Time of the poster frame in seconds; default: the best frame.")
]
_Smoothing = Annotated[
    str, cyclopts.Parameter(help="offline (default: looks at frames before and after) or live (only before).")
]
Overwrite = Annotated[bool, cyclopts.Parameter(help="Replace existing files instead of refusing.", negative=())]
Format = Annotated[PerTarget, _per_target("Output format, if the suffix does not imply it.")]

_Report = Annotated[
    Path | None,
    cyclopts.Parameter(help="Folder for a report on the matte: its worst moments, the subjects, what to try."),
]

_COMPOSITION = '{"canvas": {"width": 1080, "height": 1920}, "foreground": {"anchor": "bottom-center", "scale": 1}}'


def cut(
    source: _Source,
    target: _Target,
    /,
    *others: _Others,
    model: str | None = None,
    engine: _Engine = None,
    background: Background = None,
    format: Format = None,  # noqa: A002 - the flag is called --format
    quality: Quality = None,
    composition: _Composition = None,
    key_color: _KeyColor = None,
    plate: _Plate = None,
    shadows: _Shadows = False,
    grow: _Grow = 0.0,
    feather: _Feather = 0.0,
    poster_time: PosterTime = None,
    smoothing: _Smoothing = "offline",
    prompt: _Prompt = None,
    preview: _Preview = None,
    models_dir: ModelsDir = None,
    threads: Threads = None,
    report: _Report = None,
    overwrite: Overwrite = False,
    as_json: ResultsAsJson = False,
) -> None:
    """Remove the background of SOURCE and write TARGET; the format follows from TARGET's suffix.

    For many videos, SOURCE is a folder or a quoted pattern and TARGET a folder: alphareel cut clips/ out/
    Videos that have a result there are skipped without --overwrite, so an interrupted call goes on where it stopped.

    OTHERS are more files to write, never more sources. All targets come from one matte; either all of them appear or
    none. Prefix a value with a target's name and "=" to apply it to that target only: alphareel cut talk.mp4
    talk.webm over.mp4 --background over.mp4=white

    Parameters
    ----------
    model
        Model: original (default), light, pro or human.
    models_dir
        Folder with model weights. Default: models in the data folder.
    """
    check_options(engine=engine, key_color=key_color)
    wanted: dict[str, Any] = {
        "model": model or "original",
        "engine": engine,
        "key_color": key_color,
        "plate": plate,
        "shadows": shadows,
        "grow": grow,
        "feather": feather,
        "text_prompt": prompt,
        "poster_time": poster_time,
        "smoothing": smoothing,
        "preview_duration": preview,
        "models_dir": models_dir,
        "threads": threads,
        "overwrite": overwrite,
    }
    values = {"background": background, "output_format": format, "quality": quality, "composition": composition}
    if not others and folders.is_many(source) and (target.is_dir() or not target.suffix):
        if report is not None:
            raise errors.InvalidRequest("--report is about one video.", hint="Cut this video by itself.")
        _cut_folder(source, target, values, wanted, overwrite=overwrite)
        return
    check_source(source)
    with interruptible(), progress_bar(source.name) as show, TemporaryDirectory() as folder:
        targets = plan_targets(source, (target, *others), values, overwrite=overwrite)
        matte = Path(folder) / "matte.mkv"
        kept = {} if report is None else {matte: {"output_format": LOSSLESS_MATTE}}
        results = alphareel.cut(source, targets={**targets, **kept}, on_progress=show, **wanted)[: len(targets)]
        found = None if report is None else alphareel.analyze(matte, source, report, on_progress=show)
    print_results(results, as_json=as_json, model=model)
    if report is not None and found is not None:
        write_report(found, report, silent=as_json)


def _cut_folder(
    source: Path, target: Path, values: Mapping[str, PerTarget], wanted: Mapping[str, Any], *, overwrite: bool
) -> None:
    """Cut every video of a folder or pattern into the folder ``target``; exit code 1 if any failed."""
    suffix, cut_one = folder_job(values, wanted)
    planned = folders.plan(folders.find_videos(source, target), target, suffix)
    make_folder(target)
    with interruptible():
        summary = folders.cut_all(planned, cut_one, overwrite=overwrite)
    folders.report(summary)
    if summary.failed:
        sys.exit(1)


def folder_job(values: Mapping[str, PerTarget], wanted: Mapping[str, Any]) -> tuple[str, folders.CutOne]:
    """The suffix of the files, and the function that cuts one video. Raises InvalidRequest."""
    from alphareel.media.format import format_named

    shared = {name: value_for(Path(), (), given or ()) for name, given in values.items()}
    name = str(shared["output_format"] or "webm")

    def cut_one(video: Path, path: Path, show: Any) -> Sequence[Result]:
        _check_recording(video, path)
        own = {**shared, "output_format": name}
        return alphareel.cut(video, targets={path: own}, on_progress=show, **wanted)

    return format_named(name).suffix, cut_one


def watch(
    source: Annotated[Path, cyclopts.Parameter(help="The folder in which videos appear.")],
    target: Annotated[Path, cyclopts.Parameter(help="The folder for the results; it is created.")],
    /,
    *,
    model: str | None = None,
    engine: _Engine = None,
    background: Background = None,
    format: Format = None,  # noqa: A002 - the flag is called --format
    quality: Quality = None,
    seconds: Annotated[float, cyclopts.Parameter(help="Seconds between two looks at the folder.")] = 2.0,
    models_dir: ModelsDir = None,
    threads: Threads = None,
) -> None:
    """Cut every video that is put into the folder SOURCE, and those that are there, into the folder TARGET.

    A video is cut once it has not changed for two seconds and has no result yet. Ends with Ctrl-C.

    Parameters
    ----------
    model
        Model: original (default), light, human or pro.
    models_dir
        Folder with model weights. Default: models in the data folder.
    """
    if not source.is_dir():
        raise errors.NotFound(f"There is no folder {source}.", hint="Check the path.")
    values = {"background": background, "output_format": format, "quality": quality}
    wanted = {"model": model or "original", "engine": engine, "models_dir": models_dir, "threads": threads}
    suffix, cut_one = folder_job(values, wanted)
    make_folder(target)
    with interruptible():
        folders.watch_forever(source, target, suffix, cut_one, seconds=seconds)


def check_source(source: Path, verb: str = "cut") -> None:
    """Refuse anything but a single existing file: a URL, a folder, an unexpanded pattern, a wrong path."""
    scheme, _, rest = str(source).partition(":/")
    if scheme.lower() in ("http", "https"):
        address = f"{scheme}://{rest.lstrip('/')}"
        raise errors.InvalidRequest(
            f"{address} is a URL, and the command reads files.", hint=f"Download it first: curl -fLO '{address}'"
        )
    if source.is_dir():
        raise errors.InvalidRequest(f"{source} is a folder, and {verb} takes one video.", hint=_many(str(source)))
    if source.exists():
        return
    if set("*?[") & set(str(source)):
        raise errors.NotFound(
            f"There is no file {source}, and {verb} takes one video, not a pattern.", hint=_many(str(source))
        )
    raise errors.NotFound(f"There is no file {source}.", hint="Check the path.")


def check_options(*, engine: str | None, key_color: str | None) -> None:
    """Refuse options that would be ignored."""
    if key_color is not None and engine != "chroma":
        raise errors.InvalidRequest(
            "--key-color is the screen's color for the engine chroma, and another engine would ignore it.",
            hint="Add --engine chroma.",
        )


def plan_targets(
    source: Path, paths: Sequence[Path], values: Mapping[str, PerTarget], *, overwrite: bool
) -> dict[Path, dict[str, Any]]:
    """The options of each target. Raises InvalidRequest; TargetExists for a target that may be footage."""
    planned: dict[Path, dict[str, Any]] = {}
    for path in paths:
        own = {name: value_for(path, paths, given or ()) for name, given in values.items()}
        composed = {
            name: read_composition(text) for name, text in own.items() if name == "composition" and text is not None
        }
        planned[_in_folder(source, path, own["output_format"])] = {**own, **composed}
    for path in planned:
        _check_folder(path)
    _check_footage(source, list(planned), overwrite=overwrite)
    if len(planned) < len(paths):
        raise errors.InvalidRequest("Two targets are the same file.", hint="Give each a name of its own.")
    return planned


def value_for(path: Path, paths: Sequence[Path], values: Iterable[str]) -> str | None:
    """The last value that applies to this target; one that names the target wins."""
    chosen: tuple[bool, str | None] = (False, None)
    for value in values:
        name, separator, rest = value.partition("=")
        named = bool(separator) and Path(name) in paths
        if not named and not chosen[0]:
            chosen = (False, value)
        elif named and Path(name) == path:
            chosen = (True, rest)
    return chosen[1]


def read_composition(value: str) -> Mapping[str, Any]:
    """The JSON object in ``value``, or in the file that it names. Raises InvalidRequest, NotFound."""
    path = Path(value)
    is_inline = value.lstrip().startswith("{")
    try:
        parsed = json.loads(value if is_inline else path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise errors.NotFound(
            f"There is no composition file {path}.", hint=f"Check the path, or write the JSON itself: {_COMPOSITION}"
        ) from None
    except OSError as error:
        raise errors.InvalidRequest(f"The composition file {path} cannot be read: {error.strerror}.") from None
    except ValueError as error:
        where = "The composition" if is_inline else f"The composition file {path}"
        raise errors.InvalidRequest(f"{where} is not valid JSON: {error}.", hint=f"Write {_COMPOSITION}") from None
    if not isinstance(parsed, dict):
        raise errors.InvalidRequest("The composition is not a JSON object.", hint=f"Write {_COMPOSITION}")
    return parsed


def _in_folder(source: Path, path: Path, format_name: str | None) -> Path:
    """Resolve a folder target to a file: the source's name with the suffix of the format."""
    from alphareel.media.format import format_named

    if not path.is_dir():
        return path
    if format_name is None:
        raise errors.InvalidRequest(
            f"The target {path} is a folder.",
            hint=f"Name a file in it, such as {path / source.stem}.webm, or say --format webm.",
        )
    return path / f"{source.stem}{format_named(format_name).suffix}"


def _check_folder(path: Path) -> None:
    folder = path.resolve().parent
    if not folder.is_dir():
        raise errors.StorageFailed(
            f"{path} cannot be written: no such file or directory.", hint=f"Make {folder} first."
        )
    if not os.access(folder, os.W_OK):
        raise errors.StorageFailed(f"{path} cannot be written: permission denied.", hint="Choose another folder.")


def _check_footage(source: Path, paths: Sequence[Path], *, overwrite: bool) -> None:
    """Refuse targets that look like more sources: a shell that expands ``*.mov`` turns them into targets.

    That is an existing video that alphareel did not write, if it has the source's suffix or if all of several targets
    exist. ``overwrite`` does not change this.
    """
    from alphareel.media.result_tag import is_foreign_video

    pattern = str(source.with_name(f"*{source.suffix}"))
    existing = [path for path in paths if path.is_file() and not path.samefile(source)]
    is_list = len(paths) > 1 and len(existing) == len(paths)
    for path in existing:
        if (is_list or path.suffix.lower() == source.suffix.lower()) and is_foreign_video(path):
            means = (
                f". To replace {path} nevertheless, delete it first."
                if overwrite
                else " (--overwrite does not change this.)"
            )
            raise errors.TargetExists(
                f"{path} is an existing video that alphareel did not write, so it is not overwritten: cut takes one "
                f"source, {source}, and every file after it is written.",
                hint=f"{_many(pattern)}{means}",
            )


def _check_recording(video: Path, path: Path) -> None:
    """Refuse to replace a video of the same kind that alphareel did not write: cameras name their files alike."""
    from alphareel.media.result_tag import is_foreign_video

    if path.suffix.lower() == video.suffix.lower() and path.is_file() and is_foreign_video(path):
        raise errors.TargetExists(
            f"{path} is an existing video that alphareel did not write, so it is not overwritten.",
            hint="Name another folder for the results, or delete it first.",
        )


def _many(source: str) -> str:
    """How to cut several videos with one command."""
    return f"For several videos, name a folder for the results: alphareel cut '{source}' cut/"


@contextmanager
def progress_bar(name: str) -> Generator[Any, None, None]:
    """Yield a progress callback that draws a bar with fps and remaining time; None unless on a terminal."""
    if not stderr.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}% {task.fields[fps]:5.1f} fps"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=stderr, transient=True) as bar:
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
            stderr.print(f"warning: {warning}", style="yellow")
        elif stderr.is_terminal:
            stderr.print(f'note: {warning} See "alphareel models".', soft_wrap=True)
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))  # noqa: T201 - this is the output
        return
    for result in results:
        stdout.print(_summary(result), soft_wrap=True)


def write_report(found: Mapping[str, Any], folder: Path, *, silent: bool = False) -> None:
    """Write what ``alphareel.analyze`` found to report.json in ``folder``, and print the essence unless ``silent``."""
    path = folder / "report.json"
    path.write_text(json.dumps(found, indent=2) + "\n")
    if silent:
        return
    for moment in found["quality"]["worst"]:
        stdout.print(f"{moment['time']:8.2f} s  estimated error {moment['error']:.4f}  {moment['thumbnail']}")
    for suggestion in found["quality"]["suggestions"]:
        stdout.print(suggestion["message"], soft_wrap=True)
    stdout.print(f"{path}", soft_wrap=True)


def _summary(result: Result) -> str:
    size = f"{result.bytes / 1e6:.1f} MB" if result.bytes >= 1e5 else f"{result.bytes / 1e3:.1f} kB"
    alpha = "transparent" if result.has_alpha else "opaque"
    engine = f"{result.engine.name} {result.engine.version}"
    lost = f", {result.frames_lost} damaged frames lost" if result.frames_lost else ""
    return (
        f"{result.path}: {result.format}, {result.width}x{result.height}, {result.frames} frames{lost}, "
        f"{result.seconds:.2f} s, {size}, {alpha}, engine {engine}"
    )
