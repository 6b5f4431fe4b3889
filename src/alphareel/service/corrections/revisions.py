"""What a revision of a job is made of: its first matte, and the corrections that apply, in order."""

from collections.abc import Mapping, Sequence
from typing import Any

from alphareel.service.jobs.models import Job, Status


def first_matte(job: Job, corrections: Sequence[Job]) -> str | None:
    """The blob of the matte that the engine made. ``corrections``: all rows of the job's corrections, oldest first."""
    blob = (corrections[0].task or {}).get("matte") if corrections else None
    return blob or (None if job.matte is None else job.matte.blob)


def active_corrections(corrections: Sequence[Job]) -> list[Mapping[str, Any]]:
    """The corrections that apply now, those of the newest revision: JSON of ``domain.corrections`` with a number."""
    made = [row.task for row in corrections if row.status is Status.COMPLETED and row.task is not None]
    return list(max(made, key=lambda task: int(task["revision"]))["corrections"]) if made else []
