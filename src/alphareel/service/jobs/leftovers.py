"""What an ended job leaves behind in the storage."""

from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import TERMINAL, Job


def leftover_prefixes(job_id: str, job: Job | None) -> tuple[str, ...]:
    """Prefixes of blobs that nobody needs: the temporary ones of an ended job, all of a deleted one (None).

    If the job has no result, also what its attempts stored: a worker may have died just after it stored one.
    """
    if job is None:
        return blob_keys.job_prefixes(job_id)
    if job.status not in TERMINAL:
        return ()
    prefixes = blob_keys.temporary_prefixes(job_id, keep_fetched=job.matte is not None)
    if job.output is None:  # of the attempts so far: a job that failed may be started again
        attempts = range(1, job.attempt + 1)
        prefixes += tuple(blob_keys.output_prefix(job_id, attempt) for attempt in attempts)
        prefixes += tuple(blob_keys.matte_prefix(job_id, attempt) for attempt in attempts)
    return prefixes
