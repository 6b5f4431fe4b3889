"""What a hostile child can reach: its own files, and nothing else."""

import errno
import platform
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alphareel.domain.clip import Limits
from alphareel.domain.options import Output
from alphareel.service.worker import child_process, confinement, seccomp
from alphareel.service.worker.child_process import SPAWNED, Children, ResourceLimits
from alphareel.service.worker.spares import SpareConfig, Spares
from alphareel.service.worker.tasks import RunTask

HERE = Path(__file__).parent
ALLOWED = 0x7FFF0000

needs_confinement = pytest.mark.skipif(
    not confinement.available().is_complete, reason=f"this kernel offers only: {confinement.available().describe()}"
)


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture(params=["spawned", "spare", "forked"])
def children(request: pytest.FixtureRequest, tmp_path: Path, import_path: None) -> Iterator[Children]:
    if request.param == "spawned":
        yield SPAWNED
        return
    spares = Spares(SpareConfig(tmp_path / "work", count=1 if request.param == "spare" else 0))
    spares.start()
    spares.wait_until_ready(30)
    yield spares
    spares.stop()


def attack(children: Children, tmp_path: Path, *spared: str) -> list[str]:
    """What worked for a child that tries everything but ``spared``."""
    others = tmp_path / "work" / "other job" / "file"
    others.parent.mkdir(parents=True)
    others.write_text("private")
    with children.workspace(tmp_path / "work" / "job") as folder:
        source = tmp_path / "upload"
        source.write_text(f"attack {tmp_path / 'outside'} {tmp_path / 'link'} {source} {' '.join(spared)}")
        (tmp_path / "link").symlink_to(others)
        task = RunTask(source, (Output(folder / "result.webm"),), Limits(), threads=1, pipeline="fake_pipeline")
        child_process.run(task, ResourceLimits(wall_seconds=600), children=children)
        return (folder / "result.webm").read_text().split("\n")


@needs_confinement
def test_a_hostile_child_gets_nothing(children: Children, tmp_path: Path) -> None:
    assert attack(children, tmp_path) == [""]


def test_the_hostile_child_would_get_it_without_confinement(tmp_path: Path, import_path: None) -> None:
    """So that the test above fails when confinement does nothing."""
    worked = attack(child_process.SpawnedChildren(confined=False), tmp_path, "shell")
    assert {"socket", "subprocess", "passwd", "another job's file", "write outside", "change of an input"} <= {*worked}


@needs_confinement
def test_a_library_folder_around_the_workspaces_opens_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", f"{HERE}:{tmp_path}")
    assert attack(SPAWNED, tmp_path) == [""]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_what_it_lists_and_nothing_else(machine: str) -> None:
    architecture, column = seccomp._ARCHITECTURES[machine]
    decide = interpreter(seccomp.program(machine, pid=4711), architecture)
    refused = {numbers[column] for numbers in seccomp._REFUSED.values()} - {0}
    own = {numbers[column]: name for name, numbers in seccomp._OWN_PROCESS_ONLY.items()}
    clone, clone3 = seccomp._CLONE[column], seccomp._CLONE3[column]
    for number in range(512):
        if number in refused:
            assert decide(number, 0) == 0x50000 | errno.EPERM, number
        elif number in own:
            assert decide(number, 4711) == ALLOWED
            assert decide(number, 4712) == 0x50000 | errno.EPERM
            assert (decide(number, 0) == ALLOWED) == (own[number] == "prlimit64")
        elif number == clone:
            assert decide(number, 0x3D0F00) == ALLOWED, "a thread"
            assert decide(number, 17) == 0x50000 | errno.EPERM, "a process"
        elif number == clone3:
            assert decide(number, 0) == 0x50000 | errno.ENOSYS
        else:
            assert decide(number, 0) == ALLOWED, number
    other = interpreter(seccomp.program(machine, pid=1), 0x40000003)  # 32-bit calls have other numbers
    assert other(1, 0) == 0x80000000


def interpreter(code: bytes, architecture: int) -> Callable[[int, int], int]:
    """Runs the BPF of a filter as the kernel does."""
    steps = [struct.unpack_from("<HBBI", code, at) for at in range(0, len(code), 8)]

    def decide(number: int, argument: int) -> int:
        data = struct.pack("<IIQQ", number, architecture, 0, argument)
        at = accumulator = 0
        while True:
            operation, when_true, when_false, value = steps[at]
            at += 1
            match operation:
                case 0x20:
                    accumulator = struct.unpack_from("<I", data, value)[0]
                case 0x06:
                    return int(value)
                case _:
                    holds = {
                        0x15: accumulator == value,
                        0x35: accumulator >= value,
                        0x45: bool(accumulator & value),
                    }[operation]
                    at += when_true if holds else when_false

    return decide


@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="the filter knows two processors")
def test_calls_of_the_other_instruction_set_of_a_processor_are_refused() -> None:
    decide = interpreter(seccomp.program("x86_64", pid=1), 0xC000003E)
    assert decide(0x40000000 | 41, 0) == 0x50000 | errno.EPERM


@pytest.mark.parametrize(("user", "warnings"), [(0, 1), (10001, 0)])
def test_a_service_that_runs_as_root_is_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, user: int, warnings: int
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: user)
    confinement.warn_of_root()
    assert caplog.text.count("running as root") == warnings
