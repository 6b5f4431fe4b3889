"""Sending files to receivers that behave and to receivers that do not, on loopback that the test allows by address."""

import ipaddress
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from alphareel.domain.errors import FetchFailed, FetchRefused, StorageFailed
from alphareel.service.net.put import GuardedSender, ReceiverTooSlow
from alphareel.service.settings import FetchSettings

LOOPBACK = (ipaddress.ip_network("127.0.0.1/32"),)
FRIENDLY = GuardedSender(FetchSettings(allow_cidrs=LOOPBACK, connect_seconds=60.0, idle_seconds=60.0))
HASTY = GuardedSender(FetchSettings(allow_cidrs=LOOPBACK, connect_seconds=60.0, idle_seconds=1.0))
DATA = [b"ab" * 40_000, b"c"]
SIZE = 80_001


class Receiver(BaseHTTPRequestHandler):
    got: list[tuple[str, dict[str, str], bytes]]
    over: threading.Event

    def do_PUT(self) -> None:
        route = self.path.strip("/").partition("/")[0].partition("?")[0]
        if route == "early":
            self.send_response(403)
            self.send_header("Content-Length", "0")
            self.end_headers()
            self.rfile.read(int(self.headers["Content-Length"]))
            return
        if route == "stuck":
            self.over.wait(200)
            return
        if route == "slow":
            for _ in range(30):
                self.rfile.read(1000)
                time.sleep(0.1)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if len(body) < int(self.headers["Content-Length"]):  # the sender gave up
            return
        type(self).got.append((self.path, dict(self.headers), body))
        self.send_response(302 if route == "redirect" else 200)
        if route == "redirect":
            self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "10" if route == "broken" else "2")
        self.end_headers()
        self.wfile.write(b"{}")

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


def send(receiver: ThreadingHTTPServer, path: str, sender: GuardedSender = FRIENDLY, **more: Any) -> int:
    url = f"http://127.0.0.1:{receiver.server_port}/{path}"
    given = {"headers": {"Content-Type": "video/webm"}, "pieces": iter(DATA), "size": SIZE, "seconds": 100.0, **more}
    return sender.send(url, **given)


def test_a_file_arrives_with_its_length_its_type_and_the_query(receiver: ThreadingHTTPServer) -> None:
    assert send(receiver, "a?X-Amz-Signature=1%2F2&b=c", headers={"Content-Type": "video/webm", "x-a": "1"}) == 200
    path, headers, body = receiver.RequestHandlerClass.got[0]  # type: ignore[attr-defined]
    assert path == "/a?X-Amz-Signature=1%2F2&b=c"
    assert body == b"".join(DATA)
    assert headers["Content-Length"] == str(SIZE)
    assert (headers["Content-Type"], headers["x-a"]) == ("video/webm", "1")
    assert "Transfer-Encoding" not in headers


def test_a_redirect_is_not_followed(receiver: ThreadingHTTPServer) -> None:
    assert send(receiver, "redirect") == 302
    assert len(receiver.RequestHandlerClass.got) == 1  # type: ignore[attr-defined]


def test_a_refusal_before_the_body_is_heard(receiver: ThreadingHTTPServer) -> None:
    assert send(receiver, "early") == 403


def test_an_answer_that_breaks_off_is_no_success(receiver: ThreadingHTTPServer) -> None:
    with pytest.raises(FetchFailed, match="cannot be reached"):
        send(receiver, "broken")


def test_a_silent_receiver_may_be_asked_again(receiver: ThreadingHTTPServer) -> None:
    with pytest.raises(FetchFailed, match="silent for 1 seconds") as failed:
        send(receiver, "stuck", HASTY)
    assert failed.value.retryable


def test_a_receiver_that_needs_too_long_is_not_asked_again(receiver: ThreadingHTTPServer) -> None:
    with pytest.raises(ReceiverTooSlow) as failed:
        send(receiver, "slow", seconds=0.6)
    assert not failed.value.retryable


def test_nobody_is_sent_to_in_a_private_network(receiver: ThreadingHTTPServer) -> None:
    with pytest.raises(FetchRefused):
        send(receiver, "a", GuardedSender())
    assert receiver.RequestHandlerClass.got == []  # type: ignore[attr-defined]


def test_a_port_where_nobody_listens() -> None:
    with pytest.raises(FetchFailed, match="cannot be reached"):
        FRIENDLY.send("http://127.0.0.1:9/a", {}, iter(DATA), size=SIZE, seconds=60)


def test_a_tick_ends_it(receiver: ThreadingHTTPServer) -> None:
    class Ended(Exception):
        pass

    def tick() -> None:
        raise Ended

    with pytest.raises(Ended):
        send(receiver, "a", tick=tick)


def test_a_file_that_cannot_be_read_is_the_storages_fault(receiver: ThreadingHTTPServer) -> None:
    def pieces() -> Iterator[bytes]:
        yield DATA[0]
        raise StorageFailed("gone")

    with pytest.raises(StorageFailed):
        send(receiver, "a", pieces=pieces())
    assert receiver.RequestHandlerClass.got == []  # type: ignore[attr-defined]
