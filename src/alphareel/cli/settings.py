"""The settings that library verbs share with the service; the service itself need not be installed."""

import os
from dataclasses import dataclass
from pathlib import Path

from alphareel.paths import default_models_dir


@dataclass(frozen=True)
class LibrarySettings:
    models_dir: Path
    models_mirror: str | None


def load_library_settings() -> LibrarySettings:
    """Settings from the environment. Raises InvalidRequest where the service is installed and finds one invalid."""
    try:
        from alphareel.server.settings import load_settings
    except ModuleNotFoundError:  # alphareel without the extra "service"
        return LibrarySettings(default_models_dir(), os.environ.get("ALPHAREEL_MODELS_MIRROR") or None)
    settings = load_settings()
    return LibrarySettings(settings.models.dir, settings.models.mirror)
