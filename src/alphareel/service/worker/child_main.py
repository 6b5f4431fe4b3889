"""The child process in which hostile bytes are opened and networks run: one order in, JSON lines out, then it ends.

It dies with its parent, and confines itself before it imports anything that reads media. Started by sandbox.py.
"""

import contextlib
import importlib
import json
import os
import resource
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from alphareel.domain.clip import Chunk, EngineFacts, Limits
from alphareel.domain.errors import AlphareelError, InternalError, OutOfMemory
from alphareel.domain.options import Output, from_json
from alphareel.service.worker.parent_watch import exit_with_parent

_MEMORY_WORDS = ("bad_alloc", "cannot allocate memory", "failed to allocate memory", "insufficient memory")

Order = dict[str, Any]
Event = dict[str, Any]


def main() -> int:
    """Carry out the order on standard input; the exit code is 0 whenever the outcome was told in an event."""
    out = _take_stdout()
    order: Order = json.loads(sys.stdin.buffer.readline())
    exit_with_parent(order["parent"])
    _confine(order["confinement"])
    try:
        for event in _TASKS[order["task"]](order):
            _tell(out, event)
    except AlphareelError as error:
        _tell(out, _error_event(error))
    except MemoryError:
        _tell(out, _error_event(_out_of_memory()))
    except Exception as error:  # noqa: BLE001  # whatever a codec or a network throws is told, not lost
        traceback.print_exc()
        _tell(out, _error_event(_foreign(error)))
    return 0


def _run(order: Order) -> Iterator[Event]:
    """Make the result, or one chunk of it; or say how to divide the work, where ``chunk_seconds`` asks for chunks."""
    if order.get("chunk_seconds") and (plan := _plan(order)) is not None:
        yield {"result": {"plan": plan}}
        return
    pipeline = importlib.import_module(order["pipeline"])
    progress = pipeline.run(
        Path(order["source"]),
        [_output(order)],
        **_engine_kwargs(order),
        limits=_limits(order),
        previews=Path(order["previews"]) if order.get("previews") else None,
        overwrite=True,  # an earlier attempt may have left its file in the job's folder
        **({"chunk": Chunk(**order["chunk"])} if order.get("chunk") else {}),
        paid_seconds=order.get("paid_seconds"),
        **({"frames_ahead": 1} if order.get("save_memory") else {}),
    )
    with contextlib.closing(progress):
        for step in progress:
            told = asdict(step)
            results = told.pop("results")
            yield {"progress": told}
            if results:
                yield {"result": {**results[0], "stages": told["stages"]}}


def _plan(order: Order) -> dict[str, Any] | None:
    from alphareel.pipeline import chunks

    seconds = order["chunk_seconds"]
    plan = chunks.plan(
        Path(order["source"]),
        _output(order),
        seconds=seconds,
        limits=_limits(order),
        paid_seconds=order.get("paid_seconds"),
        **_engine_kwargs(order),
    )
    return None if plan is None else asdict(plan)


def _join(order: Order) -> Iterator[Event]:
    from alphareel.pipeline import chunks

    made = [
        chunks.ChunkResult(Path(m["path"]), Chunk(**m["chunk"]), m["frames"], m["frames_lost"], tuple(m["warnings"]))
        for m in order["made"]
    ]
    engine = EngineFacts(**order["engine"])
    result = chunks.join(Path(order["source"]), _output(order), made, engine, limits=_limits(order), overwrite=True)
    yield {"result": asdict(result)}


def _output(order: Order) -> Output:
    return Output(Path(order["target"]), from_json(order["options"]))


def _limits(order: Order) -> Limits:
    return Limits(**order["limits"])


def _engine_kwargs(order: Order) -> dict[str, Any]:
    """What makes the mattes."""
    return {
        "models_dir": Path(order["models_dir"]) if order["models_dir"] else None,
        "engine_priority": order.get("engines"),
        "threads": order["threads"],
    }


def _identify(order: Order) -> Iterator[Event]:
    # Imported here, after the confinement: this is the import that loads the codecs.
    from alphareel.service.uploads.inspect import inspect_media

    yield {"result": asdict(inspect_media(Path(order["source"]), _limits(order)))}


_TASKS: dict[str, Callable[[Order], Iterator[Event]]] = {"run": _run, "join": _join, "identify": _identify}


def _take_stdout() -> TextIO:
    """Our events go to the real standard output; what libraries print there joins standard error."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return out


def _tell(out: TextIO, event: Event) -> None:
    out.write(json.dumps(event) + "\n")
    out.flush()


def _error_event(error: AlphareelError) -> Event:
    return {
        "error": {
            "code": error.code,
            "message": error.message,
            "hint": error.hint,
            "retryable": error.retryable,
        }
    }


def _foreign(error: Exception) -> AlphareelError:
    text = str(error).lower()
    if any(words in text for words in _MEMORY_WORDS):
        return _out_of_memory()
    return InternalError(f"Processing failed: {type(error).__name__}.", hint="The service's log has the details.")


def _out_of_memory() -> OutOfMemory:
    return OutOfMemory("The job needed more memory than it may have.", hint="Use a smaller video or raise the limit.")


def _confine(limits: dict[str, int]) -> None:
    """Bound memory, processor time and files of this process; 0 leaves a resource as it is."""
    _bound(resource.RLIMIT_CORE, 0)
    if limits["memory_bytes"]:
        _bound(resource.RLIMIT_AS, limits["memory_bytes"])
    if limits["cpu_seconds"]:
        _bound(resource.RLIMIT_CPU, limits["cpu_seconds"], slack=5)  # the first limit ends us with a signal that tells
    if limits["open_files"]:
        _bound(resource.RLIMIT_NOFILE, limits["open_files"])


def _bound(what: int, most: int, *, slack: int = 0) -> None:
    _, hard = resource.getrlimit(what)
    ceiling = most + slack if hard == resource.RLIM_INFINITY else min(most + slack, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS knows RLIMIT_AS but refuses it
        resource.setrlimit(what, (min(most, ceiling), ceiling))


if __name__ == "__main__":
    sys.exit(main())
