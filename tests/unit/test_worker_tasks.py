"""Tasks reach a child process or a runner as they were: every kind, with and without what it may lack."""

import json
from pathlib import Path
from typing import Any, get_args

import pytest

from alphareel.domain.clip import Chunk, EngineFacts, Limits, PreviousOutput
from alphareel.domain.options import Options, Output
from alphareel.service.worker.events import InvalidMessage, RunResult
from alphareel.service.worker.tasks import (
    AnalyzeTask,
    ChildTask,
    FinishedChunk,
    InspectTask,
    JoinTask,
    ProofTask,
    RunTask,
    SplitTask,
    VerifyTask,
    run_task_from_values,
    run_task_to_values,
    task_from_json,
    task_to_json,
)

SOURCE, LIMITS, ENGINE = (
    Path("work/in.mp4"),
    Limits(max_seconds=30),
    EngineFacts("builtin", "1", "ab" * 32, "Apache-2.0"),
)
OUTPUTS = (Output(Path("work/out.webm"), Options()), Output(Path("work/out.mov"), Options(output_format="mov")))
BARE = RunTask(SOURCE, OUTPUTS[:1], LIMITS)
FULL = RunTask(
    SOURCE,
    OUTPUTS,
    LIMITS,
    models_dir=Path("models"),
    engines=("rvm", "builtin"),
    threads=2,
    previews=Path("work/previews"),
    chunk=Chunk(start=90, end=None, frames=30),
    matte=Path("work/matte.mkv"),
    corrections=({"frame": 3, "mask": "work/mask.png"},),
    previous=(None, PreviousOutput(Path("work/former.mov"), recipe="cd" * 32, frames_lost=1)),
    paid_seconds=12.5,
    save_memory=True,
    pipeline="alphareel.pipeline.splice",
)
CHUNK = FinishedChunk(((Path("work/1.webm"), 30), (Path("work/1.mov"), 30)), Chunk(0, 90, 30), 2, ("a warning",))
TASKS = (
    BARE,
    FULL,
    SplitTask(FULL, 20.0, only_plan=True),
    JoinTask(SOURCE, OUTPUTS, LIMITS, (CHUNK,), ENGINE),
    InspectTask(SOURCE, LIMITS),
    ProofTask(SOURCE, Path("work/proof.png"), Options(), LIMITS, ("builtin", "subject")),
    ProofTask(SOURCE, Path("work/proof.png"), Options(), LIMITS, ("builtin",), models_dir=Path("models"), threads=1),
    AnalyzeTask(SOURCE, None, Path("work/pictures"), Options(), LIMITS),
    AnalyzeTask(SOURCE, Path("work/m.mkv"), Path("work/pictures"), Options(), LIMITS, Path("models"), ("builtin",), 1),
    VerifyTask(BARE, RunResult((), {"read": 0.5})),
    VerifyTask(BARE, RunResult(()), ENGINE),
)


def sent(values: Any) -> Any:
    """What arrives on the other side of a pipe."""
    return json.loads(json.dumps(values))


@pytest.mark.parametrize("task", TASKS, ids=lambda task: type(task).__name__)
def test_a_task_arrives_as_it_was(task: ChildTask) -> None:
    assert task_from_json(sent(task_to_json(task))) == task


def test_every_kind_of_task_is_tested() -> None:
    assert {type(task) for task in TASKS} == set(get_args(ChildTask))


def test_a_runner_takes_nothing_but_runs() -> None:
    assert run_task_from_values(run_task_to_values(FULL)) == FULL
    with pytest.raises(InvalidMessage, match="InspectTask"):
        run_task_from_values(sent(task_to_json(InspectTask(SOURCE, LIMITS))))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"type": "unknown", "source": "a", "limits": {}},
        {"type": ["run"]},
        {"type": "run"},
        {"type": "split", "run": {"type": "inspect", "source": "a", "limits": {}}, "seconds": 1, "only_plan": False},
        {**sent(task_to_json(BARE)), "limits": 3},
        {**sent(task_to_json(BARE)), "more": 3},
    ],
)
def test_a_message_that_is_no_task_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(InvalidMessage):
        run_task_from_values(values)
