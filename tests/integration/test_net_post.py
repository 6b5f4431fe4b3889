"""Posting to receivers that behave and to receivers that do not, on loopback that the test allows by address."""

import ipaddress
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpcore2
import pytest

from alphareel.domain.errors import FetchFailed, FetchRefused
from alphareel.service.net import ssrf_guard
from alphareel.service.net.post import GuardedPoster

HERE = [ipaddress.ip_network("127.0.0.1/32")]
FRIENDLY = GuardedPoster(HERE, seconds=60.0)
HASTY = GuardedPoster(HERE, seconds=1.0)


class Receiver(BaseHTTPRequestHandler):
    """Notes what it gets. What it does without end goes on until the test is over."""

    got: list[tuple[str, dict[str, str], bytes]]
    over: threading.Event

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append((self.path, dict(self.headers), body))
        route = self.path.strip("/").partition("/")[0]
        getattr(self, f"_{route}", self._fine)()

    def _answer(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"{}") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _fine(self) -> None:
        self._answer(200)

    def _status(self) -> None:
        self._answer(int(self.path.rpartition("/")[2]))

    def _redirect(self) -> None:
        self._answer(302, {"Location": "/elsewhere"})

    def _hang(self) -> None:
        self.over.wait(200)

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        self._pour(b"x", pause=0.05)

    def _flood(self) -> None:
        self.send_response(200)
        self.end_headers()
        self._pour(b"x" * 65536, pause=0)

    def _interim(self) -> None:
        self._pour(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, pause=0)

    def _nonsense(self) -> None:
        self.wfile.write(b"hello\r\n\r\n")

    def _headers(self) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\n")
        self._pour(b"X-More: x\r\n", pause=0.05)

    def _pour(self, piece: bytes, *, pause: float) -> None:
        try:
            while not self.over.is_set():
                self.wfile.write(piece)
                self.wfile.flush()
                time.sleep(pause)
        except OSError:
            pass

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def receiver() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Receiver,), {"got": [], "over": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    handler.over.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


def post(receiver: ThreadingHTTPServer, path: str, host: str = "127.0.0.1", poster: GuardedPoster = FRIENDLY) -> int:
    return poster.post(f"http://{host}:{receiver.server_port}{path}", {"X-Name": "value"}, b'{"a": 1}')


def got(receiver: ThreadingHTTPServer) -> list[Any]:
    return receiver.RequestHandlerClass.got  # type: ignore[attr-defined]


def test_the_bytes_and_headers_arrive(receiver: ThreadingHTTPServer) -> None:
    assert post(receiver, "/hook?x=1") == 200
    ((path, headers, body),) = got(receiver)
    assert (path, headers["X-Name"], body) == ("/hook?x=1", "value", b'{"a": 1}')
    assert headers["Host"] == f"127.0.0.1:{receiver.server_port}"


@pytest.mark.parametrize("status", [204, 400, 410, 500, 503])
def test_the_status_is_told_as_it_is(status: int, receiver: ThreadingHTTPServer) -> None:
    assert post(receiver, f"/status/{status}") == status


def test_a_redirect_is_not_followed(receiver: ThreadingHTTPServer) -> None:
    assert post(receiver, "/redirect") == 302
    assert [path for path, _, _ in got(receiver)] == ["/redirect"]


@pytest.mark.parametrize("path", ["/hang", "/headers"])
def test_a_receiver_that_does_not_answer_costs_no_more_than_its_time(path: str, receiver: ThreadingHTTPServer) -> None:
    with pytest.raises(FetchFailed):
        post(receiver, path, poster=HASTY)


@pytest.mark.parametrize(("path", "seconds"), [("/drip", 3.0), ("/flood", 60.0)])
def test_an_answer_without_end_is_cut_and_counts_by_its_status(
    path: str, seconds: float, receiver: ThreadingHTTPServer
) -> None:
    assert post(receiver, path, poster=GuardedPoster(HERE, seconds=seconds)) == 200


@pytest.mark.parametrize("path", ["/interim", "/nonsense"])
def test_a_response_that_is_none_is_told_as_such(path: str, receiver: ThreadingHTTPServer) -> None:
    """Interim responses without end cost a core for as long as they are read."""
    with pytest.raises(FetchFailed, match="sent no valid response"):
        post(receiver, path)


def test_nobody_there_is_a_failure(receiver: ThreadingHTTPServer) -> None:
    port = receiver.server_port
    receiver.shutdown()
    receiver.server_close()
    with pytest.raises(FetchFailed):
        FRIENDLY.post(f"http://127.0.0.1:{port}/", {}, b"")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://169.254.169.254/latest/",
        "http://10.0.0.1/",
        "http://user:secret@127.0.0.1:{port}/",
        "ftp://127.0.0.1:{port}/",
    ],
)
def test_a_private_address_is_refused_without_a_connection(url: str, receiver: ThreadingHTTPServer) -> None:
    with pytest.raises(FetchRefused):
        GuardedPoster().post(url.format(port=receiver.server_port), {}, b"")
    assert got(receiver) == []


def test_a_name_that_resolves_to_a_private_address_is_refused(
    receiver: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssrf_guard, "_resolve", lambda *_: iter([ipaddress.ip_address("192.168.0.7")]))
    with pytest.raises(FetchRefused):
        post(receiver, "/", host="hook.example.com")


def test_a_name_that_is_never_resolved_costs_no_more_than_the_time_of_the_exchange(
    receiver: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: never.wait(200))
    with pytest.raises(FetchFailed, match="within 1 seconds"):
        post(receiver, "/", host="hook.example.com", poster=HASTY)
    never.set()


def test_a_name_with_many_dead_addresses_costs_no_more_than_the_time_of_the_exchange(
    receiver: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[float] = []

    def connect_tcp(_self: Any, _host: str, _port: int, *, timeout: float, **_: Any) -> Any:
        tried.append(timeout)
        never.wait(timeout)
        raise httpcore2.ConnectTimeout

    never = threading.Event()
    many = [ipaddress.ip_address(f"127.0.0.{n}") for n in range(1, 9)]
    monkeypatch.setattr(ssrf_guard, "_resolve", lambda *_: iter(many))
    monkeypatch.setattr(httpcore2.SyncBackend, "connect_tcp", connect_tcp)
    poster = GuardedPoster([ipaddress.ip_network("127.0.0.0/24")], seconds=0.3)
    with pytest.raises(FetchFailed, match="within"):
        poster.post("http://hook.example.com/", {}, b"")
    assert sum(tried) <= 0.31


def test_a_name_that_cannot_be_resolved_is_told_as_such(
    receiver: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(FetchFailed, match="cannot be resolved"):
        post(receiver, "/", host="hook.example.com")


def test_a_name_that_changes_its_mind_is_resolved_only_once(
    receiver: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def resolve(host: str, _port: int) -> Iterator[Any]:
        asked.append(host)
        return iter([ipaddress.ip_address("127.0.0.1" if len(asked) == 1 else "10.0.0.1")])

    monkeypatch.setattr(ssrf_guard, "_resolve", resolve)
    assert post(receiver, "/", host="hook.example.com") == 200
    assert asked == ["hook.example.com"]
