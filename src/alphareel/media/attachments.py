"""Files inside of a Matroska file, by their names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alphareel.media.source import open_container
from alphareel.media.verify import UNLIMITED

_MIME = "application/octet-stream"


def read_attachments(path: Path) -> dict[str, bytes]:
    """Raises like ``open_container``."""
    with open_container(path, UNLIMITED) as container:
        found = container.streams.attachments
        return {str(each.name): bytes(each.data or b"") for each in found if each.name}


def add_attachments(container: Any, attachments: Mapping[str, bytes]) -> None:
    """Add files to an output container of Matroska whose video was added before."""
    for name, data in attachments.items():
        container.add_attachment(name, _MIME, data)
