"""The database stores: on SQLite, and on PostgreSQL if ALPHAREEL_TEST_POSTGRES_URL is set."""

import sqlite3
import threading
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from alphareel.db import migrate
from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.database import Database, open_engine
from alphareel.db.jobs import JobStore
from alphareel.db.tables import PREFIX, metadata
from alphareel.db.uploads import UploadStore
from alphareel.db.workers import ExecutorStore
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import Unavailable
from alphareel.domain.options import Background, Composition, Options
from alphareel.service.jobs.models import Output, Status
from alphareel.service.ports import NewJob
from alphareel.service.uploads.models import Upload
from alphareel.testing.fakes import RecordingEngine, SettableClock

OUTPUT = Output("outputs/j/1/result.webm", "webm", "video/webm", 9, "ab" * 32, 64, 48, 10, 0.4, True, False)
ENGINE = EngineFacts("builtin", "1", "cd" * 32, "Apache-2.0")


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def engine() -> RecordingEngine:
    return RecordingEngine()


@pytest.fixture
def jobs(database: Database, engine: RecordingEngine, clock: SettableClock) -> JobStore:
    return JobStore(database, enqueue=engine.enqueue, clock=clock)


def new_job(job_id: str = "job_1", **fields: Any) -> NewJob:
    job = NewJob(
        id=job_id,
        key_id=None,
        video_url="https://example.com/a.mp4",
        options=Options(),
        webhook_url=None,
        metadata={},
        request_id="req_1",
        warnings=(),
    )
    return replace(job, **fields)


def start(jobs: JobStore, job_id: str = "job_1") -> Any:
    return jobs.start_job(
        job_id, options=Options(model="human"), webhook_url=None, warnings=(), actor="test", request_id="req_2"
    )


def complete(jobs: JobStore, attempt: int, job_id: str = "job_1") -> bool:
    return jobs.complete(job_id, attempt=attempt, output=OUTPUT, engine=ENGINE, warnings=("so",), actor="worker")


class TestJobs:
    def test_a_job_comes_back_as_it_was_stored(self, jobs: JobStore) -> None:
        options = Options(
            model="pro",
            background=Background("image", image_url="https://example.com/b.png"),
            composition=Composition(width=320, height=240, anchor="top-left", scale=0.5, offset_x=3.0),
            text_prompt="a red kite, ünïcode",
            key_color=(1, 2, 3),
        )
        new = new_job(options=options, metadata={"deep": [1, {"a": None}]}, warnings=("w",), webhook_url="https://h/")
        stored = jobs.add_job(new, start=True, actor="test")
        assert jobs.job("job_1") == stored
        assert stored.options == options
        assert stored.metadata == {"deep": [1, {"a": None}]}
        assert (stored.status, stored.run, stored.ticket, stored.attempt) == (Status.PENDING, 1, 1, 0)
        assert stored.created_at.tzinfo is not None

    def test_a_job_that_is_a_draft_is_not_enqueued(self, jobs: JobStore, engine: RecordingEngine) -> None:
        assert jobs.add_job(new_job(), start=False, actor="test").status is Status.CREATED
        assert engine.queued == []

    def test_a_completed_job_has_an_audit_row_for_each_transition(self, jobs: JobStore, clock: SettableClock) -> None:
        jobs.add_job(new_job(), start=False, actor="key:1")
        clock.advance(seconds=1)
        start(jobs)
        clock.advance(seconds=1)
        running = jobs.begin_attempt("job_1", ticket=1, actor="worker")
        assert running is not None
        clock.advance(seconds=1)
        assert complete(jobs, running.attempt)
        done = jobs.job("job_1")
        assert done is not None
        assert (done.status, done.progress, done.output, done.engine) == (Status.COMPLETED, 100.0, OUTPUT, ENGINE)
        trail = [(e.sequence, e.from_status, e.to_status, e.actor, e.request_id) for e in jobs.events("job_1")]
        assert trail == [
            (1, None, Status.CREATED, "key:1", "req_1"),
            (2, Status.CREATED, Status.PENDING, "test", "req_2"),
            (3, Status.PENDING, Status.PROCESSING, "worker", None),
            (4, Status.PROCESSING, Status.COMPLETED, "worker", None),
        ]
        assert [e.at for e in jobs.events("job_1")] == sorted(e.at for e in jobs.events("job_1"))

    def test_a_job_that_failed_can_be_started_again_and_forgets_its_error(
        self, jobs: JobStore, engine: RecordingEngine
    ) -> None:
        jobs.add_job(new_job(), start=True, actor="test")
        running = jobs.begin_attempt("job_1", ticket=1, actor="worker")
        assert running is not None
        assert jobs.fail("job_1", attempt=1, error="It broke.", error_code="timeout", actor="worker")
        failed = jobs.job("job_1")
        assert failed is not None
        assert (failed.error, failed.error_code, failed.status) == ("It broke.", "timeout", Status.FAILED)
        again = start(jobs)
        assert (again.run, again.ticket, again.tries, again.attempt, again.error) == (2, 2, 0, 1, None)
        assert engine.queued == [("job_1", 1), ("job_1", 2)]

    def test_a_job_that_runs_or_is_done_cannot_be_started(self, jobs: JobStore) -> None:
        jobs.add_job(new_job(), start=True, actor="test")
        assert start(jobs) is None
        jobs.begin_attempt("job_1", ticket=1, actor="worker")
        assert start(jobs) is None
        complete(jobs, 1)
        assert start(jobs) is None

    def test_a_failed_job_always_has_an_error_message(self, jobs: JobStore) -> None:
        jobs.add_job(new_job(), start=True, actor="test")
        jobs.fail("job_1", attempt=None, error="", error_code="internal_error", actor="worker")
        failed = jobs.job("job_1")
        assert failed is not None
        assert failed.error

    def test_a_job_that_does_not_exist_is_none(self, jobs: JobStore) -> None:
        assert jobs.job("job_none") is None
        assert start(jobs, "job_none") is None
        assert jobs.events("job_none") == ()


class TestAttempts:
    @pytest.fixture(autouse=True)
    def pending(self, jobs: JobStore) -> None:
        jobs.add_job(new_job(), start=True, actor="test")

    def test_an_attempt_needs_the_newest_ticket(self, jobs: JobStore) -> None:
        assert jobs.requeue("job_1", ticket=1, actor="reconciler", reason="lost")
        assert jobs.begin_attempt("job_1", ticket=1, actor="old") is None
        assert jobs.begin_attempt("job_1", ticket=2, actor="new") is not None

    def test_an_attempt_that_was_superseded_can_change_nothing(self, jobs: JobStore) -> None:
        first = jobs.begin_attempt("job_1", ticket=1, actor="zombie")
        second = jobs.begin_attempt("job_1", ticket=1, actor="worker")
        assert first is not None
        assert second is not None
        assert not jobs.set_progress("job_1", attempt=first.attempt, progress=50)
        assert not complete(jobs, first.attempt)
        assert not jobs.fail("job_1", attempt=first.attempt, error="x", error_code="timeout", actor="zombie")
        assert complete(jobs, second.attempt)

    def test_an_attempt_completes_its_job_only_once(self, jobs: JobStore) -> None:
        jobs.begin_attempt("job_1", ticket=1, actor="worker")
        assert complete(jobs, 1)
        assert not complete(jobs, 1)
        assert jobs.begin_attempt("job_1", ticket=1, actor="worker") is None

    def test_progress_is_never_lowered(self, jobs: JobStore) -> None:
        jobs.begin_attempt("job_1", ticket=1, actor="worker")
        assert jobs.set_progress("job_1", attempt=1, progress=40)
        assert jobs.set_progress("job_1", attempt=1, progress=10)
        job = jobs.job("job_1")
        assert job is not None
        assert job.progress == 40

    def test_an_attempt_keeps_the_newest_preview_until_the_next_attempt(self, jobs: JobStore) -> None:
        jobs.begin_attempt("job_1", ticket=1, actor="worker")
        jobs.set_progress("job_1", attempt=1, progress=10, preview="previews/job_1/1/preview-0.webp")
        jobs.set_progress("job_1", attempt=1, progress=20)
        job = jobs.job("job_1")
        assert job is not None
        assert job.preview == "previews/job_1/1/preview-0.webp"
        again = jobs.begin_attempt("job_1", ticket=1, actor="worker")
        assert again is not None
        assert again.preview is None

    def test_an_attempt_records_the_time_of_each_progress(self, jobs: JobStore, clock: SettableClock) -> None:
        jobs.begin_attempt("job_1", ticket=1, actor="worker")
        clock.advance(minutes=5)
        jobs.set_progress("job_1", attempt=1, progress=0)
        job = jobs.job("job_1")
        assert job is not None
        assert job.progress_at == clock.now()

    def test_an_attempt_that_is_released_does_not_count_as_a_try(self, jobs: JobStore) -> None:
        jobs.begin_attempt("job_1", ticket=1, actor="worker")
        assert jobs.release_attempt("job_1", attempt=1, actor="worker", reason="the worker stops")
        job = jobs.job("job_1")
        assert job is not None
        assert (job.tries, job.attempt, job.status) == (0, 1, Status.PROCESSING)

    def test_a_chunk_resets_the_tries_if_the_ticket_is_current(self, jobs: JobStore) -> None:
        for _ in range(3):
            jobs.begin_attempt("job_1", ticket=1, actor="worker")
        jobs.add_chunk("job_1", ticket=2, size=5)
        assert tries_of(jobs) == 3
        jobs.add_chunk("job_1", ticket=1, size=5)
        assert tries_of(jobs) == 1
        jobs.release_attempt("job_1", attempt=3, actor="worker", reason="the worker stops")
        jobs.add_chunk("job_1", ticket=1, size=5)
        assert tries_of(jobs) == 0

    def test_each_of_many_workers_begins_an_attempt_of_its_own(self, jobs: JobStore) -> None:
        attempts = run_at_once(6, lambda: jobs.begin_attempt("job_1", ticket=1, actor="worker"))
        assert sorted(a.attempt for a in attempts) == [1, 2, 3, 4, 5, 6]
        assert [complete(jobs, n) for n in range(1, 7)] == [False] * 5 + [True]


def tries_of(jobs: JobStore) -> int:
    job = jobs.job("job_1")
    assert job is not None
    return job.tries


class TestRaces:
    def test_two_starts_of_one_draft_make_one_run(self, jobs: JobStore, engine: RecordingEngine) -> None:
        jobs.add_job(new_job(), start=False, actor="test")
        started = run_at_once(8, lambda: start(jobs))
        assert sum(s is not None for s in started) == 1
        assert engine.queued == [("job_1", 1)]
        assert len(jobs.events("job_1")) == 2

    def test_two_reconcilers_requeue_once(self, jobs: JobStore, engine: RecordingEngine) -> None:
        jobs.add_job(new_job(), start=True, actor="test")
        done = run_at_once(6, lambda: jobs.requeue("job_1", ticket=1, actor="reconciler", reason="lost"))
        assert sorted(done) == [False] * 5 + [True]
        assert engine.queued == [("job_1", 1), ("job_1", 2)]

    def test_completion_and_failure_cannot_both_win(self, jobs: JobStore) -> None:
        jobs.add_job(new_job(), start=True, actor="test")
        jobs.begin_attempt("job_1", ticket=1, actor="worker")
        ends = [lambda: complete(jobs, 1), lambda: jobs.fail("job_1", attempt=1, error="x", error_code="y", actor="w")]
        won = run_at_once(8, lambda: [end() for end in ends])
        assert sum(map(sum, won)) == 1

    def test_an_enqueue_that_fails_leaves_no_job(self, database: Database, clock: SettableClock) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("no")

        jobs = JobStore(database, enqueue=broken, clock=clock)
        with pytest.raises(RuntimeError):
            jobs.add_job(new_job(), start=True, actor="test")
        assert jobs.job("job_1") is None
        assert jobs.events("job_1") == ()


class TestListing:
    @pytest.fixture
    def many(self, jobs: JobStore, database: Database, clock: SettableClock) -> JobStore:
        keys = ApiKeyStore(database, clock=clock)
        for name in ("k1", "k2"):
            keys.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=name, note="")
        for number in range(5):
            clock.advance(seconds=1)
            jobs.add_job(new_job(f"job_{number}", key_id="k1"), start=number % 2 == 0, actor="test")
        jobs.add_job(new_job("job_other", key_id="k2"), start=True, actor="test")
        return jobs

    def test_listing_shows_a_key_its_own_jobs_newest_first(self, many: JobStore) -> None:
        page = many.jobs("k1", statuses=None, limit=100, offset=0)
        assert [j.id for j in page.items] == ["job_4", "job_3", "job_2", "job_1", "job_0"]
        assert page.total == 5

    def test_listing_is_paged(self, many: JobStore) -> None:
        page = many.jobs("k1", statuses=None, limit=2, offset=3)
        assert [j.id for j in page.items] == ["job_1", "job_0"]
        assert page.total == 5

    def test_listing_filters_by_state(self, many: JobStore) -> None:
        page = many.jobs("k1", statuses=(Status.CREATED,), limit=10, offset=0)
        assert [j.id for j in page.items] == ["job_3", "job_1"]
        assert page.total == 2

    def test_unfinished_jobs_of_every_key_are_listed(self, many: JobStore) -> None:
        assert {j.id for j in many.unfinished()} == {"job_0", "job_2", "job_4", "job_other"}


class TestUploadsAndKeys:
    def test_an_upload_is_read_as_it_was_stored(self, database: Database, clock: SettableClock) -> None:
        uploads = UploadStore(database, clock=clock)
        upload = Upload("u1", None, "ä.mp4", "video/mp4", "video", 5 * 10**9, "ab", "uploads/u1.mp4", clock.now())
        uploads.expect_blob(upload.blob)
        uploads.add_upload(upload)
        assert uploads.upload("u1") == upload
        assert uploads.upload("u2") is None

    def test_an_api_key_is_found_by_its_hash_only(self, database: Database, clock: SettableClock) -> None:
        keys = ApiKeyStore(database, clock=clock)
        key = keys.add_key(key_id="k1", secret_sha256="hash", fingerprint="fp", client_id="c", note="n")
        assert keys.key_by_secret("hash") == key
        assert keys.key_by_secret("other") is None
        assert keys.keys() == (key,)

    def test_an_api_key_that_exists_is_not_replaced(self, database: Database, clock: SettableClock) -> None:
        keys = ApiKeyStore(database, clock=clock)
        keys_added = run_at_once(
            4, lambda: keys.add_key(key_id="k", secret_sha256="h", fingerprint="f", client_id="c", note="")
        )
        assert sum(key is not None for key in keys_added) == 1

    def test_a_changed_secret_leaves_the_key_the_same(self, database: Database, clock: SettableClock) -> None:
        keys = ApiKeyStore(database, clock=clock)
        keys.add_key(key_id="k1", secret_sha256="old", fingerprint="fp1", client_id="c", note="")
        assert keys.replace_secret("k1", secret_sha256="new", fingerprint="fp2")
        assert not keys.replace_secret("k2", secret_sha256="newer", fingerprint="fp3")
        assert keys.key_by_secret("old") is None
        key = keys.key_by_secret("new")
        assert key is not None
        assert key.id == "k1"

    def test_a_setting_is_stored_once_by_one_of_many_processes(self, database: Database, clock: SettableClock) -> None:
        keys = ApiKeyStore(database, clock=clock)
        values = run_at_once(6, lambda: keys.set_setting_once("secret", uuid.uuid4().hex))
        assert len(set(values)) == 1


class TestExecutors:
    @pytest.fixture
    def executors(self, database: Database, clock: SettableClock) -> ExecutorStore:
        return ExecutorStore(database, clock=clock)

    def test_a_heartbeat_increments_the_counter(self, executors: ExecutorStore) -> None:
        executors.add_executor("a", home="here")
        assert executors.beat("a")
        assert [(e.id, e.home, e.beat) for e in executors.executors()] == [("a", "here", 1)]

    def test_an_evicted_executor_learns_it_at_its_next_heartbeat(self, executors: ExecutorStore) -> None:
        executors.add_executor("a", home="")
        assert executors.remove_executor("a", beat=0)
        assert not executors.beat("a")
        assert not executors.remove_executor("a")

    def test_an_executor_with_a_newer_heartbeat_is_not_evicted(self, executors: ExecutorStore) -> None:
        executors.add_executor("a", home="")
        executors.beat("a")
        assert not executors.remove_executor("a", beat=0)
        assert executors.beat("a")

    def test_removing_the_executors_of_an_installation_keeps_those_of_others(self, executors: ExecutorStore) -> None:
        for name, home in (("a", "here"), ("b", "here"), ("c", "there")):
            executors.add_executor(name, home=home)
        assert executors.remove_home("here") == 2
        assert [e.id for e in executors.executors()] == ["c"]


class TestSchema:
    def test_migrations_create_exactly_the_tables_of_the_code(self, database: Database) -> None:
        def is_our_table(_object: Any, name: str | None, kind: str, *_: Any) -> bool:
            return kind != "table" or ((name or "").startswith(PREFIX) and name != migrate.VERSION_TABLE)

        with database.read() as c:
            context = MigrationContext.configure(c, opts={"include_object": is_our_table, "compare_type": True})
            assert compare_metadata(context, metadata) == []

    def test_upgrading_twice_changes_nothing(self, database: Database, jobs: JobStore) -> None:
        jobs.add_job(new_job(), start=False, actor="test")
        migrate.upgrade(database)
        assert jobs.job("job_1") is not None
        assert jobs.is_ready()

    def test_many_processes_may_upgrade_at_once(self, database_url: str) -> None:
        databases = [Database(open_engine(database_url)) for _ in range(4)]
        remaining = iter(databases)
        run_at_once(4, lambda: migrate.upgrade(next(remaining)))
        assert migrate.is_current(databases[0])
        for database in databases:
            database.close()

    def test_processes_that_open_a_new_sqlite_file_at_once_wait_for_each_other(self, tmp_path: Path) -> None:
        first = sqlite3.connect(tmp_path / "new.db", isolation_level=None, check_same_thread=False)
        first.execute("BEGIN IMMEDIATE")
        threading.Timer(0.2, first.rollback).start()
        second = Database(open_engine(f"sqlite:///{tmp_path / 'new.db'}"))
        with second.read() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar_one() == "wal"
        second.close()
        first.close()

    def test_a_database_of_a_newer_version_is_refused(self, database: Database) -> None:
        with database.write() as c:
            c.exec_driver_sql(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '9999'")
        with pytest.raises(Unavailable, match="schema"):
            migrate.upgrade(database)
        assert not migrate.is_current(database)

    @pytest.mark.parametrize("revision", ["0001", "0014"])
    def test_a_database_of_a_development_version_is_refused_with_what_to_do(
        self, database: Database, revision: str
    ) -> None:
        with database.write() as c:
            c.exec_driver_sql(f"UPDATE {migrate.VERSION_TABLE} SET version_num = '{revision}'")
        with pytest.raises(Unavailable, match=f"schema revision {revision}") as refusal:
            migrate.upgrade(database)
        assert "empty data folder" in str(refusal.value.hint)
        assert not migrate.is_current(database)

    def test_migrations_and_create_all_create_the_same_schema(
        self, database: Database, database_url: str, tmp_path: Path
    ) -> None:
        if database.engine.dialect.name == "sqlite":
            engine = open_engine(f"sqlite:///{tmp_path / 'created.db'}")
            metadata.create_all(engine)
            created = describe_schema(engine, None)
        else:
            engine = open_engine(database_url)
            with engine.begin() as c:
                c.exec_driver_sql("CREATE SCHEMA created")
                metadata.create_all(c.execution_options(schema_translate_map={None: "created"}))
            created = describe_schema(engine, "created")
        engine.dispose()
        assert describe_schema(database.engine, None) == created


class TestSqlite:
    def test_a_sqlite_file_is_in_wal_mode_with_full_sync_and_foreign_keys(self, tmp_path: Path) -> None:
        engine = open_engine(f"sqlite:///{tmp_path / 'deep/test.db'}")
        with engine.connect() as c:
            pragmas = {
                n: c.exec_driver_sql(f"PRAGMA {n}").scalar() for n in ("journal_mode", "synchronous", "foreign_keys")
            }
        engine.dispose()
        assert pragmas == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}

    def test_a_database_that_cannot_be_opened_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "folder").mkdir()
        database = Database(sa.create_engine(f"sqlite:///{tmp_path / 'folder'}"))
        with pytest.raises(Unavailable), database.read():
            pass


def describe_schema(engine: sa.Engine, schema: str | None) -> dict[str, Any]:
    """Columns, keys, constraints and indexes of our tables, in a form that can be compared."""
    inspector = sa.inspect(engine)
    tables: dict[str, Any] = {}
    for name in inspector.get_table_names(schema):
        if not name.startswith(PREFIX) or name == migrate.VERSION_TABLE:
            continue
        columns = inspector.get_columns(name, schema)
        foreign_keys = inspector.get_foreign_keys(name, schema)
        tables[name] = {
            "columns": {c["name"]: (str(c["type"]), c["nullable"], _default(c["default"], schema)) for c in columns},
            "primary key": inspector.get_pk_constraint(name, schema),
            "foreign keys": sorted(
                (str(k["name"]), k["constrained_columns"], k["referred_table"]) for k in foreign_keys
            ),
            "unique": sorted(
                (str(k["name"]), k["column_names"]) for k in inspector.get_unique_constraints(name, schema)
            ),
            "indexes": sorted(
                (str(i["name"]), i["column_names"], i["unique"], _conditions(i))
                for i in inspector.get_indexes(name, schema)
            ),
        }
    return tables


def _default(default: str | None, schema: str | None) -> str | None:
    """A sequence's default names the schema of the sequence."""
    return default.replace(f"{schema}.", "") if default is not None and schema is not None else default


def _conditions(index: Any) -> list[str]:
    """The WHERE of a partial index."""
    return sorted(
        f"{name}: {value}" for name, value in index.get("dialect_options", {}).items() if name.endswith("where")
    )


def run_at_once(count: int, call: Any) -> list[Any]:
    """Results of ``count`` threads that call at the same moment."""
    barrier = threading.Barrier(count)
    results: list[Any] = []

    def work() -> None:
        barrier.wait()
        results.append(call())

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == count
    return results
