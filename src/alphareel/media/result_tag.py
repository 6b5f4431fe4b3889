"""The note in the metadata of videos that says that alphareel wrote them."""

from pathlib import Path

from alphareel.domain.clip import Limits
from alphareel.domain.errors import AlphareelError
from alphareel.media.signature import HEAD_BYTES, is_animated
from alphareel.media.source import opened

MARK = {"comment": "Background removed by alphareel"}

_ANY_SIZE = Limits(max_bytes=0)


def is_foreign_video(path: Path) -> bool:
    """Whether ``path`` is a video that bears no note of ours: footage, as far as anybody can tell.

    Formats without room for the note (GIF, APNG, WebP) always count as foreign, and so does a video that is damaged.
    """
    try:
        with path.open("rb") as file:
            if not is_animated(file.read(HEAD_BYTES)):
                return False
    except OSError:
        return True
    try:
        with opened(path, _ANY_SIZE) as container:
            told = {name.lower(): text for name, text in container.metadata.items()}
    except AlphareelError:
        return True
    return told.get("comment") != MARK["comment"]
