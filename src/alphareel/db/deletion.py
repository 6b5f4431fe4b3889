"""What is to go for good, behind jobs.removal.Removals: rows lose what callers wrote, blobs are noted for deletion."""

import json
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db.database import Database
from alphareel.db.storage_usage import lock_storage
from alphareel.db.tables import idempotency, job_uploads, jobs, pending_deletions, uploads, webhooks
from alphareel.db.transitions import Transition, append_event, log_transition
from alphareel.domain.errors import InvalidRequest
from alphareel.domain.options import Options, from_json, to_json
from alphareel.service.files import blob_keys
from alphareel.service.jobs.models import TERMINAL, Status
from alphareel.service.ports import Clock

_RUNNABLE = (Status.PENDING, Status.PROCESSING)


class DeletionStore:
    """jobs.removal.Removals on our tables."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def remove_job(self, job_id: str, *, actor: str) -> tuple[str, ...] | None:
        now = self._clock.now()
        ended = (jobs.c.id == job_id, jobs.c.status.in_(TERMINAL), jobs.c.deleted_at.is_(None))
        with self._database.write() as c:
            lock_storage(c)
            row = c.execute(sa.select(jobs).where(*ended).with_for_update()).one_or_none()
            if row is None:
                return None
            blobs = (*blob_keys.job_prefixes(job_id), *_release_uploads(c, row))
            c.execute(sa.update(jobs).where(jobs.c.id == job_id).values(_tombstone(row, now=now)))
            move = Transition(to=Status(row.status), actor=actor, reason="deleted")
            log_transition(c, job_id, move.to, move, now=now)
            c.execute(sa.delete(webhooks).where(webhooks.c.job_id == job_id))
            _forget_answers(c, row)
            schedule_deletion(c, blobs, at=now)
        append_event(job_id, move)
        return blobs

    def remove_upload(self, upload_id: str) -> tuple[str, ...] | None:
        with self._database.write() as c:
            lock_storage(c)
            row = c.execute(sa.select(uploads).where(uploads.c.id == upload_id).with_for_update()).one_or_none()
            if row is None:
                return ()
            if c.execute(_users(upload_id, jobs.c.status.in_(_RUNNABLE))).first() is not None:
                return None
            blobs = delete_upload_row(c, row)
            schedule_deletion(c, blobs, at=self._clock.now())
        return blobs

    def pending_deletions(self, *, limit: int) -> tuple[str, ...]:
        with self._database.read() as c:
            due = sa.select(pending_deletions.c.blob).where(pending_deletions.c.at <= self._clock.now())
            return tuple(
                c.execute(due.order_by(pending_deletions.c.at, pending_deletions.c.blob).limit(limit)).scalars()
            )

    def clear_pending_deletions(self, blob: str) -> None:
        with self._database.write() as c:
            c.execute(sa.delete(pending_deletions).where(pending_deletions.c.blob == blob))


def note_uploads(c: sa.Connection, job_id: str, upload_ids: tuple[str, ...]) -> None:
    """Write down, in the caller's transaction, which uploads a job uses now.

    Locked, so that whoever deletes one of them at the same moment sees the job, or the job that it is gone. Raises
    InvalidRequest.
    """
    c.execute(sa.delete(job_uploads).where(job_uploads.c.job_id == job_id))
    wanted = sorted(set(upload_ids))
    there = sa.select(uploads.c.id).where(uploads.c.id.in_(wanted)).order_by(uploads.c.id)
    if wanted and len(c.execute(there.with_for_update(read=True)).all()) < len(wanted):
        raise InvalidRequest("An upload that the job needs was deleted.", hint="Upload the file again.")
    for upload_id in wanted:
        c.execute(sa.insert(job_uploads).values(job_id=job_id, upload_id=upload_id))


def release_files(c: sa.Connection, row: sa.Row[Any]) -> tuple[str, ...]:
    """Blobs that nobody needs when this job needs none: its outputs, and uploads of its key that no other job uses.

    The outputs attempt by attempt, because a failed job may be started again: what is deleted late must not be what
    a later attempt delivered.
    """
    attempts = range(1, row.attempt + 1)
    outputs = (blob_keys.output_prefix(row.id, attempt) for attempt in attempts)
    previews = (blob_keys.preview_prefix(row.id, attempt) for attempt in attempts)
    return (*outputs, *previews, *_release_uploads(c, row))


def _release_uploads(c: sa.Connection, row: sa.Row[Any]) -> tuple[str, ...]:
    """Blobs of the key's uploads that no other job needs, now that this one goes."""
    mine = sa.select(job_uploads.c.upload_id).where(job_uploads.c.job_id == row.id)
    owner = uploads.c.key_id == row.key_id if row.key_id is not None else uploads.c.key_id.is_(None)
    # Locked before the look at their users: of two jobs that go at once, the second finds that it is the last.
    held = c.execute(sa.select(uploads).where(uploads.c.id.in_(mine), owner).with_for_update()).all()
    c.execute(sa.delete(job_uploads).where(job_uploads.c.job_id == row.id))
    free = [upload for upload in held if c.execute(_users(upload.id)).first() is None]
    return tuple(blob for upload in free for blob in delete_upload_row(c, upload))


def _users(upload_id: str, *where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return (
        sa.select(job_uploads.c.job_id)
        .join(jobs, jobs.c.id == job_uploads.c.job_id)
        .where(job_uploads.c.upload_id == upload_id, *where)
        .limit(1)
    )


def delete_upload_row(c: sa.Connection, row: sa.Row[Any]) -> tuple[str, ...]:
    """Forget an upload, in the caller's transaction, which holds the storage and discards the blobs returned.

    None is returned while another upload has the same bytes.
    """
    c.execute(sa.delete(job_uploads).where(job_uploads.c.upload_id == row.id))
    c.execute(sa.delete(uploads).where(uploads.c.id == row.id))
    others = sa.select(uploads.c.id).where(uploads.c.blob == row.blob).limit(1)
    return () if c.execute(others).first() is not None else (row.blob,)


def schedule_deletion(c: sa.Connection, blobs: tuple[str, ...], *, at: datetime) -> None:
    """Note, in the caller's transaction, blobs to delete from then on; an earlier note of them is replaced."""
    for blob in blobs:
        c.execute(sa.delete(pending_deletions).where(pending_deletions.c.blob == blob))
        c.execute(sa.insert(pending_deletions).values(blob=blob, at=at))


def _forget_answers(c: sa.Connection, row: sa.Row[Any]) -> None:
    """What repeated requests are answered with tells of the job too; the names stay taken, so none makes it anew."""
    told = {"success": True, "id": row.id, "job_id": row.id, "status": row.status, "message": "Job deleted"}
    mine = (idempotency.c.key_id == row.key_id, idempotency.c.body.contains(row.id, autoescape=True))
    c.execute(sa.update(idempotency).where(*mine).values(body=json.dumps(told)))


def _tombstone(row: sa.Row[Any], *, now: datetime) -> dict[str, Any]:
    """Keeps who, when, which model and what it cost; drops addresses, words and what was made."""
    return {
        "options": to_json(Options(model=from_json(row.options).model)),
        "video_url": "",
        "webhook_url": None,
        "metadata": {},
        "output": None,
        "stored_bytes": 0,
        "error": None,
        "warnings": [],
        "deleted_at": now,
        "updated_at": now,
    }
