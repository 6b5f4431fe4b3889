"""``alphareel move``, ``backup`` and ``restore`` with jobs in flight."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from moto.server import ThreadedMotoServer

from alphareel.testing.clips import make_clip
from alphareel.testing.servers import MissingServer, postgres_server
from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

KEY = {"X-Api-Key": "a key of the tests"}
ADMIN = {"X-Admin-Token": "a token of the tests"}
SETTINGS = {"API_KEY": KEY["X-Api-Key"], "ADMIN_TOKEN": ADMIN["X-Admin-Token"]}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    requests.put(f"http://{host}:{port}/footage", timeout=20)
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
            yield running.enter_context(postgres_server(tmp_path / "server")).url()
        except MissingServer:
            yield f"sqlite:///{tmp_path / 'new.db'}"


def call(base: str, method: str, path: str, **more: Any) -> Any:
    answer = requests.request(method, base + path, headers={**KEY, **ADMIN}, timeout=60, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def run(data: Path, *words: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    given = {f"ALPHAREEL_{name}": value for name, value in {**SETTINGS, "DATA_DIR": str(data), **settings}.items()}
    return subprocess.run(
        [Path(sys.executable).with_name("alphareel"), *words],
        env=os.environ | given, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


def test_jobs_in_flight_move_from_sqlite_and_a_disk_to_postgresql_and_a_bucket(
    database: str, bucket: str, tmp_path: Path
) -> None:
    clip = make_clip(tmp_path / "in.mp4", width=320, height=240, frames=100, background="green").path
    old, new = tmp_path / "old" / "data", tmp_path / "new" / "data"
    for folder in (old, new):
        folder.parent.mkdir()
    with ServiceProcess(old, **SETTINGS) as service:
        call(service.base, "POST", "/v1/admin/credits/set", json={"client_id": "default", "balance": 1000})
        with clip.open("rb") as file:
            link = call(service.base, "POST", "/v1/uploads", files={"file": file})["video_url"]
        order = {"video_url": link, "engine": "chroma"}
        draft = call(service.base, "POST", "/v1/jobs", json={**order, "auto_start": False})["id"]
        ids = [call(service.base, "POST", "/v1/jobs", json=order)["id"]]
        first = wait_for(lambda: ended(service, ids[0]))
        refused = run(old, "move", "--database", database)
        assert "Another alphareel service uses the data folder" in refused.stderr
        copied = run(old, "move", "--storage", bucket, "--files-only")
        assert copied.returncode == 0, copied.stderr
        ids += [call(service.base, "POST", "/v1/jobs", json=order)["id"] for _ in range(3)]
    backup = run(old, "backup", str(tmp_path / "backup"))
    assert backup.returncode == 0, backup.stderr
    moved = run(old, "move", "--database", database, "--storage", bucket)
    assert moved.returncode == 0, moved.stderr
    # One of the three may have ended before the service was killed.
    assert re.search("[23] unfinished jobs queued again", moved.stdout), moved.stdout
    assert "missing" not in moved.stderr
    again = run(old, "serve", PORT="0")
    assert (again.returncode, "was moved to" in again.stderr) == (6, True)
    assert run(old, "move", "--database", database).returncode != 0, "the target is in use"
    with ServiceProcess(new, DATABASE_URL=database, STORAGE_URL=bucket, **SETTINGS) as service:
        done = [wait_for(lambda job=job: ended(service, job)) for job in ids]
        assert [job["status"] for job in done] == ["completed"] * 4
        assert done[0]["completed_at"] == first["completed_at"]
        for job in done:
            assert requests.get(job["output_url"], timeout=60).content[:4] == b"\x1aE\xdf\xa3"
        path = first["output_url"].partition("/files/")[2]
        assert requests.get(f"{service.base}/files/{path}", timeout=60).status_code == 200, "old links stay valid"
        assert call(service.base, "GET", f"/v1/jobs/{draft}")["status"] == "created"
        reasons = [item["reason"] for item in call(service.base, "GET", f"/v1/jobs/{ids[-1]}/history")["items"]]
        assert "moved to another database" in reasons
        account = call(service.base, "GET", "/v1/admin/credits?client_id=default")
        assert account["balance"] == pytest.approx(1000 - sum(job["credits_used"] for job in done))
    restored = tmp_path / "restored" / "data"
    restored.parent.mkdir()
    done_again = run(restored, "restore", str(tmp_path / "backup"))
    assert done_again.returncode == 0, done_again.stderr
    assert run(restored, "restore", str(tmp_path / "backup")).returncode == 1, "it is not empty any more"
    with ServiceProcess(restored, **SETTINGS) as service:
        statuses = [wait_for(lambda job=job: ended(service, job))["status"] for job in ids]
        assert statuses == ["completed"] * 4


def ended(service: ServiceProcess, job: str) -> Any:
    found = call(service.base, "GET", f"/v1/jobs/{job}")
    return found if found["status"] in ("completed", "failed") else None
