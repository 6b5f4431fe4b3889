"""Where outputs are sent: what is accepted, what is shown of it, and how long it is kept."""

import json
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from alphareel.db.tables import jobs as job_rows
from alphareel.db.tables import webhooks
from alphareel.domain.errors import InvalidRequest
from alphareel.service.jobs.models import Job, Status
from alphareel.service.jobs.output_targets import OutputTarget, erased_targets, parse_targets, targets_to_json
from alphareel.service.principal import Principal
from alphareel.testing.fakes import ServiceHarness

URL = "https://bucket.example.com/a/b.webm?X-Amz-Signature=5ec4e7&X-Amz-Expires=60"
TARGET = {"url": URL, "headers": {"x-amz-acl": "a-private-thing"}}


def create(harness: ServiceHarness, caller: Principal, **fields: Any) -> Job:
    return harness.services.jobs.create(caller, {"video_url": "https://example.com/a.mp4", **fields})


def stored_text(harness: ServiceHarness) -> str:
    with harness.database.read() as c:
        rows = [dict(row._mapping) for table in (job_rows, webhooks) for row in c.execute(sa.select(table))]
    return json.dumps(rows, default=str)


def test_a_target_of_a_job_with_one_output() -> None:
    assert parse_targets({"output_target": TARGET}, 1) == (OutputTarget(URL, {"x-amz-acl": "a-private-thing"}),)


def test_each_of_several_outputs_has_its_own() -> None:
    body = {"outputs": [{"format": "webm"}, {"format": "mov", "output_target": {"url": URL}}]}
    assert parse_targets(body, 2) == (None, OutputTarget(URL))
    assert parse_targets({"outputs": [{"format": "webm"}]}, 1) == ()


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("https://example.com", "output_target"),
        ({}, "output_target.url"),
        ({"url": 7}, "output_target.url"),
        ({"url": "ftp://example.com/a"}, "output_target.url"),
        ({"url": "s3://bucket/a"}, "output_target.url"),
        ({"url": "file:///etc/passwd"}, "output_target.url"),
        ({"url": "https:///a"}, "output_target.url"),
        ({"url": "https://user:word@example.com/a"}, "output_target.url"),
        ({"url": "https://example.com:99999/a"}, "output_target.url"),
        ({"url": "https://example.com/a b"}, "output_target.url"),
        ({"url": "https://example.com/\r\nX: 1"}, "output_target.url"),
        ({"url": "https://exämple.com/"}, "output_target.url"),
        ({"url": "https://example.com/" + "a" * 4096}, "output_target.url"),
        ({"url": URL, "headers": ["a"]}, "output_target.headers"),
        ({"url": URL, "headers": {f"x-{n}": "1" for n in range(21)}}, "output_target.headers"),
        ({"url": URL, "headers": {"a b": "1"}}, "output_target.headers"),
        ({"url": URL, "headers": {"x\n": "1"}}, "output_target.headers"),
        ({"url": URL, "headers": {"Transfer-Encoding": "chunked"}}, "output_target.headers.Transfer-Encoding"),
        ({"url": URL, "headers": {"host": "10.0.0.1"}}, "output_target.headers.host"),
        ({"url": URL, "headers": {"Content-Length": "0"}}, "output_target.headers.Content-Length"),
        ({"url": URL, "headers": {"Connection": "close"}}, "output_target.headers.Connection"),
        ({"url": URL, "headers": {"x-a": "1\r\nHost: b"}}, "output_target.headers.x-a"),
        ({"url": URL, "headers": {"x-a": "1\n"}}, "output_target.headers.x-a"),
        ({"url": URL, "headers": {"x-a": "é"}}, "output_target.headers.x-a"),
        ({"url": URL, "headers": {"x-a": 1}}, "output_target.headers.x-a"),
        ({"url": URL, "headers": {"x-a": "1" * 2049}}, "output_target.headers.x-a"),
        ({"url": URL, "headers": {"x-a": "1", "X-A": "2"}}, "output_target.headers.X-A"),
    ],
)
def test_what_cannot_be_sent_to_is_refused_and_not_quoted(target: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_targets({"output_target": target}, 1)
    assert [detail.field for detail in refused.value.details] == [field]
    assert "5ec4e7" not in str(refused.value)


def test_one_target_for_several_outputs_is_refused() -> None:
    body = {"outputs": [{"format": "webm"}, {"format": "mov"}], "output_target": TARGET}
    with pytest.raises(InvalidRequest, match="each of outputs"):
        parse_targets(body, 2)


def test_nothing_that_grants_access_is_shown_by_repr_or_left_by_erasing() -> None:
    target = OutputTarget(URL, {"authorization": "5ec4e7"})
    assert "5ec4e7" not in repr(target)
    assert erased_targets(targets_to_json((target, None))) == [
        {"url": "https://bucket.example.com/a/b.webm", "erased": True},
        None,
    ]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.1.2.3", "169.254.169.254", "[::1]", "192.168.0.1:9000"])
def test_a_private_host_is_refused_at_once(harness: ServiceHarness, caller: Principal, host: str) -> None:
    with pytest.raises(InvalidRequest, match="does not connect to"):
        create(harness, caller, output_target={"url": f"https://{host}/a?sig=1"})


def test_a_cancelled_job_keeps_no_secret(harness: ServiceHarness, caller: Principal) -> None:
    job = create(harness, caller, output_target=TARGET, webhook_url="https://example.com/hook")
    assert "5ec4e7" in stored_text(harness)
    harness.services.jobs.cancel(caller, job.id)
    assert "5ec4e7" not in stored_text(harness)
    assert "a-private-thing" not in stored_text(harness)
    cancelled = harness.services.jobs.get(caller, job.id)
    assert [target.address for target in cancelled.targets if target] == ["https://bucket.example.com/a/b.webm"]


def test_a_snapshot_for_a_webhook_has_no_secret(harness: ServiceHarness, caller: Principal) -> None:
    job = create(harness, caller, output_target=TARGET, webhook_url="https://example.com/hook")
    harness.jobs.begin_attempt(job.id, ticket=job.ticket, actor="w")
    with harness.database.read() as c:
        snapshots = [row.job for row in c.execute(sa.select(webhooks))]
    assert len(snapshots) == 1
    assert "5ec4e7" not in json.dumps(snapshots)


def test_a_draft_keeps_its_target_until_it_is_started(harness: ServiceHarness, caller: Principal) -> None:
    draft = create(harness, caller, output_target=TARGET, auto_start=False)
    started = harness.services.jobs.start(caller, draft.id, {})
    assert [target.url for target in started.targets if target] == [URL]


def test_a_failed_job_that_is_started_again_says_that_it_needs_a_new_target(
    harness: ServiceHarness, caller: Principal
) -> None:
    job = create(harness, caller, output_target=TARGET)
    harness.services.jobs.cancel(caller, job.id)
    again = harness.services.jobs.start(caller, job.id, {})
    assert again.status is Status.PENDING
    assert again.targets == ()
    assert any("output_target" in warning for warning in again.warnings)


def test_a_new_target_replaces_the_erased_one(harness: ServiceHarness, caller: Principal) -> None:
    job = create(harness, caller, output_target=TARGET)
    harness.services.jobs.cancel(caller, job.id)
    again = harness.services.jobs.start(caller, job.id, {"output_target": {"url": "https://example.org/new?sig=2"}})
    assert [target.url for target in again.targets if target] == ["https://example.org/new?sig=2"]
    assert again.warnings == ()


def test_a_job_that_is_deleted_leaves_no_address(harness: ServiceHarness, caller: Principal, tmp_path: Path) -> None:
    job = create(harness, caller, output_target=TARGET)
    harness.services.jobs.delete(caller, job.id)
    with harness.database.read() as c:
        row = c.execute(sa.select(job_rows).where(job_rows.c.id == job.id)).one()
    assert (row.targets, row.undelivered) == (None, None)
