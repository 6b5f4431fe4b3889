"""``alphareel move``, ``backup`` and ``restore`` with jobs in flight."""

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from moto.server import ThreadedMotoServer

from alphareel.domain.errors import InvalidRequest, InvalidState, StorageFailed, Unavailable
from alphareel.server import transfer
from alphareel.server.installation import open_installation
from alphareel.service.settings import DatabaseSettings, Settings, StorageSettings
from alphareel.testing.clips import make_clip
from alphareel.testing.servers import MissingServer, postgres_server
from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY = {"X-Api-Key": "a key of the tests"}
ADMIN = {"X-Admin-Token": "a token of the tests"}
SETTINGS = {"API_KEY": KEY["X-Api-Key"], "ADMIN_TOKEN": ADMIN["X-Admin-Token"]}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    requests.put(f"http://{host}:{port}/footage", timeout=60)
    given = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    for name, value in {**given, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    yield "s3://footage/ours"
    server.stop()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[str]:
    """PostgreSQL where it is installed, else a second SQLite file."""
    with contextlib.ExitStack() as running:
        try:
            url = running.enter_context(postgres_server(tmp_path / "server")).url()
        except MissingServer:
            url = f"sqlite:///{tmp_path / 'new.db'}"
        yield url


def call(base: str, method: str, path: str, **more: Any) -> Any:
    answer = requests.request(method, base + path, headers={**KEY, **ADMIN}, timeout=60, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ended(service: ServiceProcess, job: str) -> Any:
    found = call(service.base, "GET", f"/v1/jobs/{job}")
    return found if found["status"] in ("completed", "failed") else None


def settings_of(data: Path) -> Settings:
    return Settings(storage=StorageSettings(data_dir=data))


def unfinished(settings: Settings) -> set[str]:
    with open_installation(settings) as installation:
        return {job.id for job in installation.jobs.unfinished()}


def test_jobs_in_flight_move_from_sqlite_and_a_disk_to_postgresql_and_a_bucket(
    database: str, bucket: str, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", width=320, height=240, frames=60, background="green").path
    old, new, copy = tmp_path / "old" / "data", tmp_path / "new" / "data", tmp_path / "copy"
    for folder in (old, new):
        folder.parent.mkdir()
    with ServiceProcess(old, HANG_SECONDS=300, **SETTINGS) as service:
        call(service.base, "POST", "/v1/admin/credits/set", json={"client_id": "default", "balance": 1000})
        with clip.open("rb") as file:
            link = call(service.base, "POST", "/v1/uploads", files={"file": file})["video_url"]
        order = {"video_url": link, "engine": "chroma"}
        draft = call(service.base, "POST", "/v1/jobs", json={**order, "auto_start": False})["id"]
        ids = [call(service.base, "POST", "/v1/jobs", json=order)["id"]]
        first = wait_for(lambda: ended(service, ids[0]))
        with pytest.raises(Unavailable, match="uses the data folder"):
            transfer.move(settings_of(old), database_url=database, storage_url=None)
        assert transfer.copy_files(settings_of(old), storage_url=bucket).blobs >= 2
        ids.append(call(service.base, "POST", "/v1/jobs", json=order)["id"])
        wait_for(lambda: call(service.base, "GET", f"/v1/jobs/{ids[-1]}")["started_at"], pause=0.02)
        halted = psutil.Process(service.process.pid).children(recursive=True)
        for process in halted:
            process.suspend()
        ids += [call(service.base, "POST", "/v1/jobs", json=order)["id"] for _ in range(2)]
    for process in halted:  # one that was halted while it started cannot see that its parent is gone
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    waiting = unfinished(settings_of(old))
    assert waiting, "the one that began, or the next one; the last one waits for its turn"
    assert transfer.back_up(settings_of(old), copy).missing == ()
    moved = subprocess.run(
        [Path(sys.executable).with_name("alphareel"), "move", "--database", database, "--storage", bucket],
        env=os.environ | {"ALPHAREEL_DATA_DIR": str(old)}, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert moved.returncode == 0, moved.stderr
    assert f"{len(waiting)} unfinished jobs queued again" in moved.stdout
    assert "missing" not in moved.stderr
    with pytest.raises(Unavailable, match="was moved to"), open_installation(settings_of(old)):
        pass
    with pytest.raises(InvalidState, match="in use"):
        transfer.move(settings_of(old), database_url=database, storage_url=None)
    with ServiceProcess(new, DATABASE_URL=database, STORAGE_URL=bucket, **SETTINGS) as service:
        done = [wait_for(partial(ended, service, job)) for job in ids]
        assert [job["status"] for job in done] == ["completed"] * 4
        assert done[0]["completed_at"] == first["completed_at"]
        for job in done:
            assert requests.get(job["output_url"], timeout=60).content[:4] == b"\x1aE\xdf\xa3"
        path = first["output_url"].partition("/files/")[2]
        assert requests.get(f"{service.base}/files/{path}", timeout=60).status_code == 200, "old links stay valid"
        assert call(service.base, "GET", f"/v1/jobs/{draft}")["status"] == "created"
        moved_job = next(iter(waiting))
        reasons = [item["reason"] for item in call(service.base, "GET", f"/v1/jobs/{moved_job}/history")["items"]]
        assert "moved to another database" in reasons
        account = call(service.base, "GET", "/v1/admin/credits?client_id=default")
        assert account["balance"] == pytest.approx(1000 - sum(job["credits_used"] for job in done))
    restored = Settings(
        storage=StorageSettings(data_dir=tmp_path / "restored"),
        database=DatabaseSettings(url=f"sqlite:///{tmp_path}/restored/alphareel.db"),
    )
    assert transfer.restore(restored, copy).missing == ()
    assert unfinished(restored) == waiting
    with pytest.raises(InvalidState, match="in use"):
        transfer.restore(restored, copy)


def test_a_backup_replaces_one_whose_restore_was_killed(tmp_path: Path) -> None:
    settings, killed = settings_of(tmp_path / "data"), tmp_path / "killed"
    transfer.migrate_database(settings)
    transfer.back_up(settings, tmp_path / "copy")
    killed.mkdir()
    with contextlib.closing(sqlite3.connect(tmp_path / "copy" / "alphareel.db", isolation_level=None)) as restoring:
        restoring.execute("PRAGMA journal_mode=WAL")
        restoring.execute("CREATE TABLE of_the_old_backup (x)")
        for path in (tmp_path / "copy").glob("alphareel.db*"):
            shutil.copy(path, killed)
    assert (killed / "alphareel.db-wal").stat().st_size
    transfer.back_up(settings, killed)
    with contextlib.closing(sqlite3.connect(killed / "alphareel.db")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert not copy.execute("SELECT * FROM sqlite_master WHERE name = 'of_the_old_backup'").fetchall()


@pytest.mark.parametrize("folder", ["data", "data/../data", "link", "data/objects", "data/objects/backup", "other"])
def test_a_backup_into_a_folder_of_an_installation_is_refused(folder: str, tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "data")
    transfer.migrate_database(settings)
    (tmp_path / "link").symlink_to("data")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "lock").touch()
    database = tmp_path / "data" / "alphareel.db"
    before = database.stat().st_ino
    with pytest.raises(InvalidRequest, match="belongs to an installation"):
        transfer.back_up(settings, tmp_path / folder)
    assert database.stat().st_ino == before


def test_a_backup_does_not_replace_a_database_outside_of_the_data_folder(tmp_path: Path) -> None:
    given = settings_of(tmp_path / "data")
    database = DatabaseSettings(url=f"sqlite:///{tmp_path / 'alphareel.db'}")
    settings = given.model_copy(update={"database": database})
    transfer.migrate_database(settings)
    before = (tmp_path / "alphareel.db").stat().st_ino
    with pytest.raises(InvalidRequest, match="belongs to an installation"):
        transfer.back_up(settings, tmp_path)
    assert (tmp_path / "alphareel.db").stat().st_ino == before
    transfer.back_up(settings, tmp_path / "data" / "backup")
    assert (tmp_path / "data" / "backup" / "alphareel.db").exists()


def test_a_backup_is_private_and_leaves_what_else_is_in_its_folder_alone(tmp_path: Path) -> None:
    settings, shared = settings_of(tmp_path / "data"), tmp_path / "shared"
    transfer.migrate_database(settings)
    shared.mkdir()
    (shared / "of others").mkdir()
    for path in (shared, shared / "of others"):
        path.chmod(0o755)
    transfer.back_up(settings, shared)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (shared, *shared.iterdir())}
    assert modes["shared"] == modes["of others"] == 0o755
    assert (modes["alphareel.db"], modes["objects"]) == (0o600, 0o700)


def test_a_backup_says_which_folder_cannot_be_written(tmp_path: Path) -> None:
    settings = settings_of(tmp_path / "data")
    transfer.migrate_database(settings)
    (tmp_path / "file").touch()
    with pytest.raises(StorageFailed, match="cannot be written"):
        transfer.back_up(settings, tmp_path / "file" / "copy")
