"""What every adapter of a port must do, as test classes: derive one, give it the fixture it names, run pytest."""

import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from alphareel.domain.errors import NotFound
from alphareel.service.ports import Blobs

HOSTILE_KEYS = ("../outside", "/etc/passwd", "a/../../b", "a//b", "a/./b", "", "a\0b", "..", ".hidden/x", "a\\..\\b")


class BlobsConformance:
    """Needs a fixture ``blobs``: an empty store."""

    def _put(self, blobs: Blobs, key: str, data: bytes, folder: Path) -> None:
        source = folder / "source"
        source.write_bytes(data)
        blobs.put_file(key, source)

    def test_what_was_put_can_be_read(self, blobs: Blobs, tmp_path: Path) -> None:
        data = os.urandom(3_000_001)
        self._put(blobs, "outputs/job_1/1/result.webm", data, tmp_path)
        assert blobs.size("outputs/job_1/1/result.webm") == len(data)
        assert b"".join(blobs.read("outputs/job_1/1/result.webm", 0, len(data))) == data

    def test_a_range_is_exact(self, blobs: Blobs, tmp_path: Path) -> None:
        data = os.urandom(2_500_000)
        self._put(blobs, "uploads/a.mp4", data, tmp_path)
        assert b"".join(blobs.read("uploads/a.mp4", 1_000_000, 1_200_001)) == data[1_000_000:2_200_001]
        assert b"".join(blobs.read("uploads/a.mp4", 2_499_999, 50)) == data[-1:]

    def test_a_local_copy_has_the_same_bytes_and_suffix(self, blobs: Blobs, tmp_path: Path) -> None:
        self._put(blobs, "uploads/a.mp4", b"bytes", tmp_path)
        with blobs.local("uploads/a.mp4") as path:
            assert path.read_bytes() == b"bytes"
            assert path.suffix == ".mp4"

    def test_a_missing_key_is_not_found(self, blobs: Blobs) -> None:
        with pytest.raises(NotFound):
            blobs.size("uploads/none.mp4")
        with pytest.raises(NotFound):
            list(blobs.read("uploads/none.mp4", 0, 1))
        with pytest.raises(NotFound), blobs.local("uploads/none.mp4"):
            pass

    def test_a_deleted_blob_is_gone_and_deleting_twice_is_no_error(self, blobs: Blobs, tmp_path: Path) -> None:
        self._put(blobs, "uploads/a.mp4", b"bytes", tmp_path)
        blobs.delete("uploads/a.mp4")
        blobs.delete("uploads/a.mp4")
        with pytest.raises(NotFound):
            blobs.size("uploads/a.mp4")

    def test_deleting_a_prefix_spares_its_neighbors(self, blobs: Blobs, tmp_path: Path) -> None:
        for key in ("outputs/job_1/1/a", "outputs/job_1/2/b", "outputs/job_11/1/c"):
            self._put(blobs, key, b"bytes", tmp_path)
        blobs.delete_prefix("outputs/job_1/")
        blobs.delete_prefix("outputs/job_1/")
        assert blobs.size("outputs/job_11/1/c") == 5
        with pytest.raises(NotFound):
            blobs.size("outputs/job_1/2/b")

    def test_a_prefix_must_end_in_a_slash(self, blobs: Blobs) -> None:
        with pytest.raises(ValueError, match="slash"):
            blobs.delete_prefix("outputs/job_1")

    @pytest.mark.parametrize("key", HOSTILE_KEYS)
    def test_a_key_never_leaves_the_store(self, blobs: Blobs, tmp_path: Path, key: str) -> None:
        with pytest.raises(NotFound):
            self._put(blobs, key, b"bytes", tmp_path)
        with pytest.raises(NotFound):
            blobs.size(key)
        with pytest.raises(NotFound):
            blobs.delete(key)

    def test_a_reader_sees_all_of_the_old_or_all_of_the_new(self, blobs: Blobs, tmp_path: Path) -> None:
        size = 4_000_000
        self._put(blobs, "uploads/a.mp4", b"a" * size, tmp_path)
        pieces = blobs.read("uploads/a.mp4", 0, size)
        first = next(pieces)
        self._put(blobs, "uploads/a.mp4", b"b" * size, tmp_path)
        assert set(first + b"".join(pieces)) == {ord("a")}

    def test_many_may_write_at_once(self, blobs: Blobs, tmp_path: Path) -> None:
        def put(number: int) -> None:
            folder = tmp_path / str(number)
            folder.mkdir()
            self._put(blobs, f"outputs/job_1/{number}/result.webm", bytes([number]) * 1000, folder)

        threads = [threading.Thread(target=put, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [next(blobs.read(f"outputs/job_1/{n}/result.webm", 0, 1)) for n in range(8)] == [
            bytes([n]) for n in range(8)
        ]

    def test_a_sweep_spares_what_was_acknowledged(self, blobs: Blobs, tmp_path: Path) -> None:
        self._put(blobs, "uploads/a.mp4", b"bytes", tmp_path)
        blobs.sweep()
        assert blobs.size("uploads/a.mp4") == 5

    def test_older_blobs_are_listed(self, blobs: Blobs, tmp_path: Path) -> None:
        for key in ("uploads/a.mp4", "outputs/job_1/1/result.webm"):
            self._put(blobs, key, b"bytes", tmp_path)
        now = datetime.now(UTC)
        listed = sorted(blobs.older(now + timedelta(minutes=1)))
        assert listed == ["outputs/job_1/1/result.webm", "uploads/a.mp4"]
        assert list(blobs.older(now - timedelta(minutes=1))) == []

    def test_an_open_store_is_ready(self, blobs: Blobs) -> None:
        assert blobs.is_ready()
