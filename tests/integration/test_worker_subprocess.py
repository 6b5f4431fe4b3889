"""What a child process may do to us: nothing, whatever it does."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from alphareel.domain import errors
from alphareel.domain.clip import Limits
from alphareel.domain.options import Output
from alphareel.server.inspection import IsolatedFetchInspection, IsolatedInspection
from alphareel.service.worker import child_process
from alphareel.service.worker.child_process import ResourceLimits
from alphareel.service.worker.messages import ChildRequest
from alphareel.service.worker.tasks import InspectTask, RunTask
from alphareel.testing.clips import make_clip

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture
def task(tmp_path: Path) -> Callable[[str], RunTask]:
    def make(words: str) -> RunTask:
        source = tmp_path / "source"
        source.write_text(words)
        target = tmp_path / "result.webm"
        return RunTask(source, (Output(target),), Limits(100, 100, 1.0, 5), threads=1, pipeline="fake_pipeline")

    return make


def test_a_result_comes_back_with_its_progress(task: Callable[[str], RunTask], tmp_path: Path) -> None:
    heard: list[Any] = []
    result = child_process.run(task("ok so"), ResourceLimits(), tick=heard.append)
    assert (tmp_path / "result.webm").read_bytes() == b"made so"
    assert result.results[0].sha256
    assert result.results[0].engine.name == "fake"
    assert result.stages == {"read": 0.1, "matte": 0.3, "write": 0.2}
    assert [p.share for p in heard if p is not None][-1] == 1.0


def test_the_child_sees_no_secret_of_ours(
    task: Callable[[str], RunTask], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ALPHAREEL_API_KEY", "ALPHAREEL_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "PGPASSWORD", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "secret")
    child_process.run(task("environment"), ResourceLimits())
    seen = (tmp_path / "result.webm").read_text().split()
    assert "PATH" in seen
    assert not {n for n in seen if n.startswith("ALPHAREEL") or "SECRET" in n or "PASSWORD" in n or "TOKEN" in n}


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        ("refuse", errors.BadVideo, "no video"),
        ("stumble", errors.StorageFailed, "disk is full"),
        ("fault", errors.InternalError, "RuntimeError"),
        ("native_hoard", errors.OutOfMemory, "memory"),
        ("segfault", errors.WorkerCrashed, "signal 11"),
        ("leave", errors.WorkerCrashed, "exit code 3"),
        ("killed", child_process.Killed, "signal 9"),
        ("babble", errors.WorkerCrashed, "invalid message"),
    ],
)
def test_every_end_has_its_error(words: str, error: type[Exception], said: str, task: Callable[[str], RunTask]) -> None:
    with pytest.raises(error, match=said):
        child_process.run(task(words), ResourceLimits())


def test_a_fault_tells_callers_nothing_of_our_paths(task: Callable[[str], RunTask]) -> None:
    with pytest.raises(errors.InternalError) as failure:
        child_process.run(task("fault"), ResourceLimits())
    assert "/secret/path" not in str(failure.value)


def test_a_hint_survives_the_border(task: Callable[[str], RunTask]) -> None:
    with pytest.raises(errors.BadVideo) as failure:
        child_process.run(task("refuse"), ResourceLimits())
    assert failure.value.hint == "Send another."


def test_a_child_that_hoards_memory_is_stopped(task: Callable[[str], RunTask]) -> None:
    with pytest.raises(errors.OutOfMemory):
        child_process.run(task("hoard"), ResourceLimits(memory_bytes=1_000_000_000))


def test_a_child_that_burns_processor_time_is_stopped(task: Callable[[str], RunTask]) -> None:
    with pytest.raises(errors.Timeout, match="processor time"):
        child_process.run(task("spin"), ResourceLimits(cpu_seconds=2))


def test_a_child_that_takes_too_long_is_stopped(task: Callable[[str], RunTask]) -> None:
    with pytest.raises(errors.Timeout, match="longer than") as ended:
        child_process.run(task("repeat"), ResourceLimits(wall_seconds=1.5))
    assert not ended.value.retryable, "another try would take as long"


def test_time_that_was_spent_before_counts_and_the_limit_is_told_as_it_was_set(task: Callable[[str], RunTask]) -> None:
    with pytest.raises(errors.Timeout, match="longer than 100 seconds") as caught:
        child_process.run(task("repeat"), ResourceLimits(wall_seconds=100, spent_seconds=98.5))
    assert not caught.value.retryable


@pytest.mark.parametrize("words", ["hang", "repeat"])
def test_a_child_without_progress_is_stopped(words: str, task: Callable[[str], RunTask]) -> None:
    with pytest.raises(errors.Timeout, match="no progress"):
        child_process.run(task(words), ResourceLimits(progress_seconds=1.5, wall_seconds=200))


def test_noise_on_standard_error_neither_blocks_nor_fills_memory(task: Callable[[str], RunTask]) -> None:
    assert child_process.run(task("noise"), ResourceLimits(wall_seconds=200)).results[0].bytes == len(b"made noisily")


def test_whoever_listens_can_end_the_child_at_once(task: Callable[[str], RunTask]) -> None:
    class Enough(Exception):
        pass

    def listen(progress: Any) -> None:
        if progress is not None:
            raise Enough

    with pytest.raises(Enough):
        child_process.run(task("hang"), ResourceLimits(), tick=listen)
    assert children() == []


def test_the_listener_is_asked_also_when_there_is_no_news(task: Callable[[str], RunTask]) -> None:
    ticks: list[Any] = []

    def listen(progress: Any) -> None:
        ticks.append(progress)
        if ticks.count(None) > 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        child_process.run(task("hang"), ResourceLimits(), tick=listen)


def test_a_child_dies_with_its_parent(task: Callable[[str], RunTask], tmp_path: Path) -> None:
    """kill -9 of the parent while its child hangs: no process is left."""
    program = """
import sys
from alphareel.service.worker import child_process
from alphareel.service.worker.messages import ChildRequest
task = ChildRequest.from_json(sys.argv[1]).task
print("begun", flush=True)
child_process.run(task, child_process.ResourceLimits(), tick=lambda p: print("tick", flush=True) if p else None)
"""
    request = ChildRequest(task("hang"), memory_bytes=0, cpu_seconds=0, open_files=0).to_json()
    parent = subprocess.Popen([sys.executable, "-c", program, request], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent:
        assert parent.stdout.readline() == "begun\n"
        assert parent.stdout.readline() == "tick\n"
        grandchildren = psutil.Process(parent.pid).children(recursive=True)
        assert len(grandchildren) == 1
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    _, alive = psutil.wait_procs(grandchildren, timeout=100)
    assert alive == []


def test_a_real_file_is_identified_apart(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video at all")
    with pytest.raises(errors.InvalidFileType):
        child_process.run(InspectTask(tmp_path / "text.mp4", Limits()), ResourceLimits(wall_seconds=200))


@pytest.mark.parametrize(
    ("limits", "refusal"),
    [
        (Limits(max_seconds=0.5), errors.DurationTooLong),
        (Limits(max_side=48), errors.ResolutionTooLarge),
        (Limits(max_bytes=100), errors.FileTooLarge),
    ],
)
def test_a_file_beyond_a_limit_is_refused_by_that_limit_s_own_error(
    tmp_path: Path, limits: Limits, refusal: type[errors.AlphareelError]
) -> None:
    clip = make_clip(tmp_path / "a.mp4", width=64, height=48, frames=25)
    with pytest.raises(refusal) as caught:
        IsolatedInspection(limits, seconds=200)(clip.path)
    assert type(caught.value) is refusal


@pytest.mark.parametrize("error", [errors.Timeout, errors.OutOfMemory, errors.WorkerCrashed])
def test_a_file_that_breaks_whoever_examines_it_is_a_bad_file(
    error: type[errors.AlphareelError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise error("It broke.")

    monkeypatch.setattr(child_process, "run", broken)
    with pytest.raises(errors.BadVideo, match="cannot be examined"):
        IsolatedInspection(Limits())(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("computed", "error"),
    [(4.9, errors.BadVideo), (None, errors.BadVideo), (0.3, errors.Unavailable)],
)
def test_a_file_that_takes_too_long_is_a_bad_file_unless_the_machine_kept_its_probe_waiting(
    computed: float | None, error: type[errors.AlphareelError], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*_: Any, **__: Any) -> Any:
        reached = child_process.BudgetExceeded("Over.")
        reached.computed = computed
        raise reached

    monkeypatch.setattr(child_process, "run", slow)
    with pytest.raises(error):
        IsolatedInspection(Limits(), seconds=5.0)(tmp_path / "a.mp4")


@pytest.mark.parametrize("kills", [1, 2])
def test_a_probe_that_is_killed_from_outside_is_run_once_more(
    kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = make_clip(tmp_path / "a.mp4", width=64, height=48, frames=5).path
    real, begun = child_process._ChildOutput, []

    def talk(process: "subprocess.Popen[bytes]", limits: ResourceLimits) -> Any:
        begun.append(process.pid)
        if len(begun) <= kills:
            os.kill(process.pid, signal.SIGKILL)
        return real(process, limits)

    monkeypatch.setattr(child_process, "_ChildOutput", talk)
    inspect_media = IsolatedInspection(Limits(), seconds=200)
    if kills == 1:
        assert inspect_media(clip).content_type == "video/mp4"
    else:
        with pytest.raises(errors.Unavailable):
            inspect_media(clip)
    assert len(begun) == 2


def test_a_probe_that_cannot_be_started_is_no_fault_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise BlockingIOError("no more processes")

    monkeypatch.setattr(subprocess, "Popen", full)
    with pytest.raises(errors.Unavailable):
        IsolatedInspection(Limits())(tmp_path / "a.mp4")


@pytest.mark.parametrize(("words", "least", "most"), [("spin", 0.2, 60), ("hang", 0.0, 4.0)])
def test_a_child_that_takes_too_long_is_judged_by_what_it_computed(
    words: str, least: float, most: float, task: Callable[[str], RunTask]
) -> None:
    with pytest.raises(child_process.BudgetExceeded) as ended:
        child_process.run(task(words), ResourceLimits(wall_seconds=5.0))
    if sys.platform == "linux":
        assert ended.value.computed is not None
        assert least <= ended.value.computed <= most


def test_a_fetched_file_that_keeps_its_examination_busy_is_refused_and_all_else_is_left_to_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "source").write_text("no video at all")
    IsolatedFetchInspection(Limits())(tmp_path / "source", lambda: None)

    def endless(*_: Any, **__: Any) -> Any:
        raise child_process.BudgetExceeded("Too long.")

    monkeypatch.setattr(child_process, "run", endless)
    with pytest.raises(errors.BadVideo, match="could not be examined"):
        IsolatedFetchInspection(Limits())(tmp_path / "source", lambda: None)


def test_the_examination_of_a_file_that_nobody_wants_ends_at_once(tmp_path: Path) -> None:
    class Unwanted(Exception): ...

    def tick() -> None:
        raise Unwanted

    clip = make_clip(tmp_path / "a.mp4", width=64, height=48, frames=5)
    with pytest.raises(Unwanted):
        IsolatedFetchInspection(Limits())(clip.path, tick)
    assert children() == []


def children() -> list[str]:
    return [
        " ".join(c.cmdline())
        for c in psutil.Process().children()
        if "alphareel.service.worker.child_main" in " ".join(c.cmdline())
    ]
