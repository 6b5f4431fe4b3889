"""Resumable uploads in the service: what is kept when processes die, disks fill and requests meet."""

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from alphareel.db.deletion import DeletionStore
from alphareel.db.orphans import OrphanStore
from alphareel.db.tables import pending_deletions, tus_parts
from alphareel.db.tus import TusStore
from alphareel.domain import errors
from alphareel.service.api_keys.models import ApiKey
from alphareel.service.api_keys.service import digest
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.principal import Principal
from alphareel.service.tus import service
from alphareel.service.tus.models import TusUpload
from alphareel.service.tus.protocol import parse_checksum, parse_metadata
from alphareel.service.tus.service import TusWriter
from alphareel.service.uploads.models import Upload
from alphareel.testing.fakes import TINY_MP4, ServiceHarness, open_harness

FILE = TINY_MP4 + bytes(range(256)) * 8


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path, tus={"part_bytes": 1000, "max_parts": 10})
    yield harness
    harness.close()


@pytest.fixture
def owner(harness: ServiceHarness) -> Principal:
    key: ApiKey = harness.keystore.add_key(
        key_id="k1", secret_sha256=digest("secret"), fingerprint="fp", client_id="c", note=""
    )
    return Principal(key, "req_1")


@pytest.fixture
def tus_store(harness: ServiceHarness) -> TusStore:
    return TusStore(harness.database, clock=harness.clock)


def create(harness: ServiceHarness, owner: Principal, length: int = len(FILE)) -> TusUpload:
    return harness.services.tus.create(owner, length=length, metadata="filename YS5tcDQ=")


def begin(harness: ServiceHarness, owner: Principal, tus: TusUpload, offset: int = 0) -> TusWriter:
    writer = harness.services.tus.append(owner, tus.id, offset=offset, size=None, checksum=None)
    assert writer is not None
    return writer


def append(harness: ServiceHarness, owner: Principal, tus: TusUpload, start: int, stop: int) -> None:
    writer = begin(harness, owner, tus, start)
    writer.write(FILE[start:stop])
    writer.end_body()
    writer.close()


def kill(writer: TusWriter) -> None:
    """What the kernel does for a killed process: nothing but closing its files."""
    assert writer._file is not None
    writer._file.close()


def complete(harness: ServiceHarness, owner: Principal, tus: TusUpload, start: int) -> Upload:
    writer = begin(harness, owner, tus, start)
    try:
        writer.write(FILE[start:])
        writer.end_body()
        probe = writer.start_probe()
        if probe is not None:
            probe.exception()
        return writer.finish()
    finally:
        writer.close()


def offset(harness: ServiceHarness, owner: Principal, tus: TusUpload) -> int:
    return harness.services.tus.get(owner, tus.id).offset


def parts(harness: ServiceHarness) -> list[str]:
    return [key for key in harness.blobs.blobs if key.startswith("parts/")]


def left_behind(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "incoming").glob("*"))


def test_parts_are_stored_while_a_body_arrives(harness: ServiceHarness, owner: Principal, tmp_path: Path) -> None:
    tus = create(harness, owner)
    writer = begin(harness, owner, tus)
    for start in range(0, 1500, 100):
        writer.write(FILE[start : start + 100])
    assert offset(harness, owner, tus) == 1000
    kill(writer)
    harness.clock.advance(seconds=7)
    assert complete(harness, owner, tus, 1000).size == len(FILE)
    assert [harness.blobs.blobs[key] for key in harness.blobs.blobs] == [FILE]
    assert len(left_behind(tmp_path)) == 1, "of the killed one; the next start sweeps it"


def test_a_killed_request_holds_its_lock_for_six_seconds_only(harness: ServiceHarness, owner: Principal) -> None:
    tus = create(harness, owner)
    killed = begin(harness, owner, tus)
    killed.write(b"x")
    kill(killed)
    with pytest.raises(errors.UploadLocked) as refused:
        begin(harness, owner, tus)
    assert refused.value.retry_after == 6
    harness.clock.advance(seconds=5)
    with pytest.raises(errors.UploadLocked):
        begin(harness, owner, tus)
    harness.clock.advance(seconds=2)
    begin(harness, owner, tus)


def test_a_request_that_lost_its_lock_records_nothing(harness: ServiceHarness, owner: Principal) -> None:
    tus = create(harness, owner)
    stalled = begin(harness, owner, tus)
    stalled.write(bytes(500))
    harness.clock.advance(seconds=7)
    append(harness, owner, tus, 0, 300)
    with pytest.raises(errors.UploadLocked):
        stalled.cut_off()
    stalled.close()
    assert offset(harness, owner, tus) == 300
    complete(harness, owner, tus, 300)
    assert FILE in harness.blobs.blobs.values()


def test_a_request_that_receives_renews_its_lock_and_one_that_stalls_does_not(
    harness: ServiceHarness, owner: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("alphareel.service.tus.service.time.monotonic", lambda: now[0])
    tus = create(harness, owner)
    writer = begin(harness, owner, tus)
    for _ in range(5):
        now[0] += 4
        harness.clock.advance(seconds=4)
        writer.write(b"x")
        writer.renew()
    with pytest.raises(errors.UploadLocked):
        begin(harness, owner, tus)
    for _ in range(5):
        now[0] += 4
        harness.clock.advance(seconds=4)
        writer.renew()
    begin(harness, owner, tus)
    kill(writer)


@pytest.mark.parametrize("failing", ["put_file", "add_upload"])
def test_a_failure_at_the_end_leaves_the_offset_and_can_be_repeated(
    failing: str, harness: ServiceHarness, owner: Principal, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tus = create(harness, owner)
    append(harness, owner, tus, 0, 900)

    def away(*_: object, **__: object) -> None:
        raise errors.Unavailable("away")

    with monkeypatch.context() as broken:
        broken.setattr(harness.blobs if failing == "put_file" else harness.uploads, failing, away)
        with pytest.raises(errors.Unavailable):
            complete(harness, owner, tus, 900)
    assert offset(harness, owner, tus) == 900
    assert left_behind(tmp_path) == []
    upload = complete(harness, owner, tus, 900)
    assert harness.uploads.upload(upload.id) == upload
    assert harness.services.tus.get(owner, tus.id).result == upload


def test_two_requests_that_finish_the_same_file_make_one_upload(harness: ServiceHarness, owner: Principal) -> None:
    tus = create(harness, owner)
    stalled = begin(harness, owner, tus)
    stalled.write(FILE)
    stalled.end_body()
    probe = stalled.start_probe()
    assert probe is not None
    probe.exception()
    harness.clock.advance(seconds=7)
    upload = complete(harness, owner, tus, 0)
    with pytest.raises(errors.UploadLocked):
        stalled.finish()
    stalled.close()
    assert list(harness.blobs.blobs) == [upload.blob]
    assert harness.blobs.blobs[upload.blob] == FILE


def test_an_upload_that_is_deleted_meanwhile_ends_its_requests(harness: ServiceHarness, owner: Principal) -> None:
    tus = create(harness, owner)
    writer = begin(harness, owner, tus)
    writer.write(FILE[:500])
    harness.services.tus.terminate(owner, tus.id)
    with pytest.raises(errors.NotFound):
        writer.cut_off()
    writer.close()
    other = create(harness, owner)
    last = begin(harness, owner, other)
    last.write(FILE)
    harness.services.tus.terminate(owner, other.id)
    last.start_probe()
    with pytest.raises(errors.NotFound):
        last.finish()
    last.close()
    assert not [key for key in harness.blobs.blobs if key.startswith("uploads/")]


def test_a_full_disk_or_quota_refuses_the_part_and_keeps_those_before(
    harness: ServiceHarness, owner: Principal
) -> None:
    tus = create(harness, owner)
    append(harness, owner, tus, 0, 100)
    harness.blobs.broken = True
    with pytest.raises(errors.StorageFailed):
        append(harness, owner, tus, 100, 200)
    harness.blobs.broken = False
    harness.clock.advance(seconds=7)  # of the test: it did not close its writer
    append(harness, owner, tus, 100, 300)
    assert offset(harness, owner, tus) == 300


def test_a_part_that_is_lost_refuses_the_file(harness: ServiceHarness, owner: Principal) -> None:
    tus = create(harness, owner)
    append(harness, owner, tus, 0, 100)
    harness.blobs.blobs.clear()
    with pytest.raises(errors.InvalidRequest, match="lost"):
        complete(harness, owner, tus, 100)
    with pytest.raises(errors.InvalidRequest, match="lost"):
        begin(harness, owner, tus, 100)


def test_an_upload_in_too_many_parts_is_refused(harness: ServiceHarness, owner: Principal) -> None:
    tus = create(harness, owner)
    for start in range(10):
        append(harness, owner, tus, start, start + 1)
    with pytest.raises(errors.InvalidRequest, match="more than 10 parts"):
        append(harness, owner, tus, 10, 11)


def test_an_unfinished_upload_expires_after_its_last_part_and_leaves_nothing(
    harness: ServiceHarness, owner: Principal, tus_store: TusStore
) -> None:
    tus = create(harness, owner)
    harness.clock.advance(hours=23)
    append(harness, owner, tus, 0, 100)
    harness.clock.advance(hours=23)
    assert tus_store.expire(limit=10) == 0
    harness.clock.advance(hours=2)
    with pytest.raises(errors.NotFound):
        harness.services.tus.get(owner, tus.id)
    with pytest.raises(errors.NotFound):
        begin(harness, owner, tus, 100)
    assert tus_store.expire(limit=10) == 1
    DeletionService(harness.jobs, DeletionStore(harness.database, clock=harness.clock), harness.blobs).delete_pending()
    assert parts(harness) == []
    with harness.database.read() as c:
        assert c.execute(sa.select(tus_parts)).all() == []
        assert c.execute(sa.select(pending_deletions)).all() == []


def test_a_finished_upload_outlives_its_record(harness: ServiceHarness, owner: Principal, tus_store: TusStore) -> None:
    tus = create(harness, owner)
    upload = complete(harness, owner, tus, 0)
    harness.clock.advance(hours=25)
    assert tus_store.expire(limit=10) == 1
    assert harness.uploads.upload(upload.id) == upload


def test_a_part_without_a_record_is_an_orphan(harness: ServiceHarness, owner: Principal) -> None:
    tus = create(harness, owner)
    append(harness, owner, tus, 0, 100)
    harness.blobs.blobs["parts/gone/0.1"] = b"x"
    assert OrphanStore(harness.database).schedule_orphans(list(harness.blobs.blobs), at=harness.clock.now()) == 1
    DeletionService(harness.jobs, DeletionStore(harness.database, clock=harness.clock), harness.blobs).delete_pending()
    assert parts(harness) == [f"parts/{tus.id}/0.1"]


def test_a_full_probe_queue_is_said_in_a_way_that_clients_repeat(
    harness: ServiceHarness, owner: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise errors.TooManyUploads("As many as may wait.", retry_after=3)

    tus = create(harness, owner)
    with monkeypatch.context() as patched:
        patched.setattr(harness.services.uploads._probes, "submit", full)
        with pytest.raises(errors.QueueFull) as refused:
            complete(harness, owner, tus, 0)
    assert refused.value.retry_after == 3
    complete(harness, owner, tus, 0)


def test_metadata_is_decoded() -> None:
    name = base64.b64encode("ä/b.mp4".encode()).decode()
    assert parse_metadata(f"filename {name},empty, other Yg==") == {"filename": "ä/b.mp4", "empty": "", "other": "b"}
    assert parse_metadata(None) == parse_metadata(" ") == {}


@pytest.mark.parametrize("value", ["sha256 !", "sha256", "crc32 QQ==", "", "sha1 " + "QQ=="])
def test_a_checksum_that_cannot_be_is_refused(value: str) -> None:
    with pytest.raises(errors.InvalidRequest):
        parse_checksum(value)


def test_a_body_that_fills_the_disk_is_refused_before_it_is_full(
    harness: ServiceHarness, owner: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    tus = create(harness, owner)
    checksum = parse_checksum("sha256 " + base64.b64encode(bytes(32)).decode())
    writer = harness.services.tus.append(owner, tus.id, offset=0, size=None, checksum=checksum)
    assert writer is not None
    monkeypatch.setattr(service, "_CHECKED_BYTES", 100)
    writer.write(FILE[:200])
    monkeypatch.setattr(harness.services.uploads, "has_space", lambda _size=0: False)
    with pytest.raises(errors.StorageFull):
        writer.write(FILE[200:400])
    writer.close()
    assert harness.services.tus.get(owner, tus.id).offset == 0
