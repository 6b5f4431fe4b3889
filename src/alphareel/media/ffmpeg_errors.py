"""FFmpeg's errors become ours here and nowhere else."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av.error

from alphareel.domain.errors import (
    AlphareelError,
    BadVideo,
    InternalError,
    NotFound,
    OutOfMemory,
    StorageFailed,
)

EXPORT_AGAIN = "Check that it plays, or export it again as MP4 (H.264)."
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_UNSUPPORTED = (
    av.error.DecoderNotFoundError,
    av.error.DemuxerNotFoundError,
    av.error.ProtocolNotFoundError,
    av.error.PatchWelcomeError,
    av.error.NotImplementedError,
    av.error.ExperimentalError,
)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of opening and decoding ``path`` as NotFound, StorageFailed, OutOfMemory or BadVideo."""
    try:
        yield
    except (av.error.FFmpegError, MemoryError, OSError) as error:
        raise read_error(error, path) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Errors of encoding and writing ``path`` as StorageFailed, OutOfMemory or InternalError."""
    try:
        yield
    except (av.error.FFmpegError, MemoryError, OSError) as error:
        raise write_error(error, path) from error


def read_error(error: Exception, path: Path) -> AlphareelError:
    """Ours for an error met while reading; never loses the narrowest true class."""
    name = path.name
    # demuxers use the system's errors for content too: what can be opened was not refused by the system
    of_system = not isinstance(error, av.error.FFmpegError) or not _can_be_opened(path)
    if isinstance(error, FileNotFoundError) and of_system:
        return NotFound(f"There is no file {name}.", hint="Check the path.")
    if isinstance(error, PermissionError | IsADirectoryError | NotADirectoryError) and of_system:
        return StorageFailed(f"{name} cannot be opened: {_reason(error)}.", hint="Check the path and its permissions.")
    if isinstance(error, MemoryError):
        return OutOfMemory(f"Decoding {name} needs more memory than there is.", hint="Use a smaller picture size.")
    if isinstance(error, _UNSUPPORTED):
        return BadVideo(f"{name} uses a codec or container that cannot be read here.", hint=EXPORT_AGAIN)
    if isinstance(error, OSError) and not isinstance(error, av.error.FFmpegError):
        return StorageFailed(f"{name} cannot be read: {_reason(error)}.", hint="Try again.")
    return BadVideo(f"{name} is damaged or no video: {_reason(error)}.", hint=EXPORT_AGAIN)


def _can_be_opened(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def write_error(error: Exception, path: Path) -> AlphareelError:
    """Ours for an error met while writing: a full disk and a bad folder are not the encoder's fault."""
    if isinstance(error, MemoryError):
        return OutOfMemory("Encoding needs more memory than there is.", hint="Use a smaller picture size.")
    if isinstance(error, OSError) and error.errno in _FULL:
        return StorageFailed("The disk is full.", hint=f"Free some space in {path.parent} and try again.")
    if isinstance(error, OSError):
        return StorageFailed(f"{path.name} cannot be written: {_reason(error)}.", hint="Check the folder.")
    return InternalError(f"{path.name} cannot be encoded: {_reason(error)}.", hint="Try another output format.")


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".").lower()
