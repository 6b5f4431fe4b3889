"""Several jobs in one request are created all or none."""

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain import errors
from alphareel.service.api_keys.admin import Operator
from alphareel.service.jobs.queue_limits import QueueLimits
from alphareel.service.principal import Principal
from alphareel.testing.fakes import ServiceHarness, open_harness

OPERATOR = Operator("tests", "req_0")
URL = "https://example.com/a.mp4"


def test_items_take_the_fields_of_the_batch(harness: ServiceHarness, caller: Principal) -> None:
    body = {"model": "light", "items": [{"video_url": URL}, {"video_url": URL + "?2", "model": "human"}]}
    batch = harness.services.batches.create(caller, body)
    assert [(job.options.model, job.video_url) for job in batch.jobs] == [("light", URL), ("human", URL + "?2")]
    again = harness.services.batches.get(caller, batch.id)
    assert [job.id for job in again.jobs] == [job.id for job in batch.jobs]
    assert harness.services.jobs.list(caller, limit=9, offset=0, status=None).total == 2
    stranger = Principal(harness.services.admin.create_key(OPERATOR, client_id="other").key, "req_2")
    with pytest.raises(errors.NotFound):
        harness.services.batches.get(stranger, batch.id)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "items"),
        ({"items": []}, "items"),
        ({"video_urls": [URL] * 101}, "video_urls"),
        ({"items": [{"video_url": URL}, "x"]}, "items.1"),
        ({"items": [{"video_url": URL}, {"model": "light"}]}, "items.1.video_url"),
        ({"video_urls": [URL, "ftp://a/b"]}, "items.1.video_url"),
        ({"video_urls": [URL], "auto_start": False}, "items.0.auto_start"),
        ({"items": [{"video_url": URL}, {"video_url": URL, "auto_start": False}]}, "items.1.auto_start"),
    ],
)
def test_a_bad_item_is_named_and_no_job_exists(
    harness: ServiceHarness, caller: Principal, body: dict[str, Any], field: str
) -> None:
    with pytest.raises(errors.InvalidRequest) as caught:
        harness.services.batches.create(caller, body)
    assert [detail.field for detail in caught.value.details] == [field]
    assert harness.services.jobs.list(caller, limit=9, offset=0, status=None).total == 0


@pytest.mark.parametrize("limits", [QueueLimits(queued=2), QueueLimits(queued=9, queued_in_all=2)])
def test_a_batch_that_never_fits_into_the_queue_names_the_limit(tmp_path: Path, limits: QueueLimits) -> None:
    with closing(open_harness(tmp_path, queue_limits=limits)) as harness:
        caller = Principal(harness.services.admin.create_key(OPERATOR, client_id="acme").key, "req_1")
        for body, field in (({"video_urls": [URL] * 3}, "video_urls"), ({"items": [{"video_url": URL}] * 3}, "items")):
            with pytest.raises(errors.InvalidRequest, match="at most 2 ") as caught:
                harness.services.batches.create(caller, body)
            assert [detail.field for detail in caught.value.details] == [field]
        harness.services.batches.create(caller, {"video_urls": [URL] * 3, "test": "success"})
        harness.services.batches.create(caller, {"video_urls": [URL] * 2})
        with pytest.raises((errors.TooManyJobs, errors.QueueFull)):
            harness.services.batches.create(caller, {"video_urls": [URL]})


def test_the_size_of_a_batch_is_limited_by_the_key(harness: ServiceHarness, caller: Principal) -> None:
    assert caller.key is not None
    harness.services.admin.set_limits(OPERATOR, caller.key.fingerprint, {"max_queued_jobs": 1})
    with pytest.raises(errors.InvalidRequest, match="at most 1 "):
        harness.services.batches.create(caller, {"video_urls": [URL] * 2})


def test_a_batch_that_is_too_expensive_reserves_nothing(harness: ServiceHarness, caller: Principal) -> None:
    harness.services.admin.set_balance(OPERATOR, client_id="acme", balance=0)
    with pytest.raises(errors.InsufficientCredits):
        harness.services.batches.create(caller, {"video_urls": [URL, URL]})
    assert harness.services.jobs.list(caller, limit=9, offset=0, status=None).total == 0


def test_a_restarted_job_keeps_its_place_and_its_options(harness: ServiceHarness, caller: Principal) -> None:
    urls = [f"https://example.com/{name}.mp4" for name in "abc"]
    batch = harness.services.batches.create(caller, {"video_urls": urls, "layers": True})
    assert all(job.layers for job in batch.jobs)
    last = batch.jobs[2]
    harness.services.jobs.cancel(caller, last.id)
    assert harness.services.jobs.start(caller, last.id, {}).layers
    assert [job.id for job in harness.jobs.of_batch(batch.id)] == [job.id for job in batch.jobs]
