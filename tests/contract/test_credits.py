"""Credits are never lost, never made and never taken twice, whatever order things happen in."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphareel.db import migrate
from alphareel.db.accounts import AccountStore
from alphareel.db.api_keys import ApiKeyAdminStore
from alphareel.db.database import Database, open_engine
from alphareel.db.jobs import JobStore
from alphareel.db.records import ApiKeyStore
from alphareel.db.tables import ledger
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import InsufficientCredits, InvalidState, MissingApiKey, NotFound
from alphareel.domain.options import Options
from alphareel.service.api_keys.models import AuditContext
from alphareel.service.billing.credits import Quote, cost
from alphareel.service.jobs.models import Billing, Job, Output
from alphareel.service.ports import NewJob
from alphareel.testing.fakes import RecordingEngine, SettableClock

OUTPUT = Output("o", "webm", "video/webm", 9, "ab" * 32, 64, 48, 10, 0.0, True, False)
ENGINE = EngineFacts("builtin", "1", "cd" * 32, "Apache-2.0")
ACT = AuditContext("test", "credits.grant", "req_1")
PRICE = 6000


class Bank:
    """The tables, and the moves of a job in few words."""

    def __init__(self, database: Database) -> None:
        clock = SettableClock()
        keys = ApiKeyStore(database, clock=clock)
        for name in ("k1", "k2"):
            keys.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id="studio", note="")
        keys.add_key(key_id="free", secret_sha256="free", fingerprint="free", client_id="free", note="")
        self.database = database
        self.clock = clock
        self.jobs = JobStore(database, enqueue=RecordingEngine().enqueue, clock=clock)
        self.accounts = AccountStore(database, clock=clock)

    def create(self, name: str, *, seconds: float | None, key: str | None = "k1", price: int = PRICE) -> Job:
        bill = Quote(price, "1", seconds)
        new = NewJob(name, key, "https://a/v", Options(), None, {}, "req", (), bill=bill)
        return self.jobs.add_job(new, start=True, actor="test")

    def limit(self, key: str, **limits: int | None) -> None:
        ApiKeyAdminStore(self.database, clock=self.clock).set_limits(key, limits, act=ACT)

    def restart(self, name: str, *, seconds: float | None) -> Job | None:
        return self.jobs.start_job(
            name,
            options=Options(),
            webhook_url=None,
            warnings=(),
            actor="test",
            request_id=None,
            bill=Quote(PRICE, "1", seconds),
        )

    def begin(self, name: str) -> Job | None:
        job = self.jobs.job(name)
        assert job is not None
        return self.jobs.begin_attempt(name, ticket=job.ticket, actor="worker")

    def complete(self, name: str, *, seconds: float, source_seconds: float | None = None) -> bool:
        job = self.jobs.job(name)
        assert job is not None
        output = replace(OUTPUT, seconds=seconds, source_seconds=source_seconds)
        return self.jobs.complete(name, attempt=job.attempt, output=output, engine=ENGINE, warnings=(), actor="worker")

    def fail(self, name: str) -> bool:
        return self.jobs.fail(name, attempt=None, error="Cancelled", error_code="cancelled", actor="test")

    def job(self, name: str) -> Job:
        found = self.jobs.job(name)
        assert found is not None
        return found

    @property
    def balance(self) -> int | None:
        return self.accounts.account("studio").balance

    def grant(self, amount: int) -> None:
        assert self.accounts.grant("studio", amount, start_charging=True, act=ACT)

    def written(self) -> int:
        with self.database.read() as c:
            return int(c.execute(sa.select(sa.func.coalesce(sa.func.sum(ledger.c.amount), 0))).scalar_one())


@pytest.fixture
def bank(database: Database) -> Bank:
    return Bank(database)


class TestARun:
    def test_of_a_client_without_a_balance_is_not_billed(self, bank: Bank) -> None:
        job = bank.create("a", seconds=60, key="free")
        bank.begin("a")
        bank.complete("a", seconds=60)
        assert (job.billing_status, job.price, bank.job("a").credits) == (Billing.NOT_BILLED, None, 0)

    def test_without_a_key_is_not_billed_while_no_client_has_a_balance(self, bank: Bank) -> None:
        assert bank.create("a", seconds=60, key=None).billing_status is Billing.NOT_BILLED

    def test_without_a_key_is_refused_as_soon_as_any_client_has_a_balance(self, bank: Bank) -> None:
        bank.accounts.set_balance("studio", 0, act=ACT)
        with pytest.raises(MissingApiKey, match="charges credits"):
            bank.create("a", seconds=60, key=None)
        assert bank.jobs.job("a") is None
        bank.accounts.set_balance("studio", None, act=ACT)
        bank.create("a", seconds=60, key=None)

    def test_without_a_key_is_not_refused_at_a_price_of_nothing(self, bank: Bank) -> None:
        bank.grant(1)
        bank.create("a", seconds=60, key=None, price=0)

    def test_reserves_is_charged_for_what_was_processed_and_gets_the_rest_back(self, bank: Bank) -> None:
        bank.grant(10_000)
        job = bank.create("a", seconds=60)
        assert (job.billing_status, job.credits, bank.balance) == (Billing.RESERVED, 6000, 4000)
        bank.begin("a")
        bank.complete("a", seconds=30.001)
        done = bank.job("a")
        assert (done.billing_status, done.credits, bank.balance) == (Billing.CHARGED, 3001, 6999)
        assert done.pricing_version == "1"

    def test_that_fails_gets_all_back_once(self, bank: Bank) -> None:
        bank.grant(6000)
        bank.create("a", seconds=60)
        assert bank.fail("a")
        assert not bank.fail("a")
        assert (bank.job("a").billing_status, bank.job("a").credits, bank.balance) == (Billing.RELEASED, 0, 6000)

    def test_that_does_not_fit_leaves_no_job_and_no_trace(self, bank: Bank) -> None:
        bank.grant(5999)
        with pytest.raises(InsufficientCredits, match="Not enough credits"):
            bank.create("a", seconds=60)
        assert bank.jobs.job("a") is None
        assert (bank.balance, bank.written()) == (5999, 5999)

    def test_that_is_started_again_reserves_again(self, bank: Bank) -> None:
        bank.grant(6000)
        bank.create("a", seconds=60)
        bank.fail("a")
        again = bank.restart("a", seconds=30)
        assert again is not None
        assert (again.billing_status, again.credits, bank.balance) == (Billing.RESERVED, 3000, 3000)

    def test_that_cannot_be_started_again_stays_failed(self, bank: Bank) -> None:
        bank.grant(6000)
        bank.create("a", seconds=60)
        bank.fail("a")
        with pytest.raises(InsufficientCredits):
            bank.restart("a", seconds=61)
        assert bank.job("a").run == 1

    def test_longer_than_its_container_said_is_charged_no_more_than_was_reserved(self, bank: Bank) -> None:
        bank.grant(2000)
        bank.create("a", seconds=10)
        bank.begin("a")
        bank.complete("a", seconds=3600)
        assert (bank.job("a").credits, bank.balance) == (1000, 1000)

    def test_is_charged_for_the_source_that_was_processed_however_long_the_result_is(self, bank: Bank) -> None:
        bank.grant(2000)
        bank.create("a", seconds=10)
        bank.begin("a")
        bank.complete("a", seconds=0.0, source_seconds=8)
        assert (bank.job("a").credits, bank.balance) == (800, 1200)

    def test_uses_the_balance_of_the_client_whichever_key_it_has(self, bank: Bank) -> None:
        bank.grant(6000)
        bank.create("a", seconds=60, key="k2")
        assert bank.balance == 0

    def test_goes_on_when_the_client_became_unlimited(self, bank: Bank) -> None:
        bank.grant(6000)
        bank.create("a", seconds=60)
        bank.accounts.set_balance("studio", None, act=ACT)
        bank.begin("a")
        assert bank.complete("a", seconds=60)
        assert (bank.job("a").billing_status, bank.balance) == (Billing.CHARGED, None)
        bank.accounts.set_balance("studio", 700, act=ACT)
        assert (bank.balance, bank.written()) == (700, 700)


class TestAnUnknownLength:
    def test_reserves_once_when_it_is_known(self, bank: Bank) -> None:
        bank.grant(6000)
        assert bank.create("a", seconds=None).billing_status is Billing.NOT_BILLED
        bank.begin("a")
        for _ in range(2):
            assert bank.jobs.reserve_credits("a", attempt=1, seconds=20, most=100)
        assert (bank.job("a").billing_status, bank.balance) == (Billing.RESERVED, 4000)

    def test_is_refused_at_the_start_when_there_is_nothing(self, bank: Bank) -> None:
        bank.grant(0)
        with pytest.raises(InsufficientCredits):
            bank.create("a", seconds=None)

    def test_is_refused_later_when_it_does_not_fit(self, bank: Bank) -> None:
        bank.grant(100)
        bank.create("a", seconds=None)
        bank.begin("a")
        with pytest.raises(InsufficientCredits):
            bank.jobs.reserve_credits("a", attempt=1, seconds=20, most=100)
        bank.fail("a")
        assert (bank.job("a").billing_status, bank.balance) == (Billing.NOT_BILLED, 100)

    def test_that_stays_unknown_holds_all_that_it_could_cost(self, bank: Bank) -> None:
        bank.grant(6000)
        bank.create("a", seconds=None)
        bank.begin("a")
        bank.jobs.reserve_credits("a", attempt=1, seconds=None, most=30)
        assert bank.balance == 3000
        bank.complete("a", seconds=1)
        assert bank.balance == 5900

    def test_that_nothing_bounds_holds_the_whole_balance(self, bank: Bank) -> None:
        bank.grant(6000)
        bank.create("a", seconds=None)
        bank.begin("a")
        bank.jobs.reserve_credits("a", attempt=1, seconds=None, most=None)
        assert (bank.job("a").credits, bank.balance) == (6000, 0)

    def test_is_not_reserved_by_an_overtaken_attempt(self, bank: Bank) -> None:
        bank.grant(6000)
        bank.create("a", seconds=None)
        bank.begin("a")
        bank.begin("a")
        assert not bank.jobs.reserve_credits("a", attempt=1, seconds=20, most=100)
        assert bank.balance == 6000


class TestTheAccount:
    def test_counts_what_is_reserved_and_charged(self, bank: Bank) -> None:
        bank.grant(10_000)
        bank.create("a", seconds=10)
        bank.create("b", seconds=20)
        bank.begin("b")
        bank.complete("b", seconds=20)
        account = bank.accounts.account("studio")
        assert (account.balance, account.reserved, account.charged) == (7000, 1000, 2000)

    def test_never_goes_below_nothing(self, bank: Bank) -> None:
        bank.grant(100)
        with pytest.raises(InvalidState, match="fewer credits"):
            bank.accounts.grant("studio", -101, act=ACT)
        assert bank.balance == 100

    def test_of_an_unlimited_client_is_limited_by_no_grant_that_does_not_say_so(self, bank: Bank) -> None:
        for amount in (0, 100):
            with pytest.raises(InvalidState, match="unlimited"):
                bank.accounts.grant("studio", amount, act=ACT)
        assert bank.balance is None
        assert bank.accounts.grant("studio", 100, start_charging=True, act=ACT).balance == 100
        assert bank.accounts.grant("studio", 1, act=ACT).balance == 101
        bank.accounts.set_balance("studio", None, act=ACT)
        with pytest.raises(InvalidState):
            bank.accounts.grant("studio", 1, act=ACT)

    def test_belongs_to_a_client_who_has_a_key(self, bank: Bank) -> None:
        for change in (
            lambda: bank.accounts.grant("studoi", 100, start_charging=True, act=ACT),
            lambda: bank.accounts.set_balance("studoi", 100, act=ACT),
        ):
            with pytest.raises(NotFound, match="studoi has no key"):
                change()
        assert bank.accounts.entries("studoi", limit=9) == ()

    def test_has_a_ledger_whose_sum_is_the_balance(self, bank: Bank) -> None:
        bank.grant(10_000)
        bank.create("a", seconds=10)
        bank.fail("a")
        bank.accounts.set_balance("studio", 77, act=ACT)
        kinds = sorted(entry.kind for entry in bank.accounts.entries("studio", limit=9))
        assert kinds == ["grant", "release", "reserve", "set"]
        assert bank.written() == bank.balance == 77


class TestABudget:
    """A balance of 100 credits, a key that may use 10 of them a month; a second costs one."""

    @pytest.fixture(autouse=True)
    def budget(self, bank: Bank) -> None:
        bank.grant(100_00)
        bank.limit("k1", max_credits_per_month=10)

    def test_lets_a_key_use_so_much_and_its_client_s_other_key_go_on(self, bank: Bank) -> None:
        bank.create("a", seconds=6)
        with pytest.raises(InsufficientCredits, match="10 credits a month"):
            bank.create("b", seconds=5)
        assert bank.jobs.job("b") is None
        bank.create("c", seconds=4)
        bank.create("d", seconds=50, key="k2")
        assert bank.balance == 40_00

    def test_gets_back_what_a_job_did_not_cost(self, bank: Bank) -> None:
        bank.create("a", seconds=10)
        bank.begin("a")
        bank.complete("a", seconds=4)
        bank.create("b", seconds=6)
        bank.fail("b")
        bank.create("c", seconds=6)

    def test_begins_anew_with_the_month(self, bank: Bank) -> None:
        bank.create("a", seconds=10)
        bank.clock.advance(days=32)
        bank.create("b", seconds=10)

    def test_holds_for_lengths_that_are_known_late_or_never(self, bank: Bank) -> None:
        for name, seconds in (("late", 11.0), ("never", None)):
            bank.create(name, seconds=None)
            begun = bank.begin(name)
            assert begun is not None
            if seconds is not None:
                with pytest.raises(InsufficientCredits):
                    bank.jobs.reserve_credits(name, attempt=1, seconds=seconds, most=3600)
            else:
                bank.jobs.reserve_credits(name, attempt=1, seconds=None, most=3600)
        assert bank.job("never").credits == 10_00
        with pytest.raises(InsufficientCredits):
            bank.create("more", seconds=None)

    def test_none_is_any_number(self, bank: Bank) -> None:
        bank.limit("k1", max_credits_per_month=0)
        bank.create("a", seconds=60)

    def test_is_exact_however_many_come_at_once(self, bank: Bank, at_once: Callable[..., list[Any]]) -> None:
        outcomes = at_once([lambda n=n: bank.create(f"job_{n}", seconds=1) for n in range(30)])
        assert sum(isinstance(o, Job) for o in outcomes) == 10
        assert sum(isinstance(o, InsufficientCredits) for o in outcomes) == 20


def test_two_hundred_at_once_with_credits_for_fifty(bank: Bank, at_once: Callable[..., list[Any]]) -> None:
    bank.grant(50 * 100)
    names = iter(f"job_{n}" for n in range(200))
    outcomes = at_once([lambda name=name: bank.create(name, seconds=1) for name in names])
    assert sum(isinstance(o, Job) for o in outcomes) == 50
    assert sum(isinstance(o, InsufficientCredits) for o in outcomes) == 150
    assert (bank.balance, bank.accounts.account("studio").reserved) == (0, 5000)


def test_an_end_is_counted_once_however_many_announce_it(bank: Bank, at_once: Callable[..., list[Any]]) -> None:
    bank.grant(6000)
    bank.create("a", seconds=60)
    bank.begin("a")
    ends = [lambda: bank.complete("a", seconds=60), lambda: bank.fail("a")]
    outcomes = at_once(ends * 8)
    assert sum(o is True for o in outcomes) == 1
    assert bank.balance == (0 if bank.job("a").billing_status is Billing.CHARGED else 6000)


Move = tuple[str, int, float]
MOVES = st.lists(
    st.tuples(
        st.sampled_from(["create", "create_unknown", "restart", "begin", "measure", "complete", "fail", "grant"]),
        st.integers(0, 3),
        st.floats(0, 40, allow_nan=False),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A migrated SQLite file to copy, for making one takes longer than the moves of an example."""
    folder = Path(tempfile.mkdtemp())
    database = Database(open_engine(f"sqlite:///{folder / 'template.db'}"))
    migrate.upgrade(database)
    database.close()
    yield folder / "template.db"
    shutil.rmtree(folder)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(moves=MOVES)
def test_balance_reserved_and_charged_are_always_what_was_granted(template: Path, moves: list[Move]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(template, Path(folder) / "test.db")
        database = Database(open_engine(f"sqlite:///{path}"))
        bank = Bank(database)
        granted = 3000
        bank.grant(granted)
        number = itertools.count()
        lives: list[str] = []
        charged_before: dict[str, int] = {}
        for kind, which, seconds in moves:
            granted += _carry_out(bank, kind, lives, which, seconds, number)
            account = bank.accounts.account("studio")
            assert account.balance is not None
            assert account.balance >= 0
            assert account.balance + account.reserved + account.charged == granted
            assert bank.written() == account.balance
            for name, charge in charged_before.items():
                assert bank.job(name).credits == charge, "a charge is final"
            charged_before = {n: bank.job(n).credits for n in lives if bank.job(n).billing_status is Billing.CHARGED}
        database.close()


def _carry_out(bank: Bank, kind: str, lives: list[str], which: int, seconds: float, number: Iterator[int]) -> int:
    """Do it if it can be done; the hundredths that were granted."""
    name = lives[which % len(lives)] if lives else ""
    try:
        if kind == "grant":
            bank.grant(int(seconds))
            return int(seconds)
        if kind.startswith("create"):
            made = f"job_{next(number)}"
            bank.create(made, seconds=None if kind == "create_unknown" else seconds)
            lives.append(made)
        elif name and kind == "restart":
            bank.restart(name, seconds=seconds)
        elif name and kind == "begin":
            bank.begin(name)
        elif name and kind == "measure":
            attempt = bank.job(name).attempt
            bank.jobs.reserve_credits(name, attempt=attempt, seconds=None if which == 3 else seconds, most=30)
        elif name and kind == "complete":
            bank.complete(name, seconds=seconds)
        elif name:
            bank.fail(name)
    except InsufficientCredits:
        pass
    return 0


@pytest.mark.parametrize(
    ("seconds", "price", "hundredths"),
    [
        (0, 6000, 0),
        (1, 6000, 100),
        (0.001, 6000, 1),
        (1e-9, 6000, 1),
        (60, 0, 0),
        (2.0000000001, 6000, 200),
        (10.01, 4500, 751),
        (3600, 18000, 1_080_000),
    ],
)
def test_cost_is_rounded_up_to_a_hundredth(seconds: float, price: int, hundredths: int) -> None:
    assert cost(seconds, price) == hundredths
