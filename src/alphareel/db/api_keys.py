"""API keys without their secrets, and the audit log of operators' changes to them."""

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from alphareel.db import mapping
from alphareel.db.database import Database
from alphareel.db.prepared import PreparedSelect
from alphareel.db.tables import admin_events, keys, settings
from alphareel.service.api_keys.models import AdminEvent, ApiKey, AuditContext
from alphareel.service.ports import Clock

_BY_SECRET = PreparedSelect(  # every request runs it
    sa.select(keys).where(
        (keys.c.secret_sha256 == sa.bindparam("secret_sha256"))
        | ((keys.c.previous_sha256 == sa.bindparam("secret_sha256")) & (keys.c.previous_until > sa.bindparam("now")))
    )
)


class ApiKeyStore:
    """API keys with the SHA-256 of their secrets, and settings that are shared by the whole installation."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_key(self, *, key_id: str, secret_sha256: str, fingerprint: str, client_id: str, note: str) -> ApiKey | None:
        """Add a key and return it; None if the id or the secret is taken."""
        values = {
            "id": key_id,
            "secret_sha256": secret_sha256,
            "fingerprint": fingerprint,
            "client_id": client_id,
            "note": note,
            "enabled": True,
            "created_at": self._clock.now(),
        }
        try:
            with self._database.write() as c:
                return mapping.api_key_from_row(c.execute(sa.insert(keys).values(values).returning(keys)).one())
        except exc.IntegrityError:
            return None

    def replace_secret(self, key_id: str, *, secret_sha256: str, fingerprint: str) -> bool:
        """Give a key another secret; its jobs stay its own. Returns False if there is no such key."""
        change = sa.update(keys).where(keys.c.id == key_id)
        with self._database.write() as c:
            values = {"secret_sha256": secret_sha256, "fingerprint": fingerprint}
            return c.execute(change.values(values)).rowcount == 1

    def key_by_secret(self, secret_sha256: str) -> ApiKey | None:
        """The key with this secret, or whose secret it was before a rotation that still accepts it."""
        with self._database.read() as c:
            row = _BY_SECRET.first(c, secret_sha256=secret_sha256, now=self._clock.now())
        return mapping.api_key_from_row(row) if row is not None else None

    def keys(self) -> tuple[ApiKey, ...]:
        """All keys that were not deleted, oldest first."""
        living = sa.select(keys).where(keys.c.deleted_at.is_(None)).order_by(keys.c.created_at, keys.c.id)
        with self._database.read() as c:
            return tuple(map(mapping.api_key_from_row, c.execute(living)))

    def keys_by_id(self, key_ids: Collection[str]) -> dict[str, ApiKey]:
        """The keys with these IDs, deleted ones included."""
        named = sa.select(keys).where(keys.c.id.in_(list(key_ids)))
        with self._database.read() as c:
            return {row.id: mapping.api_key_from_row(row) for row in c.execute(named)}

    def has_keys(self) -> bool:
        """Whether there was ever a key."""
        with self._database.read() as c:
            return c.execute(sa.select(keys.c.id).limit(1)).first() is not None

    def key_ids(self, client_id: str) -> tuple[str, ...]:
        with self._database.read() as c:
            return tuple(c.execute(sa.select(keys.c.id).where(keys.c.client_id == client_id)).scalars())

    def set_setting_once(self, name: str, value: str) -> str:
        """Store the value unless there is one already; return the stored value."""
        query = sa.select(settings.c.value).where(settings.c.name == name)
        try:
            with self._database.write() as c:
                stored = c.execute(query).scalar_one_or_none()
                if stored is None:
                    c.execute(sa.insert(settings).values(name=name, value=value))
                return stored or value
        except exc.IntegrityError:  # another process inserted it after our SELECT
            with self._database.read() as c:
                return str(c.execute(query).scalar_one())


class ApiKeyAdminStore:
    """Operators' changes to keys, found by fingerprint. Every method is one transaction that adds an audit row."""

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
            record_admin_event(c, act, subject=key.fingerprint, detail={"client_id": key.client_id}, clock=self._clock)
        return mapping.api_key_from_row(row)

    def set_enabled(self, fingerprint: str, *, enabled: bool, act: AuditContext) -> ApiKey | None:
        """Enable or disable a key and return it; None if there is no such key."""
        now = sa.literal(self._clock.now(), keys.c.disabled_at.type)
        disabled_at = sa.null() if enabled else sa.func.coalesce(keys.c.disabled_at, now)
        return self._change(fingerprint, {"enabled": enabled, "disabled_at": disabled_at}, act)

    def delete(self, fingerprint: str, *, act: AuditContext) -> ApiKey | None:
        """Erase the secret and the note of a key for good and return it; None if there is no such key."""
        now = sa.literal(self._clock.now(), keys.c.deleted_at.type)
        values = {
            "secret_sha256": "deleted " + keys.c.id,  # no digest, but another one for each key
            "previous_sha256": None,
            "previous_until": None,
            "note": "",
            "enabled": False,
            "disabled_at": sa.func.coalesce(keys.c.disabled_at, now),
            "deleted_at": now,
        }
        return self._change(fingerprint, values, act)

    def set_limits(self, fingerprint: str, limits: Mapping[str, int | None], *, act: AuditContext) -> ApiKey | None:
        """Change the limits named (fields of ApiKey) and return the key; None if there is no such key."""
        return self._change(fingerprint, limits, act, detail=limits)

    def rotate(
        self, fingerprint: str, *, secret_sha256: str, new_fingerprint: str, previous_until: datetime, act: AuditContext
    ) -> ApiKey | None:
        """Give the key another secret and return it; None if there is no such key.

        The secret it had until now is accepted until ``previous_until``; the one before that is not any more.
        """
        values = {
            "previous_sha256": keys.c.secret_sha256,
            "previous_until": previous_until,
            "secret_sha256": secret_sha256,
            "fingerprint": new_fingerprint,
        }
        detail = {"new_fingerprint": new_fingerprint, "previous_until": previous_until.isoformat()}
        return self._change(fingerprint, values, act, detail=detail)

    def admin_events(self, *, limit: int) -> tuple[AdminEvent, ...]:
        """The audit log, newest first."""
        newest = sa.select(admin_events).order_by(admin_events.c.id.desc()).limit(limit)
        with self._database.read() as c:
            return tuple(mapping.admin_event_from_row(row) for row in c.execute(newest))

    def _change(
        self, fingerprint: str, values: Mapping[str, Any], act: AuditContext, *, detail: Mapping[str, Any] | None = None
    ) -> ApiKey | None:
        living = (keys.c.fingerprint == fingerprint, keys.c.deleted_at.is_(None))
        change = sa.update(keys).where(*living).values(values)
        with self._database.write() as c:
            row = c.execute(change.returning(keys)).one_or_none()
            if row is None:
                return None
            audited = {"client_id": row.client_id, **(detail or {})}
            record_admin_event(c, act, subject=fingerprint, detail=audited, clock=self._clock)
        return mapping.api_key_from_row(row)


def record_admin_event(
    c: sa.Connection, act: AuditContext, *, subject: str, detail: Mapping[str, Any], clock: Clock
) -> None:
    """Add a row to the admin audit log, in the caller's transaction."""
    values = {
        "at": clock.now(),
        "actor": act.actor,
        "action": act.action,
        "subject": subject,
        "detail": dict(detail),
        "request_id": act.request_id,
    }
    c.execute(sa.insert(admin_events).values(values))
