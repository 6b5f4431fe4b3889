"""Uploads that are cut short by kill -9 of the service."""

import socket
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for

from .hostile import upload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY = "a key of the tests"
HEADERS = {"X-Api-Key": KEY, "Idempotency-Key": "order-7"}


def test_an_upload_whose_server_was_killed_can_be_repeated_when_retry_after_is_over(tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", width=64, height=48, frames=5).path.read_bytes()
    raw = upload("/v1/uploads", clip, **HEADERS)
    with (
        ServiceProcess(tmp_path / "data", API_KEY=KEY, WORKERS=0) as killed,
        socket.create_connection(("127.0.0.1", int(urlsplit(killed.base).port or 0))) as connection,
    ):
        connection.sendall(raw[:-100])
        wait_for(lambda: list((tmp_path / "data" / "incoming").glob("*")))
        killed.process.kill()
        killed.wait()

    with ServiceProcess(tmp_path / "data", API_KEY=KEY, WORKERS=0) as again:

        def send() -> requests.Response:
            return requests.post(f"{again.base}/v1/uploads", headers=HEADERS, files={"file": ("a", clip)}, timeout=60)

        answer = send()
        if answer.status_code == 409:  # else the start took as long as the lease
            assert answer.json()["error"]["code"] == "idempotency_in_progress"
            assert 1 <= int(answer.headers["Retry-After"]) <= 30
            time.sleep(int(answer.headers["Retry-After"]))
            answer = send()
        assert answer.status_code == 200, answer.text
