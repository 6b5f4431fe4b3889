"""Deletion of jobs and uploads: rows lose what callers wrote, and blobs are scheduled for deletion."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.storage_quotas import lock_storage
from alphareel.db.tables import idempotency, job_uploads, jobs, keys, pending_deletions, uploads, webhooks
from alphareel.db.transitions import Transition, append_event, log_transition
from alphareel.domain.errors import InvalidRequest
from alphareel.domain.options import Options, from_json, to_json
from alphareel.service.files import blob_keys
from alphareel.service.idempotency import without_job
from alphareel.service.jobs.models import TERMINAL, UNFINISHED, Status
from alphareel.service.ports import Clock


class DeletionStore:
    """Deletes jobs and uploads, and keeps the list of blobs that still have to be deleted.

    A blob is put on that list in the transaction that deletes its row, and stays there until the blob is gone, so a
    crash in between loses no work.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def remove_job(self, job_id: str, *, actor: str) -> tuple[str, ...] | None:
        """Mark an ended job as deleted. Its row stays for the audit, without what the caller wrote.

        Returns the blobs to delete (a prefix ends in a slash): its outputs, and uploads of its key that no other job
        uses. Returns None if the job has not ended or was deleted before.
        """
        now = self._clock.now()
        ended = (jobs.c.id == job_id, jobs.c.status.in_(TERMINAL), jobs.c.deleted_at.is_(None))
        with self._database.write() as c:
            lock_storage(c)
            row = c.execute(sa.select(jobs).where(*ended).with_for_update()).one_or_none()
            if row is None:
                return None
            blobs = (*blob_keys.job_prefixes(job_id), *_release_uploads(c, row))
            c.execute(sa.update(jobs).where(jobs.c.id == job_id).values(_tombstone(row, now=now)))
            transition = Transition(to=Status(row.status), actor=actor, reason="deleted")
            append_event(c, job_id, transition.to, transition, now=now)
            c.execute(sa.delete(webhooks).where(webhooks.c.job_id == job_id))
            _redact_replayed_responses(c, row)
            schedule_deletion(c, blobs, at=now)
        log_transition(job_id, transition)
        return blobs

    def children_of_deleted_jobs(self, *, limit: int) -> tuple[str, ...]:
        """IDs of rows whose job was deleted before they were, because its deletion was interrupted."""
        parent = jobs.alias()
        left = (jobs.c.deleted_at.is_(None), parent.c.deleted_at.is_not(None))
        query = sa.select(jobs.c.id).join(parent, parent.c.id == jobs.c.parent_id).where(*left)
        with self._database.read() as c:
            return tuple(c.execute(query.order_by(jobs.c.id).limit(limit)).scalars())

    def remove_upload(self, upload_id: str) -> tuple[str, ...] | None:
        """Delete an upload's row and return the blobs to delete (none if there is no such upload).

        Returns None while a pending or running job uses it.
        """
        with self._database.write() as c:
            lock_storage(c)
            row = c.execute(sa.select(uploads).where(uploads.c.id == upload_id).with_for_update()).one_or_none()
            if row is None:
                return ()
            if c.execute(_users(upload_id, jobs.c.status.in_(UNFINISHED))).first() is not None:
                return None
            blobs = delete_upload_row(c, row)
            schedule_deletion(c, blobs, at=self._clock.now())
        return blobs

    def pending_deletions(self, *, limit: int) -> tuple[str, ...]:
        """Blobs and prefixes that are due for deletion, oldest first."""
        with self._database.read() as c:
            due = sa.select(pending_deletions.c.blob).where(pending_deletions.c.at <= self._clock.now())
            return tuple(
                c.execute(due.order_by(pending_deletions.c.at, pending_deletions.c.blob).limit(limit)).scalars()
            )

    def clear_pending_deletions(self, blob: str) -> None:
        """Remove a blob from the list, because it is gone."""
        with self._database.write() as c:
            c.execute(sa.delete(pending_deletions).where(pending_deletions.c.blob == blob))


# Built once, because every job that is created runs them.
_UNLINK = sa.delete(job_uploads).where(job_uploads.c.job_id == sa.bindparam("job"))
_LINK = sa.insert(job_uploads)
_LOCK_UPLOADS = (
    sa.select(uploads.c.id)
    .where(uploads.c.id.in_(sa.bindparam("ids", expanding=True)))
    .order_by(uploads.c.id)
    .with_for_update(read=True)
)


def link_uploads(c: sa.Connection, job_id: str, upload_ids: tuple[str, ...]) -> None:
    """Record, in the caller's transaction, which uploads a job uses now. Raises InvalidRequest if one was deleted.

    The rows of the uploads are locked, so a concurrent deletion either sees this job or is seen by it.
    """
    c.execute(_UNLINK, {"job": job_id})
    ids = sorted(set(upload_ids))
    if ids and len(c.execute(_LOCK_UPLOADS, {"ids": ids}).all()) < len(ids):
        raise InvalidRequest("An upload that the job needs was deleted.", hint="Upload the file again.")
    for upload_id in ids:
        c.execute(_LINK, {"job_id": job_id, "upload_id": upload_id})


def release_files(c: sa.Connection, row: sa.Row[Any]) -> tuple[str, ...]:
    """Release a job's files: return the prefixes of what it made and fetched, and blobs of uploads no other job uses.

    There is one prefix for each attempt or run. A failed job may be started again, and a late deletion must not hit the
    output of a later attempt.
    """
    attempts = range(1, row.attempt + 1)
    outputs = (blob_keys.output_prefix(row.id, attempt) for attempt in attempts)
    mattes = (blob_keys.matte_prefix(row.id, attempt) for attempt in attempts)
    previews = (blob_keys.preview_prefix(row.id, attempt) for attempt in attempts)
    fetched = (blob_keys.fetched_prefix(row.id, run) for run in range(1, row.run + 1))
    return (*outputs, *mattes, *previews, *fetched, *_release_uploads(c, row))


def _release_uploads(c: sa.Connection, row: sa.Row[Any]) -> tuple[str, ...]:
    """Delete the uploads of the job's key that no other job uses, and return their blobs."""
    mine = sa.select(job_uploads.c.upload_id).where(job_uploads.c.job_id == row.id)
    owner = uploads.c.key_id == row.key_id if row.key_id is not None else uploads.c.key_id.is_(None)
    # Lock the uploads before reading their users, so that of two concurrent deletions one sees that it is the last.
    used = c.execute(sa.select(uploads).where(uploads.c.id.in_(mine), owner).with_for_update()).all()
    c.execute(sa.delete(job_uploads).where(job_uploads.c.job_id == row.id))
    unused = [upload for upload in used if c.execute(_users(upload.id)).first() is None]
    return tuple(blob for upload in unused for blob in delete_upload_row(c, upload))


def _users(upload_id: str, *where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(job_uploads.c.job_id)
        .join(jobs, jobs.c.id == job_uploads.c.job_id)
        .where(job_uploads.c.upload_id == upload_id, *where)
        .limit(1)
    )


def delete_upload_row(c: sa.Connection, row: sa.Row[Any]) -> tuple[str, ...]:
    """Delete an upload's row in the caller's transaction, and return its blob unless another upload shares it.

    The caller has called ``lock_storage`` and schedules the deletion of the blobs returned.
    """
    c.execute(sa.delete(job_uploads).where(job_uploads.c.upload_id == row.id))
    c.execute(sa.delete(uploads).where(uploads.c.id == row.id))
    others = sa.select(uploads.c.id).where(uploads.c.blob == row.blob).limit(1)
    return () if c.execute(others).first() is not None else (row.blob,)


def schedule_deletion(c: sa.Connection, blobs: tuple[str, ...], *, at: datetime) -> None:
    """Schedule the deletion of blobs or prefixes in the caller's transaction; ``at`` replaces an earlier time."""
    for blob in blobs:
        c.execute(sa.delete(pending_deletions).where(pending_deletions.c.blob == blob))
        c.execute(sa.insert(pending_deletions).values(blob=blob, at=at))


def _redact_replayed_responses(c: sa.Connection, row: sa.Row[Any]) -> None:
    """Remove the job's data from stored idempotent responses. The keys stay, so a retry does not create it again."""
    client = sa.select(keys.c.client_id).where(keys.c.id == row.key_id).scalar_subquery()
    of_client = sa.select(keys.c.id).where(keys.c.client_id == client)  # its other keys may have started the job
    where = (idempotency.c.key_id.in_(of_client), idempotency.c.body.contains(row.id, autoescape=True))
    for stored in c.execute(sa.select(idempotency).where(*where)).all():
        same = (idempotency.c.key_id == stored.key_id, idempotency.c.name == stored.name)
        c.execute(sa.update(idempotency).where(*same).values(body=without_job(stored.body, row.id)))


def _tombstone(row: sa.Row[Any], *, now: datetime) -> dict[str, Any]:
    """Column values of a deleted job: key, times, model and credits stay; URLs, texts and the output go."""
    return {
        "options": to_json(Options(model=from_json(row.options).model)),
        "video_url": "",
        "webhook_url": None,
        "metadata": {},
        "output": None,
        "more_options": None,
        "more_outputs": None,
        "matte": None,
        "task": None,
        "report": None,
        "downloaded": None,
        "targets": None,
        "undelivered": None,
        "stored_bytes": 0,
        "error": None,
        "warnings": [],
        "deleted_at": now,
        "updated_at": now,
    }
