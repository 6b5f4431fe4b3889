"""The connections of the chaos program: open, cut, silent and slow."""

import socket
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest
from benchmarks.faulty_link import DELAY, FaultyLink


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while piece := self.request.recv(1000):
            self.request.sendall(piece)


@pytest.fixture
def link() -> Iterator[FaultyLink]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        link = FaultyLink(server.server_address[1])
        yield link
        link.close()
        server.shutdown()


def connected(link: FaultyLink, timeout: float = 60) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=timeout)


def echo(connection: socket.socket, text: bytes) -> bytes:
    connection.sendall(text)
    return connection.recv(1000)


def is_broken(connection: socket.socket) -> bool:
    try:
        return echo(connection, b"x") == b""
    except ConnectionError:
        return True


def test_an_open_link_forwards(link: FaultyLink) -> None:
    with connected(link) as one, connected(link) as two:
        assert (echo(one, b"a"), echo(two, b"b"), echo(one, b"c")) == (b"a", b"b", b"c")


def test_a_cut_link_breaks_its_connections_and_accepts_none(link: FaultyLink) -> None:
    with connected(link) as before:
        assert echo(before, b"a") == b"a"
        link.set("cut")
        assert is_broken(before)
    with connected(link) as refused:
        assert is_broken(refused)
    link.set("open")
    with connected(link) as after:
        assert echo(after, b"e") == b"e"


def test_a_silent_link_forwards_later_what_was_sent(link: FaultyLink) -> None:
    with connected(link) as connection:
        assert echo(connection, b"a") == b"a"
        link.set("silent")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            echo(connection, b"b")
        link.set("open")
        connection.settimeout(60)
        assert connection.recv(1000) == b"b"


def test_a_slow_link_delays(link: FaultyLink) -> None:
    link.set("slow")
    with connected(link) as connection:
        began = time.monotonic()
        assert echo(connection, b"a") == b"a"
        assert time.monotonic() - began >= 2 * DELAY
