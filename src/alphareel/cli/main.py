"""The command: cut, probe, models, formats, sheet, doctor, keys, serve. Every verb is a few lines over the library.

Exit codes: 0 done; 1 a fault of ours; 2 the command line cannot be understood; 3 the video cannot be used;
4 no engine, no encoder, or its weights are wrong; 5 storage; 6 the service; 7 a download; 130 interrupted
(143 by SIGTERM, 129 by SIGHUP).
"""

import errno
import json
import os
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, NoReturn

import cyclopts
from rich.console import Console
from rich.table import Table
from rich.text import Text

import alphareel
from alphareel.cli import arguments
from alphareel.cli.arguments import Each
from alphareel.cli.signals import Interrupted, interruptible
from alphareel.domain import errors
from alphareel.domain.clip import Progress, Result

app = cyclopts.App(
    name="alphareel",
    help="Remove the background of videos: transparent WebM, MOV, MP4 over a background, PNG frames.",
    version=alphareel.__version__,
    suppress_keyboard_interrupt=False,
)
_out = Console(highlight=False, markup=False)
_err = Console(stderr=True, highlight=False, markup=False)

_EXIT = (
    (errors.InvalidRequest, 2),
    (errors.BadVideo, 3),
    (errors.NotFound, 3),
    (errors.SubjectNotFound, 3),
    (errors.ModelUnavailable, 4),
    (errors.FormatUnavailable, 4),
    (errors.WeightsInvalid, 4),
    (errors.StorageFailed, 5),
    (errors.Unavailable, 6),
    (errors.FetchFailed, 7),
    (errors.FetchRefused, 7),
)

_NO_MORE_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)

_ModelsDir = Annotated[Path | None, cyclopts.Parameter(env_var="ALPHAREEL_MODELS_DIR")]
_AsJson = Annotated[bool, cyclopts.Parameter(name="--json")]
_ResultsAsJson = Annotated[bool, cyclopts.Parameter(name="--json", help="Print what was written as a JSON list.")]


def _each(help_text: str) -> cyclopts.Parameter:
    return cyclopts.Parameter(help=help_text, negative=())


_Source = Annotated[Path, cyclopts.Parameter(help="The video to read; one in a run.")]
_Target = Annotated[Path, cyclopts.Parameter(help="The file to write; with --format also a folder that exists.")]
_Others = Annotated[Path, cyclopts.Parameter(help="More files to write.")]
_Background = Annotated[Each, _each('A color ("#09A246"), an image or video file, or "blur"; else transparent.')]
_Quality = Annotated[Each, _each("web (small), balanced (the default) or master (to work on with).")]
_Engine = Annotated[
    str | None, cyclopts.Parameter(help='Engine to use instead of the tier\'s ("alphareel models" lists them).')
]
_Prompt = Annotated[str | None, cyclopts.Parameter(help="What to keep, in words, for the tier pro.")]
_Preview = Annotated[float | None, cyclopts.Parameter(help="Process so many seconds only.")]
_Threads = Annotated[int | None, cyclopts.Parameter(help="Threads for the network; all cores when left out.")]
_KeyColor = Annotated[
    str | None, cyclopts.Parameter(help="Screen color for the engine chroma; found by itself when left out.")
]
_Plate = Annotated[
    Path | None,
    cyclopts.Parameter(help='Picture of the empty scene; the camera must not move. "--engine plate" alone finds one.'),
]
_Shadows = Annotated[bool, cyclopts.Parameter(help="Keep shadows (engines chroma and plate).", negative=())]
_Grow = Annotated[float, cyclopts.Parameter(help="Pixels by which the outline moves out; negative moves it in.")]
_Feather = Annotated[float, cyclopts.Parameter(help="Pixels by which the outline becomes softer.")]
_PosterTime = Annotated[
    float | None, cyclopts.Parameter(help="Seconds at which a poster is taken; else the best frame.")
]
_Overwrite = Annotated[bool, cyclopts.Parameter(help="Replace files that exist; else they are refused.", negative=())]
_Format = Annotated[Each, _each("Output format when the suffix does not tell.")]


@app.command
def cut(
    source: _Source,
    target: _Target,
    /,
    *others: _Others,
    model: str | None = None,
    engine: _Engine = None,
    background: _Background = None,
    format: _Format = None,  # noqa: A002 - the flag is called --format
    quality: _Quality = None,
    key_color: _KeyColor = None,
    plate: _Plate = None,
    shadows: _Shadows = False,
    grow: _Grow = 0.0,
    feather: _Feather = 0.0,
    poster_time: _PosterTime = None,
    prompt: _Prompt = None,
    preview: _Preview = None,
    models_dir: _ModelsDir = None,
    threads: _Threads = None,
    overwrite: _Overwrite = False,
    as_json: _ResultsAsJson = False,
) -> None:
    """Remove the background of SOURCE and write TARGET; the format follows from TARGET's suffix.

    OTHERS are more files to write, never more sources: all are made from one matte, and all appear or none. What begins
    with a target's name and "=" is for that target alone: alphareel cut talk.mp4 talk.webm over.mp4 --background
    over.mp4=white

    Parameters
    ----------
    model
        Tier: original (when left out), light, pro or human.
    models_dir
        Folder of weights; in the data folder when left out.
    """
    arguments.check_source(source)
    arguments.check_options(engine=engine, key_color=key_color)
    each = {"background": background, "output_format": format, "quality": quality}
    with interruptible(), _progress_bar(source.name) as show:
        results = alphareel.cut(
            source,
            targets=arguments.targets(source, (target, *others), each, overwrite=overwrite),
            model=model or "original",
            engine=engine,
            key_color=key_color,
            plate=plate,
            shadows=shadows,
            grow=grow,
            feather=feather,
            text_prompt=prompt,
            poster_time=poster_time,
            preview_duration=preview,
            models_dir=models_dir,
            threads=threads,
            overwrite=overwrite,
            on_progress=show,
        )
    _tell(results, as_json=as_json, model=model)


@app.command
def probe(source: Path, /, *, as_json: _AsJson = False) -> None:
    """Tell what SOURCE is: size, rate, duration, codec, color, audio, and whether it can be processed."""
    arguments.check_source(source, "probe")
    facts = asdict(alphareel.probe(source))
    if as_json:
        print(json.dumps(facts, default=str, indent=2))  # noqa: T201 - this is the output
        return
    table = Table(show_header=False, box=None)
    for name, value in facts.items():
        table.add_row(name, _shown(value))
    _out.print(table)


@app.command
def formats() -> None:
    """List the output formats, and whether they can be written here."""
    from alphareel.media import format

    table = Table("format", "suffix", "alpha", "audio", "state")
    for name in format.formats():
        made = format.format_named(name)
        table.add_row(
            name, made.suffix, "yes" if made.alpha else "no", "yes" if made.audio else "no", made.missing() or "ready"
        )
    _out.print(table)


@app.command
def sheet(source: Path, result: Path, picture: Path, /, *, columns: int = 4, overwrite: _Overwrite = False) -> None:
    """Draw a contact sheet PICTURE (PNG): frames of SOURCE above the same frames of RESULT over a checkerboard."""
    from alphareel.cli.contact_sheet import draw_sheet

    for video in (source, result):
        arguments.check_source(video, "sheet")
    draw_sheet(source, result, picture, columns=columns, overwrite=overwrite)
    _out.print(f"{picture}", soft_wrap=True)


@app.command
def doctor() -> None:
    """Check this installation: engines, formats, disk, limits; exit code 1 when something needed is missing."""
    from alphareel.cli.doctor import examine

    table = Table("check", "state", "detail")
    fine = True
    for check in examine():
        fine = fine and check.fine
        state = Text("fine", style="green") if check.fine else Text("problem", style="red")
        table.add_row(check.name, state, check.detail)
    _out.print(table)
    if not fine:
        sys.exit(1)


app.command(
    "alphareel.cli.keys:app",
    name="keys",
    help="Make, list, shut, open, limit and rotate API keys; give clients credits.",
)
app.command(
    "alphareel.cli.models:app",
    name="models",
    help="List the engines; pull, verify, remove and import the weights they need.",
)


@app.command
def serve() -> None:
    """Run the service in the foreground: HTTP API and embedded workers. Settings: ALPHAREEL_* (docs/settings.md)."""
    from alphareel.server.api_process import serve as run_service
    from alphareel.server.settings import load_settings

    sys.exit(run_service(load_settings()))


def main() -> None:
    """Entry point of the console script: errors become one line on standard error and an exit code."""
    try:
        _run(sys.argv[1:])
    except errors.AlphareelError as error:
        _fail(str(error), next((code for kind, code in _EXIT if isinstance(error, kind)), 1))
    except KeyboardInterrupt as stopped:
        code = stopped.exit_code if isinstance(stopped, Interrupted) else 130
        _fail("interrupted; nothing unfinished bears the name of a result", code)
    except BrokenPipeError:
        _discard_output()
        sys.exit(0)
    except OSError as error:
        if error.errno not in _NO_MORE_ROOM:
            raise
        _discard_output()
        _fail(f"The output cannot be written: {(error.strerror or str(error)).lower()}.", 5)


def _run(arguments: list[str]) -> None:
    try:
        app(arguments)
    finally:
        if sys.stdout is not None:  # closed by whoever started us
            sys.stdout.flush()  # what cannot be written shows here, and not when Python has nobody left to tell


def _discard_output() -> None:
    """Let what is still in the buffer of standard output go nowhere, or leaving would fail once more."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> NoReturn:
    _err.print(f"alphareel: {message}", style="red", soft_wrap=True)
    sys.exit(code)


@contextmanager
def _progress_bar(name: str) -> Generator[Any, None, None]:
    """A callback that moves a bar with fps and remaining time on a terminal, and does nothing when piped."""
    if not _err.is_terminal:
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
    with Bar(*columns, console=_err, transient=True) as bar:
        task = bar.add_task(name, total=1.0, fps=0.0)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.share, fps=progress.fps)

        yield show


def _tell(results: Sequence[Result], *, as_json: bool, model: str | None) -> None:
    """Say what was written, and on standard error what to know about it.

    That another engine stands in for the default model's is a warning to those who asked for the model. Everybody
    else reads it as a note on a terminal, and not in the log of a script.
    """
    from alphareel.matting import tiers

    usual = tiers.stand_in("original", results[0].engine.name, tiers.ENGINES["original"]) if model is None else ()
    for warning in dict.fromkeys(warning for result in results for warning in result.warnings):
        if warning not in usual:
            _err.print(f"warning: {warning}", style="yellow")
        elif _err.is_terminal:
            _err.print(f'note: {warning} "alphareel models" tells how to get it.', soft_wrap=True)
    if as_json:
        print(json.dumps([asdict(result) for result in results], indent=2))  # noqa: T201 - this is the output
        return
    for result in results:
        _out.print(_summary(result), soft_wrap=True)


def _summary(result: Result) -> str:
    size = f"{result.bytes / 1e6:.1f} MB" if result.bytes >= 1e5 else f"{result.bytes / 1e3:.1f} kB"
    alpha = "transparent" if result.has_alpha else "opaque"
    engine = f"{result.engine.name} {result.engine.version}"
    lost = f", {result.frames_lost} damaged frames lost" if result.frames_lost else ""
    return (
        f"{result.path}: {result.format}, {result.width}x{result.height}, {result.frames} frames{lost}, "
        f"{result.seconds:.2f} s, {size}, {alpha}, engine {engine}"
    )


def _shown(value: object) -> str:
    match value:
        case None:
            return "-"
        case Fraction():
            return f"{value.numerator}/{value.denominator}"
        case dict():
            return ", ".join(f"{k} {v}" for k, v in value.items())
        case float():
            return f"{value:.3f}"
        case _:
            return str(value)


if __name__ == "__main__":
    main()
