"""``python -m alphareel`` and the console script. The verbs are in ``alphareel.cli``."""

import gc
import os
import signal
import sys

_SERVICE_PACKAGES = frozenset(
    {"alembic", "anyio", "dbos", "fastapi", "limits", "multipart", "prometheus_client"}
    | {"httpcore2", "pydantic", "sqlalchemy", "starlette", "uvicorn"}
)


def main() -> None:
    """Run the command. ``--version`` prints without loading it, because scripts call it often."""
    if sys.argv[1:] == ["--version"]:
        import alphareel  # noqa: PLC0415

        print(alphareel.__version__)  # noqa: T201
        return
    heeded = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not ignored, as in a shell's background
    if heeded:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C during imports, when there is nothing to remove
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # its other threads only spin, here as in child processes
    gc.disable()  # what imports leave is not garbage
    from alphareel.cli.main import main as run_command  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    try:
        if heeded:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run_command()
    except ImportError as error:
        package = _missing_package(error)
        if package not in _SERVICE_PACKAGES:
            raise
        sys.stderr.write(
            f"alphareel: this command needs the service, and the package {package} is not installed. "
            'Run: pip install "alphareel[service]"\n'
        )
        sys.exit(6)


def _missing_package(error: BaseException | None) -> str | None:
    """The package that could not be imported, looking through the errors that wrap it."""
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    return None if error is None else (error.name or "").partition(".")[0]


if __name__ == "__main__":
    main()
