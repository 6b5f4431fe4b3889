"""The data folder of an installation on this machine: its permissions, its lock and its ID."""

import contextlib
import fcntl
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alphareel.domain.errors import StorageFailed, Unavailable

LOCK_NAME = "lock"
LOCK_TIMEOUT = 5.0  # after a kill, the old worker needs a moment to exit and release the lock


def make_private_folder(path: Path) -> None:
    """The folder holds the link secret and people's videos, so it is for its owner alone, also if it existed before.

    From now on this process makes all files for their owner alone.
    """
    os.umask(0o077)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(PermissionError):  # it belongs to another user, who decides
            path.chmod(0o700)
            for file in path.iterdir():
                # A file of another user, or one that a running service has just removed, leaves the others to do.
                with contextlib.suppress(PermissionError, FileNotFoundError):
                    if not file.is_symlink():
                        file.chmod(0o700 if file.is_dir() else 0o600)
    except OSError as error:
        raise StorageFailed(
            f"The data folder {path} cannot be made: {error.strerror}.", hint="Set ALPHAREEL_DATA_DIR."
        ) from error


@contextmanager
def lock_data_dir(data_dir: Path) -> Iterator[int]:
    """Hold the lock of a data folder. Yields its descriptor, which the worker process inherits.

    The lock is released only when every process that holds the descriptor has exited, so the owner knows that no
    executor of this folder is alive. Raises Unavailable if another service holds the lock; StorageFailed.
    """
    try:
        descriptor = os.open(data_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StorageFailed(
            f"The data folder {data_dir} cannot be written: {error.strerror}.",
            hint="Check its owner and that its disk is not mounted read-only, or set ALPHAREEL_DATA_DIR.",
        ) from error
    try:
        _lock(descriptor, data_dir)
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(descriptor: int, data_dir: Path) -> None:
    deadline = time.monotonic() + LOCK_TIMEOUT
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Another alphareel service uses the data folder {data_dir}.",
                    hint="Stop it, or set ALPHAREEL_DATA_DIR to another folder.",
                ) from None
            time.sleep(0.1)
        else:
            return


def load_installation_id(data_dir: Path) -> str:
    """A persistent ID for the data folder, independent of the host or container that mounts it."""
    path = data_dir / "home"
    if not path.exists():
        fresh = path.with_suffix(".new")
        with fresh.open("w") as file:
            file.write(uuid.uuid4().hex)
            file.flush()
            os.fsync(file.fileno())  # an empty file after a power failure would give several folders the same ID
        fresh.replace(path)
    return path.read_text().strip()
