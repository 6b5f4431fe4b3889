"""Blobs without a row, as after a restored backup: deleted after a grace period, and nothing else."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from alphareel.db.deletion import DeletionStore
from alphareel.db.orphans import OrphanStore
from alphareel.domain.errors import InvalidRequest, InvalidState, StorageFull
from alphareel.service.files.orphans import OrphanSweep
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.principal import Principal
from alphareel.testing.fakes import TINY_MP4, ServiceHarness, open_harness

ANONYMOUS = Principal(None, "req")


@pytest.fixture
def harness(database_url: str, tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path, database_url=database_url)
    yield harness
    harness.close()


def upload(harness: ServiceHarness) -> str:
    session = harness.services.uploads.begin(ANONYMOUS, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    return session.finish().id


def test_only_blobs_without_a_row_are_deleted_and_only_after_a_day_of_grace(harness: ServiceHarness) -> None:
    upload(harness)
    job = harness.services.jobs.create(ANONYMOUS, {"video_url": "https://a.example/v.mp4"})
    known = {
        *harness.blobs.blobs,
        f"outputs/{job.id}/1/result.webm",
        f"chunks/{job.id}/mark/0.webm",
        f"fetched/{job.id}/1/source",
    }
    foreign = {"notes/of/the/operator.txt", "README"}
    orphans = {
        "uploads/gone.mp4",
        "outputs/job_gone/1/result.webm",
        "previews/job_gone/1/0.webp",
        "fetched/job_gone/1/source",
    }
    for key in known | foreign | orphans:
        harness.blobs.blobs[key] = b"bytes"
        harness.blobs.written[key] = harness.clock.now() - timedelta(days=2)
    harness.blobs.blobs["uploads/new.mp4"] = b"bytes"
    harness.blobs.written["uploads/new.mp4"] = harness.clock.now()
    sweep = OrphanSweep(OrphanStore(harness.database), harness.blobs, age=timedelta(days=1), clock=harness.clock)
    deletion = DeletionService(harness.jobs, DeletionStore(harness.database, clock=harness.clock), harness.blobs)
    for _ in range(2):
        sweep.sweep()
        deletion.delete_pending()
        assert orphans < set(harness.blobs.blobs)
        harness.clock.advance(hours=23)
        harness.blobs.written["uploads/new.mp4"] = harness.clock.now()
        harness.clock.advance(hours=-10)
    harness.clock.advance(hours=20)
    deletion.delete_pending()
    assert set(harness.blobs.blobs) == known | foreign | {"uploads/new.mp4"}


def test_an_upload_is_deleted_or_used_and_never_both(harness: ServiceHarness) -> None:
    for _ in range(10):
        upload_id = upload(harness)
        link = harness.services.files.signer.upload_link(harness.uploads.upload(upload_id)).url
        with ThreadPoolExecutor(2) as pool:
            created = pool.submit(harness.services.jobs.create, ANONYMOUS, {"video_url": link})
            deleted = pool.submit(harness.services.uploads.delete, ANONYMOUS, upload_id)
            outcomes = [created.exception(), deleted.exception()]
        assert [type(o) for o in outcomes] in ([InvalidRequest, type(None)], [type(None), InvalidState])
        if outcomes[0] is None:
            assert harness.uploads.upload(upload_id) is not None
            harness.services.jobs.delete(ANONYMOUS, created.result().id)


def test_an_upload_that_is_deleted_before_the_transaction_is_refused(harness: ServiceHarness) -> None:
    upload_id = upload(harness)
    upload_row = harness.uploads.upload(upload_id)
    assert upload_row is not None
    link = harness.services.files.signer.upload_link(upload_row).url
    harness.resolver.store.upload = lambda _: upload_row  # type: ignore[assignment]  # as read before the deletion
    DeletionStore(harness.database, clock=harness.clock).remove_upload(upload_id)
    with pytest.raises(InvalidRequest, match="deleted"):
        harness.services.jobs.create(ANONYMOUS, {"video_url": link})
    assert harness.jobs.jobs(None, statuses=None, limit=1, offset=0).total == 0


def test_uploads_keep_the_reserved_disk_space_free(database_url: str, tmp_path: Path) -> None:
    harness = open_harness(tmp_path, database_url=database_url, storage={"min_free_bytes": 1000})
    try:
        upload(harness)
        assert harness.services.health.check().space
        harness.blobs.left = 999
        with pytest.raises(StorageFull, match="almost full"):
            upload(harness)
        with pytest.raises(StorageFull):
            harness.services.uploads.check_quota(ANONYMOUS, 1)
        assert not harness.services.health.check().space
        harness.blobs.left = 5000
        with pytest.raises(StorageFull):
            harness.services.uploads.check_quota(ANONYMOUS, 4001)
        assert harness.services.health.check().space
    finally:
        harness.close()
