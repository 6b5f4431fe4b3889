import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from alphareel.domain.errors import InvalidRequest, StorageFailed
from alphareel.storage.file import LocalBlobs, open_blobs
from alphareel.testing.conformance import BlobsConformance
from alphareel.testing.fakes import MemoryBlobs


class TestLocalBlobs(BlobsConformance):
    @pytest.fixture
    def blobs(self, tmp_path: Path) -> LocalBlobs:
        return open_blobs(f"file://{tmp_path}/a%20folder/objects")

    def test_a_file_on_another_disk_is_copied_whole(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        elsewhere = Path("/dev/shm") / tmp_path.name
        if not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is only one file system here")
        elsewhere.write_bytes(b"bytes")
        try:
            blobs = LocalBlobs(tmp_path / "objects")
            blobs.put_file("uploads/a.mp4", elsewhere)
        finally:
            elsewhere.unlink(missing_ok=True)
        assert blobs.size("uploads/a.mp4") == 5
        assert list((tmp_path / "objects/.incoming").iterdir()) == []

    def test_a_full_disk_is_a_storage_failure_and_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        blobs = LocalBlobs(tmp_path / "objects")
        (tmp_path / "source").write_bytes(b"bytes")
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(StorageFailed, match="No space left"):
            blobs.put_file("uploads/a.mp4", tmp_path / "source")
        assert not (tmp_path / "objects/uploads").exists()

    def test_a_source_that_vanished_is_a_storage_failure(self, tmp_path: Path) -> None:
        with pytest.raises(StorageFailed):
            LocalBlobs(tmp_path / "objects").put_file("uploads/a.mp4", tmp_path / "none")

    def test_a_sweep_deletes_incomplete_writes(self, tmp_path: Path) -> None:
        blobs = LocalBlobs(tmp_path / "objects")
        (tmp_path / "objects/.incoming/half").write_bytes(b"ha")
        blobs.sweep()
        assert list((tmp_path / "objects/.incoming").iterdir()) == []

    def test_deleting_the_last_file_removes_its_empty_folders(self, tmp_path: Path) -> None:
        blobs, source = LocalBlobs(tmp_path / "objects"), tmp_path / "source"
        for key in ("outputs/job_1/1/a.webm", "outputs/job_2/1/a.webm", "uploads/a.mp4"):
            source.write_bytes(b"bytes")
            blobs.put_file(key, source)
        blobs.delete("outputs/job_1/1/a.webm")
        blobs.delete_prefix("outputs/job_2/1/")
        blobs.delete("uploads/a.mp4")
        assert list((tmp_path / "objects/outputs").iterdir()) == []
        (tmp_path / "objects/outputs/job_3/1").mkdir(parents=True)  # as earlier versions left them
        blobs.sweep()
        assert list((tmp_path / "objects/outputs").iterdir()) == []

    def test_a_file_survives_the_removal_of_its_neighbors_folder(self, tmp_path: Path) -> None:
        blobs = LocalBlobs(tmp_path / "objects")

        def put_and_delete(number: int) -> None:
            source = tmp_path / f"source{number}"
            for _ in range(100):
                source.write_bytes(b"bytes")
                blobs.put_file(f"outputs/job/1/{number}", source)
                assert blobs.size(f"outputs/job/1/{number}") == 5
                blobs.delete(f"outputs/job/1/{number}")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put_and_delete, range(4)))

    def test_free_bytes_are_those_of_the_disk(self, tmp_path: Path) -> None:
        free = LocalBlobs(tmp_path / "objects").free()
        assert free is not None
        assert 0 < free <= shutil.disk_usage(tmp_path).total

    def test_a_store_whose_folder_is_gone_is_not_ready(self, tmp_path: Path) -> None:
        blobs = LocalBlobs(tmp_path / "objects")
        shutil.rmtree(tmp_path / "objects")
        assert not blobs.is_ready()

    @pytest.mark.parametrize("url", ["file://host/folder", "file:relative"])
    def test_a_url_must_name_a_local_absolute_folder(self, url: str) -> None:
        with pytest.raises(InvalidRequest):
            open_blobs(url)


class TestMemoryBlobs(BlobsConformance):
    @pytest.fixture
    def blobs(self) -> MemoryBlobs:
        return MemoryBlobs()
