"""Jobs whose videos lie at URLs, on a service with one slot: what a slow source holds up, and what a kill loses."""

import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from alphareel.matting import tiers
from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY = "a key of the tests"
HEADERS = {"X-Api-Key": KEY}


class Source(BaseHTTPRequestHandler):
    """/drip sends a byte a second for ever; anything else is the clip."""

    clip = b""
    open_drips = 0
    served = 0

    def do_GET(self):
        self.send_response(200)
        if self.path != "/drip":
            type(self).served += 1
            self.send_header("Content-Length", str(len(self.clip)))
            self.end_headers()
            self.wfile.write(self.clip)
            return
        self.end_headers()
        type(self).open_drips += 1
        try:
            while True:
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.2)
        except OSError:
            type(self).open_drips -= 1

    def log_message(self, *args): ...


@pytest.fixture
def source(tmp_path):
    if tiers.serving("original", None) is None:
        pytest.skip("no engine serves the tier original here")
    clip = make_clip(tmp_path / "in.mp4", width=160, height=120, frames=25).path
    handler = type("Handler", (Source,), {"clip": clip.read_bytes()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    handler.base = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield handler
    server.shutdown()
    server.server_close()


def serve(tmp_path):
    """Any rate is enough, so that the drip ends by nothing but what the test does."""
    return ServiceProcess(tmp_path / "data", API_KEY=KEY, WORKERS=1, FETCH_ALLOW_CIDRS="127.0.0.0/8", MIN_FETCH_RATE=0)


def call(service, method, path, **more):
    answer = requests.request(method, service.base + path, headers=HEADERS, timeout=60, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()


def submit(service, url):
    return call(service, "POST", "/v1/jobs", json={"video_url": url})["id"]


def status(service, job_id):
    return call(service, "GET", f"/v1/jobs/{job_id}")["status"]


def test_a_source_that_drips_holds_up_no_other_job_and_ends_with_its_job(tmp_path, source):
    with serve(tmp_path) as service:
        stalled = submit(service, f"{source.base}/drip")
        wait_for(lambda: source.open_drips == 1)
        quick = submit(service, f"{source.base}/clip.mp4")
        wait_for(lambda: status(service, quick) == "completed")
        assert status(service, stalled) == "processing"
        assert source.open_drips == 1
        call(service, "POST", f"/v1/jobs/{stalled}/cancel")
        wait_for(lambda: source.open_drips == 0)
        wait_for(lambda: not any((tmp_path / "data/objects/fetched").rglob("*.*")))


def test_a_service_that_is_killed_while_it_fetches_loses_nothing(tmp_path, source):
    service = serve(tmp_path).wait_until_it_listens()
    jobs = [submit(service, f"{source.base}/drip"), submit(service, f"{source.base}/clip.mp4")]
    wait_for(lambda: source.open_drips == 1)
    service.process.kill()
    service.wait()
    wait_for(lambda: source.open_drips == 0)
    with serve(tmp_path) as service:
        wait_for(lambda: source.open_drips == 1)
        wait_for(lambda: status(service, jobs[1]) == "completed")
        assert source.served in (1, 2), "again only where the kill came first"
