"""Outputs that the service sends to a receiver of the client: one that fails, one that refuses, and a service that dies."""

import sqlite3
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY = "a key of the tests"
HEADERS = {"X-Api-Key": KEY}
SECRET = "X-Amz-Signature=5ec4e75ec4e7"


class Receiver(BaseHTTPRequestHandler):
    """/twice answers 500 twice and then 200, /never 403, /slow takes its time, /hang nothing while ``hangs`` is set."""

    got: list
    asked: list
    hangs: threading.Event

    def do_PUT(self):
        name = self.path.split("?")[0].strip("/")
        type(self).asked.append(name)
        if name == "never":
            self.rfile.read(int(self.headers["Content-Length"]))
            self.answer(403)
            return
        if name == "hang" and not self.hangs.is_set():
            self.hangs.wait(60)
            return
        left, body = int(self.headers["Content-Length"]), b""
        while left:
            piece = self.rfile.read(min(left, 4096))
            body, left = body + piece, left - len(piece)
            if name == "slow":
                time.sleep(0.1)
        if name == "twice" and type(self).asked.count("twice") < 3:
            self.answer(500)
            return
        type(self).got.append((self.path, dict(self.headers), body))
        self.answer(200)

    def answer(self, status):
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args): ...


@pytest.fixture
def receiver():
    handler: Any = type("Handler", (Receiver,), {"got": [], "asked": [], "hangs": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    handler.base = f"http://127.0.0.1:{server.server_port}"
    yield handler
    handler.hangs.set()
    server.shutdown()
    server.server_close()


def serve(folder):
    return ServiceProcess(folder / "data", API_KEY=KEY, WORKERS=1, FETCH_ALLOW_CIDRS="127.0.0.0/8")


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with serve(tmp_path_factory.mktemp("service")) as running:
        yield running


def call(service, method, path, **more):
    answer = requests.request(method, service.base + path, headers=HEADERS, timeout=60, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def upload(service, tmp_path):
    clip = make_clip(tmp_path / "in.mp4", width=160, height=120, frames=10, background="green").path
    return call(service, "POST", "/v1/uploads", files={"file": ("in.mp4", clip.read_bytes())})["video_url"]


def submit(service, video_url, **fields):
    return call(service, "POST", "/v1/jobs", json={"video_url": video_url, "engine": "chroma", **fields})["id"]


def ended(service, job_id):
    def look():
        job = call(service, "GET", f"/v1/jobs/{job_id}")
        return job if job["status"] in ("completed", "failed") else None

    return wait_for(look)


def target(receiver, name):
    return {"output_target": {"url": f"{receiver.base}/{name}?{SECRET}", "headers": {"x-private": "5ec4e7-header"}}}


def test_outputs_arrive_and_no_secret_stays(service, tmp_path, receiver):
    url = upload(service, tmp_path)
    outputs = [
        {"format": "webm", **target(receiver, "twice")},
        {"format": "gif", **target(receiver, "never")},
        {"format": "thumbnail", **target(receiver, "slow")},
        {"format": "poster"},
    ]
    job = ended(service, submit(service, url, outputs=outputs))
    assert job["status"] == "completed", job
    assert [o["delivery"] and (o["delivery"]["status"], o["delivery"]["attempts"]) for o in job["outputs"]] == [
        ("delivered", 3), ("failed", 1), ("delivered", 1), None,
    ]  # fmt: skip
    assert job["outputs"][1]["delivery"]["status_code"] == 403
    assert any(warning.startswith("gif: not delivered to 127.0.0.1:") for warning in job["warnings"])
    for output in job["outputs"]:
        kept = requests.get(output["url"], timeout=60).content
        assert len(kept) == output["bytes"]
        for path, headers, body in receiver.got:
            if headers["Content-Type"] == output["mime"]:
                assert body == kept
                assert SECRET in path
                assert headers["x-private"] == "5ec4e7-header"
    reasons = [row["reason"] for row in call(service, "GET", f"/v1/jobs/{job['id']}/history")["items"]]
    assert reasons[-3:] == ["its outputs are delivered next", "delivery began", "completed"]
    assert "5ec4e7" not in repr(job)
    with sqlite3.connect(service.data_dir / "alphareel.db") as database:
        assert "5ec4e7" not in "\n".join(database.iterdump())
    assert "5ec4e7" not in service.log()


def test_an_export_is_sent_even_if_an_equal_one_was_made(service, tmp_path, receiver):
    job_id = submit(service, upload(service, tmp_path))
    assert ended(service, job_id)["status"] == "completed"
    made = {"format": "gif"}
    first = call(service, "POST", f"/v1/jobs/{job_id}/exports", json=made)["id"]
    sent = call(service, "POST", f"/v1/jobs/{job_id}/exports", json={**made, **target(receiver, "gif")})["id"]
    assert sent != first

    def done():
        export = call(service, "GET", f"/v1/jobs/{job_id}/exports/{sent}")
        return export if export["status"] == "completed" else None

    assert wait_for(done)["delivery"]["status"] == "delivered"
    assert [headers["Content-Type"] for _, headers, _ in receiver.got] == ["image/gif"]


def test_a_service_that_is_killed_while_it_sends_sends_again_and_makes_nothing_again(tmp_path, receiver):
    service = serve(tmp_path).wait_until_it_listens()
    job_id = submit(service, upload(service, tmp_path), **target(receiver, "hang"))
    wait_for(lambda: "hang" in receiver.asked)
    assert call(service, "GET", f"/v1/jobs/{job_id}")["status"] == "processing"
    service.process.kill()
    service.wait()
    receiver.hangs.set()
    with serve(tmp_path) as service:
        job = ended(service, job_id)
        assert (job["status"], job["attempts"]) == ("completed", 1)
        assert job["outputs"][0]["delivery"]["status"] == "delivered"
        assert len(receiver.got) == 1
        assert receiver.got[0][2] == requests.get(job["output_url"], timeout=60).content


def test_a_test_job_is_delivered_too(service, receiver):
    fields = {"test": {"outcome": "success", "seconds": 0}, **target(receiver, "test")}
    job = ended(service, submit(service, "https://example.com/a.mp4", **fields))
    assert job["status"] == "completed", job
    assert job["outputs"][0]["delivery"]["status"] == "delivered"
    assert len(receiver.got) == 1
