"""Where tasks run: on a runner, here, or here after runners failed. Runners are played by the test."""

import hashlib
import json
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from alphareel import __version__
from alphareel.db.runners import RunnerStore
from alphareel.domain.clip import EngineFacts, Limits, Result
from alphareel.domain.errors import (
    InvalidRequest,
    InvalidRunnerToken,
    InvalidState,
    MissingRunnerToken,
    NotFound,
    VerificationFailed,
)
from alphareel.domain.options import Background, Options, Output
from alphareel.pipeline import chunks
from alphareel.pipeline.returned import verify_returned
from alphareel.pipeline.run import run
from alphareel.server.runner_process import _checked_address, _engines
from alphareel.service.api_keys.admin import Operator
from alphareel.service.ports import NewJob
from alphareel.service.runners.previews import check_preview
from alphareel.service.worker import remote
from alphareel.service.worker.child_process import SPAWNED, ResourceLimits
from alphareel.service.worker.events import RunResult, event_to_values
from alphareel.service.worker.progress import WorkerStopping
from alphareel.service.worker.remote import RemoteTasks, RemoteTimes
from alphareel.service.worker.tasks import RunTask, run_task_from_values
from alphareel.testing.clips import make_clip
from alphareel.testing.fakes import make_settings

OPERATOR = Operator("tests")
WHITE = Background(type="color", color=(255, 255, 255))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", width=64, height=48, frames=20, audio=True).path


@pytest.fixture(scope="module")
def made(clip, tmp_path_factory):
    """A real result of the clip: its Results, whose paths are its files."""
    folder = tmp_path_factory.mktemp("made")
    outputs = [
        Output(folder / f"result.{suffix}", Options(engine="builtin", output_format=name))
        for suffix, name in (("webm", "webm"), ("mov", "mov"), ("gif", "gif"), ("zip", "png_sequence"))
    ]
    *_, last = run(clip, outputs)
    return outputs, last.results


class Stage:
    """A worker's RemoteTasks, a job, and the service that runners reach."""

    def __init__(self, harness, folder: Path, clip: Path, *, lease: float = 100, **worker) -> None:
        self.harness, self.clip = harness, clip
        self.store = RunnerStore(harness.database, clock=harness.clock)
        harness.executors.add_executor("worker", home="")
        harness.blobs.blobs["uploads/a.mp4"] = clip.read_bytes()
        settings = make_settings(worker={"jobs": 1, **worker}).worker
        times = RemoteTimes(poll=0.02, lease=lease, preference=100)  # until hasten()
        self.remote = self.make_remote("worker", settings, times)
        self.service = harness.services.runners
        self.folder = folder / "work"
        self.folder.mkdir()
        self.here: list[RunTask] = []
        self.ticks = 0

    def make_remote(self, executor_id, settings, times):
        return RemoteTasks(
            executor_id,
            self.store,
            self.harness.blobs,
            worker=settings,
            children=SPAWNED,
            clock=self.harness.clock,
            times=times,
        )

    def replace_worker(self):
        """Another worker process instead of the one that is there; the RemoteTasks of the old one."""
        old = self.remote
        self.harness.executors.remove_executor("worker")
        self.harness.executors.add_executor("next", home="")
        self.remote = self.make_remote("next", old._worker, replace(old._times, preference=100))
        return old

    def hasten(self):
        """From now on a task waits for no runner where a slot is free here."""
        self.remote._times = replace(self.remote._times, preference=0.1)

    def runner(self, name="gpu", *, slots=1, engines=("builtin",)):
        made = self.harness.services.runner_admin.create(OPERATOR, name=name)
        self.service.note(made.runner, slots=slots, engines=engines, version=__version__)
        return made.runner

    def task(self, *outputs, **more) -> RunTask:
        chosen = outputs or (Output(self.folder / "result.webm", Options(engine="builtin", output_format="webm")),)
        return RunTask(self.clip, chosen, Limits(), models_dir=Path("/nowhere"), **more)

    def run(self, task=None, limits=None):
        job = type("Job", (), {"id": "job_1", "attempt": 1})()
        given = task or self.task()
        return self.remote.run(
            job, given, {self.clip: "uploads/a.mp4"}, limits or ResourceLimits(), self.tick, run_here=self.run_here
        )

    def run_here(self, task):
        self.here.append(task)
        return RunResult(())

    def tick(self, progress):
        self.ticks += 1

    def start(self, *arguments):
        box = []
        thread = threading.Thread(target=lambda: box.append(self.run(*arguments)))
        thread.start()

        def result():
            thread.join(60)
            assert not thread.is_alive()
            return box[0]

        return result

    def lease(self, runner):
        deadline = time.monotonic() + 60
        while (task := self.service.lease(runner, slots=1, engines=("builtin", "rvm"))) is None:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        self.hasten()
        return task

    def send(self, runner, task, name, data):
        with self.service.begin_file(runner, task.id, name, lease=task.lease) as writer:
            writer.write(data)
            return self.service.finish_file(runner, task.id, name, writer, lease=task.lease)

    def finish(self, runner, task, results):
        self.service.complete(
            runner, task.id, lease=task.lease, event=event_to_values(RunResult(tuple(results), {"matte": 1.0}))
        )

    def counts(self):
        """(done, failed) tasks of each runner."""
        return [(runner.tasks_done, runner.tasks_failed) for runner in self.store.runners()]

    def fail(self, runner, task, code="invalid_video"):
        event = {"event": "error", "code": code, "message": "It is no video.", "hint": ""}
        self.service.complete(runner, task.id, lease=task.lease, event=event)


@pytest.fixture
def stage(harness, tmp_path, clip):
    return Stage(harness, tmp_path, clip)


def test_without_runners_a_task_runs_here(stage):
    assert stage.run() == RunResult(())
    assert len(stage.here) == 1
    assert stage.remote.more_slots() == 0


def test_a_free_runner_gets_the_task_and_nothing_of_this_machine(stage, made):
    outputs, results = made
    runner = stage.runner()
    assert stage.remote.more_slots() == 1
    result = stage.start()
    task = stage.lease(runner)
    told = json.dumps(task.request)
    assert str(stage.folder) not in told
    assert "/nowhere" not in told
    assert list(task.inputs) == ["input-0.mp4"]
    asked = run_task_from_values(task.request)
    assert (asked.source, asked.engines, asked.outputs[0].path) == (
        Path("input-0.mp4"),
        ("builtin",),
        Path("result.webm"),
    )
    blob, _ = stage.service.open_input(runner, task.id, "input-0.mp4", lease=task.lease)
    assert blob == "uploads/a.mp4"
    data = outputs[0].path.read_bytes()
    assert stage.send(runner, task, "result.webm", data) == hashlib.sha256(data).hexdigest()
    stage.finish(runner, task, [results[0]])
    verified = result()
    assert verified.results[0].sha256 == results[0].sha256
    assert verified.results[0].path == str(stage.folder / "result.webm")
    assert (stage.folder / "result.webm").read_bytes() == data
    assert stage.here == []
    assert stage.store.task(task.id) is None
    assert stage.counts() == [(1, 0)]
    assert not any(key.startswith("returned/") for key in stage.harness.blobs.blobs)


def test_a_task_waits_no_longer_for_a_runner_than_for_a_slot_here(stage):
    runner = stage.runner()
    stage.hasten()
    assert stage.run() == RunResult(())
    assert len(stage.here) == 1
    assert stage.service.lease(runner, slots=1, engines=("builtin",)) is None


def test_a_lease_that_is_not_renewed_is_taken_back_and_blamed_on_nobody(harness, tmp_path, clip):
    stage = Stage(harness, tmp_path, clip, lease=0.5)
    runner = stage.runner()
    result = stage.start()
    task = stage.lease(runner)
    assert result() == RunResult(())
    assert not stage.service.renew(runner, task.id, lease=task.lease, progress=None)
    with pytest.raises(NotFound):
        stage.fail(runner, task)
    assert stage.counts() == [(0, 1)]


def test_a_renewed_lease_is_kept(harness, tmp_path, clip):
    stage = Stage(harness, tmp_path, clip, lease=3)
    runner = stage.runner()
    result = stage.start()
    task = stage.lease(runner)
    progress: dict[str, Any] = {"done": 1, "total": 20, "share": 0.1, "seconds": 1.0, "fps": 1.0}
    progress |= {"remaining_seconds": None, "stages": {}, "written": []}
    for _ in range(20):
        time.sleep(0.2)
        assert stage.service.renew(runner, task.id, lease=task.lease, progress=progress)
    assert stage.here == []
    stage.fail(runner, task)
    result()


def test_an_error_of_a_runner_is_checked_here(stage):
    """A runner cannot fail anybody's job."""
    runner = stage.runner()
    result = stage.start()
    stage.fail(runner, stage.lease(runner))
    assert result() == RunResult(())
    assert len(stage.here) == 1


def test_three_failures_are_enough(harness, tmp_path, clip):
    stage = Stage(harness, tmp_path, clip, runners_only=True)
    runners = [stage.runner(f"r{number}") for number in range(4)]
    result = stage.start()
    for runner in runners[:3]:
        stage.fail(runner, stage.lease(runner), "worker_crashed")
    assert result() == RunResult(())
    assert sorted(stage.counts()) == [(0, 0), (0, 1), (0, 1), (0, 1)]
    assert len(stage.here) == 1


@pytest.mark.parametrize("number", [1, 2])
def test_what_all_runners_failed_at_runs_here(harness, tmp_path, clip, number):
    """Also where engines run on runners alone: nobody else is there to wait for."""
    stage = Stage(harness, tmp_path, clip, runners_only=True)
    runners = [stage.runner(f"r{n}") for n in range(number)]
    result = stage.start()
    for _ in runners:
        task = None
        while task is None:
            for runner in runners:
                task = task or stage.service.lease(runner, slots=1, engines=("builtin",))
            time.sleep(0.01)
        holder = next(runner for runner in runners if runner.id == task.runner_id)
        stage.fail(holder, task)
    assert result() == RunResult(())
    assert len(stage.here) == 1


def test_what_the_only_runner_gives_back_again_and_again_runs_here(harness, tmp_path, clip):
    stage = Stage(harness, tmp_path, clip, runners_only=True)
    runner = stage.runner()
    result = stage.start()
    for _ in range(3):
        task = stage.lease(runner)
        stage.service.release(runner, task.id, lease=task.lease)
    assert result() == RunResult(())
    assert stage.counts() == [(0, 0)]
    assert len(stage.here) == 1


def test_a_verification_waits_for_a_slot(stage, made):
    outputs, results = made
    runner = stage.runner()
    result = stage.start()
    task = stage.lease(runner)
    stage.send(runner, task, "result.webm", outputs[0].path.read_bytes())
    with stage.remote.slot(stage.tick):
        stage.finish(runner, task, [results[0]])
        before = stage.ticks
        while stage.ticks < before + 5:  # it looks for a slot, and holds none
            time.sleep(0.02)
        assert stage.store.task(task.id) is not None
    assert result().results[0].sha256 == results[0].sha256


def test_what_no_runner_can_do_runs_here(harness, tmp_path, clip):
    stage = Stage(harness, tmp_path, clip, runners_only=True)
    stage.runner(engines=("rvm",))
    assert stage.run() == RunResult(())
    assert len(stage.here) == 1


def test_a_runner_without_progress_loses_the_task(stage):
    runner = stage.runner()
    result = stage.start(None, ResourceLimits(progress_seconds=0.3))
    task = stage.lease(runner)
    renewed = 0
    while stage.service.renew(runner, task.id, lease=task.lease, progress=None):
        renewed += 1
        time.sleep(0.05)
        assert renewed < 200
    assert result() == RunResult(())


def test_a_cancelled_task_is_gone_for_its_runner(stage, monkeypatch):
    class Cancelled(Exception):
        pass

    runner = stage.runner()
    leased = []

    def tick(_):
        if not leased:
            if (task := stage.service.lease(runner, slots=1, engines=("builtin",))) is not None:
                leased.append(task)
        elif stage.ticks > 5:
            raise Cancelled
        stage.ticks += 1

    monkeypatch.setattr(stage, "tick", tick)
    with pytest.raises(Cancelled):
        stage.run()
    assert not stage.service.renew(runner, leased[0].id, lease=leased[0].lease, progress=None)


@pytest.fixture
def left(stage, monkeypatch):
    """A task of a running job that a runner holds, whose worker process stopped, and that runner."""
    job = NewJob("job_1", None, "https://example.com/a.mp4", Options(), None, {}, "req_1", ())
    ticket = stage.harness.jobs.add_job(job, start=True, actor="test").ticket
    stage.harness.jobs.begin_attempt("job_1", ticket=ticket, actor="worker")
    runner, leased = stage.runner(), []

    def tick(_):
        if leased:
            raise WorkerStopping
        if (task := stage.service.lease(runner, slots=1, engines=("builtin",))) is not None:
            leased.append(task)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "tick", tick)
        with pytest.raises(WorkerStopping):
            stage.run()
    return leased[0], runner


@pytest.mark.parametrize("is_ended", [False, True])
def test_the_next_worker_takes_what_a_runner_does(stage, left, made, is_ended):
    """Also when the runner is done before it starts."""
    outputs, results = made
    task, runner = left
    old = stage.replace_worker()
    data = outputs[0].path.read_bytes()

    def finish():
        assert stage.service.renew(runner, task.id, lease=task.lease, progress=None)
        stage.send(runner, task, "result.webm", data)
        stage.finish(runner, task, [results[0]])

    if is_ended:
        finish()
    with stage.remote.slot(stage.tick):  # so that nothing is verified yet
        result = stage.start()
        while stage.store.task(task.id).executor_id != "next":
            time.sleep(0.01)
        if not is_ended:
            finish()
        old._remove(task)  # as by a worker process that was only asleep
        assert stage.store.task(task.id) is not None
    assert result().results[0].sha256 == results[0].sha256
    assert (stage.folder / "result.webm").read_bytes() == data
    assert (stage.here, stage.counts(), stage.store.task(task.id)) == ([], [(1, 0)], None)
    assert not any(key.startswith("returned/") for key in stage.harness.blobs.blobs)


def test_previews_of_a_runner_are_shown_like_those_of_this_machine(stage, clip, tmp_path, monkeypatch):
    (tmp_path / "made").mkdir()
    output = Output(tmp_path / "made.webm", Options(engine="builtin", output_format="webm"))
    *_, _ = run(clip, [output], previews=tmp_path / "made")
    picture = (tmp_path / "made" / "preview-0.webp").read_bytes()
    (tmp_path / "shown").mkdir()
    told: list[Any] = []
    monkeypatch.setattr(stage, "tick", told.append)
    runner = stage.runner()
    result = stage.start(stage.task(previews=tmp_path / "shown"))
    task = stage.lease(runner)
    assert run_task_from_values(task.request).previews == Path("previews")
    progress: dict[str, Any] = {"done": 1, "total": 20, "share": 0.1, "seconds": 1.0, "fps": 1.0}
    progress |= {"remaining_seconds": None, "stages": {}, "written": []}
    stage.service.show_preview(runner, task.id, picture, lease=task.lease)
    stage.service.show_preview(runner, task.id, picture, lease=task.lease)
    returned = [key for key in stage.harness.blobs.blobs if key.startswith("returned/")]
    assert len(returned) == 1, "the newest one"
    assert stage.service.renew(runner, task.id, lease=task.lease, progress=progress)
    while not any(each and each.preview for each in told):
        time.sleep(0.01)
    shown = next(each.preview for each in told if each and each.preview)
    assert (Path(shown).parent, Path(shown).read_bytes()) == (tmp_path / "shown", picture)
    stage.fail(runner, task)
    result()
    assert not any(key.startswith("returned/") for key in stage.harness.blobs.blobs)


def test_what_is_no_preview_is_refused(stage, clip, tmp_path):
    output = Output(tmp_path / "made.webm", Options(engine="builtin", output_format="webm"))
    *_, _ = run(clip, [output], previews=tmp_path)
    good = (tmp_path / "preview-0.webp").read_bytes()
    check_preview(good)
    wide = good[:24] + (321 - 1).to_bytes(3, "little") + good[27:]
    longer = b"RIFF" + (len(good) + 2).to_bytes(4, "little") + good[8:] + b"EXIF" + (2).to_bytes(4, "little") + b"ab"
    large = b"RIFF" + (200_000).to_bytes(4, "little") + good[8:] + bytes(200_008 - len(good))
    for bad in (b"", b"<svg/>", good[:-1], good + b"x", good[:20], wide, longer, large, good.replace(b"ALPH", b"ANIM")):
        with pytest.raises(InvalidRequest):
            check_preview(bad)
    runner = stage.runner()
    result = stage.start()
    task = stage.lease(runner)
    with pytest.raises(NotFound):  # nobody asked for previews
        stage.service.show_preview(runner, task.id, good, lease=task.lease)
    stage.fail(runner, task)
    result()


def test_the_next_worker_takes_back_what_nobody_does(stage, left):
    task, runner = left
    stage.replace_worker()
    stage.remote._times = replace(stage.remote._times, lease=0.5, preference=0.1)
    assert stage.run() == RunResult(())
    assert not stage.service.renew(runner, task.id, lease=task.lease, progress=None)
    assert stage.counts() == [(0, 1)]


def test_the_next_worker_does_not_take_another_task_of_the_job(stage, left):
    """As when the settings changed with the restart."""
    task, runner = left
    stage.replace_worker()
    stage.hasten()
    other = Output(stage.folder / "result.webm", Options(engine="builtin", output_format="webm", feather=2))
    assert stage.run(stage.task(other)) == RunResult(())
    assert stage.service.renew(runner, task.id, lease=task.lease, progress=None), "while the job is not ended"
    stage.harness.jobs.fail("job_1", attempt=None, error="", error_code="cancelled", actor="test")
    assert not stage.service.renew(runner, task.id, lease=task.lease, progress=None)


@pytest.mark.parametrize("lie", ["no file", "other bytes", "not the file", "no results", "nonsense", "other engine"])
def test_a_wrong_result_is_refused(stage, made, lie):
    outputs, results = made
    runner = stage.runner()
    result = stage.start()
    task = stage.lease(runner)
    told = [results[0]]
    data = outputs[0].path.read_bytes()
    if lie == "other bytes":
        data = data[:-100] + bytes(100)
        told = [replace(results[0], sha256=hashlib.sha256(data).hexdigest())]
    elif lie == "not the file":
        data = outputs[1].path.read_bytes()
    elif lie == "no results":
        told = []
    elif lie == "other engine":
        told = [replace(results[0], engine=EngineFacts("rvm", "1"))]
    if lie != "no file":
        stage.send(runner, task, "result.webm", data[: len(data) // 2] if lie == "other bytes" else data)
    if lie == "nonsense":
        event = event_to_values(RunResult((results[0],)))
        event["results"][0]["frames"] = "many"
        stage.service.complete(runner, task.id, lease=task.lease, event=event)
    else:
        stage.finish(runner, task, told)
    assert result() == RunResult(()), "it was made here"
    assert len(stage.here) == 1


def test_what_is_made_of_a_matte_stays_here(stage):
    stage.runner()
    assert not stage.remote.are_wanted(stage.task(matte=Path("m.mkv")))
    assert not stage.remote.are_wanted(stage.task(save_memory=True))
    assert stage.remote.are_wanted(stage.task())


def test_no_slots_for_runners_means_that_they_get_nothing(harness, tmp_path, clip):
    stage = Stage(harness, tmp_path, clip, runner_slots=0)
    stage.runner()
    assert stage.run() == RunResult(())
    assert stage.remote.more_slots() == 0


def test_the_slots_of_runners_are_shared_with_what_is_open(stage, monkeypatch):
    monkeypatch.setattr(remote, "_CACHED_SECONDS", 0.0)
    stage.runner(slots=3)
    assert stage.remote.more_slots() == 3
    result = stage.start()
    time.sleep(0.05)
    assert stage.remote.more_slots() == 3
    stage.hasten()
    result()


def test_tokens_are_checked(stage):
    made = stage.harness.services.runner_admin.create(OPERATOR, name="gpu")
    assert stage.service.authenticate(made.token) == made.runner
    with pytest.raises(MissingRunnerToken):
        stage.service.authenticate("")
    for wrong in ("ar_runner_x", made.token + "x", "x" * 100_000):
        with pytest.raises(InvalidRunnerToken):
            stage.service.authenticate(wrong)
    stage.harness.services.runner_admin.revoke(OPERATOR, made.runner.id)
    with pytest.raises(InvalidRunnerToken):
        stage.service.authenticate(made.token)


def test_another_version_gets_nothing(stage):
    runner = stage.harness.services.runner_admin.create(OPERATOR, name="old").runner
    with pytest.raises(InvalidState, match=r"version 0\.0\.0"):
        stage.service.note(runner, slots=1, engines=["builtin"], version="0.0.0")


def test_a_runner_reads_and_writes_the_files_of_its_lease_alone(stage):
    runner, other = stage.runner(), stage.runner("other")
    result = stage.start()
    task = stage.lease(runner)
    for who, lease, name in (
        (other, task.lease, "input-0.mp4"),
        (runner, "x", "input-0.mp4"),
        (runner, task.lease, "b"),
    ):
        with pytest.raises(NotFound):
            stage.service.open_input(who, task.id, name, lease=lease)
    for who, lease, name in (
        (other, task.lease, "result.webm"),
        (runner, "x", "result.webm"),
        (runner, task.lease, "b"),
    ):
        with pytest.raises(NotFound):
            stage.service.begin_file(who, task.id, name, lease=lease)
    stage.fail(runner, task)
    result()


# What the verification finds, in the process of the test


def verify(clip, outputs, told, **more):
    return verify_returned(clip, outputs, told, engine="builtin", limits=Limits(), **more)


def test_honest_results_are_what_a_run_said(clip, made):
    outputs, results = made
    verified = verify(clip, outputs, results)
    for mine, theirs in zip(verified, results, strict=True):
        assert asdict(mine) | {"source_seconds": None} == asdict(theirs) | {"source_seconds": None}
        assert mine.source_seconds == pytest.approx(theirs.source_seconds, abs=0.1)


def test_an_honest_chunk_is_accepted_and_another_one_is_not(tmp_path):
    options = {"g": "25", "sc_threshold": "0"}
    clip = make_clip(tmp_path / "long.mp4", width=64, height=48, frames=150, audio=True, options=options).path
    outputs = [Output(tmp_path / "chunk-2.0.webm", Options(engine="builtin", output_format="webm"))]
    plan = chunks.plan(clip, outputs, seconds=2.0, limits=Limits())
    *_, last = run(clip, outputs, chunk=plan.chunks[1])
    (verified,) = verify_returned(
        clip, outputs, last.results, engine=plan.engine, limits=Limits(), chunk=plan.chunks[1]
    )
    assert verified.frames == last.results[0].frames
    with pytest.raises(VerificationFailed):
        verify_returned(
            clip, outputs, last.results, engine=replace(plan.engine, version="0"), limits=Limits(), chunk=plan.chunks[1]
        )
    with pytest.raises(VerificationFailed, match="of the source"):
        verify_returned(clip, outputs, last.results, engine=plan.engine, limits=Limits())


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"frames": 19}, "frames"),
        ({"frames": 40}, "frames"),
        ({"sha256": "0" * 64}, "not the file"),
        ({"source_pixels": 7}, "another source"),
        ({"source_seconds": 90.0}, "of the source"),
        ({"engine": EngineFacts("builtin", "1", license="MIT")}, "another version"),
        ({"engine": EngineFacts("rvm", "1")}, "instead of builtin"),
    ],
)
def test_a_lie_is_found(clip, made, number, change, problem):
    outputs, results = made
    with pytest.raises(VerificationFailed, match=problem):
        verify(clip, [outputs[number]], [replace(results[number], **change)])


def test_a_file_of_another_clip_is_found(clip, made, tmp_path):
    outputs, results = made
    longer = make_clip(tmp_path / "longer.mp4", width=64, height=48, frames=200, audio=True).path
    larger = make_clip(tmp_path / "larger.mp4", width=128, height=96, frames=20, audio=True).path
    for other in (longer, larger):
        with pytest.raises(VerificationFailed):
            verify(other, [outputs[0]], [results[0]])


def test_a_file_without_its_alpha_or_audio_is_found(clip, tmp_path):
    path = tmp_path / "result.webm"
    silent = make_clip(tmp_path / "silent.mp4", width=64, height=48, frames=20).path
    *_, last = run(silent, [Output(path, Options(engine="builtin", output_format="webm"))])
    with pytest.raises(VerificationFailed, match="audio"):
        verify(clip, [Output(path, Options(engine="builtin", output_format="webm"))], last.results)
    opaque = Options(engine="builtin", output_format="webm", background=WHITE)
    *_, last = run(clip, [Output(path, opaque)], overwrite=True)
    with pytest.raises(VerificationFailed, match="no alpha"):
        verify(clip, [Output(path, Options(engine="builtin", output_format="webm"))], last.results)


def test_warnings_of_a_runner_are_plain_and_few(clip, made):
    outputs, results = made
    told = replace(results[0], warnings=("a\x1b[2Jb" * 1000, *("c" for _ in range(100))), frames_lost=-5)
    (verified,) = verify(clip, [outputs[0]], [told])
    assert len(verified.warnings) <= 20
    assert all(text.isprintable() and len(text) <= 400 for text in verified.warnings)
    assert verified.frames_lost == 0
    assert isinstance(verified, Result)


# The side of the runner


@pytest.mark.parametrize(
    ("address", "fine"),
    [
        ("https://cut.example.com", True),
        ("https://cut.example.com/prefix/", True),
        ("http://127.0.0.1:8080", True),
        ("http://192.168.1.5", True),
        ("http://nas.local", True),
        ("http://cut.example.com", False),
        ("http://8.8.8.8", False),
        ("cut.example.com", False),
        ("ftp://cut.example.com", False),
        ("https://cut.example.com?x=1", False),
    ],
)
def test_a_token_is_sent_over_https_or_to_a_neighbor(address, fine):
    if fine:
        assert not _checked_address(address).endswith("/")
    else:
        with pytest.raises(InvalidRequest):
            _checked_address(address)


def test_engines_are_those_that_can_run(tmp_path):
    settings = make_settings(models={"dir": tmp_path})
    assert "builtin" in _engines(settings, None)
    assert _engines(settings, ("builtin",)) == ("builtin",)
    with pytest.raises(InvalidRequest, match="no engine"):
        _engines(settings, ("nonsense",))
    with pytest.raises(InvalidRequest, match="cannot run here"):
        _engines(settings, ("birefnet",))


def test_the_command_needs_a_token_and_a_server(command, tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAREEL_DATA_DIR", str(tmp_path))
    code, _, said = command("worker", "--join", "https://cut.example.com")
    assert (code, "runner token" in said) == (6, True)
    code, _, said = command("worker", "--token", "x")
    assert (code, "--join" in said) == (2, True)


def test_operators_manage_runners_with_the_command(command, tmp_path, monkeypatch):
    monkeypatch.setenv("ALPHAREEL_DATA_DIR", str(tmp_path))
    code, token, said = command("runners", "create", "gpu box")
    assert (code, token.startswith("ar_runner_"), "once" in said) == (0, True, True)
    runner_id = token.split("_")[2]
    monkeypatch.setenv("COLUMNS", "80")
    listed = command("runners", "list")[1]
    assert "gpu box" in listed
    assert runner_id in listed, "a narrow terminal does not cut what has to be copied"
    assert command("runners", "revoke", runner_id)[0] == 0
    assert "revoked" in command("runners", "list")[1]
    assert command("runners", "revoke", "nobody")[0] == 3
