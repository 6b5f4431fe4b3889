"""Credits: reserved, charged and released exactly once, in any order of events."""

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alphareel.db import migrate
from alphareel.db.api_keys import ApiKeyAdminStore, ApiKeyStore
from alphareel.db.billing import AccountStore
from alphareel.db.database import Database, open_engine
from alphareel.db.jobs import JobStore
from alphareel.db.stats import StatsStore
from alphareel.db.tables import ledger
from alphareel.db.usage import CallStore
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import InsufficientCredits, InvalidState, MissingApiKey, NotFound
from alphareel.domain.options import Options
from alphareel.service.api_keys.models import AuditContext
from alphareel.service.billing.credits import Quote, cost
from alphareel.service.jobs.models import Billing, Job, Output, Status
from alphareel.service.jobs.output_targets import OutputTarget, Targets
from alphareel.service.ports import NewJob
from alphareel.testing.fakes import RecordingEngine, SettableClock

OUTPUT = Output("o", "webm", "video/webm", 9, "ab" * 32, 64, 48, 10, 0.0, True, False)
ENGINE = EngineFacts("builtin", "1", "cd" * 32, "Apache-2.0")
ACT = AuditContext("test", "credits.grant", "req_1")
PRICE = 6000


class BillingHarness:
    """The stores, with shortcuts for the transitions of a job."""

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

    def create(
        self, name: str, *, seconds: float | None, key: str | None = "k1", price: int = PRICE, targets: Targets = ()
    ) -> Job:
        quote = Quote(price, "1", seconds)
        new = NewJob(name, key, "https://a/v", Options(), None, {}, "req", (), quote=quote, targets=targets)
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
            quote=Quote(PRICE, "1", seconds),
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

    def create_and_cancel_delivery(self, name: str, *, seconds: float) -> None:
        """Run a job until its outputs are being sent, and cancel it then."""
        self.create(name, seconds=seconds, targets=(OutputTarget("https://put.example/a", {}),))
        self.begin(name)
        self.complete(name, seconds=seconds)
        assert self.job(name).status is Status.PROCESSING
        assert self.fail(name)

    def fail(self, name: str) -> bool:
        return self.jobs.fail(name, attempt=None, error="Cancelled", error_code="cancelled", actor="test")

    def job(self, name: str) -> Job:
        job = self.jobs.job(name)
        assert job is not None
        return job

    @property
    def charged_in_metrics(self) -> int:
        return StatsStore(self.database, clock=self.clock).collect().credits_charged

    @property
    def balance(self) -> int | None:
        return self.accounts.account("studio").balance

    def grant(self, amount: int) -> None:
        assert self.accounts.grant("studio", amount, start_charging=True, act=ACT)

    def ledger_sum(self) -> int:
        with self.database.read() as c:
            return int(c.execute(sa.select(sa.func.coalesce(sa.func.sum(ledger.c.amount), 0))).scalar_one())


@pytest.fixture
def billing(database: Database) -> BillingHarness:
    return BillingHarness(database)


class TestRuns:
    def test_a_run_of_a_client_without_a_balance_is_not_billed(self, billing: BillingHarness) -> None:
        job = billing.create("a", seconds=60, key="free")
        billing.begin("a")
        billing.complete("a", seconds=60)
        assert (job.billing_status, job.price, billing.job("a").credits) == (Billing.NOT_BILLED, None, 0)

    def test_a_run_without_a_key_is_not_billed_while_no_client_has_a_balance(self, billing: BillingHarness) -> None:
        assert billing.create("a", seconds=60, key=None).billing_status is Billing.NOT_BILLED

    def test_a_run_without_a_key_is_refused_as_soon_as_any_client_has_a_balance(self, billing: BillingHarness) -> None:
        billing.accounts.set_balance("studio", 0, act=ACT)
        with pytest.raises(MissingApiKey, match="charges credits"):
            billing.create("a", seconds=60, key=None)
        assert billing.jobs.job("a") is None
        billing.accounts.set_balance("studio", None, act=ACT)
        billing.create("a", seconds=60, key=None)

    def test_a_run_without_a_key_is_not_refused_at_a_price_of_nothing(self, billing: BillingHarness) -> None:
        billing.grant(1)
        billing.create("a", seconds=60, key=None, price=0)

    def test_a_run_is_charged_for_what_was_processed_and_gets_the_rest_back(self, billing: BillingHarness) -> None:
        billing.grant(10_000)
        job = billing.create("a", seconds=60)
        assert (job.billing_status, job.credits, billing.balance) == (Billing.RESERVED, 6000, 4000)
        billing.begin("a")
        billing.complete("a", seconds=30.001)
        done = billing.job("a")
        assert (done.billing_status, done.credits, billing.balance) == (Billing.CHARGED, 3001, 6999)
        assert done.pricing_version == "1"

    def test_a_run_that_fails_gets_all_back_once(self, billing: BillingHarness) -> None:
        billing.grant(6000)
        billing.create("a", seconds=60)
        assert billing.fail("a")
        assert not billing.fail("a")
        assert (billing.job("a").billing_status, billing.job("a").credits, billing.balance) == (
            Billing.RELEASED,
            0,
            6000,
        )

    def test_a_run_that_exceeds_the_balance_leaves_no_job_and_no_ledger_row(self, billing: BillingHarness) -> None:
        billing.grant(5999)
        with pytest.raises(InsufficientCredits, match="Not enough credits"):
            billing.create("a", seconds=60)
        assert billing.jobs.job("a") is None
        assert (billing.balance, billing.ledger_sum()) == (5999, 5999)

    def test_a_run_that_is_started_again_reserves_again(self, billing: BillingHarness) -> None:
        billing.grant(6000)
        billing.create("a", seconds=60)
        billing.fail("a")
        again = billing.restart("a", seconds=30)
        assert again is not None
        assert (again.billing_status, again.credits, billing.balance) == (Billing.RESERVED, 3000, 3000)

    def test_a_run_that_cannot_be_started_again_stays_failed(self, billing: BillingHarness) -> None:
        billing.grant(6000)
        billing.create("a", seconds=60)
        billing.fail("a")
        with pytest.raises(InsufficientCredits):
            billing.restart("a", seconds=61)
        assert billing.job("a").run == 1

    def test_a_run_longer_than_its_container_said_is_charged_no_more_than_was_reserved(
        self, billing: BillingHarness
    ) -> None:
        billing.grant(2000)
        billing.create("a", seconds=10)
        billing.begin("a")
        billing.complete("a", seconds=3600)
        assert (billing.job("a").credits, billing.balance) == (1000, 1000)

    def test_a_run_is_charged_for_the_source_that_was_processed_however_long_the_result_is(
        self, billing: BillingHarness
    ) -> None:
        billing.grant(2000)
        billing.create("a", seconds=10)
        billing.begin("a")
        billing.complete("a", seconds=0.0, source_seconds=8)
        assert (billing.job("a").credits, billing.balance) == (800, 1200)

    def test_a_run_uses_the_balance_of_the_client_whichever_key_it_has(self, billing: BillingHarness) -> None:
        billing.grant(6000)
        billing.create("a", seconds=60, key="k2")
        assert billing.balance == 0

    def test_a_run_continues_when_its_client_becomes_unlimited(self, billing: BillingHarness) -> None:
        billing.grant(6000)
        billing.create("a", seconds=60)
        billing.accounts.set_balance("studio", None, act=ACT)
        billing.begin("a")
        assert billing.complete("a", seconds=60)
        assert (billing.job("a").billing_status, billing.balance) == (Billing.CHARGED, None)
        billing.accounts.set_balance("studio", 700, act=ACT)
        assert (billing.balance, billing.ledger_sum()) == (700, 700)


class TestUnknownDurations:
    def test_a_duration_that_becomes_known_late_is_reserved_once(self, billing: BillingHarness) -> None:
        billing.grant(6000)
        assert billing.create("a", seconds=None).billing_status is Billing.NOT_BILLED
        billing.begin("a")
        for _ in range(2):
            assert billing.jobs.reserve_credits("a", attempt=1, seconds=20, most=100)
        assert (billing.job("a").billing_status, billing.balance) == (Billing.RESERVED, 4000)

    def test_an_unknown_duration_is_refused_at_the_start_when_there_is_nothing(self, billing: BillingHarness) -> None:
        billing.grant(0)
        with pytest.raises(InsufficientCredits):
            billing.create("a", seconds=None)

    def test_an_unknown_duration_is_refused_later_when_it_does_not_fit(self, billing: BillingHarness) -> None:
        billing.grant(100)
        billing.create("a", seconds=None)
        billing.begin("a")
        with pytest.raises(InsufficientCredits):
            billing.jobs.reserve_credits("a", attempt=1, seconds=20, most=100)
        billing.fail("a")
        assert (billing.job("a").billing_status, billing.balance) == (Billing.NOT_BILLED, 100)

    def test_an_unknown_duration_that_stays_unknown_holds_all_that_it_could_cost(self, billing: BillingHarness) -> None:
        billing.grant(6000)
        billing.create("a", seconds=None)
        billing.begin("a")
        billing.jobs.reserve_credits("a", attempt=1, seconds=None, most=30)
        assert billing.balance == 3000
        billing.complete("a", seconds=1)
        assert billing.balance == 5900

    def test_an_unknown_duration_that_nothing_bounds_holds_the_whole_balance(self, billing: BillingHarness) -> None:
        billing.grant(6000)
        billing.create("a", seconds=None)
        billing.begin("a")
        billing.jobs.reserve_credits("a", attempt=1, seconds=None, most=None)
        assert (billing.job("a").credits, billing.balance) == (6000, 0)

    def test_an_unknown_duration_is_not_reserved_by_a_superseded_attempt(self, billing: BillingHarness) -> None:
        billing.grant(6000)
        billing.create("a", seconds=None)
        billing.begin("a")
        billing.begin("a")
        assert not billing.jobs.reserve_credits("a", attempt=1, seconds=20, most=100)
        assert billing.balance == 6000


class TestAccounts:
    def test_an_account_counts_what_is_reserved_and_charged(self, billing: BillingHarness) -> None:
        billing.grant(10_000)
        billing.create("a", seconds=10)
        billing.create("b", seconds=20)
        billing.begin("b")
        billing.complete("b", seconds=20)
        account = billing.accounts.account("studio")
        assert (account.balance, account.reserved, account.charged) == (7000, 1000, 2000)

    def test_an_account_counts_every_charged_run_of_a_job(self, billing: BillingHarness) -> None:
        billing.grant(10_000)
        billing.create_and_cancel_delivery("a", seconds=10)
        account = billing.accounts.account("studio")
        assert (account.balance, account.reserved, account.charged) == (9000, 0, 1000)
        billing.restart("a", seconds=20)
        account = billing.accounts.account("studio")
        assert (account.balance, account.reserved, account.charged) == (7000, 2000, 1000)
        assert billing.charged_in_metrics == 1000
        billing.begin("a")
        billing.complete("a", seconds=15)
        account = billing.accounts.account("studio")
        assert (account.balance, account.reserved, account.charged) == (7500, 0, 2500)
        [bucket] = CallStore(billing.database).job_usage("k1", since=datetime(1970, 1, 1, tzinfo=UTC))
        assert (bucket.jobs, bucket.credits) == (1, 2500)
        assert billing.charged_in_metrics == 2500

    def test_a_balance_never_becomes_negative(self, billing: BillingHarness) -> None:
        billing.grant(100)
        with pytest.raises(InvalidState, match="fewer credits"):
            billing.accounts.grant("studio", -101, act=ACT)
        assert billing.balance == 100

    def test_an_account_of_an_unlimited_client_is_limited_by_no_grant_that_does_not_say_so(
        self, billing: BillingHarness
    ) -> None:
        for amount in (0, 100):
            with pytest.raises(InvalidState, match="unlimited"):
                billing.accounts.grant("studio", amount, act=ACT)
        assert billing.balance is None
        assert billing.accounts.grant("studio", 100, start_charging=True, act=ACT).balance == 100
        assert billing.accounts.grant("studio", 1, act=ACT).balance == 101
        billing.accounts.set_balance("studio", None, act=ACT)
        with pytest.raises(InvalidState):
            billing.accounts.grant("studio", 1, act=ACT)

    def test_an_account_belongs_to_a_client_who_has_a_key(self, billing: BillingHarness) -> None:
        for change in (
            lambda: billing.accounts.grant("studoi", 100, start_charging=True, act=ACT),
            lambda: billing.accounts.set_balance("studoi", 100, act=ACT),
        ):
            with pytest.raises(NotFound, match="studoi has no key"):
                change()
        assert billing.accounts.entries("studoi", limit=9) == ()

    def test_an_account_has_a_ledger_whose_sum_is_the_balance(self, billing: BillingHarness) -> None:
        billing.grant(10_000)
        billing.create("a", seconds=10)
        billing.fail("a")
        billing.accounts.set_balance("studio", 77, act=ACT)
        kinds = sorted(entry.kind for entry in billing.accounts.entries("studio", limit=9))
        assert kinds == ["grant", "release", "reserve", "set"]
        assert billing.ledger_sum() == billing.balance == 77


class TestBudgets:
    """A balance of 100 credits, a key that may use 10 of them a month; a second costs one."""

    @pytest.fixture(autouse=True)
    def budget(self, billing: BillingHarness) -> None:
        billing.grant(100_00)
        billing.limit("k1", max_credits_per_month=10)

    def test_a_budget_lets_a_key_use_so_much_and_its_client_s_other_key_go_on(self, billing: BillingHarness) -> None:
        billing.create("a", seconds=6)
        with pytest.raises(InsufficientCredits, match="10 credits a month"):
            billing.create("b", seconds=5)
        assert billing.jobs.job("b") is None
        billing.create("c", seconds=4)
        billing.create("d", seconds=50, key="k2")
        assert billing.balance == 40_00

    def test_a_budget_gets_back_what_a_job_did_not_cost(self, billing: BillingHarness) -> None:
        billing.create("a", seconds=10)
        billing.begin("a")
        billing.complete("a", seconds=4)
        billing.create("b", seconds=6)
        billing.fail("b")
        billing.create("c", seconds=6)

    def test_a_budget_counts_runs_that_were_charged_and_cancelled(self, billing: BillingHarness) -> None:
        billing.create_and_cancel_delivery("a", seconds=6)
        with pytest.raises(InsufficientCredits):
            billing.create("b", seconds=5)
        with pytest.raises(InsufficientCredits):
            billing.restart("a", seconds=5)
        billing.restart("a", seconds=2)
        with pytest.raises(InsufficientCredits):
            billing.create("b", seconds=3)
        billing.create("b", seconds=2)

    def test_a_budget_counts_no_run_of_an_earlier_month(self, billing: BillingHarness) -> None:
        billing.create_and_cancel_delivery("a", seconds=6)
        billing.clock.advance(days=32)
        billing.restart("a", seconds=9)
        billing.create("b", seconds=1)

    def test_a_budget_starts_again_each_month(self, billing: BillingHarness) -> None:
        billing.create("a", seconds=10)
        billing.clock.advance(days=32)
        billing.create("b", seconds=10)

    def test_a_budget_holds_for_lengths_that_are_known_late_or_never(self, billing: BillingHarness) -> None:
        for name, seconds in (("late", 11.0), ("never", None)):
            billing.create(name, seconds=None)
            running = billing.begin(name)
            assert running is not None
            if seconds is not None:
                with pytest.raises(InsufficientCredits):
                    billing.jobs.reserve_credits(name, attempt=1, seconds=seconds, most=3600)
            else:
                billing.jobs.reserve_credits(name, attempt=1, seconds=None, most=3600)
        assert billing.job("never").credits == 10_00
        with pytest.raises(InsufficientCredits):
            billing.create("more", seconds=None)

    def test_a_budget_of_0_is_unlimited(self, billing: BillingHarness) -> None:
        billing.limit("k1", max_credits_per_month=0)
        billing.create("a", seconds=60)

    def test_a_budget_is_exact_however_many_come_at_once(
        self, billing: BillingHarness, at_once: Callable[..., list[Any]]
    ) -> None:
        outcomes = at_once([lambda n=n: billing.create(f"job_{n}", seconds=1) for n in range(30)])
        assert sum(isinstance(o, Job) for o in outcomes) == 10
        assert sum(isinstance(o, InsufficientCredits) for o in outcomes) == 20


def test_of_200_concurrent_jobs_with_credits_for_50_exactly_50_are_accepted(
    billing: BillingHarness, at_once: Callable[..., list[Any]]
) -> None:
    billing.grant(50 * 100)
    names = iter(f"job_{n}" for n in range(200))
    outcomes = at_once([lambda name=name: billing.create(name, seconds=1) for name in names])
    assert sum(isinstance(o, Job) for o in outcomes) == 50
    assert sum(isinstance(o, InsufficientCredits) for o in outcomes) == 150
    assert (billing.balance, billing.accounts.account("studio").reserved) == (0, 5000)


def test_credits_are_settled_once_under_concurrent_ends(
    billing: BillingHarness, at_once: Callable[..., list[Any]]
) -> None:
    billing.grant(6000)
    billing.create("a", seconds=60)
    billing.begin("a")
    ends = [lambda: billing.complete("a", seconds=60), lambda: billing.fail("a")]
    outcomes = at_once(ends * 8)
    assert sum(o is True for o in outcomes) == 1
    assert billing.balance == (0 if billing.job("a").billing_status is Billing.CHARGED else 6000)


Step = tuple[str, int, float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["create", "create_unknown", "restart", "begin", "measure", "complete", "fail", "grant"]),
        st.integers(0, 3),
        st.floats(0, 40, allow_nan=False),
    ),
    max_size=40,
)


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """A migrated SQLite file to copy, because creating one takes longer than the steps of an example."""
    folder = Path(tempfile.mkdtemp())
    database = Database(open_engine(f"sqlite:///{folder / 'template.db'}"))
    migrate.upgrade(database)
    database.close()
    yield folder / "template.db"
    shutil.rmtree(folder)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS)
def test_balance_reserved_and_charged_are_always_what_was_granted(template: Path, steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = shutil.copy(template, Path(folder) / "test.db")
        database = Database(open_engine(f"sqlite:///{path}"))
        billing = BillingHarness(database)
        granted = 3000
        billing.grant(granted)
        number = itertools.count()
        names: list[str] = []
        charged_before: dict[str, int] = {}
        for kind, which, seconds in steps:
            granted += _try_step(billing, kind, names, which, seconds, number)
            account = billing.accounts.account("studio")
            assert account.balance is not None
            assert account.balance >= 0
            assert account.balance + account.reserved + account.charged == granted
            assert billing.ledger_sum() == account.balance
            for name, charge in charged_before.items():
                assert billing.job(name).credits == charge, "a charge is final"
            charged_before = {
                n: billing.job(n).credits for n in names if billing.job(n).billing_status is Billing.CHARGED
            }
        database.close()


def _try_step(
    billing: BillingHarness, kind: str, names: list[str], which: int, seconds: float, number: Iterator[int]
) -> int:
    """Do the step if it is allowed; return the hundredths of a credit it granted."""
    name = names[which % len(names)] if names else ""
    try:
        if kind == "grant":
            billing.grant(int(seconds))
            return int(seconds)
        if kind.startswith("create"):
            new_name = f"job_{next(number)}"
            billing.create(new_name, seconds=None if kind == "create_unknown" else seconds)
            names.append(new_name)
        elif name and kind == "restart":
            billing.restart(name, seconds=seconds)
        elif name and kind == "begin":
            billing.begin(name)
        elif name and kind == "measure":
            attempt = billing.job(name).attempt
            billing.jobs.reserve_credits(name, attempt=attempt, seconds=None if which == 3 else seconds, most=30)
        elif name and kind == "complete":
            billing.complete(name, seconds=seconds)
        elif name:
            billing.fail(name)
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
