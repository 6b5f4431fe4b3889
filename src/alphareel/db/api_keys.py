"""Changes to keys behind the ApiKeyAdminStore port: each leaves a row of the admin audit in the same transaction."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from alphareel.db import mapping
from alphareel.db.database import Database
from alphareel.db.tables import admin_events, keys
from alphareel.service.api_keys.models import AdminEvent, ApiKey, AuditContext
from alphareel.service.ports import Clock


class ApiKeyAdminStore:
    """jobs.office.ApiKeyAdminStore on our tables."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def make_key(self, key: ApiKey, *, secret_sha256: str, act: AuditContext) -> ApiKey:
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
        return mapping.key_from_row(row)

    def set_enabled(self, fingerprint: str, *, enabled: bool, act: AuditContext) -> ApiKey | None:
        now = sa.literal(self._clock.now(), keys.c.disabled_at.type)
        when = sa.null() if enabled else sa.func.coalesce(keys.c.disabled_at, now)
        return self._change(fingerprint, {"enabled": enabled, "disabled_at": when}, act)

    def set_limits(self, fingerprint: str, limits: Mapping[str, int | None], *, act: AuditContext) -> ApiKey | None:
        return self._change(fingerprint, limits, act, detail=limits)

    def rotate(
        self, fingerprint: str, *, secret_sha256: str, new_fingerprint: str, previous_until: datetime, act: AuditContext
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
            return tuple(mapping.admin_event_from_row(row) for row in c.execute(newest))

    def _change(
        self, fingerprint: str, values: Mapping[str, Any], act: AuditContext, *, detail: Mapping[str, Any] | None = None
    ) -> ApiKey | None:
        change = sa.update(keys).where(keys.c.fingerprint == fingerprint).values(values)
        with self._database.write() as c:
            row = c.execute(change.returning(keys)).one_or_none()
            if row is None:
                return None
            told = {"client_id": row.client_id, **(detail or {})}
            record(c, act, subject=fingerprint, detail=told, clock=self._clock)
        return mapping.key_from_row(row)


def record(c: sa.Connection, act: AuditContext, *, subject: str, detail: Mapping[str, Any], clock: Clock) -> None:
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
