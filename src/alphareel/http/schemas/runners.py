"""JSON of the routes of runners, and of those that operators manage them with."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from alphareel.http.schemas.fields import Schema, Time
from alphareel.service.api_keys.admin import PLAIN
from alphareel.service.requests import RequestBody
from alphareel.service.runners import models
from alphareel.service.runners.admin import MAX_NAME_LENGTH

EngineName = Annotated[str, Field(min_length=1, max_length=64)]
Lease = Annotated[str, Field(min_length=1, max_length=64)]


class RunnerCreate(RequestBody):
    name: str = Field(
        min_length=1,
        max_length=MAX_NAME_LENGTH,
        pattern=rf"^{PLAIN}*{PLAIN.replace('[^', '[^' + chr(92) + 's')}{PLAIN}*$",
        description="Which machine it is, for operators.",
    )


class LeasedTask(Schema):
    """What a runner works on: a job, or a chunk of it."""

    job_id: str
    engine: str
    progress: float = Field(description="Percent of the task.")


class Runner(Schema):
    """A runner without its token."""

    id: str
    name: str
    created_at: Time
    revoked_at: Time | None
    last_seen_at: Time | None
    slots: int = Field(description="Tasks that it takes at a time, as it last reported.")
    engines: list[str] = Field(description="What it can run, as it last reported.")
    version: str = Field(description="Its version of alphareel, as it last reported.")
    state: models.RunnerState = Field(
        description="`new`: it never joined. `away`: it stopped, or was not seen for a minute."
    )
    tasks: list[LeasedTask] = Field(description="What it works on.")
    tasks_done: int = Field(description="Tasks that it did: jobs, or chunks of long ones.")
    tasks_failed: int = Field(description="Tasks that it failed at or lost. They ran elsewhere.")

    @classmethod
    def of(cls, status: models.RunnerStatus, **more: Any) -> Self:
        names = ("id", "name", "created_at", "revoked_at", "last_seen_at", "slots", "version")
        counts = ("tasks_done", "tasks_failed")
        runner = status.runner
        return cls(
            engines=list(runner.engines),
            state=status.state,
            tasks=[
                LeasedTask(job_id=task.job_id, engine=task.engine, progress=round(100 * task.share, 1))
                for task in status.tasks
            ],
            **{name: getattr(runner, name) for name in (*names, *counts)},
            **more,
        )


class UpdatedRunner(Runner):
    success: Literal[True] = True


class CreatedRunner(UpdatedRunner):
    token: str = Field(description="No other response contains it.")

    @classmethod
    def from_new(cls, new: models.NewRunner) -> Self:
        return cls.of(models.RunnerStatus.at(new.runner.created_at, new.runner), token=new.token)


class RunnerList(Schema):
    success: Literal[True] = True
    items: list[Runner]


class LeaseRequest(RequestBody):
    version: str = Field(max_length=64, description="Of alphareel; it must be this server's.")
    slots: int = Field(ge=0, le=models.MAX_SLOTS, description="Tasks that the runner takes at a time; 0 as it stops.")
    engines: list[EngineName] = Field(max_length=200, description="What it can run.")


class RunnerFile(Schema):
    name: str
    bytes: int


class TaskLease(Schema):
    id: str
    lease: str = Field(description="Names this lease in all further requests.")
    lease_seconds: float = Field(description="The lease ends so long after its last renewal.")
    renew_seconds: float = Field(description="How often to renew.")
    request: Mapping[str, Any] = Field(description="What to run, with file names in place of paths.")
    inputs: list[RunnerFile]
    outputs: list[str] = Field(description="Names of the files to return.")


class LeaseResponse(Schema):
    success: Literal[True] = True
    task: TaskLease | None = Field(description="Null while none waits that this runner can do.")


class TaskProgress(RequestBody):
    """A renewal. The numbers are those of a run; without them it is only renewed."""

    lease: Lease
    share: float | None = Field(default=None, ge=0, le=1)
    done: int = Field(default=0, ge=0, le=2**53, description="Frames.")
    total: int = Field(default=0, ge=0, le=2**53, description="Frames; 0 while unknown.")
    seconds: float = Field(default=0, ge=0, le=1e9)
    fps: float = Field(default=0, ge=0, le=1e9)

    def progress(self) -> dict[str, Any] | None:
        """As fields of the event; None for a renewal alone."""
        if self.share is None:
            return None
        fields = self.model_dump(exclude={"lease"})
        return {**fields, "remaining_seconds": None, "stages": {}, "written": []}


class LeaseState(Schema):
    success: Literal[True] = True
    cancel: bool = Field(description="Nobody waits for the task any more: stop it.")


class ReturnedFile(Schema):
    success: Literal[True] = True
    name: str
    sha256: str


class TaskCompletion(RequestBody):
    lease: Lease
    event: dict[str, Any] = Field(description="The last event of the run: its result, or its error.")


class TaskRelease(RequestBody):
    lease: Lease


class TaskAccepted(Schema):
    success: Literal[True] = True
