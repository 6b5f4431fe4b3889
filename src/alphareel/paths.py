"""Where alphareel keeps things when nobody says otherwise. Makes no folder."""

import os
from pathlib import Path


def default_data_dir() -> Path:
    """``$ALPHAREEL_DATA_DIR``, else ``alphareel`` in the user's data folder (XDG)."""
    named = os.environ.get("ALPHAREEL_DATA_DIR")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "alphareel"


def default_models_dir() -> Path:
    """``$ALPHAREEL_MODELS_DIR``, else ``models`` in the data folder: the same for service, command and library."""
    named = os.environ.get("ALPHAREEL_MODELS_DIR")
    return Path(named).expanduser() if named else default_data_dir() / "models"
