"""Records of resumable uploads, on both databases."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from alphareel.db.api_keys import ApiKeyStore
from alphareel.db.database import Database
from alphareel.db.storage_quotas import StorageUsage
from alphareel.db.tus import TusStore
from alphareel.db.uploads import UploadStore
from alphareel.domain.errors import AlphareelError, OffsetMismatch, StorageQuotaExceeded, TooManyUploads, UploadLocked
from alphareel.service.settings import StorageSettings
from alphareel.service.tus.models import TusPart, TusUpload
from alphareel.service.uploads.models import Upload
from alphareel.testing.fakes import SettableClock

AtOnce = Callable[[list[Callable[[], Any]]], list[Any]]


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
def store(database: Database, clock: SettableClock) -> TusStore:
    ApiKeyStore(database, clock=clock).add_key(
        key_id="k1", secret_sha256="0" * 64, fingerprint="fp", client_id="c", note=""
    )
    return TusStore(database, clock=clock, storage=StorageUsage(database, StorageSettings(max_bytes_per_key=1000)))


def new(clock: SettableClock, length: int = 300) -> TusUpload:
    return TusUpload(
        id=str(uuid.uuid4()),
        key_id="k1",
        filename="a.mp4",
        content_type="",
        metadata="",
        length=length,
        created_at=clock.now(),
        expires_at=clock.now().replace(hour=23),
    )


def add(store: TusStore, tus: TusUpload, size: int) -> TusUpload:
    part = TusPart(tus.offset, size, f"parts/{tus.id}/{tus.offset}.{tus.generation}")
    return store.add_part(tus, part, expires_at=tus.expires_at, seconds=6, most=100)


def upload(clock: SettableClock, size: int = 300) -> Upload:
    name = str(uuid.uuid4())
    blob = f"uploads/{name}.mp4"
    return Upload(name, "k1", "a.mp4", "video/mp4", "video", size, uuid.uuid4().hex * 2, blob, clock.now())


def test_what_is_recorded_is_read_again(store: TusStore, clock: SettableClock) -> None:
    tus = new(clock)
    store.create(tus, most=5)
    assert store.find(tus.id) == tus
    locked = store.lock(tus.id, offset=0, seconds=6)
    after = add(store, add(store, locked, 100), 50)
    assert (after.offset, after.parts, after.generation) == (150, 2, 1)
    assert [(part.start, part.size) for part in store.parts(tus.id)] == [(0, 100), (100, 50)]


def test_of_many_requests_at_once_one_gets_the_lock(store: TusStore, clock: SettableClock, at_once: AtOnce) -> None:
    tus = new(clock)
    store.create(tus, most=5)
    results = at_once([lambda: store.lock(tus.id, offset=0, seconds=6)] * 6)
    assert sum(isinstance(each, TusUpload) for each in results) == 1
    assert sum(isinstance(each, UploadLocked) for each in results) == 5


def test_no_more_uploads_than_allowed_are_created_at_once(
    store: TusStore, clock: SettableClock, at_once: AtOnce
) -> None:
    results = at_once([lambda: store.create(new(clock, 10), most=3)] * 8)
    assert results.count(None) == 3
    assert sum(isinstance(each, TooManyUploads) for each in results) == 5


def test_parts_of_several_uploads_never_exceed_the_quota_together(
    store: TusStore, clock: SettableClock, at_once: AtOnce
) -> None:
    every = [new(clock, 900) for _ in range(4)]
    for each in every:
        store.create(each, most=5)
    locked = [store.lock(each.id, offset=0, seconds=6) for each in every]
    results = at_once([lambda each=each: add(store, each, 400) for each in locked])  # type: ignore[misc]
    assert sum(isinstance(each, TusUpload) for each in results) == 2
    assert sum(isinstance(each, StorageQuotaExceeded) for each in results) == 2


def test_a_file_is_finished_once_and_frees_its_parts(
    store: TusStore, database: Database, clock: SettableClock, at_once: AtOnce
) -> None:
    uploads = UploadStore(
        database, clock=clock, storage=StorageUsage(database, StorageSettings(max_bytes_per_key=1000))
    )
    tus = new(clock, 900)  # with its parts it fits only because these are freed in the same transaction
    store.create(tus, most=5)
    locked = add(store, store.lock(tus.id, offset=0, seconds=6), 850)
    every = [upload(clock, 900) for _ in range(4)]
    for each in every:
        uploads.expect_blob(each.blob)
    results = at_once([lambda each=each: uploads.add_upload(each, tus=locked) for each in every])  # type: ignore[misc]
    made = [each for each in results if isinstance(each, Upload)]
    assert len(made) == 1
    assert all(isinstance(each, UploadLocked) for each in results if not isinstance(each, Upload))
    found = store.find(tus.id)
    assert found is not None
    assert (found.upload_id, found.offset) == (made[0].id, 900)
    assert list(store.parts(tus.id)) == []
    with pytest.raises(OffsetMismatch):
        store.lock(tus.id, offset=850, seconds=6)


def test_a_part_and_a_deletion_at_once_leave_no_record(store: TusStore, clock: SettableClock, at_once: AtOnce) -> None:
    for _ in range(5):
        tus = new(clock)
        store.create(tus, most=50)
        locked = store.lock(tus.id, offset=0, seconds=6)
        results = at_once([lambda: add(store, locked, 10), lambda: store.remove(tus.id)])  # noqa: B023
        assert not any(isinstance(each, Exception) and not isinstance(each, AlphareelError) for each in results)
        assert store.find(tus.id) is None
        assert list(store.parts(tus.id)) == []


def test_a_lock_does_not_last_longer_because_the_clock_was_set_back(store: TusStore, clock: SettableClock) -> None:
    """Its holder died; one that lives is fenced by the generation."""
    tus = new(clock)
    store.create(tus, most=9)
    held = store.lock(tus.id, offset=0, seconds=6)
    with pytest.raises(UploadLocked):
        store.lock(tus.id, offset=0, seconds=6)
    clock.advance(seconds=-3600)
    taken = store.lock(tus.id, offset=0, seconds=6)
    assert taken.generation == held.generation + 1
    with pytest.raises(UploadLocked):
        add(store, held, 100)
