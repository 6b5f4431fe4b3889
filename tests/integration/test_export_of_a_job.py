"""``alphareel export JOB``: the server exports, the command downloads, against a server that plays the service."""

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

JOB = "job_" + "0a" * 20
FILE = b"the export"
OUTPUT = {"format": "mov", "sha256": hashlib.sha256(FILE).hexdigest(), "size": len(FILE)}


class Service(BaseHTTPRequestHandler):
    """Answers every request for an export with a completed one."""

    requests: list[str]

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(json.dumps({"id": "exp_1"}).encode())

    def do_GET(self) -> None:
        export = {"status": "completed", "progress": 100.0, "output": OUTPUT, "output_url": "/files/a.mov"}
        self._answer(FILE if self.path == "/files/a.mov" else json.dumps(export).encode())

    def _answer(self, body: bytes) -> None:
        self.requests.append(f"{self.command} {self.path}")
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def requests(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The requests that the service got; the command knows its address and a key."""
    Service.requests = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Service) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("ALPHAREEL_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("ALPHAREEL_API_KEY", "a key")
        yield Service.requests
        server.shutdown()


def test_an_export_of_a_job_is_downloaded(requests, command, tmp_path):
    target = tmp_path / "talk.mov"
    assert command("export", JOB, target) == (0, f"{target}\n", "")
    assert target.read_bytes() == FILE
    assert requests == [f"POST /v1/jobs/{JOB}/exports", f"GET /v1/jobs/{JOB}/exports/exp_1", "GET /files/a.mov"]


def test_a_file_that_exists_is_refused_before_any_request_and_replaced_on_demand(requests, command, tmp_path):
    target = tmp_path / "talk.mov"
    target.write_bytes(b"former")
    code, _, err = command("export", JOB, target)
    assert (code, f"{target} exists." in err, requests) == (2, True, [])
    assert command("export", JOB, target, "--overwrite")[0] == 0
    assert target.read_bytes() == FILE


def test_what_was_downloaded_can_be_read_as_json(requests, command, tmp_path):
    code, told, _ = command("export", JOB, tmp_path / "talk.mov", "--json")
    assert (code, json.loads(told)) == (0, [{"path": str(tmp_path / "talk.mov"), **OUTPUT}])
