"""The targets of a command: the options of each, and what must not be overwritten."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from alphareel.domain import errors
from alphareel.domain.clip import Limits

OWN_FILES = Limits(max_bytes=0, max_seconds=0, max_frames=0)
"""Limits of the command: whoever runs it may read files of any size and length."""
PerTarget = list[str] | None
"""A value for all targets, or "TARGET=value" for one."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # a Path keeps one slash; a single letter is a drive
_COMPOSITION = '{"canvas": {"width": 1080, "height": 1920}, "foreground": {"anchor": "bottom-center", "scale": 1}}'


def check_source(source: Path, verb: str = "cut") -> None:
    """Refuse anything but a single existing file: a URL, a folder, an unexpanded pattern, a wrong path."""
    if _URL.match(str(source)) and not source.exists():
        scheme, _, rest = str(source).partition(":/")
        address = f"{scheme}://{rest.lstrip('/')}"
        is_web = scheme.lower() in ("http", "https")
        raise errors.InvalidRequest(
            f"{address} is a URL, and the command reads files.",
            hint=f"Download it first: curl -fLO '{address}'"
            if is_web
            else "Save it as a file first, and name its path.",
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
    for value in (value for texts in values.values() for value in texts or ()):
        _check_name(value, paths)
    planned: dict[Path, dict[str, Any]] = {}
    for path in paths:
        own = {name: value_for(path, paths, texts or ()) for name, texts in values.items()}
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
    match: tuple[bool, str | None] = (False, None)
    for value in values:
        named = _split(value, paths)
        if named is None and not match[0]:
            match = (False, value)
        elif named is not None and named[0] == path:
            match = (True, named[1])
    return match[1]


def _check_name(value: str, paths: Sequence[Path]) -> None:
    """Refuse "NAME=value" with a name that is no target; a file and JSON may contain "=" too."""
    name, separator, _ = value.partition("=")
    if separator and not value.lstrip().startswith("{") and _split(value, paths) is None and not Path(value).exists():
        raise errors.InvalidRequest(
            f"{name} in {value} is not one of the targets.", hint=f"Name one of {', '.join(map(str, paths))}."
        )


def _split(value: str, paths: Sequence[Path]) -> tuple[Path, str] | None:
    """(target, value for it), if the value begins with the name of a target, which may contain "=" itself."""
    parts = value.split("=")
    for end in range(len(parts) - 1, 0, -1):  # the longest name wins
        path = Path("=".join(parts[:end]))
        if path in paths:
            return path, "=".join(parts[end:])
    return None


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
    if folder.exists() and not folder.is_dir():
        raise errors.StorageFailed(f"{path} cannot be written: {folder} is a file.", hint="Choose another folder.")
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
    existing = [path for path in paths if path.is_file() and not (source.exists() and path.samefile(source))]
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


def _many(source: str) -> str:
    """How to cut several videos with one command."""
    return f"For several videos, name a folder for the results: alphareel cut '{source}' cut/"


def make_folder(path: Path) -> None:
    """Make a folder for results. Raises StorageFailed."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if isinstance(error, FileExistsError) else (error.strerror or str(error)).lower()
        raise errors.StorageFailed(f"{path} cannot be made a folder: {reason}.", hint="Name another folder.") from error
