"""Writes a file atomically: under a temporary name in the target's folder, then renamed."""

import errno
import os
from pathlib import Path

from alphareel.domain.errors import TargetExists
from alphareel.media.ffmpeg_errors import translating_write_errors
from alphareel.media.partial_file import create_file

_NO_HARD_LINKS = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL)


class AtomicFile:
    """An empty temporary file at ``path``, which ``publish`` renames to ``target``. All methods raise StorageFailed.

    If ``target`` is a symbolic link, the file that it points to is written. ``overwrite``: replace an existing file;
    otherwise ``publish`` raises TargetExists and leaves it alone. Removes what killed processes have left on the way to
    the same target.
    """

    def __init__(self, target: Path, *, overwrite: bool = False) -> None:
        self.target = target.resolve()
        self._overwrite = overwrite
        with translating_write_errors(target):
            self.path, self._lock = create_file(self.target)
        self._open = True

    def fsync(self) -> None:
        """Flush the file to disk. A full or broken disk fails here rather than in ``publish``."""
        with translating_write_errors(self.target):
            _fsync(self.path)

    def publish(self) -> None:
        """Flush the file to disk and rename it to the target. Also raises TargetExists, unless ``overwrite`` is set."""
        self.fsync()
        with translating_write_errors(self.target):
            if self._overwrite:
                self.path.replace(self.target)
            else:
                _rename_without_overwriting(self.path, self.target)
            _fsync(self.target.parent)
            self._open = False
            os.close(self._lock)

    def discard(self) -> None:
        """Delete the temporary file. Does nothing after ``publish`` or a second time."""
        if self._open:
            self._open = False
            self.path.unlink(missing_ok=True)
            os.close(self._lock)


def write_file(target: Path, data: bytes, *, overwrite: bool) -> None:
    """Write all of ``data`` to ``target``, or nothing. Raises TargetExists, StorageFailed."""
    part = AtomicFile(target, overwrite=overwrite)
    try:
        with translating_write_errors(target):
            part.path.write_bytes(data)
        part.publish()
    finally:
        part.discard()


def refuse_existing(target: Path) -> None:
    """Raise TargetExists when ``target`` exists."""
    if target.exists():
        raise TargetExists(
            f"{target} exists.",
            hint="Choose another name, or allow overwriting it (--overwrite; in Python overwrite=True).",
        )


def _rename_without_overwriting(path: Path, target: Path) -> None:
    """Rename ``path`` to ``target`` if no file is there. Atomic: a file that another process creates is kept."""
    try:
        os.link(path, target)
    except FileExistsError:
        # NFS may send a request twice; the second one reports the link that the first one made
        if not target.samefile(path):
            refuse_existing(target)
            raise
    except OSError as error:
        if error.errno not in _NO_HARD_LINKS:
            raise
        _replace_placeholder(path, target)
        return
    path.unlink()


def _replace_placeholder(path: Path, target: Path) -> None:
    """Same, for file systems without hard links (FAT, some network shares): reserve the name with an empty file."""
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


def _fsync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
