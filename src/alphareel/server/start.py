"""What the API does at its start, before one process or several answer requests."""

import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

from alphareel.domain.errors import Unavailable
from alphareel.server import container
from alphareel.server.installation import (
    Installation,
    deregister_executor,
    limits_of_requests,
    open_installation,
    sweep,
)
from alphareel.server.supervisor import Supervisor
from alphareel.service.settings import HttpSettings, Settings
from alphareel.telemetry.logging import get_logger

DRAIN_SECONDS = 10  # seconds that running requests may take after a stop was requested

OnOpen = Callable[[Callable[[str], None]], None]
"""Receives what forgets an executor, as soon as the database is open."""


@dataclass(frozen=True)
class PreparedStart:
    """``first_key``: secret of the key that this start created and printed. ``sweeps``: to be done every hour."""

    installation: Installation
    listener: socket.socket
    first_key: str | None
    sweeps: Mapping[str, Callable[[], None]]


@contextmanager
def prepare(settings: Settings, supervisor: Supervisor, *, home: str, on_open: OnOpen) -> Iterator[PreparedStart]:
    """Open the installation and the port, and let the worker begin.

    ``home``: ID of the data folder, whose lock the caller holds. Raises Unavailable when the port is taken or the
    database cannot be opened.
    """
    with open_installation(settings, limits_of_requests(settings.database)) as installation:
        try:
            on_open(partial(deregister_executor, installation))
            # We hold the lock, so these executors are dead; release their jobs at once.
            installation.executors.remove_home(home)
            sweep(installation)
            with _listen(settings.http) as listener:
                # After binding: a start that fails on the port must not consume the only display.
                first_key = _show_first_key(installation)
                supervisor.release()
                if settings.http.studio and sys.stdout.isatty():
                    link = container.studio_link(settings, container.build_sign_in_codes(installation, first_key))
                    _say(f"Open the studio: {link} (works once, within 15 minutes)")
                sweeps = container.build_sweeps(installation, supervisor.current_executor)
                yield PreparedStart(installation, listener, first_key, sweeps)
        finally:
            supervisor.stop()  # before the installation is closed


def announce(listener: socket.socket) -> None:
    """A sentence on a terminal, else a line of the log."""
    url = f"http://{_spoken(listener)}"
    if sys.stdout.isatty():
        _say(f"alphareel listens on {url}")
    get_logger(__name__).info("listening", url=url)


def _listen(http: HttpSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in http.host else socket.AF_INET
    try:
        return socket.create_server((http.host, http.port), family=family, backlog=2048)
    except OSError as error:
        raise Unavailable(
            f"The address {http.host} port {http.port} cannot be listened on: {error.strerror}.",
            hint="Set ALPHAREEL_HOST or ALPHAREEL_PORT.",
        ) from error


def _show_first_key(installation: Installation) -> str | None:
    """Create and print the first key of a new installation. Returns its secret; None if there is a key already."""
    first_key = container.admit_keys(installation)
    if first_key is None:
        return None
    _say(f"Your API key, shown this once: {first_key.secret}")
    return first_key.secret


def _say(line: str) -> None:
    """Print on the terminal, not to the logs, which are kept."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _spoken(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
