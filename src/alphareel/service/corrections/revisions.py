"""The parts of a job's revision: its first matte and the active corrections."""

from collections.abc import Mapping, Sequence
from typing import Any

from alphareel.domain.errors import FieldProblem, InvalidRequest, InvalidState, NotFound
from alphareel.service.jobs.models import Job, Kind, Status


def first_matte(job: Job, corrections: Sequence[Job]) -> str | None:
    """The blob of the matte that the engine made. ``corrections``: all rows of the job's corrections, oldest first."""
    blob = (corrections[0].task or {}).get("matte") if corrections else None
    return blob or (None if job.matte is None else job.matte.blob)


def active_corrections(corrections: Sequence[Job]) -> list[Mapping[str, Any]]:
    """The corrections that apply now, those of the newest revision: JSON of ``domain.corrections`` with a number."""
    tasks = [row.task for row in corrections if row.status is Status.COMPLETED and row.task is not None]
    return list(max(tasks, key=lambda task: int(task["revision"]))["corrections"]) if tasks else []


def previous_outputs(job: Job) -> list[dict[str, Any]]:
    """The files of the job's current revision, in the order in which the next one makes its own: the matte is last."""
    if job.matte is None:
        return []
    outputs = [{"blob": o.blob, "recipe": o.recipe, "frames_lost": o.frames_lost} for o in job.outputs]
    return [*outputs, {"blob": job.matte.blob, "frames_lost": outputs[0]["frames_lost"] if outputs else 0}]


def check_job(job: Job) -> None:
    """Raise InvalidState for a row that belongs to a job, such as an export."""
    if job.kind is not Kind.JOB:
        raise InvalidState("This job has no matte of its own.", hint="Use the job that it was made of.")


def check_matte(job: Job) -> None:
    """Raise unless the job is completed and its matte was kept: NotFound once its files expired, else InvalidState."""
    check_job(job)
    if job.files_expired_at is not None:
        raise NotFound("The matte has expired and was removed.", hint="Create a new job.")
    if job.status is Status.FAILED:
        raise InvalidState("The job failed, so there is no matte.", hint="Start the job again first.")
    if job.status is not Status.COMPLETED:
        raise InvalidState("The job is not completed.", hint="Try again when its status is completed.")
    if job.matte is None and job.test is None:
        raise InvalidState(
            "The matte of this job was not kept.", hint="Create a new job, without keep_matte set to false."
        )


def check_subjects(matte: str | None, analyses: Sequence[Job], *, keep: Sequence[str], drop: Sequence[str]) -> None:
    """Raise InvalidRequest for subjects that the clip does not have, if they were looked for in its first ``matte``.

    ``analyses``: all rows of the job's analyses.
    """
    for analysis in analyses:
        is_of_matte = matte is not None and (analysis.task or {}).get("of") == matte
        if not is_of_matte or analysis.status is not Status.COMPLETED:
            continue
        known = [str(each["id"]) for each in (analysis.report or {}).get("subjects", ())]
        for field, chosen in (("keep", keep), ("drop", drop)):
            for subject in chosen:
                if subject not in known:
                    has = f"it has {', '.join(known)}" if known else "it has none"
                    message = f"the clip has no subject {subject}; {has}."
                    raise InvalidRequest(f"{field}: {message}", details=[FieldProblem(field, message)])
