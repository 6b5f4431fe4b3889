"""Opens the installation for operator commands, with the user of this machine as the operator."""

import getpass
import os
from collections.abc import Iterator
from contextlib import contextmanager

from alphareel.server.installation import Installation, open_installation
from alphareel.server.settings import load_settings
from alphareel.service.api_keys.admin import Operator
from alphareel.telemetry.logging import configure_logging


@contextmanager
def open_as_operator() -> Iterator[tuple[Installation, Operator]]:
    """The installation of the settings, and the user of this machine as the operator in its audit log."""
    settings = load_settings()
    configure_logging("warning")
    with open_installation(settings) as installation:
        yield installation, Operator(f"command:{_user()}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number that is no user
        return str(os.getuid())
