"""What the file names given to ``alphareel cut`` mean, and which of them are refused so that no footage is lost.

A shell that expands ``*.mov`` makes every file after the first a target. Nothing here decodes a video.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alphareel.domain import errors

Each = list[str] | None  # a value for all targets, or "TARGET=value" for one


def check_source(source: Path, verb: str = "cut") -> None:
    """Refuse what is no single file: an address, a folder, a pattern that the shell left as it is, a wrong path."""
    scheme, _, rest = str(source).partition(":/")
    if scheme.lower() in ("http", "https"):
        address = f"{scheme}://{rest.lstrip('/')}"
        raise errors.InvalidRequest(
            f"{address} is a URL, and the command reads files.", hint=f"Download it first: curl -fLO '{address}'"
        )
    if source.is_dir():
        raise errors.InvalidRequest(f"{source} is a folder, and {verb} takes one video.", hint=_loop(f"{source}/*.mp4"))
    if source.exists():
        return
    if set("*?[") & set(str(source)):
        raise errors.NotFound(
            f"There is no file {source}, and {verb} takes one video, not a pattern.", hint=_loop(str(source))
        )
    raise errors.NotFound(f"There is no file {source}.", hint="Check the path.")


def check_options(*, engine: str | None, key_color: str | None) -> None:
    """Refuse what would be ignored."""
    if key_color is not None and engine != "chroma":
        raise errors.InvalidRequest(
            "--key-color is the screen's color for the engine chroma, and another engine would ignore it.",
            hint="Add --engine chroma.",
        )


def targets(
    source: Path, paths: Sequence[Path], each: Mapping[str, Each], *, overwrite: bool
) -> dict[Path, dict[str, Any]]:
    """What each target has for itself. Raises InvalidRequest, and TargetExists for a target that may be footage."""
    made: dict[Path, dict[str, Any]] = {}
    for path in paths:
        own = {name: value_for(path, paths, values or ()) for name, values in each.items()}
        made[_in_folder(source, path, own["output_format"])] = own
    for path in made:
        _check_folder(path)
    _check_footage(source, list(made), overwrite=overwrite)
    if len(made) < len(paths):
        raise errors.InvalidRequest("Two targets are the same file.", hint="Give each a name of its own.")
    return made


def value_for(path: Path, paths: Sequence[Path], values: Iterable[str]) -> str | None:
    """The last value for this target; one that names it wins over those for all."""
    chosen: tuple[bool, str | None] = (False, None)
    for value in values:
        name, given, rest = value.partition("=")
        named = bool(given) and Path(name) in paths
        if not named and not chosen[0]:
            chosen = (False, value)
        elif named and Path(name) == path:
            chosen = (True, rest)
    return chosen[1]


def _in_folder(source: Path, path: Path, format_name: str | None) -> Path:
    """The file to write for a target that is a folder: the source's name with the suffix of the format."""
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
    """Refuse a target that is a video of the caller's, where the names look like a list of sources.

    That is a target with the source's suffix, and any of several targets when all of them exist. Where overwriting is
    allowed, only videos that alphareel wrote are replaced then.
    """
    from alphareel.media.result_tag import is_foreign_video

    existing = [path for path in paths if path.is_file() and not path.samefile(source)]
    is_list = len(paths) > 1 and len(existing) == len(paths)
    for path in existing:
        if (is_list or path.suffix.lower() == source.suffix.lower()) and is_foreign_video(path):
            means = (
                f" To replace {path} nevertheless, delete it first."
                if overwrite
                else " (--overwrite does not change this.)"
            )
            raise errors.TargetExists(
                f"{path} is an existing video that alphareel did not write, so it is not overwritten: cut takes one "
                f"source, {source}, and every file after it is written.",
                hint=_loop(f"*{source.suffix}") + means,
            )


def _loop(pattern: str) -> str:
    """How to process several videos today."""
    return (
        "For several videos, run it once for each: "
        f'for video in {pattern}; do alphareel cut "$video" "${{video%.*}}-cut.webm"; done'
    )
