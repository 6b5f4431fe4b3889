"""The service as a process of its own, as operators run it; for tests and benchmarks of the whole."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

_LISTENING = re.compile(r'"url": "(http://[^"]+)", "event": "listening"')


class ServiceProcess:
    """``alphareel serve`` on a free port, with ``data_dir`` for its data and a log beside that folder.

    ``settings`` are those of the service without their prefix; what is empty is left out. A file may be inspected for a
    minute unless they say otherwise, so that a busy machine refuses none. As a context manager it starts and waits
    until it listens, and is killed at the end. ``base``: its address, known from then on.
    """

    base: str
    #: A descriptor that gets its log instead of a file; set by a subclass.
    stderr: int | None = None

    def __init__(self, data_dir: Path, **settings: object) -> None:
        patient = {"DATA_DIR": str(data_dir), "PORT": "0", "PROBE_SECONDS": "60"}
        given = {**patient, **{name: str(value) for name, value in settings.items()}}
        self.data_dir = data_dir
        self._log = data_dir.parent / "log"
        self._log_before = len(self.log())
        self._said = Path(tempfile.mkstemp(dir=data_dir.parent)[1])
        with self._log.open("ab") as log, self._said.open("wb") as said:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("alphareel"), "serve"],
                stdout=said,
                stderr=log if self.stderr is None else self.stderr,
                env=os.environ | {f"ALPHAREEL_{name}": value for name, value in given.items() if value},
            )

    def __enter__(self) -> Self:
        return self.wait_until_it_listens()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.wait()

    def wait_until_it_listens(self) -> Self:
        """Raises RuntimeError when it ends instead, with its log."""

        def listening() -> "re.Match[str] | None":
            if self.process.poll() is not None:
                raise RuntimeError(f"the service ended: {self.log()[-4000:]}")
            return _LISTENING.search(self.log()[self._log_before :])

        self.base = wait_for(listening).group(1)
        return self

    def console_output(self) -> str:
        """What it printed on the console."""
        return self._said.read_text()

    def log(self) -> str:
        """What it and its children logged, of all services with data in this folder."""
        return self._log.read_text() if self._log.exists() else ""

    def wait(self) -> int:
        """Its exit status, as soon as it has ended."""
        return self.process.wait(timeout=300)


def wait_for(found: Callable[[], T | None], seconds: float = 300, pause: float = 0.1) -> T:
    """The first true value that ``found`` returns. Raises TimeoutError when there is none."""
    deadline = time.monotonic() + seconds
    while not (value := found()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"it did not come true within {seconds:g} s")
        time.sleep(pause)
    return value
