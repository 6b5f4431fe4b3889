"""Sending outputs to their targets: nothing is completed before, nothing is lost, and no secret stays."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from alphareel.db.billing import AccountStore
from alphareel.db.tables import jobs as job_rows
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import FetchFailed, FetchRefused, StorageFailed, Unavailable
from alphareel.service.api_keys.models import AuditContext
from alphareel.service.jobs.attempts import AttemptCompleted, AttemptDropped
from alphareel.service.jobs.models import Billing, Job, Output, Status, Step
from alphareel.service.net.put import ReceiverTooSlow
from alphareel.service.principal import Principal
from alphareel.service.worker.runner import Worker
from alphareel.testing.fakes import CannedFetcher, ServiceHarness, make_settings, run_queued_steps

URL = "https://bucket.example.com/a.webm?sig=5ec4e7"
ADDRESS = "https://bucket.example.com/a.webm"


class CannedSender:
    """Answers in the order given, the last answer for ever; keeps what it got."""

    def __init__(self, *answers: int | BaseException) -> None:
        self.answers = list(answers) or [200]
        self.got: list[tuple[str, dict[str, str], bytes]] = []

    def send(self, url, headers, pieces, *, size, seconds, tick=lambda: None):
        tick()
        body = b"".join(pieces)
        assert len(body) == size
        self.got.append((url, dict(headers), body))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        return answer


class HangingSender:
    def __init__(self) -> None:
        self.began = threading.Event()

    def send(self, url, headers, pieces, *, size, seconds, tick=lambda: None):
        self.began.set()
        while True:
            tick()
            time.sleep(0.02)


def make_worker(
    harness: ServiceHarness,
    folder: Path,
    sender: Any,
    *,
    on_completed: Callable[[Job], None] = lambda _: None,
    **delivery: Any,
) -> Worker:
    settings = make_settings(storage={"data_dir": folder}, delivery={"retry_seconds": 0.01, **delivery})
    worker = Worker(
        "w",
        jobs=harness.jobs,
        blobs=harness.blobs,
        uploads=harness.resolver,
        fetcher=CannedFetcher({}),
        settings=settings,
        sender=sender,
        on_completed=on_completed,
    )
    worker.drain()
    return worker


@pytest.fixture
def made(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> Job:
    """A job whose only output is in the store and waits for its delivery."""
    job = create(harness, caller, output_target={"url": URL, "headers": {"x-a": "1"}})
    return make(harness, job, tmp_path)


def create(harness: ServiceHarness, caller: Principal, **fields: Any) -> Job:
    return harness.services.jobs.create(caller, {"video_url": "https://example.com/a.mp4", **fields})


def result(harness: ServiceHarness, job: Job, folder: Path) -> AttemptCompleted:
    """What an attempt hands over, with its files in the store."""
    begun = harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="w")
    assert begun is not None
    outputs = []
    for options in job.requested:
        name = options.output_format
        blob = f"outputs/{job.id}/{begun.attempt}/{name}"
        (folder / "made").write_bytes(f"made {name}".encode())
        harness.blobs.put_file(blob, folder / "made")
        size = len(f"made {name}")
        outputs.append(Output(blob, name, f"video/{name}", size, "ab" * 32, 64, 48, 10, 0.4, True, False))
    return AttemptCompleted(
        begun.attempt, outputs[0], EngineFacts("builtin", "1", None, "Apache-2.0"), (), tuple(outputs[1:])
    )


def make(harness: ServiceHarness, job: Job, folder: Path) -> Job:
    done = result(harness, job, folder)
    make_worker(harness, folder, CannedSender()).settle(job.id, job.ticket, done)
    return now(harness, job)


def now(harness: ServiceHarness, job: Job) -> Job:
    found = harness.jobs.job(job.id)
    assert found is not None
    return found


def delivery(job: Job, number: int = 0) -> dict[str, Any]:
    found = job.outputs[number].delivery
    assert found is not None
    return dict(found)


def row(harness: ServiceHarness, job: Job) -> sa.Row[Any]:
    with harness.database.read() as c:
        return c.execute(sa.select(job_rows).where(job_rows.c.id == job.id)).one()


def test_a_job_with_a_target_is_not_completed_by_its_result(harness: ServiceHarness, made: Job) -> None:
    assert (made.status, made.output, made.tries) == (Status.PROCESSING, None, 0)
    assert made.progress == 100  # shown as 99.9: all that is left is to send it
    assert harness.engine.steps[(made.id, made.ticket)] is Step.DELIVER
    assert row(harness, made).stored_bytes == len("made webm")


def test_a_delivered_job_is_completed(harness: ServiceHarness, made: Job, tmp_path: Path) -> None:
    sender = CannedSender(200)
    make_worker(harness, tmp_path, sender).deliver(made.id, made.ticket)
    job = now(harness, made)
    assert sender.got == [(URL, {"Content-Type": "video/webm", "x-a": "1"}, b"made webm")]
    assert job.status is Status.COMPLETED
    assert delivery(job) == {
        "url": ADDRESS, "status": "delivered", "attempts": 1, "at": delivery(job)["at"], "status_code": 200,
        "error": None,
    }  # fmt: skip
    assert job.warnings == ()
    assert "5ec4e7" not in json.dumps([dict(row(harness, made)._mapping)], default=str)
    assert row(harness, made).undelivered is None


def test_the_content_type_may_be_the_clients(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    headers = {"content-type": "application/octet-stream"}
    job = make(harness, create(harness, caller, output_target={"url": URL, "headers": headers}), tmp_path)
    sender = CannedSender(200)
    make_worker(harness, tmp_path, sender).deliver(job.id, job.ticket)
    assert sender.got[0][1] == headers


@pytest.mark.parametrize("passing", [500, 503, 408, 429, FetchFailed("It broke."), StorageFailed("The disk broke.")])
def test_what_may_pass_is_tried_again(harness: ServiceHarness, made: Job, tmp_path: Path, passing: Any) -> None:
    sender = CannedSender(passing, passing, 200)
    make_worker(harness, tmp_path, sender).deliver(made.id, made.ticket)
    job = now(harness, made)
    assert (delivery(job)["status"], delivery(job)["attempts"]) == ("delivered", 3)


@pytest.mark.parametrize(
    ("answer", "status", "told"),
    [
        (403, 403, "status 403"),
        (307, 307, "status 307"),
        (FetchRefused("It is not public."), None, "not public"),
        (ReceiverTooSlow("It takes too long."), None, "too long"),
        (RuntimeError("5ec4e7"), None, "RuntimeError"),
    ],
)
def test_what_will_not_pass_is_not_tried_again_and_the_file_stays(
    harness: ServiceHarness, made: Job, tmp_path: Path, answer: Any, status: int | None, told: str
) -> None:
    sender = CannedSender(answer)
    make_worker(harness, tmp_path, sender).deliver(made.id, made.ticket)
    job = now(harness, made)
    assert len(sender.got) == 1
    assert job.status is Status.COMPLETED
    assert (delivery(job)["status"], delivery(job)["status_code"]) == ("failed", status)
    assert told in delivery(job)["error"]
    assert "5ec4e7" not in json.dumps([delivery(job), *job.warnings])
    assert job.warnings[0].startswith("webm: not delivered to bucket.example.com:")
    assert harness.services.files.signer.output_link(job) is not None
    assert job.output is not None
    assert job.output.blob in harness.blobs.blobs


def test_tries_are_bounded(harness: ServiceHarness, made: Job, tmp_path: Path) -> None:
    sender = CannedSender(500)
    make_worker(harness, tmp_path, sender, tries=4).deliver(made.id, made.ticket)
    assert (len(sender.got), delivery(now(harness, made))["attempts"]) == (4, 4)


def test_time_is_bounded(harness: ServiceHarness, made: Job, tmp_path: Path) -> None:
    sender = CannedSender(500)
    make_worker(harness, tmp_path, sender, seconds=0.5, retry_seconds=1).deliver(made.id, made.ticket)
    assert delivery(now(harness, made))["attempts"] == 1


def test_several_outputs_go_to_their_own_targets(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    outputs = [
        {"format": "webm", "output_target": {"url": "https://a.example.com/1?sig=5ec4e7"}},
        {"format": "gif"},
        {"format": "mov", "output_target": {"url": "https://b.example.com/3?sig=5ec4e7"}},
    ]
    job = make(harness, create(harness, caller, outputs=outputs), tmp_path)
    sender = CannedSender(403, 200)
    make_worker(harness, tmp_path, sender).deliver(job.id, job.ticket)
    job = now(harness, job)
    assert [body for _, _, body in sender.got] == [b"made webm", b"made mov"]
    assert [None if o.delivery is None else o.delivery["status"] for o in job.outputs] == ["failed", None, "delivered"]


def test_a_worker_that_dies_in_between_sends_what_was_not_sent(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    outputs = [{"format": name, "output_target": {"url": URL}} for name in ("webm", "mov")]
    job = make(harness, create(harness, caller, outputs=outputs), tmp_path)

    class Killed(BaseException):
        pass

    with pytest.raises(Killed):
        make_worker(harness, tmp_path, CannedSender(200, Killed())).deliver(job.id, job.ticket)
    assert now(harness, job).status is Status.PROCESSING
    sender = CannedSender(200)
    make_worker(harness, tmp_path, sender).deliver(job.id, job.ticket)
    assert [body for _, _, body in sender.got] == [b"made mov"]
    assert now(harness, job).status is Status.COMPLETED


def test_a_delivery_that_kills_its_workers_is_given_up(harness: ServiceHarness, made: Job, tmp_path: Path) -> None:
    for _ in range(6):
        harness.jobs.begin_delivery(made.id, ticket=made.ticket, actor="dead")
    sender = CannedSender(200)
    make_worker(harness, tmp_path, sender).deliver(made.id, made.ticket)
    assert sender.got == []
    assert "died 6 times" in delivery(now(harness, made))["error"]


def test_a_job_that_the_engine_lost_is_not_made_again(harness: ServiceHarness, made: Job, tmp_path: Path) -> None:
    assert made.id in {job.id for job in harness.jobs.unfinished()}
    harness.jobs.requeue(made.id, ticket=made.ticket, actor="r", reason="the engine lost it")
    job = now(harness, made)
    worker = make_worker(harness, tmp_path, sender := CannedSender(200))
    assert worker.execute(job.id, job.ticket) == AttemptDropped()
    run_queued_steps(harness, worker, job.id)
    assert len(sender.got) == 1
    assert (now(harness, job).status, now(harness, job).attempt) == (Status.COMPLETED, 1)


def test_settling_twice_deletes_nothing_and_sends_once(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    job = create(harness, caller, output_target={"url": URL})
    done = result(harness, job, tmp_path)
    worker = make_worker(harness, tmp_path, sender := CannedSender(200))
    for _ in range(2):
        worker.settle(job.id, job.ticket, done)
    worker.deliver(job.id, now(harness, job).ticket)
    worker.settle(job.id, job.ticket, done)
    assert len(sender.got) == 1
    assert done.output.blob in harness.blobs.blobs


def test_a_cancelled_delivery_ends_at_once_and_its_files_go(harness: ServiceHarness, made: Job, tmp_path: Path) -> None:
    sender = HangingSender()
    thread = threading.Thread(target=make_worker(harness, tmp_path, sender).deliver, args=(made.id, made.ticket))
    thread.start()
    assert sender.began.wait(100)
    harness.services.jobs.cancel(Principal(None, "req_1"), made.id)
    thread.join(timeout=100)
    assert not thread.is_alive()
    assert now(harness, made).error_code == "cancelled"
    assert row(harness, made).stored_bytes == 0
    harness.services.jobs._deletion.delete_pending()
    assert not [blob for blob in harness.blobs.blobs if blob.startswith("outputs/")]


def test_a_deleted_job_is_not_sent(harness: ServiceHarness, caller: Principal, made: Job, tmp_path: Path) -> None:
    harness.services.jobs.delete(caller, made.id)
    sender = CannedSender(200)
    make_worker(harness, tmp_path, sender).deliver(made.id, made.ticket)
    assert sender.got == []


def test_an_outage_of_the_database_is_left_to_the_engine(
    harness: ServiceHarness, made: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable(*_: object, **__: object) -> bool:
        raise Unavailable("It does not answer.")

    worker = make_worker(harness, tmp_path, CannedSender(200))
    with monkeypatch.context() as broken:
        broken.setattr(harness.jobs, "set_undelivered", unavailable)
        with pytest.raises(Unavailable):
            worker.deliver(made.id, made.ticket)
    worker.deliver(made.id, made.ticket)
    assert now(harness, made).status is Status.COMPLETED


def test_an_older_delivery_cannot_end_a_job_that_another_has(
    harness: ServiceHarness, made: Job, tmp_path: Path
) -> None:
    harness.jobs.requeue(made.id, ticket=made.ticket, actor="r", reason="stuck")
    sender = CannedSender(200)
    make_worker(harness, tmp_path, sender).deliver(made.id, made.ticket)
    assert sender.got == []
    assert now(harness, made).status is Status.PROCESSING


def test_a_client_who_cancels_while_the_receiver_has_the_body_pays(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    accounts = AccountStore(harness.database, clock=harness.clock)
    accounts.set_balance("acme", 100_000, act=AuditContext("admin", "req_1", "1.2.3.4"))
    job = create(harness, caller, output_target={"url": URL})
    done = result(harness, job, tmp_path)
    harness.jobs.reserve_credits(job.id, attempt=done.attempt, seconds=60.0, most=None)

    class Receiver(CannedSender):
        def send(self, *arguments, **options):
            super().send(*arguments, **options)
            harness.services.jobs.cancel(caller, job.id)
            return 200

    worker = make_worker(harness, tmp_path, Receiver())
    worker.settle(job.id, job.ticket, done)
    worker.deliver(job.id, now(harness, job).ticket)
    ended = now(harness, job)
    assert (ended.status, ended.billing_status) == (Status.FAILED, Billing.CHARGED)
    assert ended.credits > 0
    assert accounts.account("acme").balance == 100_000 - ended.credits


def test_layers_follow_a_job_whose_outputs_were_sent(
    harness: ServiceHarness, caller: Principal, tmp_path: Path
) -> None:
    job = create(harness, caller, output_target={"url": URL}, layers=True)
    followed: list[Status] = []
    worker = make_worker(harness, tmp_path, CannedSender(), on_completed=lambda each: followed.append(each.status))
    worker.settle(job.id, job.ticket, result(harness, job, tmp_path))
    assert followed == []
    ticket = now(harness, job).ticket
    for _ in range(2):  # the second time as after a crash
        worker.deliver(job.id, ticket)
    assert followed == [Status.COMPLETED] * 2


def test_a_database_that_is_away_costs_a_delivery_no_try(
    harness: ServiceHarness, made: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker(harness, tmp_path, CannedSender())
    with monkeypatch.context() as patch:
        patch.setattr(type(harness.jobs), "set_undelivered", raising_unavailable)
        for _ in range(10):
            with pytest.raises(Unavailable):
                worker.deliver(made.id, made.ticket)
    worker.deliver(made.id, made.ticket)
    assert delivery(now(harness, made))["status"] == "delivered"


def raising_unavailable(*_: object, **__: object) -> None:
    raise Unavailable("away")
