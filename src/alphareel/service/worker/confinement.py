"""Confines a child process before it reads a byte of a video. Applied once, and cannot be undone.

docs/operate.md says what it protects. On other systems than Linux, and where the kernel lacks a part, the rest of it
is in force, and ``Confinement`` says which.
"""

import contextlib
import ctypes
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from alphareel.service.worker import landlock, seccomp
from alphareel.telemetry.logging import get_logger

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_DUMPABLE = 4
# What the loader, the C library, Python, the runtimes of networks and the drivers of GPUs read.
_SYSTEM_FILES = (
    "/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/share", "/usr/local/lib",
    "/usr/local/cuda", "/usr/local/share", "/opt/nvidia", "/opt/rocm", "/sys",
    "/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/OpenCL", "/etc/vulkan",
    "/etc/ssl/openssl.cnf", "/proc/cpuinfo", "/proc/devices", "/proc/driver", "/proc/filesystems", "/proc/meminfo",
    "/proc/stat", "/proc/sys/kernel/osrelease", "/proc/sys/vm", "/proc/version",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_GPU_DEVICES = ("nvidia*", "nvidia-caps/*", "dri/render*", "kfd", "dxg")


@dataclass(frozen=True)
class Confinement:
    """What is in force, or could be. ``landlock``: its version; 0 for none."""

    no_new_privileges: bool = False
    seccomp: bool = False
    landlock: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the kernel refuses new programs and sockets as well as files."""
        return self.no_new_privileges and self.seccomp and self.landlock > 0

    def describe(self) -> str:
        return ", ".join(
            (
                "no new privileges" if self.no_new_privileges else "new privileges possible",
                "system calls filtered" if self.seccomp else "system calls not filtered",
                f"files limited by Landlock {self.landlock}" if self.landlock else "files not limited",
            )
        )


def available() -> Confinement:
    """What this kernel can enforce."""
    if sys.platform != "linux":
        return Confinement()
    return Confinement(no_new_privileges=True, seccomp=seccomp.is_supported(), landlock=landlock.version())


def confine(*, reads: Iterable[Path], writes: Iterable[Path]) -> Confinement:
    """Confine this process, which must have one thread: Landlock binds only threads that start later.

    ``reads``, ``writes``: its own files, besides libraries; a folder stands for everything in it. Returns what is in
    force. Raises nothing: parts that this kernel refuses are missing from the result.
    """
    if sys.platform != "linux":
        return Confinement()
    is_alone = len(list(Path("/proc/self/task").iterdir())) == 1
    if ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return Confinement()
    reads, writes = list(reads), list(writes)
    # A library folder around a workspace would open those of all jobs; it is a mistake in PYTHONPATH.
    libraries = [path for path in _libraries() if not any(path in folder.parents for folder in writes)]
    known = 0
    with contextlib.suppress(OSError):
        known = landlock.restrict(reads=[*libraries, *reads], writes=writes, devices=_devices())
    return Confinement(no_new_privileges=True, seccomp=seccomp.install(), landlock=known if is_alone else 0)


def hide_process() -> None:
    """Make the memory, the environment and the descriptors of this process unreadable for others of its user."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def warn_of_root() -> None:
    """Log a warning when this process runs as root: code that escapes from a job process could then do anything."""
    if os.geteuid() == 0:
        get_logger(__name__).warning("running as root", hint="Run the service as a user of its own.")


def _libraries() -> Iterator[Path]:
    yield from map(Path, _SYSTEM_FILES)
    yield Path(f"/proc/{os.getpid()}")
    for name in ("stdlib", "platstdlib", "purelib", "platlib"):
        yield Path(sysconfig.get_path(name))
    yield from (Path(sys.prefix, "lib"), Path(sys.base_prefix, "lib"))
    yield from (Path(entry) for entry in sys.path if entry)
    yield from (Path(entry) for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry)


def _devices() -> Iterator[Path]:
    yield from map(Path, _DEVICES)
    for pattern in _GPU_DEVICES:
        yield from Path("/dev").glob(pattern)
