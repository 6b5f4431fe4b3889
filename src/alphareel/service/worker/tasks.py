"""What a child process or a runner is told to do: tasks, their files and their JSON.

Both sides use this module, so it must not import a codec or an inference runtime: the child confines itself first.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

from alphareel.domain.clip import Chunk, EngineFacts, Limits, PreviousOutput
from alphareel.domain.options import Options, Output, from_json, to_json
from alphareel.service.worker.events import InvalidMessage, RunResult, event_from_json, event_to_json


@dataclass(frozen=True)
class RunTask:
    """Make the outputs, or only one chunk of them."""

    source: Path
    outputs: tuple[Output, ...]
    limits: Limits
    models_dir: Path | None = None
    #: Names of the engines to try, in order; None for the default order.
    engines: tuple[str, ...] | None = None
    threads: int | None = None
    #: Folder for previews; None for no previews.
    previews: Path | None = None
    chunk: Chunk | None = None
    #: A lossless matte of the source that is used instead of an engine.
    matte: Path | None = None
    #: Corrections of that matte, in their JSON form, with local paths of masks.
    corrections: tuple[Mapping[str, Any], ...] = ()
    #: The files of the revision before, in the order of the outputs: what is equal in them is copied. Empty for none.
    previous: tuple[PreviousOutput | None, ...] = ()
    #: How much of the source may be processed; None for all of it.
    paid_seconds: float | None = None
    #: Keep as few frames in memory as possible.
    save_memory: bool = False
    #: The module whose ``run`` makes the result.
    pipeline: str = "alphareel.pipeline.run"


@dataclass(frozen=True)
class SplitTask:
    """Divide the clip of ``run`` into chunks of about ``seconds``; make the whole result where chunks are of no use.

    ``only_plan``: make nothing, and return a plan without chunks in that case.
    """

    run: RunTask
    seconds: float
    only_plan: bool = False


@dataclass(frozen=True)
class FinishedChunk:
    """A chunk of the outputs: for each, in order, its file and how many frames that holds."""

    files: tuple[tuple[Path, int], ...]
    chunk: Chunk
    frames_lost: int
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class JoinTask:
    """Join all chunks, in order, into the outputs."""

    source: Path
    outputs: tuple[Output, ...]
    limits: Limits
    chunks: tuple[FinishedChunk, ...]
    engine: EngineFacts


@dataclass(frozen=True)
class InspectTask:
    """Detect what a file is from its bytes."""

    source: Path
    limits: Limits


@dataclass(frozen=True)
class ProofTask:
    """Write the sheet of a proof, a PNG, to ``target``."""

    source: Path
    target: Path
    options: Options
    limits: Limits
    engines: tuple[str, ...]
    models_dir: Path | None = None
    threads: int | None = None


@dataclass(frozen=True)
class AnalyzeTask:
    """Analyze the matte of a source, or sample mattes of the engine where there is none; pictures go to ``folder``."""

    source: Path
    matte: Path | None
    folder: Path
    options: Options
    limits: Limits
    models_dir: Path | None = None
    #: As in RunTask.
    engines: tuple[str, ...] | None = None
    threads: int | None = None


@dataclass(frozen=True)
class VerifyTask:
    """Verify what a runner made of ``run``: its files, at the paths of the outputs, and what it reported about them.

    ``engine``: what must have made them, when that is known exactly; otherwise the first of ``run.engines``.
    """

    run: RunTask
    reported: RunResult
    engine: EngineFacts | None = None


ChildTask: TypeAlias = RunTask | SplitTask | JoinTask | InspectTask | ProofTask | AnalyzeTask | VerifyTask


def task_folder(task: ChildTask) -> Path | None:
    """The workspace of the task, which it writes to; None for an inspection."""
    match task:
        case SplitTask() | VerifyTask():
            return task_folder(task.run)
        case RunTask() | JoinTask():
            return task.outputs[0].path.parent
        case ProofTask():
            return task.target.parent
        case AnalyzeTask():
            return task.folder.parent
        case InspectTask():
            return None


def task_inputs(task: ChildTask) -> tuple[Path, ...]:
    """The files that the task reads, besides weights."""
    match task:
        case SplitTask() | VerifyTask():
            return task_inputs(task.run)
        case InspectTask():
            return (task.source,)
        case JoinTask():
            return (task.source, *(path for chunk in task.chunks for path, _ in chunk.files))
        case RunTask():
            matte = () if task.matte is None else (task.matte,)
            masks = (Path(str(each["mask"])) for each in task.corrections if "mask" in each)
            previous = (each.path for each in task.previous if each is not None)
            return (
                task.source,
                *matte,
                *masks,
                *previous,
                *(path for output in task.outputs for path in _paths(output.options)),
            )
        case ProofTask():
            return (task.source, *_paths(task.options))
        case AnalyzeTask():
            matte = () if task.matte is None else (task.matte,)
            return (task.source, *matte, *_paths(task.options))


def with_inputs(task: RunTask, paths: Mapping[Path, Path]) -> RunTask:
    """The task with other paths of its files."""

    def moved(path: str | None) -> str | None:
        return None if path is None else str(paths[Path(path)])

    def with_files(output: Output) -> Output:
        options = output.options
        behind = options.background
        background = replace(behind, image_url=moved(behind.image_url), video_url=moved(behind.video_url))
        return replace(output, options=replace(options, background=background, plate=moved(options.plate)))

    matte = None if task.matte is None else paths[task.matte]
    outputs = tuple(map(with_files, task.outputs))
    corrections = tuple(
        {**each, "mask": str(paths[Path(str(each["mask"]))])} if "mask" in each else each for each in task.corrections
    )
    previous = tuple(None if each is None else replace(each, path=paths[each.path]) for each in task.previous)
    moved_task = replace(task, source=paths[task.source], matte=matte, outputs=outputs, corrections=corrections)
    return replace(moved_task, previous=previous)


def _paths(options: Options) -> Iterator[Path]:
    background = options.background
    for path in (background.image_url, background.video_url, options.plate):
        if path is not None:
            yield Path(path)


def run_task_to_values(task: RunTask) -> dict[str, Any]:
    """The task as JSON that is not written yet."""
    return dict(json.loads(json.dumps(task_to_json(task))))


def run_task_from_values(values: Mapping[str, Any]) -> RunTask:
    """Raises InvalidMessage."""
    try:
        task = task_from_json(dict(values))
    except (ValueError, TypeError, KeyError, AttributeError, AssertionError) as error:
        raise InvalidMessage(type(error).__name__) from error
    if not isinstance(task, RunTask):
        raise InvalidMessage(type(task).__name__)
    return task


def _outputs_to_json(outputs: tuple[Output, ...]) -> list[dict[str, Any]]:
    return [{"path": str(output.path), "options": to_json(output.options)} for output in outputs]


def task_to_json(task: ChildTask) -> dict[str, Any]:  # noqa: PLR0911 - one for each kind
    match task:
        case RunTask():
            return {
                **asdict(task),
                "type": "run",
                "source": str(task.source),
                "outputs": _outputs_to_json(task.outputs),
                "matte": _text(task.matte),
                "models_dir": _text(task.models_dir),
                "previews": _text(task.previews),
                "previous": [
                    None if each is None else {**asdict(each), "path": str(each.path)} for each in task.previous
                ],
            }
        case SplitTask():
            return {
                "type": "split",
                "run": task_to_json(task.run),
                "seconds": task.seconds,
                "only_plan": task.only_plan,
            }
        case VerifyTask():
            return {
                "type": "verify",
                "run": task_to_json(task.run),
                "reported": event_to_json(task.reported),
                "engine": None if task.engine is None else asdict(task.engine),
            }
        case JoinTask():
            return {
                **asdict(task),
                "type": "join",
                "source": str(task.source),
                "outputs": _outputs_to_json(task.outputs),
                "chunks": [
                    {**asdict(chunk), "files": [(str(path), frames) for path, frames in chunk.files]}
                    for chunk in task.chunks
                ],
            }
        case ProofTask():
            return {
                **asdict(task),
                "type": "proof",
                "source": str(task.source),
                "target": str(task.target),
                "options": to_json(task.options),
                "models_dir": _text(task.models_dir),
            }
        case AnalyzeTask():
            return {
                **asdict(task),
                "type": "analyze",
                "source": str(task.source),
                "matte": _text(task.matte),
                "folder": str(task.folder),
                "options": to_json(task.options),
                "models_dir": _text(task.models_dir),
            }
        case InspectTask():
            return {"type": "inspect", "source": str(task.source), "limits": asdict(task.limits)}


def task_from_json(values: dict[str, Any]) -> ChildTask:
    return _TASK_PARSERS[values.pop("type")](values)


def _run_task(values: dict[str, Any]) -> RunTask:
    return RunTask(
        **{
            **values,
            **_source_and_limits(values),
            "outputs": _outputs_from_json(values["outputs"]),
            "models_dir": _path(values["models_dir"]),
            "matte": _path(values["matte"]),
            "corrections": tuple(values["corrections"]),
            "engines": None if values["engines"] is None else tuple(values["engines"]),
            "previews": _path(values["previews"]),
            "previous": tuple(
                None if each is None else PreviousOutput(**{**each, "path": Path(each["path"])})
                for each in values["previous"]
            ),
            "chunk": None if values["chunk"] is None else Chunk(**values["chunk"]),
        }
    )


def _split_task(values: dict[str, Any]) -> SplitTask:
    return SplitTask(_inner_run(values), values["seconds"], values["only_plan"])


def _verify_task(values: dict[str, Any]) -> VerifyTask:
    run, reported = _inner_run(values), event_from_json(values["reported"].encode())
    assert isinstance(reported, RunResult)
    return VerifyTask(run, reported, None if values["engine"] is None else EngineFacts(**values["engine"]))


def _join_task(values: dict[str, Any]) -> JoinTask:
    chunks = tuple(
        FinishedChunk(
            tuple((Path(path), frames) for path, frames in chunk["files"]),
            Chunk(**chunk["chunk"]),
            chunk["frames_lost"],
            tuple(chunk["warnings"]),
        )
        for chunk in values["chunks"]
    )
    outputs, engine = _outputs_from_json(values["outputs"]), EngineFacts(**values["engine"])
    return JoinTask(**_source_and_limits(values), outputs=outputs, chunks=chunks, engine=engine)


def _proof_task(values: dict[str, Any]) -> ProofTask:
    return ProofTask(
        **{
            **values,
            **_source_and_limits(values),
            "target": Path(values["target"]),
            "options": from_json(values["options"]),
            "engines": tuple(values["engines"]),
            "models_dir": _path(values["models_dir"]),
        }
    )


def _analyze_task(values: dict[str, Any]) -> AnalyzeTask:
    return AnalyzeTask(
        **_source_and_limits(values),
        matte=_path(values["matte"]),
        folder=Path(values["folder"]),
        options=from_json(values["options"]),
        models_dir=_path(values["models_dir"]),
        engines=None if values["engines"] is None else tuple(values["engines"]),
        threads=values["threads"],
    )


def _inspect_task(values: dict[str, Any]) -> InspectTask:
    return InspectTask(**_source_and_limits(values))


_TASK_PARSERS: Mapping[str, Callable[[dict[str, Any]], ChildTask]] = {
    "run": _run_task,
    "split": _split_task,
    "verify": _verify_task,
    "join": _join_task,
    "proof": _proof_task,
    "analyze": _analyze_task,
    "inspect": _inspect_task,
}


def _inner_run(values: dict[str, Any]) -> RunTask:
    """The run that a task splits or verifies."""
    run = task_from_json(values["run"])
    assert isinstance(run, RunTask)
    return run


def _source_and_limits(values: dict[str, Any]) -> dict[str, Any]:
    return {"source": Path(values["source"]), "limits": Limits(**values["limits"])}


def _outputs_from_json(values: Sequence[dict[str, Any]]) -> tuple[Output, ...]:
    return tuple(Output(Path(value["path"]), from_json(value["options"])) for value in values)


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)
