"""Default folders, and the hashes of files. Creates no folder."""

import hashlib
import os
from pathlib import Path

from alphareel.domain.errors import InvalidRequest


def default_data_dir() -> Path:
    """``$ALPHAREEL_DATA_DIR``, else ``alphareel`` in the user's data folder (XDG). Raises InvalidRequest."""
    value = os.environ.get("ALPHAREEL_DATA_DIR")
    if value:
        return expanded(Path(value), "ALPHAREEL_DATA_DIR")
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else expanded(Path("~/.local/share"), "ALPHAREEL_DATA_DIR")) / "alphareel"


def default_models_dir() -> Path:
    """``$ALPHAREEL_MODELS_DIR``, else ``models`` in the data folder. Shared by service, command and library.

    Raises InvalidRequest.
    """
    value = os.environ.get("ALPHAREEL_MODELS_DIR")
    return expanded(Path(value), "ALPHAREEL_MODELS_DIR") if value else default_data_dir() / "models"


def expanded(path: Path, variable: str) -> Path:
    """The path with the home folder for ``~``. Raises InvalidRequest that names ``variable`` if there is none."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise InvalidRequest(
            f"No home folder is known for {path.parts[0]}.", hint=f"Set {variable} to the full path of a folder."
        ) from None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
