"""A whole flow in which every secret plays: none of them is in anything that the service and its workers print."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from alphareel.testing.clips import make_clip

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

SECRETS = {
    "ALPHAREEL_API_KEY": "a-key-of-the-settings-3141",
    "ALPHAREEL_ADMIN_TOKEN": "a-token-of-the-settings-2718",
    "ALPHAREEL_WEBHOOK_SECRET": "a-signing-secret-1618",
    "ALPHAREEL_WEBHOOK_SECRET_OLD": "the-signing-secret-before-1414",
}
LOGIN = "a-password-of-redis-1732"
WRONG_KEY, WRONG_TOKEN = "a-key-of-somebody-else-2236", "a-token-of-somebody-else-2449"
IN_ADDRESSES = ("a-signature-of-a-bucket-2645", "a-name-of-a-hook-2828")


class Running:
    """The service, and everything that it and its children wrote."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "log"
        settings = {
            **SECRETS,
            "ALPHAREEL_DATA_DIR": str(folder / "data"),
            "ALPHAREEL_PORT": "0",
            "ALPHAREEL_LOG_LEVEL": "debug",
            "ALPHAREEL_RATE_LIMIT_URL": f"redis://counter:{LOGIN}@127.0.0.1:1/0",  # nobody listens there
            "ALPHAREEL_FETCH_ALLOW_CIDRS": "127.0.0.0/8",
        }
        with self._log.open("ab") as out:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("alphareel"), "serve"],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=os.environ | settings,
            )
        found = wait_for(lambda: re.search(r'"url": "(http://[^"]+)", "event": "listening"', self.text()))
        self.url = found.group(1)

    def text(self) -> str:
        return self._log.read_text()

    def call(self, method: str, path: str, *, status: int = 200, **request: Any) -> Any:
        headers = {"X-Api-Key": SECRETS["ALPHAREEL_API_KEY"], **request.pop("headers", {})}
        answer = requests.request(method, self.url + path, headers=headers, timeout=30, **request)
        assert answer.status_code == status, answer.text
        return answer.json()


def wait_for(holds: Any, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.1)
    return found


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.process.kill()
    running.process.wait()


def test_no_secret_is_in_the_output_of_a_whole_flow(service: Running, tmp_path: Path) -> None:
    admin = {"X-Admin-Token": SECRETS["ALPHAREEL_ADMIN_TOKEN"]}
    service.call("GET", "/v1/jobs", status=401, headers={"X-Api-Key": WRONG_KEY})
    service.call("GET", "/v1/admin/keys", status=401, headers={"X-Admin-Token": WRONG_TOKEN})
    made = service.call("POST", "/v1/admin/keys", headers=admin, json={"client_id": "studio"})
    choice = {"key_fingerprint": made["key_fingerprint"]}
    rotated = service.call("POST", "/v1/admin/keys/rotate", headers=admin, json=choice)
    service.call("GET", "/v1/admin/config", headers=admin)
    clip = make_clip(tmp_path / "clip.mp4", width=64, height=48, frames=5).path
    with clip.open("rb") as file:
        upload = service.call("POST", "/v1/uploads", files={"file": ("clip.mp4", file)})
    hook = f"http://127.0.0.1:1/{IN_ADDRESSES[1]}?token={IN_ADDRESSES[1]}"
    asked = {"video_url": upload["video_url"], "webhook_url": hook, "output_format": "gif", "bg_type": "green"}
    done = wait_for_end(service, service.call("POST", "/v1/jobs", json=asked)["id"])
    assert done["status"] == "completed", done["error"]
    assert requests.get(done["output_url"], timeout=30).status_code == 200
    away = f"http://127.0.0.1:1/v.mp4?X-Amz-Signature={IN_ADDRESSES[0]}"
    lost = wait_for_end(service, service.call("POST", "/v1/jobs", json={"video_url": away})["id"])
    assert lost["error_code"] == "fetch_failed"
    wait_for(lambda: service.call("GET", f"/v1/jobs/{done['id']}/webhooks")["items"][-1]["attempts"])
    service.process.terminate()
    service.process.wait(60)
    told = service.text()
    signatures = re.findall(r"sig=([0-9a-f]+)", done["output_url"] + upload["video_url"])
    secrets = [*SECRETS.values(), LOGIN, WRONG_KEY, WRONG_TOKEN, *IN_ADDRESSES, made["api_key"], rotated["api_key"]]
    assert len(signatures) == 2
    assert '"event": "job moved"' in told
    assert [secret for secret in (*secrets, *signatures) if secret in told] == []


def wait_for_end(service: Running, job_id: str) -> Any:
    def ended() -> Any:
        job = service.call("GET", f"/v1/jobs/{job_id}")
        return job if job["status"] in ("completed", "failed") else None

    return wait_for(ended, 180)
