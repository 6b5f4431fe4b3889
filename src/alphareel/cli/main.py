"""The ``alphareel`` command. Each verb is a few lines over the library or the service.

Exit codes: 0 success; 1 internal error; 2 invalid command line; 3 unusable video; 4 missing engine, encoder or wrong
weights; 5 storage; 6 service; 7 download; 130 interrupted (143 by SIGTERM, 129 by SIGHUP).
"""

import errno
import importlib.util
import io
import os
import sys
from pathlib import Path
from typing import NoReturn

import cyclopts
from rich.console import Console
from rich.table import Table
from rich.text import Text

import alphareel
from alphareel.cli import corrections, cut, export, probe, proof, serve, transfer
from alphareel.cli.console import stderr, stdout
from alphareel.cli.cut import Overwrite
from alphareel.cli.signals import Interrupted
from alphareel.cli.targets import check_source
from alphareel.domain import errors


def _one_line(error: cyclopts.CycloptsError) -> Text:
    """A wrong command line in the shape of every other error, instead of a box."""
    words = " ".join(str(error).split())
    command = " ".join(("alphareel", *(error.command_chain or ())))
    hint = f"Options and arguments: {command} --help"
    if "-" in (error.unused_tokens or ()):
        hint = "Files are read and written, not standard input and output: name a file."
    if any(argument[:1] == "-" and Path(argument).exists() for argument in error.unused_tokens or ()):
        hint = "A file whose name begins with a dash: write ./ before it."
    return Text(f"alphareel: {words} {hint}", style="red")


app = cyclopts.App(
    name="alphareel",
    help="Remove the background of videos: transparent WebM, MOV, MP4 over a background, PNG frames.",
    version=alphareel.__version__,
    suppress_keyboard_interrupt=False,
    error_formatter=_one_line,
    error_console=Console(stderr=True, highlight=False, markup=False, soft_wrap=True),
)
_EXIT_CODES = (
    (errors.InvalidFileType, 3),  # before InvalidRequest, of which it is one
    (errors.InvalidRequest, 2),
    (errors.BadVideo, 3),
    (errors.NotFound, 3),
    (errors.SubjectNotFound, 3),
    (errors.ModelUnavailable, 4),
    (errors.FormatUnavailable, 4),
    (errors.WeightsInvalid, 4),
    (errors.StorageFailed, 5),
    (errors.Unavailable, 6),
    (errors.InvalidRunnerToken, 6),
    (errors.MissingRunnerToken, 6),
    (errors.FetchFailed, 7),
    (errors.FetchRefused, 7),
)

_STUDIO_SECONDS = 2.0
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
_WRONG_PATH = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)

app.command(cut.cut)
app.command(cut.watch)
app.command(export.export)
app.command(proof.proof)
app.command(corrections.correct)
app.command(corrections.report)
app.command(probe.probe)
app.command(probe.formats)


@app.command
def sheet(source: Path, result: Path, picture: Path, /, *, columns: int = 4, overwrite: Overwrite = False) -> None:
    """Draw a contact sheet PICTURE (PNG): frames of SOURCE above the same frames of RESULT over a checkerboard.

    Parameters
    ----------
    source
        The video that was cut.
    result
        What cut made of it.
    picture
        The PNG to write.
    columns
        How many moments of the video to show.
    """
    from alphareel.cli.contact_sheet import draw_sheet

    for video in (source, result):
        check_source(video, "sheet")
    draw_sheet(source, result, picture, columns=columns, overwrite=overwrite)
    stdout.print(f"{picture}", soft_wrap=True)


@app.command
def doctor(*, bundle: Path | None = None) -> None:
    """Check engines, formats, disk and limits of this installation; exit code 1 if something required is missing.

    Parameters
    ----------
    bundle
        Also write a ZIP file for a bug report: checks, settings, packages and failures, without secrets.
    """
    from alphareel.cli.doctor import examine

    table = Table("check", "state", "detail")
    healthy = True
    checks = list(examine())
    if bundle is not None:
        from alphareel.cli.bundle import write_bundle

        write_bundle(bundle, checks)
    for check in checks:
        healthy = healthy and check.fine
        state = Text("fine", style="green") if check.fine else Text("problem", style="red")
        table.add_row(check.name, state, check.detail)
    stdout.print(table)
    if bundle is not None:
        stdout.print(f"{bundle} written. Look at it before you send it to anybody.", soft_wrap=True)
    if not healthy:
        sys.exit(1)


app.command(
    "alphareel.cli.keys:app",
    name="keys",
    help="Create, list, disable, enable, delete, limit and rotate API keys; grant credits.",
)
app.command("alphareel.cli.runners:app", name="runners", help="Create, list and revoke runners.")
app.command(
    "alphareel.cli.models:app",
    name="models",
    help="List the engines; pull, verify, remove and import the weights they need.",
)


for _process in (serve.serve, serve.api, serve.worker, serve.health):
    app.command(_process)
app.command(transfer.migrate)
app.command(transfer.move)
app.command(transfer.backup)
app.command(transfer.restore)


@app.command
def studio() -> None:
    """Print a link that opens the web studio of this machine's service signed in. It works once, within 15 minutes."""
    from alphareel.server.container import build_sign_in_codes, studio_link
    from alphareel.server.installation import open_installation
    from alphareel.server.settings import load_settings

    settings = load_settings()
    with open_installation(settings) as installation:
        stdout.print(studio_link(settings, build_sign_in_codes(installation)), soft_wrap=True)
    try:
        serve.check_service("/livez", _STUDIO_SECONDS)
    except errors.Unavailable as error:
        stderr.print(f"note: {error}", soft_wrap=True)


@app.command
def mcp(*, http: bool = False, host: str = "127.0.0.1", port: int = 8090) -> None:
    """Offer the service to assistants as tools of the Model Context Protocol, over standard input and output.

    Base URL and key of the service: ALPHAREEL_BASE_URL and ALPHAREEL_API_KEY.

    Parameters
    ----------
    http
        Serve streamable HTTP at /mcp instead. Such callers reach no files of this machine.
    host
        Address to listen on with --http. Anyone who can reach it uses your key.
    port
        Port to listen on with --http.
    """
    if any(importlib.util.find_spec(name) is None for name in ("mcp", "alphareel_client")):
        raise errors.Unavailable(
            "The packages of the MCP server are not installed.", hint='Run: pip install "alphareel-client[mcp]".'
        )
    options = ["--http", "--host", host, "--port", str(port)] if http else []
    os.execv(sys.executable, [sys.executable, "-m", "alphareel_client.mcp_server", *options])  # noqa: S606  # fixed words


def main() -> None:
    """Entry point of the console script: errors become one line on standard error and an exit code."""
    try:
        _run(sys.argv[1:])
    except errors.AlphareelError as error:
        _fail(str(error), next((code for kind, code in _EXIT_CODES if isinstance(error, kind)), 1))
    except KeyboardInterrupt as stopped:
        code = stopped.exit_code if isinstance(stopped, Interrupted) else 130
        _fail("interrupted; no partial output was written", code)
    except BrokenPipeError:
        _discard_output()
        sys.exit(0)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        is_path = isinstance(error, _WRONG_PATH) or error.errno == errno.ENAMETOOLONG
        if is_path and error.filename is not None:
            _fail(f"{os.fsdecode(error.filename)} cannot be used: {reason}. Check the path and who may use it.", 5)
        if error.errno not in _DISK_FULL:
            raise
        _discard_output()
        _fail(f"The output cannot be written: {reason}.", 5)


def _run(arguments: list[str]) -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files are printed as they are, text or not
    try:
        app(arguments)
    finally:
        if sys.stdout is not None:  # None if the parent closed it
            sys.stdout.flush()  # raise write errors here, where main() can report them


def _discard_output() -> None:
    """Discard buffered standard output, or the exit would fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> NoReturn:
    stderr.print(f"alphareel: {message}", style="red", soft_wrap=True)
    sys.exit(code)
