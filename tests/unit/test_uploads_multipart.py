"""Multipart uploads: what is reserved and refused, what a crash leaves, and what is swept."""

import hashlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from alphareel.db.multipart_uploads import MultipartStore
from alphareel.db.orphans import OrphanStore
from alphareel.db.storage_quotas import StorageUsage
from alphareel.domain import errors
from alphareel.service.api_keys.admin import Operator
from alphareel.service.principal import Principal
from alphareel.service.uploads import multipart
from alphareel.service.uploads.models import Upload
from alphareel.service.uploads.multipart import (
    MultipartService,
    MultipartState,
    MultipartSweep,
    MultipartUpload,
    PartReceipt,
)
from alphareel.testing.fakes import TINY_MP4, ServiceHarness, open_harness

FILE = TINY_MP4 + bytes(100)
PART = 64


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "MIN_PART_BYTES", PART)
    monkeypatch.setattr(multipart, "MIB", 1)


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path, storage={"max_bytes_per_key": 1000}, multipart={"max_per_key": 3})
    harness.blobs.signs = True
    yield harness
    harness.close()


@pytest.fixture
def service(harness: ServiceHarness) -> MultipartService:
    return harness.services.multipart_uploads


def begin(harness: ServiceHarness, caller: Principal, data: bytes = FILE) -> MultipartUpload:
    made, _ = harness.services.multipart_uploads.create(caller, filename="../a.mp4", size=len(data))
    return made


def send(harness: ServiceHarness, made: MultipartUpload, data: bytes = FILE) -> list[PartReceipt]:
    receipts = []
    for number in range(1, made.count + 1):
        part = data[(number - 1) * PART :][:PART]
        harness.blobs.blobs[f"parts/{made.id}/{number}"] = part
        receipts.append(PartReceipt(number, f'"{hashlib.md5(part).hexdigest()}"'))
    return receipts


def complete(harness: ServiceHarness, caller: Principal, made: MultipartUpload, receipts: list[PartReceipt]) -> Upload:
    received = harness.services.multipart_uploads.begin_completion(caller, made.id, receipts)
    return received if isinstance(received, Upload) else received.finish()


def used(harness: ServiceHarness, caller: Principal) -> int:
    return StorageUsage(harness.database).stored(caller.key_id).total


def sweep(harness: ServiceHarness) -> None:
    store = MultipartStore(harness.database, clock=harness.clock, storage=StorageUsage(harness.database))
    MultipartSweep(store, harness.blobs).sweep()
    harness.services.jobs._deletion.delete_pending()


def parts(harness: ServiceHarness) -> list[str]:
    return [blob for blob in harness.blobs.blobs if blob.startswith("parts/")]


def test_a_file_in_parts_becomes_an_upload(harness: ServiceHarness, caller: Principal) -> None:
    made, targets = harness.services.multipart_uploads.create(caller, filename="../a.mp4", size=len(FILE))
    assert [target.bytes for target in targets] == [64, 64, len(FILE) - 128]
    assert all(f"parts/{made.id}/{target.number}" in target.url for target in targets)
    upload = complete(harness, caller, made, send(harness, made))
    assert (upload.filename, upload.size, upload.kind) == ("a.mp4", len(FILE), "video")
    assert upload.sha256 == hashlib.sha256(FILE).hexdigest()
    assert harness.blobs.blobs[upload.blob] == FILE
    harness.services.jobs._deletion.delete_pending()
    assert parts(harness) == []


def test_completing_again_returns_the_same_upload(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    receipts = send(harness, made)
    first = complete(harness, caller, made, receipts)
    assert complete(harness, caller, made, receipts) == first
    assert used(harness, caller) == len(FILE)


def test_bytes_are_reserved_until_they_are_an_upload(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    assert used(harness, caller) == len(FILE)
    with pytest.raises(errors.StorageQuotaExceeded):
        harness.services.multipart_uploads.create(caller, filename="b", size=1000 - len(FILE) + 1)
    complete(harness, caller, made, send(harness, made))
    assert used(harness, caller) == len(FILE)


def test_a_file_as_large_as_the_quota_fits(harness: ServiceHarness, caller: Principal) -> None:
    data = TINY_MP4 + bytes(1000 - len(TINY_MP4))
    made = begin(harness, caller, data)
    assert complete(harness, caller, made, send(harness, made, data)).size == 1000


def test_the_same_file_again_shares_its_blob(harness: ServiceHarness, caller: Principal) -> None:
    first = begin(harness, caller)
    one = complete(harness, caller, first, send(harness, first))
    second = begin(harness, caller)
    two = complete(harness, caller, second, send(harness, second))
    assert (one.blob, one.id == two.id) == (two.blob, False)
    assert used(harness, caller) == len(FILE)


def test_a_disk_takes_no_parts(harness: ServiceHarness, caller: Principal) -> None:
    harness.blobs.signs = False
    with pytest.raises(errors.MultipartUnavailable, match="POST /v1/uploads"):
        begin(harness, caller)
    assert used(harness, caller) == 0


def test_what_is_too_large_is_refused_before_anything_is_sent(harness: ServiceHarness, caller: Principal) -> None:
    with pytest.raises(errors.FileTooLarge):
        harness.services.multipart_uploads.create(caller, filename="b", size=1_000_001)


def test_a_key_has_a_bounded_number_of_them(harness: ServiceHarness, caller: Principal) -> None:
    made = [begin(harness, caller) for _ in range(3)]
    with pytest.raises(errors.TooManyUploads):
        begin(harness, caller)
    harness.services.multipart_uploads.abort(caller, made[0].id)
    begin(harness, caller)


@pytest.mark.parametrize("numbers", [[], [1, 2], [1, 2, 3, 4], [1, 1, 2], [0, 1, 2]])
def test_each_part_must_be_named_once(harness: ServiceHarness, caller: Principal, numbers: list[int]) -> None:
    made = begin(harness, caller)
    send(harness, made)
    with pytest.raises(errors.InvalidRequest, match="each of the 3 parts"):
        complete(harness, caller, made, [PartReceipt(number, "x") for number in numbers])


def test_a_part_that_is_missing_or_differs_is_named_and_can_be_sent_again(
    harness: ServiceHarness, caller: Principal
) -> None:
    made = begin(harness, caller)
    receipts = send(harness, made)
    good = dict(harness.blobs.blobs)
    del harness.blobs.blobs[f"parts/{made.id}/1"]
    harness.blobs.blobs[f"parts/{made.id}/2"] = b"short"
    harness.blobs.blobs[f"parts/{made.id}/3"] = b"x" * made.size_of(3)
    with pytest.raises(errors.InvalidRequest) as refused:
        complete(harness, caller, made, receipts)
    assert [detail.field for detail in refused.value.details] == ["parts.0", "parts.1", "parts.2.etag"]
    harness.blobs.blobs.update(good)
    assert complete(harness, caller, made, receipts).size == len(FILE)


def test_the_urls_of_missing_parts_can_be_had_again(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    send(harness, made)
    del harness.blobs.blobs[f"parts/{made.id}/2"]
    _, missing = harness.services.multipart_uploads.get(caller, made.id)
    assert [target.number for target in missing] == [2]


def test_a_file_that_is_no_video_is_refused_and_can_be_sent_again(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    bad = send(harness, made, b"x" * len(FILE))
    received = harness.services.multipart_uploads.begin_completion(caller, made.id, bad)
    assert not isinstance(received, Upload)
    with pytest.raises(errors.InvalidFileType):
        received.finish()
    assert not received.path.exists()
    harness.services.multipart_uploads.reopen(made.id)
    assert complete(harness, caller, made, send(harness, made)).kind == "video"


def test_two_completions_at_once_make_one_upload(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    receipts = send(harness, made)
    received = harness.services.multipart_uploads.begin_completion(caller, made.id, receipts)
    assert not isinstance(received, Upload)
    with pytest.raises(errors.UploadLocked, match="being completed"):
        complete(harness, caller, made, receipts)
    with pytest.raises(errors.UploadLocked):
        harness.services.multipart_uploads.abort(caller, made.id)
    received.finish()


def test_a_completion_that_died_is_repeated_and_the_dead_cannot_make_a_second_upload(
    harness: ServiceHarness, caller: Principal
) -> None:
    made = begin(harness, caller)
    receipts = send(harness, made)
    dead = harness.services.multipart_uploads.begin_completion(caller, made.id, receipts)
    assert not isinstance(dead, Upload)
    harness.clock.advance(minutes=21)
    upload = complete(harness, caller, made, receipts)
    with pytest.raises(errors.StorageFailed, match="meanwhile"):
        dead.finish()
    assert used(harness, caller) == len(FILE)
    assert harness.uploads.upload(upload.id) == upload


def test_a_part_that_shrinks_while_it_is_read_makes_no_upload(
    harness: ServiceHarness, caller: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = begin(harness, caller)
    receipts = send(harness, made)
    monkeypatch.setattr(harness.blobs, "read", lambda *_: iter([b"short"]))
    with pytest.raises(errors.StorageFailed, match="changed"):
        complete(harness, caller, made, receipts)
    found = harness.services.multipart_uploads.store.find(made.id)
    assert found is not None
    assert found.state is MultipartState.OPEN


def test_aborting_deletes_the_parts_and_frees_the_bytes(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    send(harness, made)
    for _ in range(2):
        harness.services.multipart_uploads.abort(caller, made.id)
    harness.services.jobs._deletion.delete_pending()
    assert (parts(harness), used(harness, caller)) == ([], 0)
    with pytest.raises(errors.InvalidState, match="aborted"):
        complete(harness, caller, made, [PartReceipt(n, "x") for n in (1, 2, 3)])


def test_what_was_completed_cannot_be_aborted(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    complete(harness, caller, made, send(harness, made))
    with pytest.raises(errors.InvalidState, match="is complete"):
        harness.services.multipart_uploads.abort(caller, made.id)


def test_another_key_finds_nothing(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    other = Principal(harness.services.admin.create_key(Operator("tests", "req_0"), client_id="b").key, "req_2")
    with pytest.raises(errors.NotFound):
        complete(harness, other, made, [])
    with pytest.raises(errors.NotFound):
        harness.services.multipart_uploads.abort(other, made.id)


def test_what_expires_is_swept_with_late_parts(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    send(harness, made)
    harness.clock.advance(hours=6)
    with pytest.raises(errors.NotFound):
        complete(harness, caller, made, [])
    sweep(harness)
    assert len(parts(harness)) == 3, "a part that was begun before the expiry may still arrive"
    harness.clock.advance(hours=1)
    sweep(harness)
    assert (parts(harness), used(harness, caller)) == ([], 0)


def test_what_arrives_after_the_end_is_swept(harness: ServiceHarness, caller: Principal) -> None:
    aborted = begin(harness, caller)
    harness.services.multipart_uploads.abort(caller, aborted.id)
    completed = begin(harness, caller)
    complete(harness, caller, completed, send(harness, completed))
    sweep(harness)
    for made in (aborted, completed):
        send(harness, made)
    assert parts(harness)
    sweep(harness)
    assert not parts(harness)


def test_a_key_cannot_begin_without_end(harness: ServiceHarness, caller: Principal) -> None:
    def begin_and_abort() -> None:
        harness.services.multipart_uploads.abort(caller, begin(harness, caller).id)

    most = harness.services.multipart_uploads.settings.max_per_key
    for _ in range(10 * most):
        begin_and_abort()
    with pytest.raises(errors.TooManyUploads):
        begin_and_abort()
    harness.clock.advance(days=1)
    begin_and_abort()


def test_who_sends_more_than_was_declared_is_aborted(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    harness.blobs.blobs[f"parts/{made.id}/1"] = bytes(len(FILE) + 1)
    sweep(harness)
    assert (parts(harness), used(harness, caller)) == ([], 0)


def test_parts_without_a_record_are_orphans(harness: ServiceHarness, caller: Principal) -> None:
    made = begin(harness, caller)
    blobs = [f"parts/{made.id}/1", "parts/of-nobody/1"]
    at = harness.clock.now() + timedelta(days=1)
    assert OrphanStore(harness.database).schedule_orphans(blobs, at=at) == 1
