"""Temporary files and folders beside an output, which the next run of the output removes if their process died.

Their owner holds a lock (``flock``) on each, which the kernel releases with the process. A lock says nothing about
other machines that share the folder, so names hold the boot of the machine, and only those of this boot are removed.
"""

import fcntl
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MAX_NAME_BYTES = 80  # of the target's name in the temporary name
_RANDOM = "[0-9a-f]{12}"


def create_file(target: Path) -> tuple[Path, int]:
    """A new empty hidden file beside ``target``, and its descriptor, which holds the lock. Raises OSError."""
    remove_abandoned(target)
    name = _short(target)
    new = target.parent / f".{name}.{secrets.token_hex(6)}.new"
    # 0o666 less the umask: the permissions of any file that the user creates
    lock = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        return _give_name(new, f".{name}.", ".part", lock), lock
    except BaseException:
        os.close(lock)
        new.unlink(missing_ok=True)
        raise


@contextmanager
def work_folder(target: Path, purpose: str) -> Iterator[Path]:
    """A hidden folder beside ``target``, which is removed at the end. Raises OSError."""
    remove_abandoned(target)
    name = f".{purpose}-{_short(target)}"
    folder = target.parent / f"{name}.{secrets.token_hex(6)}.new"
    folder.mkdir(mode=0o700)
    lock = None
    try:
        lock = os.open(folder, os.O_RDONLY)
        folder = _give_name(folder, f"{name}.", "", lock)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def remove_abandoned(target: Path) -> None:
    """Remove what killed processes on this machine have left beside ``target`` on the way to it."""
    boot = _boot()
    if not boot:
        return
    name = re.escape(_short(target))
    pattern = re.compile(rf"\.{name}\.{boot}{_RANDOM}\.part|\.[a-z]+-{name}\.{boot}{_RANDOM}")
    with suppress(OSError):
        for entry in os.scandir(target.parent):
            if pattern.fullmatch(entry.name):
                _remove_if_abandoned(Path(entry.path))


def _give_name(path: Path, prefix: str, suffix: str, lock: int) -> Path:
    """Lock the new file or folder and rename it. Until then nobody takes it for an abandoned one."""
    boot = _boot()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # this file system has no locks
        boot = ""
    named = path.with_name(f"{prefix}{boot}{secrets.token_hex(6)}{suffix}")
    path.rename(named)
    return named


def _remove_if_abandoned(path: Path) -> None:
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its owner lives
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        finally:
            os.close(descriptor)


def _short(target: Path) -> str:
    """The target's name, which may be as long as the file system allows, while the temporary name is longer."""
    return os.fsencode(target.name)[:_MAX_NAME_BYTES].decode(errors="ignore")


@cache
def _boot() -> str:
    """Eight digits for this boot of this machine; empty where the system does not tell."""
    try:
        return hashlib.sha256(_BOOT_ID.read_bytes()).hexdigest()[:8]
    except OSError:
        return ""
