"""Jobs as values, and the table of legal transitions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from alphareel.domain.clip import AlphaKind, EngineFacts, Result
from alphareel.domain.options import Options
from alphareel.service.jobs.output_targets import Targets


class Status(StrEnum):
    """States of the API. A canceled job is ``failed`` with the ``error_code`` cancelled."""

    CREATED = "created"  # a draft, not started
    PENDING = "pending"  # accepted and queued
    PROCESSING = "processing"  # a worker has it
    COMPLETED = "completed"
    FAILED = "failed"


class Step(StrEnum):
    """What the engine does next for a job."""

    RUN = "run"
    FETCH = "fetch"  # fetch its input files into the store first
    DELIVER = "deliver"  # send its outputs to their targets
    RUN_FETCHED = "run_fetched"  # run it before jobs that wait for their first turn


QUEUES = ("jobs", "fetches")
"""The queues that workers take from: jobs (and their chunks) to run, and files that come from or go to URLs."""


# from -> to. Pending may fail (cancelled while queued); failed may be started again; completed is final.
TRANSITIONS: Mapping[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.PENDING, Status.FAILED}),
    Status.PENDING: frozenset({Status.PROCESSING, Status.FAILED}),
    Status.PROCESSING: frozenset({Status.PROCESSING, Status.COMPLETED, Status.FAILED}),
    Status.FAILED: frozenset({Status.PENDING}),
    Status.COMPLETED: frozenset(),
}


class Kind(StrEnum):
    """What a row of the table of jobs is. All kinds share the queue, the states, the limits and the billing."""

    JOB = "job"
    EXPORT = "export"  # a further output of a completed job, made of its matte
    CORRECTION = "correction"  # the outputs of a completed job, remade from its corrected matte
    ANALYSIS = "analysis"  # the quality of a matte, and its subjects
    PROOF = "proof"  # sample frames of a clip with every engine


class Billing(StrEnum):
    """State of the credits of a job's current run."""

    NOT_BILLED = "not_billed"
    RESERVED = "reserved"
    CHARGED = "charged"
    RELEASED = "released"


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED})
UNFINISHED = frozenset({Status.PENDING, Status.PROCESSING})


def sources(target: Status) -> tuple[Status, ...]:
    """States from which a job may move to ``target``; every compare-and-set checks them."""
    return tuple(s for s in Status if target in TRANSITIONS[s])


@dataclass(frozen=True)
class Output:
    """The file that the winning attempt delivered."""

    blob: str
    format: str
    mime: str
    bytes: int
    sha256: str
    width: int
    height: int
    frames: int
    seconds: float
    has_alpha: bool
    has_audio: bool
    #: Frames of the source that could not be decoded.
    frames_lost: int = 0
    #: Seconds of work in each stage of the pipeline (read, matte, write), which overlap. Empty where not measured.
    stages: Mapping[str, float] = field(default_factory=dict)
    #: None in results of older versions, like the fields after it.
    alpha: AlphaKind | None = None
    #: How much of the source was processed, which is what the client is charged for.
    source_seconds: float | None = None
    source_frames: int | None = None
    #: Pixels of one frame of the source.
    source_pixels: int | None = None
    #: Of the result, which says whether a later revision may copy what is equal.
    recipe: str | None = None
    #: An OutputDelivery in its JSON form; None where the client gave no target.
    delivery: Mapping[str, Any] | None = None

    @classmethod
    def of(cls, result: Result, *, blob: str, stages: Mapping[str, float]) -> Self:
        """The output for a result of the pipeline that is stored as ``blob``."""
        names = {f.name for f in fields(cls)} & {f.name for f in fields(result)}
        return cls(**{name: getattr(result, name) for name in names}, blob=blob, stages=stages)


@dataclass(frozen=True)
class StoredMatte:
    """The lossless matte that is kept for further outputs, and the video that it belongs to."""

    blob: str
    bytes: int
    sha256: str
    frames: int
    #: Blob of the source: an upload, or the copy that was fetched for the job.
    source: str
    #: Bytes of a fetched source, which are kept for the matte's sake; 0 for an upload.
    source_bytes: int = 0


@dataclass(frozen=True)
class Job:
    """One job as stored."""

    id: str
    #: The key that created it; None for the legacy routes without a key.
    key_id: str | None
    status: Status
    options: Options
    #: URL of the source: on the network, or of an upload.
    video_url: str
    created_at: datetime
    updated_at: datetime
    webhook_url: str | None = None
    #: What the client attached; opaque to the service.
    metadata: Mapping[str, Any] = field(default_factory=dict)
    #: Percent, 0 to 100; never lowered within an attempt.
    progress: float = 0.0
    #: Number of starts; a failed job may be started again.
    run: int = 0
    #: Executions of this run, counted from the last chunk that was finished.
    tries: int = 0
    #: Generation: counts how often the engine got the job. Only the newest ticket may execute.
    ticket: int = 0
    #: Executions over all runs. It fences off a worker whose attempt is no longer the current one.
    attempt: int = 0
    #: The last sign of life of the running attempt.
    progress_at: datetime | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    output: Output | None = None
    engine: EngineFacts | None = None
    #: A sentence for the client; set while the job is failed.
    error: str | None = None
    error_code: str | None = None
    warnings: tuple[str, ...] = ()
    #: The request that created or last started it.
    request_id: str | None = None
    billing_status: Billing = Billing.NOT_BILLED
    #: Hundredths of a credit, reserved or charged for this run.
    credits: int = 0
    #: Hundredths of a credit per minute, agreed at the start; None when the run is not charged.
    price: int | None = None
    #: Name of the price list that ``price`` comes from.
    pricing_version: str | None = None
    #: State of the newest webhook of each event, by event.
    webhook_events: Mapping[str, str] = field(default_factory=dict)
    #: How long the files stay after the job ends; None for forever.
    retention_seconds: int | None = None
    files_expire_at: datetime | None = None
    #: When the files were removed.
    files_expired_at: datetime | None = None
    #: Outcome and seconds of a test job; None for a real job.
    test: Mapping[str, Any] | None = None
    #: W3C trace context of the request that started it.
    traceparent: str | None = None
    #: Blob of the newest preview of the running attempt.
    preview: str | None = None
    #: Estimated number of jobs that start before it; None unless it is queued.
    queue_position: int | None = None
    #: Options of the outputs after the first one.
    more_options: tuple[Options, ...] = ()
    #: The outputs after the first one, in the order of their options.
    more_outputs: tuple[Output, ...] = ()
    keep_matte: bool = False
    matte: StoredMatte | None = None
    #: Counts how often its outputs were remade.
    revision: int = 1
    kind: Kind = Kind.JOB
    #: The job that an export belongs to.
    parent_id: str | None = None
    #: What it has to do, beside the options.
    task: Mapping[str, Any] | None = None
    #: What they found, beside the output.
    report: Mapping[str, Any] | None = None
    batch_id: str | None = None
    #: Where its outputs are sent; without secrets once it has ended.
    targets: Targets = field(default=(), repr=False)
    #: An AttemptCompleted in its JSON form, whose outputs are being sent; None at any other time.
    undelivered: Mapping[str, Any] | None = field(default=None, repr=False)
    #: Its completed exports, oldest first.
    exports: "tuple[Job, ...]" = ()

    @property
    def requested(self) -> tuple[Options, ...]:
        """Options of all outputs."""
        return (self.options, *self.more_options)

    @property
    def layers(self) -> bool:
        """Whether each subject gets a file of its own once the job is completed."""
        return self.kind is Kind.JOB and bool((self.task or {}).get("layers"))

    @property
    def outputs(self) -> tuple[Output, ...]:
        """All outputs of its run; none until it is completed."""
        return () if self.output is None else (self.output, *self.more_outputs)


@dataclass(frozen=True)
class JobEvent:
    """One row of the audit log: a transition with its time, actor, request and reason. Never changed or deleted."""

    job_id: str
    sequence: int
    from_status: Status | None
    to_status: Status
    at: datetime
    actor: str
    request_id: str | None
    reason: str
