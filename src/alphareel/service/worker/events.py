"""What a child process reports: events, each a line of JSON.

Both sides use this module, so it must not import a codec or an inference runtime: the child confines itself first.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from alphareel import __version__
from alphareel.domain.clip import Chunk, EngineFacts, Progress, Result
from alphareel.domain.errors import AlphareelError
from alphareel.service.uploads.models import MediaInfo

_MAX_REASON = 500  # characters


class InvalidMessage(Exception):
    """The bytes are not a message of this protocol."""


@dataclass(frozen=True)
class RunResult:
    """What a RunTask or a JoinTask wrote, in the order of its outputs.

    ``stages``: seconds of work in each stage of the pipeline.
    """

    results: tuple[Result, ...]
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ProofResult:
    """What a ProofTask wrote: fields of ``pipeline.proof.Proof``."""

    report: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """How a clip is divided into chunks, and the engine that must make all of them.

    ``plan_hash`` covers everything that the bytes of the chunks depend on. ``version``: of alphareel.
    """

    chunks: tuple[Chunk, ...]
    plan_hash: str
    engine: EngineFacts
    version: str = __version__

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        return cls(
            tuple(Chunk(**chunk) for chunk in values["chunks"]),
            values["plan_hash"],
            EngineFacts(**values["engine"]),
            values["version"],
        )


@dataclass(frozen=True)
class Analysis:
    """What an AnalyzeTask found, as JSON; it names the pictures in its folder."""

    report: Mapping[str, Any]


@dataclass(frozen=True)
class ErrorEvent:
    """The task failed with this error."""

    code: str
    message: str
    hint: str

    @classmethod
    def of(cls, error: AlphareelError) -> "ErrorEvent":
        return cls(error.code, error.message, error.hint)


@dataclass(frozen=True)
class Ready:
    """The child is set up. What the kernel enforces on it, as in ``Confinement``."""

    no_new_privileges: bool
    seccomp: bool
    landlock: int


@dataclass(frozen=True)
class Accepted:
    """The child has read its request, and opens its files from now on."""


ChildEvent: TypeAlias = Ready | Accepted | Progress | RunResult | ProofResult | Plan | MediaInfo | Analysis | ErrorEvent
"""Ready and Accepted come once, Progress any number of times, then exactly one of the others."""


def event_to_json(event: ChildEvent) -> str:
    """One line without its end."""
    return json.dumps({"event": _EVENT_NAMES[type(event)], **asdict(event)})


def event_from_json(line: bytes) -> ChildEvent:
    """Raises InvalidMessage: the child may run hostile bytes, so nothing in its messages is trusted."""
    try:
        return event_from_values(json.loads(line))
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(type(error).__name__) from error


def event_from_values(values: Mapping[str, Any]) -> ChildEvent:
    """Like ``event_from_json``, for JSON that was read already."""
    try:
        fields = dict(values)
        return _EVENT_PARSERS[fields.pop("event")](fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidMessage(type(error).__name__) from error


def event_to_values(event: ChildEvent) -> dict[str, Any]:
    """The event as JSON that is not written yet."""
    return dict(json.loads(event_to_json(event)))


def _result(values: Mapping[str, Any]) -> Result:
    whole = values.get("encoded_whole")
    fields = {
        **values,
        "engine": EngineFacts(**values["engine"]),
        "warnings": tuple(map(str, values["warnings"])),
        "encoded_whole": None if whole is None else str(whole)[:_MAX_REASON],
    }
    return Result(**fields)


def _stages(values: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(seconds) for name, seconds in values.items()}


_EVENT_NAMES: dict[type, str] = {
    Ready: "ready",
    Accepted: "accepted",
    Progress: "progress",
    RunResult: "result",
    ProofResult: "proof",
    Plan: "plan",
    MediaInfo: "media",
    Analysis: "analysis",
    ErrorEvent: "error",
}
_EVENT_PARSERS: dict[str, Callable[[dict[str, Any]], ChildEvent]] = {
    "ready": lambda v: Ready(bool(v["no_new_privileges"]), bool(v["seccomp"]), int(v["landlock"])),
    "accepted": lambda _: Accepted(),
    "progress": lambda v: Progress(
        **{
            **v,
            "share": float(v["share"]),
            "stages": _stages(v["stages"]),
            "written": tuple(v["written"]),
            "results": (),
        }
    ),
    "result": lambda v: RunResult(tuple(map(_result, v["results"])), _stages(v["stages"])),
    "plan": Plan.from_json,
    "proof": lambda v: ProofResult(dict(v["report"])),
    "media": lambda v: MediaInfo(**v),
    "analysis": lambda v: Analysis(dict(v["report"])),
    "error": lambda v: ErrorEvent(**v),
}
