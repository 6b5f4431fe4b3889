"""alphareel removes the background of videos: a library, a command and a self-hosted HTTP service.

>>> import alphareel
>>> alphareel.cut("in.mp4", "out.webm", model="human")  # doctest: +SKIP

Importing this package loads no codec, no inference runtime and no web stack; functions import what they need.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, overload

from alphareel.domain import errors
from alphareel.domain.clip import Clip, EngineFacts, Limits, Progress, Result
from alphareel.domain.options import Background, Composition, Options, Output

if TYPE_CHECKING:
    from alphareel.domain.corrections import Correction
    from alphareel.matting.tiers import EngineStatus
    from alphareel.pipeline.proof import Proof

    __version__: str

__all__ = [
    "Background",
    "Clip",
    "Composition",
    "EngineFacts",
    "Limits",
    "Options",
    "Output",
    "Progress",
    "Result",
    "__version__",
    "analyze",
    "correct",
    "cut",
    "errors",
    "export",
    "formats",
    "models",
    "probe",
    "prove",
    "run",
]

_Path = str | PathLike[str]
_Background = _Path | Sequence[float] | dict[str, Any] | None
# a mapping's keys are paths, of either kind
_Targets = Sequence[_Path] | Mapping[Any, Mapping[str, Any]]
_PER_TARGET = frozenset({"output_format", "background", "composition", "quality", "poster_time"})


if not TYPE_CHECKING:  # a type checker shall still report names that do not exist

    def __getattr__(name: str) -> str:
        """``__version__``, read from the installed metadata: pyproject.toml is the one place that states it."""
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("alphareel")
        except PackageNotFoundError:  # a source tree that is not installed
            return "0+unknown"


class _CutOptions(TypedDict, total=False):
    """Arguments of ``cut`` besides its source and targets."""

    model: str
    background: _Background
    output_format: str | None
    engine: str | None
    key_color: str | Sequence[float] | None
    plate: _Path | None
    shadows: bool
    grow: float
    feather: float
    text_prompt: str | None
    composition: dict[str, Any] | None
    quality: str
    poster_time: float | None
    smoothing: str
    preview_duration: float | None
    limits: Limits | None
    models_dir: _Path | None
    threads: int | None
    overwrite: bool
    on_progress: Callable[[Progress], None] | None


@overload
def cut(source: _Path, target: _Path, **wishes: Unpack[_CutOptions]) -> Result: ...


@overload
def cut(source: _Path, *, targets: _Targets, **wishes: Unpack[_CutOptions]) -> tuple[Result, ...]: ...


def cut(
    source: _Path,
    target: _Path | None = None,
    *,
    targets: _Targets = (),
    model: str = "original",
    background: _Background = None,
    output_format: str | None = None,
    engine: str | None = None,
    key_color: str | Sequence[float] | None = None,
    plate: _Path | None = None,
    shadows: bool = False,
    grow: float = 0.0,
    feather: float = 0.0,
    text_prompt: str | None = None,
    composition: dict[str, Any] | None = None,
    quality: str = "balanced",
    poster_time: float | None = None,
    smoothing: str = "offline",
    preview_duration: float | None = None,
    limits: Limits | None = None,
    models_dir: _Path | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> Result | tuple[Result, ...]:
    """Remove the background of the video ``source`` and write ``target``; returns what was written, verified.

    The format follows from the suffix of ``target`` (.webm, .mov, .mp4, .zip) unless ``output_format`` says otherwise.
    ``background``: None keeps it transparent; a color ("#09A246", "white", three numbers), an image or video file (it
    is repeated), "blur" for the original out of focus, or the contract's object (``{"type": "image", "image_url":
    "plate.png"}``). ``engine`` overrides what serves ``model``. ``plate``: a picture of the empty scene, for a
    camera at rest; ``engine="plate"`` alone finds one. ``quality``: "web", "balanced" or "master". ``shadows`` keeps
    them (engines chroma, plate); ``grow`` moves the outline out by pixels (in, where negative), ``feather`` softens it.
    ``smoothing``: "offline" (blends each matte with those before and after it) or "live" (only before).

    ``targets``: several files instead of one ``target``, from one matte and one decode; the results come in the same
    order. A mapping gives each what it has for itself (format, background, composition, quality, poster_time):
    ``targets={"talk.webm": {}, "over.mp4": {"background": "white"}}``. All of them appear, or none. A target that
    exists is refused (``errors.TargetExists``) unless ``overwrite``; inputs are never overwritten.

    The other fields are those of the HTTP API. Raises ``errors.AlphareelError``.
    """
    shared = {
        "model": model,
        "output_format": output_format,
        "background": background,
        "engine": engine,
        "key_color": key_color,
        "plate": plate,
        "shadows": shadows,
        "grow": grow,
        "feather": feather,
        "text_prompt": text_prompt,
        "composition": composition,
        "quality": quality,
        "poster_time": poster_time,
        "smoothing": smoothing,
        "preview_duration": preview_duration,
    }
    run_options: dict[str, Any] = {
        "limits": limits,
        "models_dir": models_dir,
        "threads": threads,
        "overwrite": overwrite,
    }
    results = _run_to_end(run(source, _outputs(target, targets, shared), **run_options), on_progress)
    return results if target is None else results[0]


def export(
    matte: _Path,
    source: _Path,
    target: _Path | None = None,
    *,
    targets: _Targets = (),
    background: _Background = None,
    output_format: str | None = None,
    composition: dict[str, Any] | None = None,
    quality: str = "balanced",
    poster_time: float | None = None,
    limits: Limits | None = None,
    models_dir: _Path | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    corrections: Sequence[Mapping[str, Any]] = (),
    previous: Sequence[Result] = (),
    on_progress: Callable[[Progress], None] | None = None,
) -> Result | tuple[Result, ...]:
    """Write further outputs of a kept matte. No network runs, so this is as fast as the encoder.

    ``matte``: a file of the format lossless_matte, which ``cut`` writes beside other targets. ``source``: the video
    that it was made of. ``corrections``, ``previous``: see ``correct``. All else is as for ``cut``. Raises BadVideo
    when the matte is of another video.
    """
    from alphareel.media.matte_facts import read_matte_facts

    kept = read_matte_facts(Path(matte)).options
    shared = {
        "output_format": output_format,
        "background": background,
        "composition": composition,
        "quality": quality,
        "poster_time": poster_time,
        "plate": None,
        "preview_duration": kept.preview_duration,
    }
    outputs = _outputs(target, targets, shared)
    run_options: dict[str, Any] = {
        "limits": limits,
        "models_dir": models_dir,
        "threads": threads,
        "overwrite": overwrite,
    }
    parsed = [_correction(each) for each in corrections]
    steps = run(source, outputs, matte=matte, corrections=parsed, previous=previous, **run_options)
    results = _run_to_end(steps, on_progress)
    return results if target is None else results[0]


def correct(
    matte: _Path,
    source: _Path,
    corrections: Sequence[Mapping[str, Any]],
    target: _Path | None = None,
    *,
    targets: _Targets = (),
    **options: Any,
) -> Result | tuple[Result, ...]:
    """Correct a kept matte, and write outputs of it. ``options``: as for ``export``.

    ``corrections``: objects as in the HTTP API, with a path ``mask`` in place of ``mask_url``: ``{"time": 1.0,
    "points": [{"x": 320, "y": 300, "label": "keep"}]}``. Each spreads from its frame until a cut, the next corrected
    frame, or until the picture no longer supports it. The same corrections of the same matte give the same result; a
    target of the format lossless_matte is the corrected matte. Raises InvalidRequest for a place outside the clip.

    ``previous``: all results of the run before, ``cut`` or ``correct``, with its lossless matte among them. Where
    frames are as they were, its files are copied and not encoded again, and corrections that it had are not planned
    again. The targets may be the same files, with ``overwrite``. ``matte`` is always the first one, and ``corrections``
    all of them. ``Result.encoded_whole`` says why a file was encoded as a whole nevertheless.
    """
    return export(matte, source, target, targets=targets, corrections=corrections, **options)


def analyze(
    matte: _Path,
    source: _Path,
    folder: _Path,
    *,
    limits: Limits | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> dict[str, Any]:
    """Report on a kept matte: uncertainty, flicker and coverage over time, its worst moments, its subjects.

    Writes the pictures that the report names into ``folder``. Its measures need no ground truth: see
    docs/decisions/0030-corrections.md.
    """
    from alphareel.pipeline.analysis import analyze as analyze_matte

    steps = analyze_matte(Path(source), Path(matte), Path(folder), limits=limits)
    while True:
        try:
            progress = next(steps)
        except StopIteration as end:
            return dict(end.value)
        if on_progress is not None:
            on_progress(progress)


def _correction(values: Mapping[str, Any]) -> "Correction":
    from alphareel.domain.corrections import parse_correction

    correction = parse_correction(values, mask_field="mask")
    if correction.mask is not None and not Path(correction.mask).is_file():
        raise errors.NotFound(f"There is no file {correction.mask}.", hint="Check the path of the mask.")
    return correction


def _run_to_end(
    steps: Generator[Progress, None, None], on_progress: Callable[[Progress], None] | None
) -> tuple[Result, ...]:
    """Exhaust a run and return its results. An error of the callback cancels the run before it is raised."""
    results: tuple[Result, ...] = ()
    try:
        for progress in steps:
            results = progress.results
            if on_progress is not None:
                on_progress(progress)
    finally:
        steps.close()
    assert results, "a run that ends has results"
    return results


def run(
    source: _Path,
    target: _Path | Sequence[Output],
    options: Options | None = None,
    *,
    limits: Limits | None = None,
    models_dir: _Path | None = None,
    threads: int | None = None,
    previews: _Path | None = None,
    matte: _Path | None = None,
    corrections: "Sequence[Correction]" = (),
    previous: Sequence[Result] = (),
    overwrite: bool = False,
) -> Generator[Progress, None, None]:
    """Like ``cut`` with parsed options, as a generator of Progress; closing it cancels and leaves nothing behind.

    Several outputs of one matte have their own options; ``options`` are those of a single ``target``. ``previews``: a
    folder for small transparent WebP images of the newest frame (``Progress.preview``), which are not removed.
    ``matte``: a lossless matte of ``source`` to use instead of an engine. ``previous``: as for ``correct``.
    ``overwrite``: as for ``cut``.
    """
    from alphareel.pipeline import revision
    from alphareel.pipeline.run import run as run_pipeline

    folder = _models_dir(models_dir)
    outputs = [Output(Path(target), options or Options())] if isinstance(target, str | PathLike) else target
    pictures = None if previews is None else Path(previews)
    shared: dict[str, Any] = {
        "limits": limits,
        "models_dir": folder,
        "threads": threads,
        "previews": pictures,
        "corrections": corrections,
        "overwrite": overwrite,
    }
    if matte is not None and previous:
        return revision.run(Path(source), outputs, previous=previous, matte=Path(matte), **shared)
    return run_pipeline(Path(source), outputs, matte=None if matte is None else Path(matte), **shared)


def probe(source: _Path, *, limits: Limits | None = None) -> Clip:
    """Facts about a video without decoding it. Raises BadVideo, InvalidFileType, NotFound."""
    from alphareel.media.probe import probe as media_probe

    return media_probe(Path(source), limits or Limits())


def prove(
    source: _Path,
    picture: _Path,
    *,
    engines: Sequence[str] | None = None,
    text_prompt: str | None = None,
    limits: Limits | None = None,
    models_dir: _Path | None = None,
    threads: int | None = None,
    overwrite: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
) -> "Proof":
    """Cut out six frames of ``source`` with every engine that can run here, or with ``engines``, side by side.

    Writes the sheet ``picture`` (PNG). The proof says how long each engine took, and which failed and why. Raises
    BadVideo, InvalidRequest for an unknown engine, ModelUnavailable when none can run, TargetExists.
    """
    from alphareel.matting import tiers
    from alphareel.media.atomic_file import refuse_existing
    from alphareel.pipeline import proof

    folder, target = _models_dir(models_dir), Path(picture)
    if target.suffix.lower() != ".png":
        raise errors.InvalidRequest(f"The sheet is a PNG, and {picture} has another suffix.", hint="Name a .png file.")
    if not overwrite:
        refuse_existing(target)
    for name in engines or ():
        tiers.load_module(name)
    present = [s.info.name for s in models(models_dir=folder) if s.available and (text_prompt or not s.info.prompted)]
    steps = proof.prove(
        Path(source),
        target,
        list(engines or present),
        options=Options(text_prompt=text_prompt),
        limits=limits,
        models_dir=folder,
        threads=threads,
        overwrite=overwrite,
    )
    for step in steps:
        if isinstance(step, proof.Proof):
            return step
        if on_progress is not None:
            on_progress(step)
    raise errors.InternalError("The proof has no end.")


def models(*, models_dir: _Path | None = None) -> "tuple[EngineStatus, ...]":
    """Every engine: what it cuts out, its licenses, whether it can run here and which tiers it serves."""
    from alphareel.matting import tiers

    return tiers.list_engines(_models_dir(models_dir))


def formats() -> tuple[str, ...]:
    """Names of the output formats that can be written here."""
    from alphareel.media import format

    return tuple(name for name in format.format_names() if format.format_named(name).missing() is None)


def _models_dir(folder: _Path | None) -> Path:
    from alphareel.paths import default_models_dir

    return default_models_dir() if folder is None else Path(folder)


def _outputs(target: _Path | None, targets: _Targets, shared: Mapping[str, Any]) -> list[Output]:
    """Each target with the options of all of them and its own."""
    if target is not None:
        if targets:
            raise errors.InvalidRequest("Both target and targets are given.", hint="Name all of them in targets.")
        targets = [target]
    own = targets if isinstance(targets, Mapping) else {path: {} for path in targets}
    return [Output(Path(path), _options(path, own[path], shared)) for path in targets]


def _options(target: _Path, own: Mapping[str, Any], shared: Mapping[str, Any]) -> Options:
    if not own.keys() <= _PER_TARGET:
        raise errors.InvalidRequest(
            f"{target} cannot have {', '.join(sorted(own.keys() - _PER_TARGET))} for itself.",
            hint=f"A target has its own {', '.join(sorted(_PER_TARGET))}; all else is the same for all.",
        )
    values = {**shared, **own}
    values["plate"] = None if values["plate"] is None else str(values["plate"])
    values["background"] = _background(values["background"])
    values["output_format"] = values["output_format"] or _format_of(target)
    from alphareel.media.format import parse_options

    return parse_options(values)


def _format_of(target: _Path) -> str:
    from alphareel.media.format import format_for_suffix

    return format_for_suffix(Path(target).suffix).name


def _background(value: _Background) -> dict[str, Any] | str | None:
    """A file that exists is an image or a video, every other text "blur" or a color."""
    if value is None or isinstance(value, dict):
        return value
    if not isinstance(value, str | PathLike):
        return {"type": "color", "color": list(value)}
    if Path(value).is_file():
        return _background_file(Path(value))
    if isinstance(value, PathLike) or "/" in value or Path(value).suffix:
        raise errors.NotFound(
            f"There is no background file {value}.", hint="Check the path; an address has to be downloaded first."
        )
    return value


def _background_file(path: Path) -> dict[str, Any]:
    from alphareel.media.signature import HEAD_BYTES, is_animated, sniff

    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    if is_animated(head) or sniff(head) is None:
        return {"type": "video", "video_url": str(path)}
    return {"type": "image", "image_url": str(path)}
