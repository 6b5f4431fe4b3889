"""``alphareel correct`` and ``alphareel report``: correct a kept matte, and report where it may be wrong."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import cyclopts

import alphareel
from alphareel.cli.cut import Background, Format, Overwrite, Quality, ResultsAsJson
from alphareel.cli.results import print_results, progress_bar, read_results, write_report
from alphareel.cli.signals import interruptible
from alphareel.cli.targets import OWN_FILES, check_source, make_folder, plan_targets
from alphareel.domain import errors

_Matte = Annotated[Path, cyclopts.Parameter(help='A matte that cut kept: "--format matte.mkv=lossless_matte".')]
_Source = Annotated[Path, cyclopts.Parameter(help="The video that the matte was made of.")]
_Targets = Annotated[Path, cyclopts.Parameter(help="The files to write.")]
_Folder = Annotated[Path, cyclopts.Parameter(help="The folder to write into; it is made.")]


def _several(help_text: str) -> cyclopts.Parameter:
    return cyclopts.Parameter(help=f"{help_text}; repeatable.", negative=())


_Kept = Annotated[list[str] | None, _several('A click "X,Y" in pixels on what to keep')]
_Removed = Annotated[list[str] | None, _several('A click "X,Y" in pixels on what to remove')]
_KeptIds = Annotated[list[str] | None, _several("The ID, in the report, of a subject that stays; the others go")]
_DroppedIds = Annotated[list[str] | None, _several("The ID, in the report, of a subject that goes")]


def correct(
    matte: _Matte,
    source: _Source,
    /,
    *targets: _Targets,
    time: float | None = None,
    frame: int | None = None,
    keep: _Kept = None,
    remove: _Removed = None,
    box: str | None = None,
    mask: Path | None = None,
    keep_subject: _KeptIds = None,
    drop_subject: _DroppedIds = None,
    corrections: Path | None = None,
    previous: Path | None = None,
    background: Background = None,
    format: Format = None,  # noqa: A002 - the flag is called --format
    quality: Quality = None,
    overwrite: Overwrite = False,
    as_json: ResultsAsJson = False,
) -> None:
    """Correct one frame of MATTE and write new TARGETS; the correction spreads along the motion.

    A target with --format TARGET=lossless_matte is the corrected matte, for further corrections.

    Parameters
    ----------
    time
        The moment to correct, in seconds.
    frame
        The number of the frame to correct, from 0.
    box
        "X,Y,W,H" in pixels: bounds what clicks may change; alone it encloses what to keep.
    mask
        A PNG of the frame's size: white is kept, black removed, transparent left as it is; without transparency it
        replaces the alpha.
    corrections
        A JSON file with a list of corrections, as the HTTP API takes them, in place of the options.
    previous
        What the command before, cut or correct, printed with --json: frames that stay are copied from its files.
    """
    for video in (matte, source):
        check_source(video, "correct")
    if corrections is not None:
        all_corrections = _read_corrections(corrections)
    else:
        correction = {
            "time": time,
            "frame": frame,
            "points": [*_points(keep, "keep"), *_points(remove, "remove")],
            "box": None if box is None else _numbers(box, 4, "--box"),
            "mask": None if mask is None else str(mask),
            "keep": keep_subject,
            "drop": drop_subject,
        }
        all_corrections = [correction]
    former = () if previous is None else read_results(previous)
    per_target = {"background": background, "output_format": format, "quality": quality}
    with interruptible(), progress_bar(source.name) as show:
        results = alphareel.correct(
            matte,
            source,
            all_corrections,
            targets=plan_targets(source, targets, per_target, overwrite=overwrite),
            limits=OWN_FILES,
            overwrite=overwrite,
            previous=former,
            on_progress=show,
        )
    assert isinstance(results, tuple)
    print_results(results, as_json=as_json, model=None)


def report(matte: _Matte, source: _Source, folder: _Folder, /) -> None:
    """Write a report on MATTE into FOLDER: report.json, quality.png, thumbnails of worst moments and subjects."""
    for video in (matte, source):
        check_source(video, "report")
    make_folder(folder)
    with interruptible(), progress_bar(source.name) as show:
        findings = alphareel.analyze(matte, source, folder, limits=OWN_FILES, on_progress=show)
    write_report(findings, folder)


def _read_corrections(path: Path) -> list[dict[str, Any]]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise errors.InvalidRequest(
            f"{path} cannot be read as JSON: {error}.", hint="Write a list of objects."
        ) from None
    if not isinstance(values, list):
        raise errors.InvalidRequest(f"{path} does not hold a JSON list.", hint="Write a list of objects.")
    return values


def _points(clicks: Sequence[str] | None, label: str) -> list[dict[str, Any]]:
    pairs = (_numbers(click, 2, f"--{label}") for click in clicks or ())
    return [{"x": x, "y": y, "label": label} for x, y in pairs]


def _numbers(value: str, count: int, option: str) -> list[float]:
    try:
        numbers = [float(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise errors.InvalidRequest(f"{option} takes {count} numbers with commas between them, not {value!r}.")
    return numbers
