"""What a worker sends to its child process: ``ChildSetup``, then ``ChildRequest``, a line of JSON each.

Both sides use this module, so it must not import a codec or an inference runtime: the child confines itself first.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from alphareel.domain.options import Tier
from alphareel.service.worker.tasks import ChildTask, RunTask, task_from_json, task_to_json


@dataclass(frozen=True)
class Preload:
    """The engine that a child loads before it gets its task: the one that these options and settings select."""

    model: Tier
    engine: str | None = None
    models_dir: Path | None = None
    engines: tuple[str, ...] | None = None
    threads: int | None = None

    @classmethod
    def of(cls, task: RunTask) -> "Preload":
        options = task.outputs[0].options
        return cls(options.model, options.engine, task.models_dir, task.engines, task.threads)


@dataclass(frozen=True)
class ChildSetup:
    """What a child process gets before its request.

    ``reads``, ``writes``: its files, besides libraries; a folder stands for everything in it. ``parent_pid``: the
    process with which it ends; 0 for the template process that it is forked from.
    """

    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    parent_pid: int = 0
    confined: bool = True
    preload: Preload | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str | bytes) -> "ChildSetup":
        values = json.loads(text)
        preload = values["preload"]
        if preload is not None:
            engines = preload["engines"]
            preload |= {
                "models_dir": None if preload["models_dir"] is None else Path(preload["models_dir"]),
                "engines": None if engines is None else tuple(engines),
            }
        paths = {name: tuple(map(Path, values[name])) for name in ("reads", "writes")}
        return cls(**{**values, **paths, "preload": preload and Preload(**preload)})


@dataclass(frozen=True)
class ChildRequest:
    """The task, and what the child may use (0 for no limit)."""

    task: ChildTask
    memory_bytes: int
    cpu_seconds: int
    open_files: int

    def to_json(self) -> str:
        return json.dumps({**asdict(self), "task": task_to_json(self.task)})

    @classmethod
    def from_json(cls, text: str | bytes) -> "ChildRequest":
        values = json.loads(text)
        return cls(**{**values, "task": task_from_json(values["task"])})
