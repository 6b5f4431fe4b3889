"""Landlock: the kernel lets a child process open only what is listed (landlock(7), Linux 5.13 and newer)."""

import contextlib
import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same numbers on every processor
_VERSION_FLAG = 1
_PATH_BENEATH = 1

_WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 1, 1 << 2, 1 << 3
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_ALL_OF_FIRST_VERSION = (1 << 13) - 1
_MAKE = (1 << 4) | (1 << 5) | (1 << 7) | (1 << 8)  # remove folders and files, make folders and regular files
_OF_FILES = _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_TCP = 0b11
_SCOPES = 0b11  # abstract Unix sockets, signals


def version() -> int:
    """The version of Landlock that the kernel has; 0 for none."""
    if sys.platform != "linux":
        return 0
    abi = _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION_FLAG))
    return max(0, abi)


def restrict(*, reads: Iterable[Path], writes: Iterable[Path], devices: Iterable[Path] = ()) -> int:
    """Restrict this thread, and those it starts, to these files. Returns the version in force; 0 where it is missing.

    A folder stands for everything in it, also after it is renamed. ``devices``: files for reading and writing. What
    does not exist is left out. Needs no_new_privs. Raises OSError.
    """
    known = version()
    if known == 0:
        return 0
    handled = _ALL_OF_FIRST_VERSION | (_REFER if known >= 2 else 0) | (_TRUNCATE if known >= 3 else 0)
    attributes = struct.pack("<QQQ", handled, _TCP if known >= 4 else 0, _SCOPES if known >= 6 else 0)
    size = 24 if known >= 6 else 16 if known >= 4 else 8
    ruleset = _checked(_syscall(_CREATE_RULESET, attributes, ctypes.c_size_t(size), ctypes.c_uint32(0)))
    try:
        for path in reads:
            _allow(ruleset, path, _READ_FILE | _READ_DIR)
        for path in writes:
            _allow(ruleset, path, handled & (_READ_FILE | _READ_DIR | _WRITE_FILE | _MAKE | _REFER | _TRUNCATE))
        for path in devices:
            _allow(ruleset, path, _READ_FILE | _WRITE_FILE)
        _checked(_syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)))
    finally:
        os.close(ruleset)
    return known


def _allow(ruleset: int, path: Path, access: int) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                access &= _OF_FILES
            rule = struct.pack("<Qi", access, descriptor)
            _checked(_syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), rule, ctypes.c_uint32(0)))
        finally:
            os.close(descriptor)


def _syscall(number: int, *arguments: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *arguments))


def _checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
