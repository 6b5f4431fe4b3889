"""The log of API calls: nothing is lost while the database is down, counted twice, or kept forever."""

from dataclasses import asdict
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
def store(database: Database) -> CallStore:
    keys = ApiKeyStore(database, clock=SettableClock())
    for name in ("k1", "k2"):
        keys.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=name, note="")
    return CallStore(database)


def call(key: str = "k1", *, minutes: int = 0) -> ApiCall:
    return ApiCall(key, NOW + timedelta(minutes=minutes), "GET", "/v1/jobs", 200, "req", None, None)


def record(log: CallLog, api_call: ApiCall) -> None:
    """Record a call at its own time."""
    facts = asdict(api_call)
    log._clock = SettableClock(facts.pop("at"))
    log.record(**facts)


def test_calls_count_for_their_key_and_hour(store: CallStore) -> None:
    store.add_calls([call(), call(minutes=59), call(minutes=60), call("k2")])
    store.add_calls([call(minutes=1)])
    assert store.count_calls("k1", since=NOW) == 4
    assert store.count_calls("k1", since=NOW + timedelta(hours=1)) == 1
    assert store.count_calls("k2", since=NOW) == 1


def test_events_come_newest_first(store: CallStore) -> None:
    store.add_calls([call(minutes=n) for n in range(5)])
    assert [e.call.at.minute for e in store.call_events("k1", limit=2)] == [4, 3]


def test_a_sweep_deletes_old_calls(store: CallStore) -> None:
    store.add_calls([call(minutes=-120), call()])
    store.sweep_calls(before=NOW - timedelta(hours=1))
    assert len(store.call_events("k1", limit=9)) == 1
    assert store.count_calls("k1", since=NOW - timedelta(days=1)) == 1


def test_many_writers_lose_no_count(store: CallStore, at_once) -> None:
    outcomes = at_once([lambda: store.add_calls([call(), call("k2")])] * 8)
    assert outcomes == [None] * 8
    assert (store.count_calls("k1", since=NOW), store.count_calls("k2", since=NOW)) == (8, 8)


class TestCallLog:
    def test_the_call_log_keeps_what_could_not_be_written_in_order(self, store: CallStore) -> None:
        class DownStore:
            def add_calls(self, _calls: object) -> None:
                raise Unavailable("The database does not answer.")

        log = CallLog(DownStore(), clock=SettableClock())  # type: ignore[arg-type]
        record(log, call())
        with pytest.raises(Unavailable):
            log.flush()
        record(log, call(minutes=1))
        log._store = store
        log.flush()
        log.flush()
        assert [e.call.at.minute for e in store.call_events("k1", limit=9)] == [1, 0]

    @pytest.mark.parametrize("bad", ["job\0", "job_\ud800"])
    def test_the_call_log_leaves_out_only_the_call_that_the_database_refuses(
        self, store: CallStore, database: Database, bad: str
    ) -> None:
        if "\0" in bad and database.engine.dialect.name == "sqlite":
            pytest.skip("SQLite stores it")
        log = CallLog(store, clock=SettableClock())
        for minute in range(5):
            record(log, call(minutes=minute))
        record(log, ApiCall("k1", NOW, "GET", "/v1/jobs/{job_id}", 404, "req", bad, None))
        record(log, call(minutes=5))
        log.flush()
        log.flush()
        assert [e.call.at.minute for e in store.call_events("k1", limit=9)] == [5, 4, 3, 2, 1, 0]
        assert store.count_calls("k1", since=NOW) == 6

    def test_the_call_log_writes_each_call_once_when_the_database_goes_away_behind_a_refused_one(
        self, store: CallStore
    ) -> None:
        class FailingStore:
            def __init__(self) -> None:
                self.rounds = 0

            def add_calls(self, calls: list[ApiCall]) -> None:
                self.rounds += 1
                if self.rounds == 4:
                    raise Unavailable("The database does not answer.")
                if any(c.job_id == "bad" for c in calls):
                    raise UnstorableCall("no")
                store.add_calls(calls)

        log = CallLog(FailingStore(), clock=SettableClock())  # type: ignore[arg-type]
        for minute in range(4):
            record(log, call(minutes=minute))
        record(log, ApiCall("k1", NOW, "GET", "/", 404, "req", "bad", None))
        with pytest.raises(Unavailable):
            log.flush()
        log.flush()
        assert sorted(e.call.at.minute for e in store.call_events("k1", limit=9)) == [0, 1, 2, 3]


class TestUsageFlusher:
    def test_the_flusher_writes_the_last_calls_when_it_stops_and_outlives_a_failure(self) -> None:
        written: list[int] = []

        def flush() -> None:
            written.append(1)
            if len(written) == 1:
                raise Unavailable("The database does not answer.")

        flusher = UsageFlusher(flush, {}, seconds=0.01)
        flusher.start()
        while len(written) < 3:
            pass
        flusher.stop()
        assert len(written) >= 4
