"""Evidence that a process was killed for lack of memory: what the kernel counted, and how much the process held."""

import contextlib
import os
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_LOOK_SECONDS = 0.4
_WINDOW_SECONDS = 10.0  # a kill that is older than this was not the one that ended the process
_NEAR = 0.8  # of the memory there is


class MemoryWatch:
    """Samples one process while it runs. ``root`` is the file system that /proc and /sys are read from.

    Where the kernel tells nothing (other systems than Linux) there is never any evidence.
    """

    def __init__(self, pid: int, *, root: Path = Path("/")) -> None:
        self._size = root / "proc" / str(pid) / "statm"
        self._counter = next((path for path in _counters(root) if _kills(path) is not None), None)
        self._most = min(_limits(root), default=None)
        self._samples: deque[tuple[float, int, int]] = deque()
        self.sample()

    def sample(self) -> None:
        """Take a sample, unless the last one is younger than half a second."""
        now = time.monotonic()
        if self._samples and now - self._samples[-1][0] < _LOOK_SECONDS:
            return
        self._samples.append((now, self._kills(), _resident_bytes(self._size)))
        while len(self._samples) > 1 and now - self._samples[1][0] > _WINDOW_SECONDS:
            self._samples.popleft()

    def ran_out(self) -> bool:
        """Whether memory ran out recently: the kernel killed a process for it, or nearly all of it was in use."""
        if self._kills() > self._samples[0][1]:
            return True
        peak = max(resident for _, _, resident in self._samples)
        return self._most is not None and peak >= _NEAR * self._most

    def _kills(self) -> int:
        return 0 if self._counter is None else _kills(self._counter) or 0


def _counters(root: Path) -> Iterator[Path]:
    """Files that count kills for lack of memory, the closest to this process first: cgroup v2, v1, the machine."""
    for group in _groups(root, ""):
        yield group / "memory.events"
    for group in _groups(root, "memory"):
        yield group / "memory.oom_control"
    yield root / "proc/vmstat"


def _limits(root: Path) -> Iterator[int]:
    """Bytes that this process may hold, by each limit that is set."""
    files = [group / "memory.max" for group in _groups(root, "")]
    files += [group / "memory.limit_in_bytes" for group in _groups(root, "memory")]
    for path in files:
        text = _read(path).strip()
        if text.isdigit():
            yield int(text)
    total = _field(root / "proc/meminfo", "MemTotal:")
    if total is not None:
        yield total * 1024


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the cgroup that this process is in and of those around it; v2 has one for all controllers."""
    top = root / "sys/fs/cgroup" / controller
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, name = (*line.split(":", 2), "", "")[:3]
        if controller in controllers.split(","):
            path = PurePosixPath(name.lstrip("/"))
            for folder in (path, *path.parents):
                yield top / folder
            return


def _kills(path: Path) -> int | None:
    return _field(path, "oom_kill")


def _resident_bytes(statm: Path) -> int:
    fields = _read(statm).split()
    return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") if len(fields) > 1 else 0


def _field(path: Path, name: str) -> int | None:
    """The number behind a name, in a file of names and numbers."""
    for line in _read(path).splitlines():
        words = line.split()
        if len(words) > 1 and words[0] == name and words[1].isdigit():
            return int(words[1])
    return None


def _read(path: Path) -> str:
    with contextlib.suppress(OSError):
        return path.read_text()
    return ""
