"""Blobs in an S3 bucket, against a local S3 server."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import requests
from moto.server import ThreadedMotoServer

from alphareel.domain.errors import InvalidRequest, NotFound, StorageFailed
from alphareel.server.installation import open_blobs
from alphareel.storage import _bucket
from alphareel.storage._bucket import BucketBlobs
from alphareel.testing.conformance import BlobsConformance


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket, with the variables that lead to it."""
    requests.post(f"{endpoint}/moto-api/reset", timeout=60)
    requests.put(f"{endpoint}/footage", timeout=60)
    variables = {
        "AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return "s3://footage"


class TestBucketBlobs(BlobsConformance):
    @pytest.fixture
    def blobs(self, bucket: str) -> BucketBlobs:
        return _bucket.open_blobs(bucket)

    def test_large_files_are_uploaded_in_parts(
        self, blobs: BucketBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_bucket, "_PART_SIZE", 5 * 1024 * 1024)  # the smallest part that S3 accepts
        data = bytes(range(256)) * 4096 * 13
        self._put(blobs, "outputs/job_1/1/result.mov", data, tmp_path)
        assert b"".join(blobs.read("outputs/job_1/1/result.mov", 0, len(data))) == data
        with blobs.local("outputs/job_1/1/result.mov") as copy:
            assert copy.read_bytes() == data
        assert not copy.exists()

    def test_an_object_that_is_replaced_during_a_read_is_an_error(
        self, blobs: BucketBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_bucket, "_MAX_READ", 10)
        self._put(blobs, "uploads/a.mp4", b"a" * 30, tmp_path)
        pieces = blobs.read("uploads/a.mp4", 0, 30)
        assert next(pieces) == b"a" * 10
        self._put(blobs, "uploads/a.mp4", b"b" * 30, tmp_path)
        with pytest.raises(StorageFailed):
            next(pieces)

    def test_a_client_can_put_a_blob_by_its_signed_url(self, blobs: BucketBlobs) -> None:
        keys = ["parts/a/1", "parts/a/2"]
        urls = blobs.sign_puts(keys, timedelta(minutes=5))
        assert urls is not None
        etags = [requests.put(url, data=b"part" * (n + 1), timeout=60).headers["ETag"] for n, url in enumerate(urls)]
        arrived = blobs.parts("parts/a/")
        assert [(part.key, part.bytes, part.etag) for part in arrived] == [
            ("parts/a/1", 4, etags[0]), ("parts/a/2", 8, etags[1]),
        ]  # fmt: skip

    def test_many_readers_buffer_less_each(self, blobs: BucketBlobs, tmp_path: Path) -> None:
        size = 3_000_000
        self._put(blobs, "uploads/a.mp4", b"a" * size, tmp_path)
        assert len(next(blobs.read("uploads/a.mp4", 0, size))) == size
        readers = [blobs.read("uploads/a.mp4", 0, size) for _ in range(50)]
        pieces = [next(reader) for reader in readers]
        assert len(pieces[-1]) < size / 2
        assert pieces[-1] + b"".join(readers[-1]) == b"a" * size
        for reader in readers:
            reader.close()  # type: ignore[attr-defined]
        assert len(next(blobs.read("uploads/a.mp4", 0, size))) == size

    def test_deleting_a_prefix_deletes_all_pages_of_it(
        self, blobs: BucketBlobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(_bucket, "_BATCH", 2)
        for number in range(5):
            self._put(blobs, f"outputs/job_1/1/{number}", b"bytes", tmp_path)
        blobs.delete_prefix("outputs/job_1/")
        with pytest.raises(NotFound):
            blobs.size("outputs/job_1/1/4")


def test_a_prefix_keeps_installations_apart(bucket: str, tmp_path: Path) -> None:
    ours, theirs = open_blobs(f"{bucket}/ours"), open_blobs(f"{bucket}/theirs")
    (tmp_path / "a").write_bytes(b"bytes")
    ours.put_file("uploads/a.mp4", tmp_path / "a")
    assert ours.size("uploads/a.mp4") == 5
    theirs.delete_prefix("uploads/")
    with pytest.raises(NotFound):
        theirs.size("uploads/a.mp4")
    assert ours.size("uploads/a.mp4") == 5


def test_a_bucket_that_is_not_there_is_not_ready_and_a_storage_failure(bucket: str, tmp_path: Path) -> None:
    blobs = open_blobs("s3://nowhere")
    (tmp_path / "a").write_bytes(b"bytes")
    assert not blobs.is_ready()
    with pytest.raises(StorageFailed):
        blobs.put_file("uploads/a.mp4", tmp_path / "a")


def test_errors_of_the_store_contain_no_secrets(bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "do-not-show-me")
    (tmp_path / "a").write_bytes(b"bytes")
    with pytest.raises(StorageFailed) as failed:
        open_blobs("s3://nowhere").put_file("uploads/a.mp4", tmp_path / "a")
    assert "do-not-show-me" not in repr(failed.value)


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix"])
def test_an_address_without_a_bucket_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest):
        open_blobs(url)


def test_without_the_s3_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: str) -> None:
        raise ModuleNotFoundError("No module named 'obstore'", name="obstore")

    monkeypatch.setattr("alphareel.plugins.module", missing)
    with pytest.raises(InvalidRequest, match="obstore is missing") as refused:
        open_blobs("s3://footage")
    assert "alphareel[s3]" in (refused.value.hint or "")
