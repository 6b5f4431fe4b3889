"""JSON of the usage routes."""

from typing import Any, Literal, Self

from pydantic import Field

from alphareel.http.schemas.fields import Schema, Time
from alphareel.service.usage.service import UsageBucket


class UsageTotals(Schema):
    jobs: int
    completed: int
    failed: int
    credits_used: float


class UsageDay(UsageTotals):
    date: str = Field(description="A UTC day.", examples=["2026-04-20"])


class Storage(Schema):
    """Storage that the files of a key use now; data shared by several uploads counts once."""

    used_bytes: int
    uploads_bytes: int
    outputs_bytes: int
    max_bytes: int | None = Field(description="null: the key has no limit of its own.")


class ModelUsageDay(Schema):
    """Jobs created on one UTC day with one model, with their current status."""

    date: str
    model: str
    jobs: int
    completed: int
    failed: int
    credits_used: float

    @classmethod
    def of(cls, tally: UsageBucket, **more: Any) -> Self:
        sums = {name: getattr(tally, name) for name in ("model", "jobs", "completed", "failed")}
        return cls(date=tally.day, credits_used=tally.credits / 100, **sums, **more)


class UsageSummary(Schema):
    """A key's usage. It counts jobs created in the period, with their current status."""

    success: Literal[True] = True
    days: int
    begin: Time = Field(serialization_alias="from", description="The start of an hour.")
    end: Time = Field(serialization_alias="to")
    total_jobs: int
    completed_jobs: int
    failed_jobs: int
    credits_used: float
    total_requests: int
    storage: Storage
    by_model: dict[str, UsageTotals]
    daily: list[UsageDay] = Field(description="Days with jobs, oldest first.")


class UsageEvent(Schema):
    """One API call."""

    id: str
    created_at: Time
    method: str
    endpoint: str
    status_code: int
    request_id: str | None
    job_id: str | None
    model: str | None
    credits: float = Field(description="Credits reserved or charged for the job so far.")
    error_code: str | None


class UsageEvents(Schema):
    success: Literal[True] = True
    items: list[UsageEvent]
    limit: int
