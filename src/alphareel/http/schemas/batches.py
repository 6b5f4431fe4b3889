"""JSON of the batch routes."""

from typing import Annotated, Literal

from pydantic import Field

from alphareel.http.schemas.fields import Schema
from alphareel.http.schemas.jobs import Job
from alphareel.service.batches.service import MAX_JOBS
from alphareel.service.jobs.option_fields import Url
from alphareel.service.jobs.requests import JobStart


class BatchItem(JobStart):
    """A job of the batch; its fields take precedence over those of the batch."""

    video_url: Url


class BatchCreate(JobStart):
    """The fields of a job, for all jobs of the batch, with `items` or `video_urls`."""

    items: Annotated[list[BatchItem], Field(min_length=1, max_length=MAX_JOBS)] | None = None
    video_urls: Annotated[list[Url], Field(min_length=1, max_length=MAX_JOBS)] | None = Field(
        default=None, description="Instead of items, where the jobs differ in nothing else."
    )


class Batch(Schema):
    """Several jobs that were created together."""

    success: Literal[True] = True
    id: str
    total: int
    completed: int
    failed: int
    done: bool = Field(description="Whether every job is completed or failed.")
    progress: float = Field(ge=0, le=100, description="The mean of the jobs.")
    jobs: list[Job]
