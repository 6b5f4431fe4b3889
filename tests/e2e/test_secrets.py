"""A whole flow in which every secret plays: none of them is in anything that the service and its workers print."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

SECRETS = {
    "API_KEY": "a-key-of-the-settings-3141",
    "ADMIN_TOKEN": "a-token-of-the-settings-2718",
    "WEBHOOK_SECRET": "a-signing-secret-1618",
    "WEBHOOK_SECRET_OLD": "the-signing-secret-before-1414",
}
LOGIN = "a-password-of-redis-1732"
WRONG_KEY, WRONG_TOKEN = "a-key-of-somebody-else-2236", "a-token-of-somebody-else-2449"
IN_ADDRESSES = ("a-signature-of-a-bucket-2645", "a-name-of-a-hook-2828")


class Running(ServiceProcess):
    """The service with every secret that its settings may hold."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder / "data",
            **SECRETS,
            LOG_LEVEL="debug",
            RATE_LIMIT_URL=f"redis://counter:{LOGIN}@127.0.0.1:1/0",  # nobody listens there
            FETCH_ALLOW_CIDRS="127.0.0.0/8",
        )

    def text(self) -> str:
        """Everything that it and its children wrote."""
        return self.console_output() + self.log()

    def environments_of_children(self) -> str:
        """What others of the same user can read of the worker and its job processes."""
        environments = []
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # also one that has ended
                environments.append(child.environ())
        assert any("PATH" in environment for environment in environments)
        return str(environments)

    def call(self, method: str, path: str, *, status: int = 200, **request: Any) -> Any:
        headers = {"X-Api-Key": SECRETS["API_KEY"], **request.pop("headers", {})}
        answer = requests.request(method, self.base + path, headers=headers, timeout=60, **request)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Running]:
    with Running(tmp_path) as running:
        yield running


def test_no_secret_is_in_the_output_of_a_whole_flow(service: Running, tmp_path: Path) -> None:
    admin = {"X-Admin-Token": SECRETS["ADMIN_TOKEN"]}
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
    assert requests.get(done["output_url"], timeout=60).status_code == 200
    away = f"http://127.0.0.1:1/v.mp4?X-Amz-Signature={IN_ADDRESSES[0]}"
    lost = wait_for_end(service, service.call("POST", "/v1/jobs", json={"video_url": away})["id"])
    assert lost["error_code"] == "fetch_failed"
    wait_for(lambda: service.call("GET", f"/v1/jobs/{done['id']}/webhooks")["items"][-1]["attempts"])
    assert [secret for secret in SECRETS.values() if secret in service.environments_of_children()] == []
    service.process.terminate()
    service.wait()
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

    return wait_for(ended)
