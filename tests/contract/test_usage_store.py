"""The record of calls: nothing is lost while the database is away, nothing counts twice, nothing stays for ever."""

from datetime import timedelta

import pytest

from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.database import Database
from alphareel.db.usage import CallStore
from alphareel.domain.errors import Unavailable
from alphareel.service.usage.service import ApiCall, CallLog, UnstorableCall, UsageFlusher
from alphareel.testing.fakes import SettableClock

NOW = SettableClock().now()


@pytest.fixture
def table(database: Database) -> CallStore:
    keys = ApiKeyStore(database, clock=SettableClock())
    for name in ("k1", "k2"):
        keys.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=name, note="")
    return CallStore(database)


def call(key: str = "k1", *, minutes: int = 0) -> ApiCall:
    return ApiCall(key, NOW + timedelta(minutes=minutes), "GET", "/v1/jobs", 200, "req", None, None)


def test_calls_count_for_their_key_and_hour(table: CallStore) -> None:
    table.add_calls([call(), call(minutes=59), call(minutes=60), call("k2")])
    table.add_calls([call(minutes=1)])
    assert table.count_calls("k1", since=NOW) == 4
    assert table.count_calls("k1", since=NOW + timedelta(hours=1)) == 1
    assert table.count_calls("k2", since=NOW) == 1


def test_events_come_newest_first(table: CallStore) -> None:
    table.add_calls([call(minutes=n) for n in range(5)])
    assert [e.call.at.minute for e in table.call_events("k1", limit=2)] == [4, 3]


def test_what_is_old_is_swept(table: CallStore) -> None:
    table.add_calls([call(minutes=-120), call()])
    table.sweep_calls(before=NOW - timedelta(hours=1))
    assert len(table.call_events("k1", limit=9)) == 1
    assert table.count_calls("k1", since=NOW - timedelta(days=1)) == 1


def test_many_writers_lose_no_count(table: CallStore, at_once) -> None:
    done = at_once([lambda: table.add_calls([call(), call("k2")])] * 8)
    assert done == [None] * 8
    assert (table.count_calls("k1", since=NOW), table.count_calls("k2", since=NOW)) == (8, 8)


class TestALog:
    def test_keeps_what_could_not_be_written_in_order(self, table: CallStore) -> None:
        class Away:
            def add_calls(self, _calls: object) -> None:
                raise Unavailable("The database does not answer.")

        log = CallLog(Away())  # type: ignore[arg-type]
        log.note(call())
        with pytest.raises(Unavailable):
            log.flush()
        log.note(call(minutes=1))
        log._store = table
        log.flush()
        log.flush()
        assert [e.call.at.minute for e in table.call_events("k1", limit=9)] == [1, 0]

    @pytest.mark.parametrize("bad", ["job\0", "job_\ud800"])
    def test_leaves_out_only_the_call_that_the_database_refuses(
        self, table: CallStore, database: Database, bad: str
    ) -> None:
        if "\0" in bad and database.engine.dialect.name == "sqlite":
            pytest.skip("SQLite stores it")
        log = CallLog(table)
        for minute in range(5):
            log.note(call(minutes=minute))
        log.note(ApiCall("k1", NOW, "GET", "/v1/jobs/{job_id}", 404, "req", bad, None))
        log.note(call(minutes=5))
        log.flush()
        log.flush()
        assert [e.call.at.minute for e in table.call_events("k1", limit=9)] == [5, 4, 3, 2, 1, 0]
        assert table.count_calls("k1", since=NOW) == 6

    def test_writes_each_call_once_when_the_database_goes_away_behind_a_refused_one(self, table: CallStore) -> None:
        class Leaving:
            def __init__(self) -> None:
                self.rounds = 0

            def add_calls(self, calls: list[ApiCall]) -> None:
                self.rounds += 1
                if self.rounds == 4:
                    raise Unavailable("The database does not answer.")
                if any(c.job_id == "bad" for c in calls):
                    raise UnstorableCall("no")
                table.add_calls(calls)

        log = CallLog(Leaving())  # type: ignore[arg-type]
        for minute in range(4):
            log.note(call(minutes=minute))
        log.note(ApiCall("k1", NOW, "GET", "/", 404, "req", "bad", None))
        with pytest.raises(Unavailable):
            log.flush()
        log.flush()
        assert sorted(e.call.at.minute for e in table.call_events("k1", limit=9)) == [0, 1, 2, 3]


class TestABookkeeper:
    def test_writes_the_last_calls_when_it_stops_and_outlives_a_failure(self) -> None:
        written: list[int] = []

        def flush() -> None:
            written.append(1)
            if len(written) == 1:
                raise Unavailable("The database does not answer.")

        buffer_owner = UsageFlusher(flush, {}, seconds=0.01)
        buffer_owner.start()
        while len(written) < 3:
            pass
        buffer_owner.stop()
        assert len(written) >= 4
