"""``alphareel health``, ``api`` and ``worker``: what they say, and with which exit code."""

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from alphareel.cli import serve
from alphareel.domain.errors import InvalidRequest, Unavailable


@pytest.fixture
def answer(monkeypatch):
    """Starts a server that answers each path with the status it is given."""
    servers = []

    def start(statuses):
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(statuses[self.path])
                self.end_headers()
                self.wfile.write(b'{"status":"told"}')

            def log_message(self, *_):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        monkeypatch.setenv("ALPHAREEL_PORT", str(server.server_port))
        monkeypatch.setenv("ALPHAREEL_HOST", "0.0.0.0")

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_service_that_is_ready_is_healthy(answer, capsys):
    answer({"/readyz": 200})
    serve.health()
    assert "told" in capsys.readouterr().out


def test_a_service_without_its_database_lives_but_is_not_ready(answer):
    answer({"/readyz": 503, "/livez": 200})
    serve.health(live=True)
    with pytest.raises(Unavailable, match=r"not ready: .*told"):
        serve.health()


def test_a_service_that_is_not_there_is_not_healthy(monkeypatch):
    monkeypatch.setenv("ALPHAREEL_PORT", "1")
    with pytest.raises(Unavailable, match="does not answer"):
        serve.health()
    monkeypatch.setenv("ALPHAREEL_PORT", "http")
    with pytest.raises(InvalidRequest, match="ALPHAREEL_PORT"):
        serve.health()


def test_a_worker_is_healthy_while_its_heartbeat_is_new(monkeypatch, tmp_path):
    monkeypatch.setenv("ALPHAREEL_DATA_DIR", str(tmp_path))
    with pytest.raises(Unavailable, match="No worker runs"):
        serve.health(worker=True)
    heartbeat = tmp_path / "heartbeat"
    heartbeat.touch()
    serve.health(worker=True)
    old = time.time() - 60
    os.utime(heartbeat, (old, old))
    with pytest.raises(Unavailable, match="no heartbeat for 60 s"):
        serve.health(worker=True)


def test_a_worker_needs_a_slot_and_a_queue(monkeypatch):
    for name in ("ALPHAREEL_QUEUES", "ALPHAREEL_WORKERS"):
        monkeypatch.setenv(name, "")
    with pytest.raises(InvalidRequest, match="at least one slot"):
        serve.worker(slots=0)
    with pytest.raises(InvalidRequest, match="must be one or more of jobs, fetches"):
        serve.worker(queues="jobs,videos", slots=1)
