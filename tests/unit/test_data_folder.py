"""The data folder is for its owner alone."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphareel.server.data_folder import make_private_folder


@pytest.fixture(autouse=True)
def umask() -> Iterator[None]:
    """That of most users: others may read new files."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_data_folder_that_existed_is_made_private_with_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "objects" / "uploads").mkdir(parents=True)
    (tmp_path / "alphareel.db").write_bytes(b"the link secret")
    assert (mode(tmp_path / "objects"), mode(tmp_path / "alphareel.db")) == (0o755, 0o644)
    tmp_path.chmod(0o755)
    make_private_folder(tmp_path)
    assert (mode(tmp_path), mode(tmp_path / "objects"), mode(tmp_path / "alphareel.db")) == (0o700, 0o700, 0o600)


def test_files_that_are_made_later_are_private_too(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    make_private_folder(folder)
    (folder / "later").write_bytes(b"")
    assert (mode(folder), mode(folder / "later")) == (0o700, 0o600)


def test_a_link_in_the_data_folder_does_not_change_what_it_names(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "link").symlink_to(elsewhere)
    make_private_folder(folder)
    assert mode(elsewhere) == 0o644


def test_a_file_that_a_running_service_removes_meanwhile_stops_no_other_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "alphareel.db").write_bytes(b"the link secret")
    iterdir = Path.iterdir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter([path / "alphareel.db-wal", *iterdir(path)]))
    make_private_folder(tmp_path)
    assert mode(tmp_path / "alphareel.db") == 0o600
