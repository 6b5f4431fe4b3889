"""What counts as evidence that a process was killed for lack of memory, on made-up /proc and /sys."""

import os
from pathlib import Path

import pytest

from alphareel.service.worker import memory_watch
from alphareel.service.worker.memory_watch import MemoryWatch

PID = 4711
MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")

V2 = ("0::/jobs/a", "sys/fs/cgroup/jobs/a/memory.events", "sys/fs/cgroup/jobs/memory.max")
V1 = (
    "4:memory:/jobs/a",
    "sys/fs/cgroup/memory/jobs/a/memory.oom_control",
    "sys/fs/cgroup/memory/memory.limit_in_bytes",
)
NONE = ("", "proc/vmstat", "")


@pytest.fixture
def root(tmp_path):
    write(tmp_path, "proc/meminfo", f"MemTotal:  {8000 * 1024} kB\nMemFree: 5 kB\n")
    hold(tmp_path, 100)
    return tmp_path


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 0.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(memory_watch, "time", clock)
    return clock


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def hold(root: Path, mib: int) -> None:
    write(root, f"proc/{PID}/statm", f"999999 {mib * MIB // PAGE} 5 1 0 9 0\n")


def kills(root: Path, path: str, count: int) -> None:
    write(root, path, f"low 0\noom 7\noom_kill {count}\n")


@pytest.mark.parametrize("place", [V2, V1, NONE], ids=["cgroup v2", "cgroup v1", "no cgroup"])
def test_a_kill_that_the_kernel_counted_is_evidence(place, root):
    group, counter, _ = place
    write(root, "proc/self/cgroup", group)
    kills(root, counter, 3)
    watch = MemoryWatch(PID, root=root)
    assert not watch.ran_out()
    kills(root, counter, 4)
    assert watch.ran_out()


def test_a_kill_of_long_ago_is_no_evidence(root, clock):
    write(root, "proc/self/cgroup", V2[0])
    kills(root, V2[1], 0)
    watch = MemoryWatch(PID, root=root)
    kills(root, V2[1], 1)  # of another job's process
    for _ in range(60):
        clock.now += 0.5
        watch.sample()
    assert not watch.ran_out()


@pytest.mark.parametrize("place", [V2, V1], ids=["cgroup v2", "cgroup v1"])
@pytest.mark.parametrize(("mib", "out"), [(300, False), (450, True)])
def test_holding_nearly_all_that_the_cgroup_allows_is_evidence(place, mib, out, root, clock):
    group, _, limit = place
    write(root, "proc/self/cgroup", group)
    write(root, limit, str(500 * MIB))
    watch = MemoryWatch(PID, root=root)
    hold(root, mib)
    clock.now += 1
    watch.sample()
    hold(root, 0)  # as a zombie
    assert watch.ran_out() is out


@pytest.mark.parametrize(("mib", "out"), [(6000, False), (7000, True)])
def test_holding_nearly_all_of_the_machine_is_evidence(mib, out, root):
    hold(root, mib)
    assert MemoryWatch(PID, root=root).ran_out() is out


def test_where_the_kernel_tells_nothing_there_is_no_evidence(tmp_path):
    watch = MemoryWatch(PID, root=tmp_path)
    watch.sample()
    assert not watch.ran_out()
