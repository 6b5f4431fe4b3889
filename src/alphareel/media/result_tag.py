"""The metadata tag of videos that alphareel wrote. It distinguishes results, which may be replaced, from footage."""

from pathlib import Path

from alphareel.domain.clip import Limits
from alphareel.domain.errors import AlphareelError
from alphareel.media.signature import HEAD_BYTES, is_animated
from alphareel.media.source import open_container

RESULT_METADATA = {"comment": "Background removed by alphareel"}

_ANY_SIZE = Limits(max_bytes=0)


def is_foreign_video(path: Path) -> bool:
    """Whether ``path`` is a video without the tag, and so may be footage.

    Formats that cannot store the tag (GIF, APNG, WebP) and damaged videos always count as foreign.
    """
    try:
        with path.open("rb") as file:
            if not is_animated(file.read(HEAD_BYTES)):
                return False
    except OSError:
        return True
    try:
        with open_container(path, _ANY_SIZE) as container:
            metadata = {name.lower(): text for name, text in container.metadata.items()}
    except AlphareelError:
        return True
    return metadata.get("comment") != RESULT_METADATA["comment"]
