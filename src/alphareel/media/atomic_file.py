"""A file under a temporary name in its final folder: it appears under its own name whole, or not at all."""

import errno
import os
import secrets
from pathlib import Path

from alphareel.domain.errors import TargetExists
from alphareel.media.ffmpeg_errors import translating_write_errors

_MOST_BYTES = 80  # of the target's name in the temporary one
_NO_HARD_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


class AtomicFile:
    """The unfinished file for ``target``. ``path`` is where to write until ``publish``. Raises StorageFailed.

    A link stays: what it leads to is written. ``overwrite``: a file that is there by then is replaced, else it stays.
    """

    def __init__(self, target: Path, *, overwrite: bool = False) -> None:
        # a name may take all the bytes that the file system allows, ours is longer
        name = os.fsencode(target.name)[:_MOST_BYTES].decode(errors="ignore")
        self.target = target.resolve()
        self.path = self.target.parent / f".{name}.{secrets.token_hex(6)}.part"
        self._overwrite = overwrite
        self._open = True
        with translating_write_errors(target):
            # the creation mode honors the umask, as that of any file the user makes
            os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))

    def secure(self) -> None:
        """Make the bytes durable. What could still fail, a full disk or a broken one, fails here."""
        with translating_write_errors(self.target):
            _sync(self.path)

    def publish(self) -> None:
        """Give the bytes, made durable, their name. Raises TargetExists when another file has it and must stay."""
        self.secure()
        with translating_write_errors(self.target):
            if self._overwrite:
                self.path.replace(self.target)
            else:
                _rename_without_overwriting(self.path, self.target)
            _sync(self.target.parent)
            self._open = False

    def discard(self) -> None:
        """Remove what was written; without effect after ``publish`` or a second time."""
        if self._open:
            self._open = False
            self.path.unlink(missing_ok=True)


def refuse_existing(target: Path) -> None:
    """Raise TargetExists when there is a file at ``target``."""
    if target.exists():
        raise TargetExists(
            f"{target} exists.",
            hint="Choose another name, or allow overwriting it (--overwrite; in Python overwrite=True).",
        )


def _rename_without_overwriting(path: Path, target: Path) -> None:
    """Move ``path`` to ``target`` unless a file is there, with no moment in which another process could slip in."""
    try:
        os.link(path, target)
    except FileExistsError:
        # over NFS a call that is sent twice reports the link that its first try made
        if not target.samefile(path):
            refuse_existing(target)
            raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _replace_a_placeholder(path, target)
        return
    path.unlink()


def _replace_a_placeholder(path: Path, target: Path) -> None:
    """The same where the file system has no hard links (FAT, some network shares): an empty file takes the name."""
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        refuse_existing(target)
        raise
    try:
        path.replace(target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
