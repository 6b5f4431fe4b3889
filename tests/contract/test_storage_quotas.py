"""Stored bytes: exact quotas, one copy of the same content for each key, deletion with the last use."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alphareel.db.api_keys import ApiKeyAdminStore
from alphareel.db.deletion import DeletionStore
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import StorageFailed, StorageFull, StorageQuotaExceeded, Unavailable
from alphareel.service.api_keys.models import AuditContext
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.models import Job, Output, Status
from alphareel.service.principal import Principal
from alphareel.service.uploads import source_urls
from alphareel.service.uploads.models import Upload
from alphareel.testing.fakes import TINY_MP4, ServiceHarness, open_harness

SIZE = 100
ENGINE = EngineFacts("builtin", "1", "cd" * 32, "Apache-2.0")
OpenHarness = Callable[..., ServiceHarness]


@pytest.fixture
def open_with_quotas(database_url: str, tmp_path: Path) -> Iterator[OpenHarness]:
    opened: list[ServiceHarness] = []

    def make(**quotas: int) -> ServiceHarness:
        harness = open_harness(tmp_path, database_url=database_url, storage=quotas)
        for name in "ab":
            harness.keystore.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=name, note="")
        opened.append(harness)
        return harness

    yield make
    for harness in opened:
        harness.close()


def caller(harness: ServiceHarness, name: str) -> Principal:
    return Principal({key.id: key for key in harness.services.admin.list_keys()}[name], "req_1")


def content(word: str) -> bytes:
    return TINY_MP4[:16] + word.encode().ljust(SIZE - 16, b".")


def upload(harness: ServiceHarness, key: str, word: str, name: str = "a.mp4") -> Upload:
    session = harness.services.uploads.begin(caller(harness, key), filename=name, declared_type=None)
    try:
        session.write(content(word))
        return session.finish()
    finally:
        session.abort()


def run(harness: ServiceHarness, key: str, address: str = "https://example.com/v.mp4", *, size: int = SIZE) -> Job:
    job = harness.services.jobs.create(caller(harness, key), {"video_url": address})
    running = harness.jobs.begin_attempt(job.id, ticket=1, actor="worker")
    assert running is not None
    output = Output(f"outputs/{job.id}/1/r", "webm", "video/webm", size, "ab", 64, 48, 10, 0.4, True, False)
    harness.jobs.complete(job.id, attempt=1, output=output, engine=ENGINE, warnings=(), actor="worker")
    return job


def link(harness: ServiceHarness, made: Upload) -> str:
    return harness.services.files.signer.upload_link(made).url


def total(harness: ServiceHarness, key: str) -> int:
    return harness.services.usage.summary(caller(harness, key), days=1).stored.total


class TestQuota:
    def test_a_quota_counts_uploads_and_outputs_of_a_key(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas(max_bytes_per_key=1000)
        upload(harness, "a", "one")
        run(harness, "a", size=250)
        stored = harness.services.usage.summary(caller(harness, "a"), days=1).stored
        assert (stored.uploads, stored.outputs, stored.total, stored.most) == (SIZE, 250, SIZE + 250, 1000)
        assert total(harness, "b") == 0

    def test_a_file_that_exceeds_the_quota_is_refused_while_it_arrives(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas(max_bytes_per_key=SIZE + 50)
        upload(harness, "a", "one")
        session = harness.services.uploads.begin(caller(harness, "a"), filename="a.mp4", declared_type=None)
        session.write(bytes(50))
        with pytest.raises(StorageQuotaExceeded, match="150 bytes"):
            session.write(b"x")
        session.abort()
        assert upload(harness, "b", "one").size == SIZE

    def test_a_key_with_a_full_quota_can_neither_upload_nor_start_jobs(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas(max_bytes_per_key=SIZE)
        upload(harness, "a", "one")
        principal = caller(harness, "a")
        with pytest.raises(StorageQuotaExceeded):
            harness.services.uploads.begin(principal, filename="a.mp4", declared_type=None)
        draft = harness.services.jobs.create(principal, {"video_url": "https://example.com/v.mp4", "auto_start": False})
        with pytest.raises(StorageQuotaExceeded):
            harness.services.jobs.start(principal, draft.id, {})
        with pytest.raises(StorageQuotaExceeded):
            harness.services.jobs.create(principal, {"video_url": "https://example.com/v.mp4"})

    def test_a_quota_of_its_own_replaces_the_default_and_0_is_unlimited(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas(max_bytes_per_key=SIZE)
        admin = ApiKeyAdminStore(harness.database, clock=harness.clock)
        admin.set_limits("a", {"max_storage_bytes": 2 * SIZE}, act=AuditContext("test", "keys.limits", None))
        admin.set_limits("b", {"max_storage_bytes": 0}, act=AuditContext("test", "keys.limits", None))
        for word in ("one", "two"):
            upload(harness, "a", word)
        with pytest.raises(StorageQuotaExceeded):
            upload(harness, "a", "three")
        for word in ("one", "two", "three"):
            upload(harness, "b", word)

    def test_a_full_installation_is_refused_with_storage_full(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas(max_bytes=SIZE)
        upload(harness, "a", "one")
        with pytest.raises(StorageFull):
            upload(harness, "b", "two")

    def test_an_output_that_exceeds_the_quota_does_not_complete_the_job(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas(max_bytes_per_key=SIZE)
        with pytest.raises(StorageQuotaExceeded):
            run(harness, "a", size=SIZE + 1)
        (job,) = harness.jobs.unfinished()
        assert job.status is Status.PROCESSING
        assert total(harness, "a") == 0

    @pytest.mark.parametrize("end", ["completed", "failed"])
    def test_chunks_count_until_their_job_ends(self, open_with_quotas: OpenHarness, end: str) -> None:
        harness = open_with_quotas(max_bytes_per_key=4 * SIZE)
        job = harness.services.jobs.create(caller(harness, "a"), {"video_url": "https://example.com/v.mp4"})
        harness.jobs.begin_attempt(job.id, ticket=1, actor="worker")
        for _ in range(3):
            harness.jobs.add_chunk(job.id, ticket=1, size=SIZE)
        assert total(harness, "a") == 3 * SIZE
        upload(harness, "a", "one")
        with pytest.raises(StorageQuotaExceeded):
            upload(harness, "a", "two")
        if end == "completed":
            output = Output(f"outputs/{job.id}/1/r", "webm", "video/webm", 3 * SIZE, "ab", 64, 48, 10, 0.4, True, False)
            assert harness.jobs.complete(job.id, attempt=1, output=output, engine=ENGINE, warnings=(), actor="worker")
        else:
            harness.services.jobs.cancel(caller(harness, "a"), job.id)
        assert total(harness, "a") == (4 * SIZE if end == "completed" else SIZE)

    def test_deleted_and_expired_files_free_quota(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas(max_bytes_per_key=2 * SIZE)
        made = upload(harness, "a", "one")
        job = run(harness, "a")
        harness.services.uploads.delete(caller(harness, "a"), made.id)
        harness.services.jobs.delete(caller(harness, "a"), job.id)
        assert total(harness, "a") == 0
        run(harness, "a")
        harness.clock.advance(days=8)
        assert harness.services.files.retention.expire_jobs(limit=9) == 1
        assert total(harness, "a") == 0

    def test_a_quota_is_exact_under_concurrency(
        self, open_with_quotas: OpenHarness, at_once: Callable[..., list[Any]]
    ) -> None:
        harness = open_with_quotas(max_bytes_per_key=3 * SIZE)
        outcomes = at_once([lambda n=n: upload(harness, "a", f"file {n}") for n in range(12)])
        assert sum(isinstance(o, Upload) for o in outcomes) == 3
        assert sum(isinstance(o, StorageQuotaExceeded) for o in outcomes) == 9
        assert len(harness.blobs.blobs) == 3


class TestDeduplication:
    def test_the_same_bytes_of_one_key_are_kept_once_under_two_names(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas()
        first, second = upload(harness, "a", "one", "a.mp4"), upload(harness, "a", "one", "b.mp4")
        assert first.id != second.id
        assert (first.blob, first.content_type, first.kind) == (second.blob, second.content_type, second.kind)
        assert (first.filename, second.filename) == ("a.mp4", "b.mp4")
        assert list(harness.blobs.blobs) == [first.blob]
        assert total(harness, "a") == SIZE

    def test_an_upload_of_the_same_bytes_needs_room_only_while_it_arrives(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas(max_bytes_per_key=SIZE + 50)
        upload(harness, "a", "one")
        with pytest.raises(StorageQuotaExceeded):
            upload(harness, "a", "one")
        harness = open_with_quotas(max_bytes_per_key=2 * SIZE)
        for _ in range(5):
            upload(harness, "a", "one")

    def test_the_same_bytes_of_two_keys_are_kept_twice(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas()
        assert upload(harness, "a", "one").blob != upload(harness, "b", "one").blob

    def test_the_same_bytes_stay_until_the_last_upload_is_deleted(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas()
        first, second = upload(harness, "a", "one"), upload(harness, "a", "one")
        harness.services.uploads.delete(caller(harness, "a"), first.id)
        assert harness.blobs.blobs == {second.blob: content("one")}
        assert harness.resolver.find(source_urls.source(link(harness, second)), key_id="a") == second
        assert harness.resolver.blob_of(link(harness, second).partition("?")[0].removeprefix("/files/")) == second.blob
        harness.services.uploads.delete(caller(harness, "a"), second.id)
        assert harness.blobs.blobs == {}

    def test_the_same_bytes_stay_while_another_job_needs_them(self, open_with_quotas: OpenHarness) -> None:
        harness = open_with_quotas()
        first, second = upload(harness, "a", "one"), upload(harness, "a", "one")
        job = run(harness, "a", link(harness, first))
        harness.services.jobs.create(caller(harness, "a"), {"video_url": link(harness, second)})
        harness.services.jobs.delete(caller(harness, "a"), job.id)
        assert second.blob in harness.blobs.blobs

    def test_the_same_bytes_are_deleted_once_when_all_uploads_are_deleted_concurrently(
        self, open_with_quotas: OpenHarness, at_once: Callable[..., list[Any]]
    ) -> None:
        harness = open_with_quotas()
        made = [upload(harness, "a", "one") for _ in range(6)]
        outcomes = at_once([lambda u=u: harness.services.uploads.delete(caller(harness, "a"), u.id) for u in made])
        assert outcomes == [None] * 6
        assert harness.blobs.blobs == {}

    def test_the_same_bytes_uploaded_concurrently_are_kept_once(
        self, open_with_quotas: OpenHarness, at_once: Callable[..., list[Any]]
    ) -> None:
        harness = open_with_quotas()
        made = at_once([lambda: upload(harness, "a", "one") for _ in range(6)])
        assert {u.blob for u in made} == set(harness.blobs.blobs)
        assert len(harness.blobs.blobs) == 1

    def test_the_same_bytes_survive_a_copy_made_during_their_deletion(
        self, open_with_quotas: OpenHarness, at_once: Callable[..., list[Any]]
    ) -> None:
        harness = open_with_quotas()
        first = upload(harness, "a", "one")
        _, second = at_once(
            [
                lambda: harness.services.uploads.delete(caller(harness, "a"), first.id),
                lambda: upload(harness, "a", "one"),
            ]
        )
        assert harness.blobs.blobs == {second.blob: content("one")}


class TestCrashes:
    def test_a_crash_between_the_file_and_its_row_leaves_nothing_in_the_end(
        self, open_with_quotas: OpenHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness = open_with_quotas()

        def crash(_: Upload, **_options: object) -> Upload:
            raise KeyboardInterrupt

        monkeypatch.setattr(harness.uploads, "add_upload", crash)
        with pytest.raises(KeyboardInterrupt):
            upload(harness, "a", "one")
        removal = DeletionService(harness.jobs, DeletionStore(harness.database, clock=harness.clock), harness.blobs)
        removal.delete_pending()
        assert len(harness.blobs.blobs) == 1, "the writer may be alive yet"
        harness.clock.advance(hours=2)
        removal.delete_pending()
        assert harness.blobs.blobs == {}

    def test_a_database_failure_deletes_the_file_at_once(
        self, open_with_quotas: OpenHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness = open_with_quotas()

        def away(_: Upload, **_options: object) -> Upload:
            raise Unavailable("away")

        monkeypatch.setattr(harness.uploads, "add_upload", away)
        with pytest.raises(Unavailable):
            upload(harness, "a", "one")
        assert harness.blobs.blobs == {}

    def test_an_upload_that_takes_too_long_to_store_fails(
        self, open_with_quotas: OpenHarness, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        harness = open_with_quotas()
        put = harness.blobs.put_file

        def slow(key: str, path: Path) -> None:
            put(key, path)
            harness.clock.advance(hours=2)
            DeletionService(
                harness.jobs, DeletionStore(harness.database, clock=harness.clock), harness.blobs
            ).delete_pending()

        monkeypatch.setattr(harness.blobs, "put_file", slow)
        with pytest.raises(StorageFailed, match="too long"):
            upload(harness, "a", "one")
        assert harness.blobs.blobs == {}
