"""Spare child processes: used once, replaced, and never in the way of a job."""

import contextlib
import errno
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest

from alphareel.domain.clip import EngineFacts, Limits
from alphareel.domain.options import Output
from alphareel.service.worker import child_process, template_main
from alphareel.service.worker.child_process import ResourceLimits
from alphareel.service.worker.messages import Preload
from alphareel.service.worker.spares import SpareConfig, Spares
from alphareel.service.worker.tasks import InspectTask, JoinTask, RunTask
from alphareel.service.worker.template_process import ForkedChild, TemplateGone, TemplateProcess
from alphareel.testing.service import wait_for

HERE = Path(__file__).parent

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the template process forks, which needs Linux")


@pytest.fixture(autouse=True)
def import_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(HERE))


@pytest.fixture
def open_spares(tmp_path: Path, import_path: None) -> Iterator[Callable[..., Spares]]:
    with contextlib.ExitStack() as stack:

        def start(**settings: object) -> Spares:
            spares = Spares(SpareConfig(tmp_path / "work", "me", **settings))  # type: ignore[arg-type]
            stack.callback(spares.stop)
            spares.start()
            assert spares.wait_until_ready(100)
            return spares

        yield start


@pytest.fixture
def spares(open_spares: Callable[..., Spares]) -> Spares:
    return open_spares()


def run_job(
    spares: Spares, tmp_path: Path, words: str = "leave_traces", at_start: Callable[[], object] = lambda: None
) -> list[str]:
    """The lines of the result of a job."""
    source = tmp_path / "source.mp4"
    source.write_text(words)
    with spares.workspace(tmp_path / "work" / "me.job_1.1") as folder:
        at_start()
        task = RunTask(source, (Output(folder / "result.webm"),), Limits(), threads=1, pipeline="fake_pipeline")
        child_process.run(task, ResourceLimits(16 << 30, wall_seconds=200), children=spares)
        return (folder / "result.webm").read_text().split("\n")


def test_a_job_that_runs_alone_gets_the_threads_of_all(open_spares: Callable[..., Spares], tmp_path: Path) -> None:
    spares = open_spares(lone_threads=4, preload=Preload("light", "chroma", threads=1))
    source = tmp_path / "source.mp4"
    source.write_text("words")

    def threads_of(name: str, *, save_memory: bool = False) -> int | None:
        assert spares.wait_until_ready(60)
        with spares.workspace(tmp_path / "work" / name) as folder:
            output = Output(folder / "result.webm")
            task = RunTask(source, (output,), Limits(), threads=1, save_memory=save_memory)
            with spares.child(task) as started:
                assert started.is_spare
                assert isinstance(started.task, RunTask)
                assert spares.wait_until_ready(60), "the next one, loaded while this one runs"
                return started.task.threads

    assert threads_of("me.job_1.1") == 4
    assert threads_of("me.job_2.1") == 1, "it was loaded while another ran"
    assert threads_of("me.job_3.1", save_memory=True) == 1
    before = spares.pids()
    wait_for(lambda: spares.pids() not in ([], before), 60)
    assert threads_of("me.job_4.1") == 4


def test_each_spare_serves_one_job_and_finds_nothing_of_the_one_before(spares: Spares, tmp_path: Path) -> None:
    used = []
    for _ in range(3):
        assert spares.wait_until_ready(100)
        waiting = spares.pids()
        pid, *traces = run_job(spares, tmp_path)
        assert int(pid) in waiting
        assert traces == []
        used.append(pid)
    assert len({*used}) == 3
    assert not psutil.pid_exists(int(used[0]))
    assert not (tmp_path / "work" / "me.job_1.1").exists()
    spares.stop()
    assert list((tmp_path / "work").iterdir()) == []


def test_a_spare_that_dies_while_it_waits_is_replaced(spares: Spares, tmp_path: Path) -> None:
    (dead,) = spares.pids()
    os.kill(dead, signal.SIGKILL)
    wait_for(lambda: spares.is_ready() and dead not in spares.pids(), 100)
    pid, *_ = run_job(spares, tmp_path)
    assert int(pid) != dead


def test_a_spare_that_dies_as_it_is_handed_over_costs_no_try(spares: Spares, tmp_path: Path) -> None:
    (dead,) = spares.pids()
    pid, *_ = run_job(spares, tmp_path, at_start=lambda: os.kill(dead, signal.SIGKILL))
    assert int(pid) != dead


def test_a_spare_that_dies_unseen_costs_no_try(spares: Spares, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (dead,) = spares.pids()
    real = child_process.send_line

    def send(process: child_process.ChildProcess, line: str) -> None:
        if process.pid == dead:
            os.kill(dead, signal.SIGKILL)
        real(process, line)

    monkeypatch.setattr(child_process, "send_line", send)
    pid, *_ = run_job(spares, tmp_path)
    assert int(pid) != dead


def test_a_job_that_kills_its_process_is_told_of_as_ever(spares: Spares, tmp_path: Path) -> None:
    with pytest.raises(child_process.Killed):
        run_job(spares, tmp_path, "killed")
    pid, *_ = run_job(spares, tmp_path)
    assert pid


def test_a_spare_with_weights_that_changed_serves_no_job(open_spares: Callable[..., Spares], tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    (models / "rvm.onnx").write_bytes(b"old")
    spares = open_spares(preload=Preload("light", models_dir=models, threads=1))
    waiting = spares.pids()
    (models / "rvm.onnx").write_bytes(b"newer")
    pid, *_ = run_job(spares, tmp_path)
    assert int(pid) not in waiting


def test_idle_spares_and_their_template_end_and_come_back(open_spares: Callable[..., Spares], tmp_path: Path) -> None:
    spares = open_spares(idle_seconds=2)
    template = spares.template_pid
    wait_for(lambda: not spares.pids() and spares.template_pid is None, 100)
    assert template is not None
    wait_for(lambda: not psutil.pid_exists(template), 100)
    assert len(run_job(spares, tmp_path)) == 1
    wait_for(lambda: spares.template_pid is not None, 100)


def test_a_job_longer_than_the_idle_time_keeps_its_template(open_spares: Callable[..., Spares], tmp_path: Path) -> None:
    spares = open_spares(idle_seconds=0.5)
    template = spares.template_pid
    with spares.workspace(tmp_path / "work" / "me.job_1.1") as folder:
        task = RunTask(tmp_path / "source.mp4", (Output(folder / "result.webm"),), Limits(), threads=1)
        (tmp_path / "source.mp4").touch()
        with spares.child(task) as job:
            time.sleep(2.1)
            assert job.process.poll() is None
            assert spares.template_pid == template
    with spares.child(InspectTask(tmp_path / "source.mp4", Limits())) as probe:
        time.sleep(2.1)
        assert probe.process.poll() is None
    wait_for(lambda: spares.template_pid is None, 100)


def test_a_spare_serves_no_task_but_its_own_kind_and_leaves_nothing(spares: Spares, tmp_path: Path) -> None:
    (waiting,) = spares.pids()
    with spares.workspace(tmp_path / "work" / "me.job_1.1") as folder:
        task = JoinTask(
            tmp_path / "a.mp4", (Output(folder / "result.webm"),), Limits(), (), EngineFacts("builtin", "1")
        )
        with spares.child(task) as started:
            assert started.process.pid != waiting
            assert not started.is_spare
    assert not psutil.pid_exists(waiting)
    spares.stop()
    assert list((tmp_path / "work").iterdir()) == []


def test_a_child_without_a_process_group_ends_with_its_connection() -> None:
    ours, theirs = socket.socketpair()
    first, other = socket.socketpair()
    template = template_main.Template(first)
    child = subprocess.Popen(["sleep", "60"])  # in our group, as a child before setsid is
    template._children[child.pid] = theirs
    template._selector.register(theirs, selectors.EVENT_READ)
    with ours, first, other:
        assert template._drop(theirs)
    assert not psutil.pid_exists(child.pid)
    child.wait()


def test_a_forked_child_without_a_process_group_can_be_killed() -> None:
    child = subprocess.Popen(["sleep", "60"])
    pipes = [os.open(os.devnull, mode) for mode in (os.O_WRONLY, os.O_RDONLY, os.O_RDONLY)]
    exit_code: Future[int] = Future()
    forked = ForkedChild(child.pid, exit_code, TemplateProcess({}), (pipes[0], pipes[1], pipes[2]))
    forked.kill()
    assert child.wait(100) == -signal.SIGKILL
    exit_code.set_result(-signal.SIGKILL)
    forked.close()


def test_a_fork_that_fails_costs_later_ones_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    template = TemplateProcess(child_process.child_environment())
    with pytest.raises(TemplateGone):
        template.fork()
    template.start()
    try:
        with monkeypatch.context() as patched:
            patched.setattr(template, "_send", raise_gone)
            with pytest.raises(TemplateGone):
                template.fork()
        child = template.fork()
        template.stop()
        template.start()
        assert child.wait(100) < 0
        again = template.fork()
        assert again.poll() is None
        assert template.pid is not None
        again.close()
        child.close()
    finally:
        template.stop()


def test_pipes_that_cannot_all_be_opened_leave_none(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[int] = []
    real = os.pipe

    def pipe() -> tuple[int, int]:
        if len(opened) == 4:
            raise OSError(errno.EMFILE, "too many")
        opened.extend(pair := real())
        return pair

    monkeypatch.setattr(os, "pipe", pipe)
    with pytest.raises(OSError, match="too many"):
        TemplateProcess({}).fork()
    for descriptor in opened:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)


def raise_gone(*_: object) -> None:
    raise TemplateGone


def test_a_template_that_is_killed_takes_no_job_with_it_for_good(spares: Spares, tmp_path: Path) -> None:
    template, waiting = spares.template_pid, spares.pids()
    assert template is not None
    os.kill(template, signal.SIGKILL)
    wait_for(lambda: not any(map(psutil.pid_exists, waiting)), 100)
    pid, *_ = run_job(spares, tmp_path)
    assert int(pid) not in waiting
    wait_for(lambda: spares.is_ready() and spares.template_pid not in (None, template), 100)


def test_a_spare_that_holds_too_much_memory_goes_and_the_next_loads_less(
    open_spares: Callable[..., Spares], tmp_path: Path
) -> None:
    spares = open_spares(max_bytes=20_000_000, preload=Preload("light", "builtin", threads=1))
    large = spares.pids()
    wait_for(lambda: spares.is_ready() and spares.pids() != large, 100)
    time.sleep(1.5)
    assert spares.is_ready()


def test_everything_dies_with_the_worker(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from alphareel.service.worker.spares import SpareConfig, Spares
spares = Spares(SpareConfig(Path(sys.argv[1]), count=2))
spares.start()
spares.wait_until_ready(100)
print("ready", flush=True)
time.sleep(600)
"""
    parent = subprocess.Popen([sys.executable, "-c", program, tmp_path], stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "ready\n"
        family = psutil.Process(parent.pid).children(recursive=True)
        assert len(family) >= 2
        parent.kill()
    _, alive = psutil.wait_procs(family, timeout=100)
    assert alive == []


def test_another_process_may_use_the_template_and_its_children_end_with_it(spares: Spares, tmp_path: Path) -> None:
    connection = spares.connect()
    assert connection is not None
    guest = Spares(SpareConfig(tmp_path / "guest", count=1), connection=connection)
    guest.start()
    assert guest.wait_until_ready(100)
    assert guest.template_pid is None
    children = [psutil.Process(pid) for pid in guest.pids()]
    assert {child.ppid() for child in children} == {spares.template_pid}
    guest.stop()
    _, alive = psutil.wait_procs(children, timeout=100)
    assert alive == []
    assert spares.is_ready()
