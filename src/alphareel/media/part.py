"""A file under a temporary name in its final folder: it appears under its own name whole, or not at all."""

import os
import secrets
from pathlib import Path

from alphareel.media.ffmpeg_errors import writing

_MOST_BYTES = 80  # of the target's name in the temporary one


class Part:
    """The unfinished file for ``target``. ``path`` is where to write until ``publish``. Raises StorageFailed.

    A link stays: what it leads to is replaced.
    """

    def __init__(self, target: Path) -> None:
        # a name may take all the bytes that the file system allows, ours is longer
        name = os.fsencode(target.name)[:_MOST_BYTES].decode(errors="ignore")
        self.target = target.resolve()
        self.path = self.target.parent / f".{name}.{secrets.token_hex(6)}.part"
        self._open = True
        with writing(target):
            # the creation mode honours the umask, as that of any file the user makes
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))

    def secure(self) -> None:
        """Make the bytes durable. What could still fail, a full disk or a broken one, fails here."""
        with writing(self.target):
            _sync(self.path)

    def publish(self) -> None:
        """Give the bytes, made durable, their name."""
        self.secure()
        with writing(self.target):
            self.path.replace(self.target)
            _sync(self.target.parent)
            self._open = False

    def discard(self) -> None:
        """Remove what was written; without effect after ``publish`` or a second time."""
        if self._open:
            self._open = False
            self.path.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
