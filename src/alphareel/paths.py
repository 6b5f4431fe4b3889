"""Default folders, and the hashes of files. Creates no folder."""

import hashlib
import os
from pathlib import Path


def default_data_dir() -> Path:
    """``$ALPHAREEL_DATA_DIR``, else ``alphareel`` in the user's data folder (XDG)."""
    value = os.environ.get("ALPHAREEL_DATA_DIR")
    if value:
        return Path(value).expanduser()
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "alphareel"


def default_models_dir() -> Path:
    """``$ALPHAREEL_MODELS_DIR``, else ``models`` in the data folder. Shared by service, command and library."""
    value = os.environ.get("ALPHAREEL_MODELS_DIR")
    return Path(value).expanduser() if value else default_data_dir() / "models"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
