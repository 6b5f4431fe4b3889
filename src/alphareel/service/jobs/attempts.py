"""How an execution of a job ended, as the engine records it between ``JobBody.execute`` and ``JobBody.settle``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from alphareel.domain.clip import EngineFacts
from alphareel.service.jobs.models import Output, StoredMatte


@dataclass(frozen=True)
class AttemptDropped:
    """There is nothing to settle: another execution has the job, or it has ended already."""

    def to_json(self) -> dict[str, Any]:
        return {"kind": "gone"}


@dataclass(frozen=True)
class AttemptCompleted:
    """The result is in the store."""

    attempt: int
    output: Output
    engine: EngineFacts | None
    warnings: tuple[str, ...]
    more_outputs: tuple[Output, ...] = ()
    matte: StoredMatte | None = None
    report: Mapping[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return {"kind": "done", **asdict(self)}

    @property
    def stored_bytes(self) -> int:
        """Bytes of the files that are kept with the job."""
        kept = 0 if self.matte is None else self.matte.bytes + self.matte.source_bytes
        return kept + sum(output.bytes for output in (self.output, *self.more_outputs))


@dataclass(frozen=True)
class AttemptFailed:
    """``error`` is a sentence for the client."""

    attempt: int
    error: str
    error_code: str
    retryable: bool
    #: The child process was killed by somebody, not for lack of memory.
    was_killed: bool
    #: The child process made no progress for too long.
    stalled: bool

    def to_json(self) -> dict[str, Any]:
        return {"kind": "failed", **asdict(self)}


AttemptResult: TypeAlias = AttemptDropped | AttemptCompleted | AttemptFailed


def attempt_result_from_json(values: Mapping[str, Any]) -> AttemptResult:
    """The inverse of ``to_json``. Raises KeyError, TypeError for any other mapping."""
    facts = {name: value for name, value in values.items() if name != "kind"}
    if values["kind"] == "gone":
        return AttemptDropped()
    if values["kind"] == "failed":
        return AttemptFailed(**facts)
    engine, matte = facts["engine"], facts.get("matte")
    return AttemptCompleted(
        facts["attempt"],
        Output(**facts["output"]),
        None if engine is None else EngineFacts(**engine),
        tuple(facts["warnings"]),
        tuple(Output(**output) for output in facts.get("more_outputs", ())),
        None if matte is None else StoredMatte(**matte),
        facts.get("report"),
    )
