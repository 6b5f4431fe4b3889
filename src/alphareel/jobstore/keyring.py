"""Changes to keys behind the KeyRing port: each leaves a row of the admin audit in the same transaction."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.jobs.job import ApiKey
from alphareel.jobs.office import Act, AdminEvent
from alphareel.jobs.ports import Clock
from alphareel.jobstore import rows
from alphareel.jobstore.database import Database
from alphareel.jobstore.tables import admin_events, keys


class KeyRing:
    """jobs.office.KeyRing on our tables."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def make_key(self, key: ApiKey, *, secret_sha256: str, act: Act) -> ApiKey:
        values = {
            "id": key.id,
            "secret_sha256": secret_sha256,
            "fingerprint": key.fingerprint,
            "client_id": key.client_id,
            "note": key.note,
            "enabled": key.enabled,
            "created_at": key.created_at,
            "test": key.test,
        }
        with self._database.write() as c:
            row = c.execute(sa.insert(keys).values(values).returning(keys)).one()
            record(c, act, subject=key.fingerprint, detail={"client_id": key.client_id}, clock=self._clock)
        return rows.key(row)

    def set_enabled(self, fingerprint: str, *, enabled: bool, act: Act) -> ApiKey | None:
        now = sa.literal(self._clock.now(), keys.c.disabled_at.type)
        when = sa.null() if enabled else sa.func.coalesce(keys.c.disabled_at, now)
        return self._change(fingerprint, {"enabled": enabled, "disabled_at": when}, act)

    def set_limits(self, fingerprint: str, limits: Mapping[str, int | None], *, act: Act) -> ApiKey | None:
        return self._change(fingerprint, limits, act, detail=limits)

    def rotate(
        self, fingerprint: str, *, secret_sha256: str, new_fingerprint: str, previous_until: datetime, act: Act
    ) -> ApiKey | None:
        values = {
            "previous_sha256": keys.c.secret_sha256,
            "previous_until": previous_until,
            "secret_sha256": secret_sha256,
            "fingerprint": new_fingerprint,
        }
        told = {"new_fingerprint": new_fingerprint, "previous_until": previous_until.isoformat()}
        return self._change(fingerprint, values, act, detail=told)

    def admin_events(self, *, limit: int) -> tuple[AdminEvent, ...]:
        newest = sa.select(admin_events).order_by(admin_events.c.id.desc()).limit(limit)
        with self._database.read() as c:
            return tuple(rows.admin_event(row) for row in c.execute(newest))

    def _change(
        self, fingerprint: str, values: Mapping[str, Any], act: Act, *, detail: Mapping[str, Any] | None = None
    ) -> ApiKey | None:
        change = sa.update(keys).where(keys.c.fingerprint == fingerprint).values(values)
        with self._database.write() as c:
            row = c.execute(change.returning(keys)).one_or_none()
            if row is None:
                return None
            told = {"client_id": row.client_id, **(detail or {})}
            record(c, act, subject=fingerprint, detail=told, clock=self._clock)
        return rows.key(row)


def record(c: sa.Connection, act: Act, *, subject: str, detail: Mapping[str, Any], clock: Clock) -> None:
    """Append to the admin audit, in the caller's transaction."""
    values = {
        "at": clock.now(),
        "actor": act.actor,
        "action": act.action,
        "subject": subject,
        "detail": dict(detail),
        "request_id": act.request_id,
    }
    c.execute(sa.insert(admin_events).values(values))
