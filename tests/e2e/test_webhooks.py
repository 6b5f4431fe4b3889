"""Webhooks of the whole service: signed, delivered, and delivered again when their worker is killed in the middle."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from standardwebhooks import Webhook

from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY = "a key of the tests"
SECRET = "whsec_YSBzZWNyZXQgb2YgdGhlIHRlc3Rz"


class Receiver(BaseHTTPRequestHandler):
    """Notes what it gets; the first request stays without an answer until the gate opens."""

    got: list[tuple[dict[str, str], bytes]]
    gate: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = type(self)
        kind.got.append((dict(self.headers), body))
        if len(kind.got) == 1:
            kind.gate.wait(60)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Receiver,), {"got": [], "gate": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    handler.gate.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[tuple[str, int]]:
    settings = {"API_KEY": KEY, "WEBHOOK_SECRET": SECRET, "FETCH_ALLOW_CIDRS": "127.0.0.0/8"}
    with ServiceProcess(tmp_path / "data", **settings) as running:
        yield running.base, running.process.pid


def call(base: str, method: str, path: str, **body: Any) -> Any:
    answer = requests.request(method, base + path, headers={"X-Api-Key": KEY}, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    return answer.json()


def worker_of(pid: int) -> psutil.Process | None:
    family = psutil.Process(pid).children(recursive=True)
    return next((p for p in family if "alphareel.server.worker_process" in p.cmdline()), None)


def test_a_webhook_whose_worker_is_killed_goes_out_again_under_its_id(
    service: tuple[str, int], receiver: ThreadingHTTPServer
) -> None:
    base, pid = service
    handler: Any = receiver.RequestHandlerClass
    hook = f"http://127.0.0.1:{receiver.server_port}/hook"
    job = call(base, "POST", "/v1/jobs", video_url="https://example.com/a.mp4", webhook_url=hook, auto_start=False)
    call(base, "POST", f"/v1/jobs/{job['id']}/cancel")
    wait_for(lambda: handler.got)
    wait_for(lambda: worker_of(pid)).kill()
    wait_for(lambda: len(handler.got) >= 2)
    wait_for(lambda: call(base, "GET", f"/v1/jobs/{job['id']}")["webhook_events"] == {"job.failed": "sent"})
    (first, _), (second, body) = handler.got[:2]
    assert first["webhook-id"] == second["webhook-id"] == second["X-Webhook-Delivery-Id"]
    told = Webhook(SECRET).verify(body, second)
    assert (told["event"], told["data"]["id"], told["data"]["error"]) == ("job.failed", job["id"], "Cancelled")
    (logged,) = call(base, "GET", f"/v1/jobs/{job['id']}/webhooks")["items"]
    assert (logged["status"], logged["attempts"][-1]["status_code"]) == ("sent", 204)
    tested = call(base, "POST", "/v1/webhooks/test", webhook_url=hook)
    assert tested["delivered"]
    assert json.loads(handler.got[-1][1])["event"] == "webhook.test"
