"""Files without a record, as after a restored backup: removed late, and nothing that somebody may still need."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from alphareel.db.deletion import DeletionStore
from alphareel.db.orphans import OrphanTable
from alphareel.domain.errors import InvalidRequest, InvalidState, StorageFull
from alphareel.service.files.orphans import OrphanSweep
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.use_cases import Principal
from alphareel.testing.fakes import TINY_MP4, Desk, open_desk

NOBODY = Principal(None, "req")


@pytest.fixture
def desk(url: str, tmp_path: Path) -> Iterator[Desk]:
    desk = open_desk(tmp_path, database_url=url)
    yield desk
    desk.close()


def upload(desk: Desk) -> str:
    session = desk.service.begin_upload(NOBODY, filename="a.mp4", declared_type=None)
    session.write(TINY_MP4)
    return session.finish().id


def test_only_files_that_nobody_knows_go_and_only_after_a_day_of_grace(desk: Desk) -> None:
    upload(desk)
    job = desk.service.create(NOBODY, {"video_url": "https://a.example/v.mp4"})
    known = {*desk.blobs.blobs, f"outputs/{job.id}/1/result.webm", f"chunks/{job.id}/mark/0.webm"}
    foreign = {"notes/of/the/operator.txt", "README"}
    orphans = {"uploads/gone.mp4", "outputs/job_gone/1/result.webm", "previews/job_gone/1/0.webp"}
    for key in known | foreign | orphans:
        desk.blobs.blobs[key] = b"bytes"
        desk.blobs.written[key] = desk.clock.now() - timedelta(days=2)
    desk.blobs.blobs["uploads/new.mp4"] = b"bytes"
    desk.blobs.written["uploads/new.mp4"] = desk.clock.now()
    sweep = OrphanSweep(OrphanTable(desk.database), desk.blobs, age=timedelta(days=1), clock=desk.clock)
    removal = DeletionService(desk.jobs, DeletionStore(desk.database, clock=desk.clock), desk.blobs)
    for _ in range(2):
        sweep.sweep()
        removal.empty()
        assert orphans < set(desk.blobs.blobs)
        desk.clock.advance(hours=23)
        desk.blobs.written["uploads/new.mp4"] = desk.clock.now()
        desk.clock.advance(hours=-10)
    desk.clock.advance(hours=20)
    removal.empty()
    assert set(desk.blobs.blobs) == known | foreign | {"uploads/new.mp4"}


def test_an_upload_is_deleted_or_used_and_never_both(desk: Desk) -> None:
    for _ in range(10):
        upload_id = upload(desk)
        link = desk.service.upload_link(desk.uploads.upload(upload_id)).url  # type: ignore[arg-type]
        with ThreadPoolExecutor(2) as pool:
            created = pool.submit(desk.service.create, NOBODY, {"video_url": link})
            deleted = pool.submit(desk.service.delete_upload, NOBODY, upload_id)
            outcomes = [created.exception(), deleted.exception()]
        assert [type(o) for o in outcomes] in ([InvalidRequest, type(None)], [type(None), InvalidState])
        if outcomes[0] is None:
            assert desk.uploads.upload(upload_id) is not None
            desk.service.delete(NOBODY, created.result().id)


def test_an_upload_that_is_gone_by_the_time_of_the_transaction_is_refused(desk: Desk) -> None:
    upload_id = upload(desk)
    found = desk.uploads.upload(upload_id)
    assert found is not None
    link = desk.service.upload_link(found).url
    desk.sources.store.upload = lambda _: found  # type: ignore[method-assign]  # what the look before saw
    desk.service._removal._removals.remove_upload(upload_id)
    with pytest.raises(InvalidRequest, match="deleted"):
        desk.service.create(NOBODY, {"video_url": link})
    assert desk.jobs.jobs(None, statuses=None, limit=1, offset=0).total == 0


def test_uploads_leave_the_disk_some_space(url: str, tmp_path: Path) -> None:
    desk = open_desk(tmp_path, database_url=url, min_free_bytes=1000)
    try:
        upload(desk)
        assert desk.service.health().space
        desk.blobs.left = 999
        with pytest.raises(StorageFull, match="almost full"):
            upload(desk)
        with pytest.raises(StorageFull):
            desk.service.check_quota_for(NOBODY, 1)
        assert not desk.service.health().space
        desk.blobs.left = 5000
        with pytest.raises(StorageFull):
            desk.service.check_quota_for(NOBODY, 4001)
        assert desk.service.health().space
    finally:
        desk.close()
