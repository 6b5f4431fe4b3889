"""``alphareel cut`` and ``alphareel watch``: the commands over ``alphareel.cut``."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import cyclopts

import alphareel
from alphareel.cli import folders
from alphareel.cli.results import print_results, progress_bar, write_report
from alphareel.cli.signals import interruptible
from alphareel.cli.targets import (
    OWN_FILES,
    PerTarget,
    check_options,
    check_source,
    make_folder,
    plan_targets,
    value_for,
)
from alphareel.domain import errors
from alphareel.domain.clip import Result
from alphareel.domain.options import LOSSLESS_MATTE

ModelsDir = Annotated[Path | None, cyclopts.Parameter(env_var="ALPHAREEL_MODELS_DIR")]
ResultsAsJson = Annotated[bool, cyclopts.Parameter(name="--json", help="Print the results as a JSON list.")]


def _per_target(help_text: str) -> cyclopts.Parameter:
    return cyclopts.Parameter(help=help_text, negative=())


_LONGEST_PAUSE = 86400.0  # seconds
_Source = Annotated[Path, cyclopts.Parameter(help="The video to read.")]
# Text, because a Path does not keep the trailing slash of a folder.
_Target = Annotated[str, cyclopts.Parameter(help="The file to write, or with --format a folder.")]
_Others = Annotated[str, cyclopts.Parameter(help="More files to write.")]
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
    Videos that have a result there are skipped without --overwrite, so an interrupted call can be resumed.

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
    options: dict[str, Any] = {
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
        "limits": OWN_FILES,
        "models_dir": models_dir,
        "threads": threads,
        "overwrite": overwrite,
    }
    per_target = {"background": background, "output_format": format, "quality": quality, "composition": composition}
    paths = [Path(each) for each in (target, *others)]
    if not others and folders.is_many(source) and (paths[0].is_dir() or not paths[0].suffix):
        if report is not None:
            raise errors.InvalidRequest("--report is about one video.", hint="Cut this video by itself.")
        _cut_folder(source, paths[0], per_target, options, as_json=as_json)
        return
    check_source(source)
    for each in (target, *others):
        if each.endswith(("/", os.sep)):
            make_folder(Path(each))
    with interruptible():
        results, findings = _cut_file(source, paths, per_target, options, report)
    print_results(results, as_json=as_json, model=model)
    if report is not None and findings is not None:
        write_report(findings, report, silent=as_json)


def _cut_file(
    source: Path,
    paths: Sequence[Path],
    per_target: Mapping[str, PerTarget],
    options: Mapping[str, Any],
    report: Path | None,
) -> tuple[Sequence[Result], dict[str, Any] | None]:
    """Cut one video. Returns the results, and what is in the report, if its folder is named."""
    with progress_bar(source.name) as show, TemporaryDirectory() as folder:
        targets = plan_targets(source, paths, per_target, overwrite=options["overwrite"])
        if report is None:
            return alphareel.cut(source, targets=targets, on_progress=show, **options), None
        make_folder(report)
        matte = Path(folder) / "matte.mkv"
        with_matte = {**targets, matte: {"output_format": LOSSLESS_MATTE}}
        *results, _ = alphareel.cut(source, targets=with_matte, on_progress=show, **options)
        return results, alphareel.analyze(matte, source, report, limits=OWN_FILES, on_progress=show)


def _cut_folder(
    source: Path, target: Path, per_target: Mapping[str, PerTarget], options: Mapping[str, Any], *, as_json: bool
) -> None:
    """Cut every video of a folder or pattern into the folder ``target``; exit code 1 if any failed."""
    suffix, cut_one = folder_job(per_target, options)
    videos = folders.find_videos(source, target)
    if not videos:
        raise errors.NotFound(
            f"There is no video in {source}.",
            hint=f"Files with one of {', '.join(sorted(folders.SUFFIXES))} count, those in its subfolders do not.",
        )
    planned = folders.plan(videos, target, suffix)
    make_folder(target)
    with interruptible():
        summary = folders.cut_all(planned, cut_one, overwrite=options["overwrite"])
    folders.report(summary, as_json=as_json)
    if summary.failed:
        sys.exit(1)


def folder_job(per_target: Mapping[str, PerTarget], options: Mapping[str, Any]) -> tuple[str, folders.CutOne]:
    """The suffix of the files, and the function that cuts one video. Raises InvalidRequest."""
    from alphareel.media.format import format_named

    shared = {name: value_for(Path(), (), values or ()) for name, values in per_target.items()}
    name = str(shared["output_format"] or "webm")

    def cut_one(video: Path, path: Path, show: Any) -> Sequence[Result]:
        _check_recording(video, path)
        return alphareel.cut(video, targets={path: {**shared, "output_format": name}}, on_progress=show, **options)

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
    seconds: Annotated[float, cyclopts.Parameter(help="Seconds between two checks at the folder.")] = 2.0,
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
        what = f"{source} is not a folder." if source.exists() else f"There is no folder {source}."
        raise errors.NotFound(what, hint="Name the folder in which videos appear.")
    if not 0 < seconds <= _LONGEST_PAUSE:
        raise errors.InvalidRequest(
            f"--seconds {seconds:g} is no time between two checks.",
            hint=f"Use a number above 0, at most {_LONGEST_PAUSE:g}.",
        )
    per_target = {"background": background, "output_format": format, "quality": quality}
    options: dict[str, Any] = {"model": model or "original", "engine": engine, "limits": OWN_FILES}
    options |= {"models_dir": models_dir, "threads": threads}
    suffix, cut_one = folder_job(per_target, options)
    make_folder(target)
    with interruptible():
        folders.watch_forever(source, target, suffix, cut_one, seconds=seconds)


def _check_recording(video: Path, path: Path) -> None:
    """Refuse to replace a video of the same kind that alphareel did not write: cameras name their files alike."""
    from alphareel.media.result_tag import is_foreign_video

    if path.suffix.lower() == video.suffix.lower() and path.is_file() and is_foreign_video(path):
        raise errors.TargetExists(
            f"{path} is an existing video that alphareel did not write, so it is not overwritten.",
            hint="Name another folder for the results, or delete it first.",
        )
