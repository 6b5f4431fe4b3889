"""Bytes that are kept: counted exactly, bounded whatever comes at once, held once, and gone only with their last user."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alphareel.db.api_keys import ApiKeyAdminStore
from alphareel.db.deletion import DeletionStore
from alphareel.domain.clip import EngineFacts
from alphareel.domain.errors import StorageFailed, StorageFull, StorageQuotaExceeded, Unavailable
from alphareel.service.api_keys.audit import AuditContext
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.jobs.models import Job, Output, Status, Upload
from alphareel.service.uploads import sources
from alphareel.service.uploads.quotas import Quotas
from alphareel.service.use_cases import Principal
from alphareel.testing.fakes import TINY_MP4, Desk, open_desk

SIZE = 100
ENGINE = EngineFacts("builtin", "1", "cd" * 32, "Apache-2.0")
Place = Callable[..., Desk]


@pytest.fixture
def place(url: str, tmp_path: Path) -> Iterator[Place]:
    opened: list[Desk] = []

    def make(**quotas: int) -> Desk:
        desk = open_desk(tmp_path, database_url=url, quotas=Quotas(**quotas))
        for name in "ab":
            desk.keystore.add_key(key_id=name, secret_sha256=name, fingerprint=name, client_id=name, note="")
        opened.append(desk)
        return desk

    yield make
    for desk in opened:
        desk.close()


def caller(desk: Desk, name: str) -> Principal:
    return Principal({key.id: key for key in desk.service.admin.list_keys()}[name], "req_1")


def content(word: str) -> bytes:
    return TINY_MP4[:16] + word.encode().ljust(SIZE - 16, b".")


def upload(desk: Desk, key: str, word: str, name: str = "a.mp4") -> Upload:
    session = desk.service.begin_upload(caller(desk, key), filename=name, declared_type=None)
    try:
        session.write(content(word))
        return session.finish()
    finally:
        session.abort()


def run(desk: Desk, key: str, address: str = "https://example.com/v.mp4", *, size: int = SIZE) -> Job:
    job = desk.service.create(caller(desk, key), {"video_url": address})
    running = desk.jobs.begin_attempt(job.id, ticket=1, actor="worker")
    assert running is not None
    output = Output(f"outputs/{job.id}/1/r", "webm", "video/webm", size, "ab", 64, 48, 10, 0.4, True, False)
    desk.jobs.complete(job.id, attempt=1, output=output, engine=ENGINE, warnings=(), actor="worker")
    return job


def link(desk: Desk, made: Upload) -> str:
    return desk.service.upload_link(made).url


def total(desk: Desk, key: str) -> int:
    return desk.service.usage_summary(caller(desk, key), days=1).stored.total


class TestQuota:
    def test_counts_uploads_and_results_of_a_key(self, place: Place) -> None:
        desk = place(per_key=1000)
        upload(desk, "a", "one")
        run(desk, "a", size=250)
        stored = desk.service.usage_summary(caller(desk, "a"), days=1).stored
        assert (stored.uploads, stored.outputs, stored.total, stored.most) == (SIZE, 250, SIZE + 250, 1000)
        assert total(desk, "b") == 0

    def test_a_file_beyond_it_is_refused_while_it_arrives(self, place: Place) -> None:
        desk = place(per_key=SIZE + 50)
        upload(desk, "a", "one")
        session = desk.service.begin_upload(caller(desk, "a"), filename="a.mp4", declared_type=None)
        session.write(bytes(50))
        with pytest.raises(StorageQuotaExceeded, match="150 bytes"):
            session.write(b"x")
        session.abort()
        assert upload(desk, "b", "one").size == SIZE

    def test_that_is_used_up_takes_nothing_and_starts_nothing(self, place: Place) -> None:
        desk = place(per_key=SIZE)
        upload(desk, "a", "one")
        mine = caller(desk, "a")
        with pytest.raises(StorageQuotaExceeded):
            desk.service.begin_upload(mine, filename="a.mp4", declared_type=None)
        draft = desk.service.create(mine, {"video_url": "https://example.com/v.mp4", "auto_start": False})
        with pytest.raises(StorageQuotaExceeded):
            desk.service.start(mine, draft.id, {})
        with pytest.raises(StorageQuotaExceeded):
            desk.service.create(mine, {"video_url": "https://example.com/v.mp4"})

    def test_of_a_key_alone_wins_and_0_is_none(self, place: Place) -> None:
        desk = place(per_key=SIZE)
        ring = ApiKeyAdminStore(desk.database, clock=desk.clock)
        ring.set_limits("a", {"max_storage_bytes": 2 * SIZE}, act=AuditContext("test", "keys.limits", None))
        ring.set_limits("b", {"max_storage_bytes": 0}, act=AuditContext("test", "keys.limits", None))
        for word in ("one", "two"):
            upload(desk, "a", word)
        with pytest.raises(StorageQuotaExceeded):
            upload(desk, "a", "three")
        for word in ("one", "two", "three"):
            upload(desk, "b", word)

    def test_of_everybody_is_another_refusal(self, place: Place) -> None:
        desk = place(in_all=SIZE)
        upload(desk, "a", "one")
        with pytest.raises(StorageFull):
            upload(desk, "b", "two")

    def test_a_result_that_does_not_fit_is_not_delivered(self, place: Place) -> None:
        desk = place(per_key=SIZE)
        with pytest.raises(StorageQuotaExceeded):
            run(desk, "a", size=SIZE + 1)
        (job,) = desk.jobs.unfinished()
        assert job.status is Status.PROCESSING
        assert total(desk, "a") == 0

    def test_what_is_deleted_or_expires_leaves_room(self, place: Place) -> None:
        desk = place(per_key=2 * SIZE)
        made = upload(desk, "a", "one")
        job = run(desk, "a")
        desk.service.delete_upload(caller(desk, "a"), made.id)
        desk.service.delete(caller(desk, "a"), job.id)
        assert total(desk, "a") == 0
        run(desk, "a")
        desk.clock.advance(days=8)
        assert desk.service._stores.expirations.expire_jobs(limit=9) == 1
        assert total(desk, "a") == 0

    def test_is_exact_however_many_come_at_once(self, place: Place, at_once: Callable[..., list[Any]]) -> None:
        desk = place(per_key=3 * SIZE)
        outcomes = at_once([lambda n=n: upload(desk, "a", f"file {n}") for n in range(12)])
        assert sum(isinstance(o, Upload) for o in outcomes) == 3
        assert sum(isinstance(o, StorageQuotaExceeded) for o in outcomes) == 9
        assert len(desk.blobs.blobs) == 3


class TestTheSameBytes:
    def test_of_one_key_are_kept_once_under_two_names(self, place: Place) -> None:
        desk = place()
        first, second = upload(desk, "a", "one", "a.mp4"), upload(desk, "a", "one", "b.mp4")
        assert first.id != second.id
        assert (first.blob, first.content_type, first.kind) == (second.blob, second.content_type, second.kind)
        assert (first.filename, second.filename) == ("a.mp4", "b.mp4")
        assert list(desk.blobs.blobs) == [first.blob]
        assert total(desk, "a") == SIZE

    def test_fit_even_where_there_is_no_room_for_them_twice(self, place: Place) -> None:
        desk = place(per_key=SIZE + 50)
        upload(desk, "a", "one")
        with pytest.raises(StorageQuotaExceeded):
            upload(desk, "a", "one")
        desk = place(per_key=2 * SIZE)
        for _ in range(5):
            upload(desk, "a", "one")

    def test_of_two_keys_are_kept_twice(self, place: Place) -> None:
        desk = place()
        assert upload(desk, "a", "one").blob != upload(desk, "b", "one").blob

    def test_stay_until_the_last_upload_goes(self, place: Place) -> None:
        desk = place()
        first, second = upload(desk, "a", "one"), upload(desk, "a", "one")
        desk.service.delete_upload(caller(desk, "a"), first.id)
        assert desk.blobs.blobs == {second.blob: content("one")}
        assert desk.sources.find(sources.source(link(desk, second)), key_id="a") == second
        assert desk.sources.blob_of(link(desk, second).partition("?")[0].removeprefix("/files/")) == second.blob
        desk.service.delete_upload(caller(desk, "a"), second.id)
        assert desk.blobs.blobs == {}

    def test_stay_while_another_job_needs_them(self, place: Place) -> None:
        desk = place()
        first, second = upload(desk, "a", "one"), upload(desk, "a", "one")
        job = run(desk, "a", link(desk, first))
        desk.service.create(caller(desk, "a"), {"video_url": link(desk, second)})
        desk.service.delete(caller(desk, "a"), job.id)
        assert second.blob in desk.blobs.blobs

    def test_go_once_when_both_users_go_at_once(self, place: Place, at_once: Callable[..., list[Any]]) -> None:
        desk = place()
        made = [upload(desk, "a", "one") for _ in range(6)]
        outcomes = at_once([lambda u=u: desk.service.delete_upload(caller(desk, "a"), u.id) for u in made])
        assert outcomes == [None] * 6
        assert desk.blobs.blobs == {}

    def test_that_arrive_at_once_are_kept_once(self, place: Place, at_once: Callable[..., list[Any]]) -> None:
        desk = place()
        made = at_once([lambda: upload(desk, "a", "one") for _ in range(6)])
        assert {u.blob for u in made} == set(desk.blobs.blobs)
        assert len(desk.blobs.blobs) == 1

    def test_survive_a_copy_that_comes_while_they_go(self, place: Place, at_once: Callable[..., list[Any]]) -> None:
        desk = place()
        first = upload(desk, "a", "one")
        _, second = at_once(
            [lambda: desk.service.delete_upload(caller(desk, "a"), first.id), lambda: upload(desk, "a", "one")]
        )
        assert desk.blobs.blobs == {second.blob: content("one")}


class TestACrash:
    def test_between_the_file_and_its_row_leaves_nothing_in_the_end(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        desk = place()

        def crash(_: Upload) -> Upload:
            raise KeyboardInterrupt

        monkeypatch.setattr(desk.uploads, "add_upload", crash)
        with pytest.raises(KeyboardInterrupt):
            upload(desk, "a", "one")
        removal = DeletionService(desk.jobs, DeletionStore(desk.database, clock=desk.clock), desk.blobs)
        removal.empty()
        assert len(desk.blobs.blobs) == 1, "the writer may be alive yet"
        desk.clock.advance(hours=2)
        removal.empty()
        assert desk.blobs.blobs == {}

    def test_of_the_database_takes_the_file_back_at_once(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        desk = place()

        def away(_: Upload) -> Upload:
            raise Unavailable("away")

        monkeypatch.setattr(desk.uploads, "add_upload", away)
        with pytest.raises(Unavailable):
            upload(desk, "a", "one")
        assert desk.blobs.blobs == {}

    def test_a_writer_that_was_given_up_is_told_so(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        desk = place()
        put = desk.blobs.put_file

        def slow(key: str, path: Path) -> None:
            put(key, path)
            desk.clock.advance(hours=2)
            DeletionService(desk.jobs, DeletionStore(desk.database, clock=desk.clock), desk.blobs).empty()

        monkeypatch.setattr(desk.blobs, "put_file", slow)
        with pytest.raises(StorageFailed, match="too long"):
            upload(desk, "a", "one")
        assert desk.blobs.blobs == {}
