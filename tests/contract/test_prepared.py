"""Prepared statements return what SQLAlchemy returns, and fail as it does."""

from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.database import Database
from alphareel.db.jobs import JobStore
from alphareel.db.prepared import PreparedSelect
from alphareel.db.tables import jobs, keys
from alphareel.domain.options import Options
from alphareel.service.ports import NewJob
from alphareel.testing.fakes import RecordingEngine, SettableClock


@pytest.fixture
def stored(database: Database) -> Database:
    """A database with a key and jobs of it."""
    clock = SettableClock()
    ApiKeyStore(database, clock=clock).add_key(
        key_id="a", secret_sha256="5" * 64, fingerprint="fp", client_id="é", note=""
    )
    store = JobStore(database, enqueue=RecordingEngine().enqueue, clock=clock)
    for name in ("plain", "full"):
        metadata = {"name": "ü", "none": None} if name == "full" else {}
        new = NewJob(name, "a", "https://a/v", Options(), None, metadata, "req", ("a warning",))
        store.add_job(new, start=name == "full", actor="test")
    return database


@pytest.mark.parametrize("name", ["plain", "full"])
def test_a_row_has_the_values_of_all_columns(stored: Database, name: str) -> None:
    statement = sa.select(jobs).where(jobs.c.id == sa.bindparam("job_id"))
    with stored.read() as c:
        row = PreparedSelect(statement).first(c, job_id=name)
        expected = c.execute(statement, {"job_id": name}).one()
    assert row is not None
    assert dict(row._mapping) == dict(expected._mapping)
    assert (row.id, row.created_at.tzinfo) == (name, UTC)


def test_a_parameter_may_be_used_twice_and_is_converted(stored: Database) -> None:
    since = sa.bindparam("since")
    statement = sa.select(keys).where((keys.c.created_at >= since) | (keys.c.disabled_at >= since))
    select = PreparedSelect(statement.order_by(keys.c.id))
    with stored.read() as c:
        assert [row.client_id for row in select.rows(c, since=datetime(2000, 1, 1, tzinfo=UTC))] == ["é"]
        assert select.rows(c, since=datetime(2100, 1, 1, tzinfo=UTC)) == []
        assert select.first(c, since=datetime(2100, 1, 1, tzinfo=UTC)) is None


def test_statements_of_both_kinds_share_one_transaction(stored: Database) -> None:
    select = PreparedSelect(sa.select(keys.c.id, keys.c.enabled).where(keys.c.id == sa.bindparam("key")))
    with stored.write() as c:
        c.execute(sa.update(keys).values(enabled=False))
        assert select.first(c, key="a").enabled is False
    with stored.read() as c:
        assert select.first(c, key="a").enabled is False
        assert c.execute(sa.select(keys.c.enabled)).scalar_one() is False


def test_a_reader_sees_each_commit_in_its_next_read(stored: Database) -> None:
    select = PreparedSelect(sa.select(keys.c.note).where(keys.c.id == sa.bindparam("key")))
    for note in ("one", "two"):
        with stored.write() as c:
            c.execute(sa.update(keys).values(note=note))
        with stored.read() as c:
            assert select.first(c, key="a").note == note


def test_a_failing_statement_raises_what_sqlalchemy_raises(database: Database) -> None:
    missing = sa.table("missing", sa.column("id"))
    select = PreparedSelect(sa.select(missing.c.id).where(missing.c.id == sa.bindparam("job_id")))
    with database.engine.connect() as c, pytest.raises((exc.OperationalError, exc.ProgrammingError)) as raised:
        select.rows(c, job_id="x")
    assert isinstance(raised.value.orig, Exception)
