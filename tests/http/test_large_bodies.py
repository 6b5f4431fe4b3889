"""Large bodies go to the application as they arrived: whole, in order, and without filling memory."""

import asyncio
import contextlib
import hashlib
import random
import socket
import threading
import time

import pytest
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alphareel.http.connection_limits import limit_request_head
from alphareel.http.large_bodies import LARGE_BODY, MAX_WAITING, pass_large_bodies

SIZE = 5 * LARGE_BODY + 12_345
BODY = random.Random(3).randbytes(SIZE)


class Application:
    """Answers with the hash of the body. ``slow``: seconds before each message that it receives."""

    def __init__(self):
        self.slow = 0.0
        self.reads = True
        self.sizes = []
        self.ends = []

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return
        digest, more = hashlib.sha256(), self.reads
        while more:
            await asyncio.sleep(self.slow)
            message = await receive()
            if message["type"] == "http.disconnect":
                self.ends.append("disconnect")
                return
            digest.update(message["body"])
            self.sizes.append(len(message["body"]))
            more = message["more_body"]
        answer = digest.hexdigest().encode()
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [(b"content-length", str(len(answer)).encode())],
            }
        )
        await send({"type": "http.response.body", "body": answer})
        if self.reads:
            self.ends.append((await receive())["type"])


@pytest.fixture
def application():
    return Application()


@pytest.fixture
def server(application, serve):
    with serve(application, limit_request_head(pass_large_bodies(HttpToolsProtocol))) as running:
        yield running


def connected(server):
    return contextlib.closing(socket.create_connection(("127.0.0.1", server.port), timeout=10))


def head(length, *more):
    return "\r\n".join(("POST / HTTP/1.1", "Host: x", f"Content-Length: {length}", *more, "", "")).encode()


def answers(connection, count):
    received = b""
    while received.count(b"HTTP/1.1 200 OK") < count or len(received.rpartition(b"\r\n\r\n")[2]) < 64:
        piece = connection.recv(65536)
        assert piece, received
        received += piece
    return [part.rpartition(b"\r\n\r\n")[2][:64].decode() for part in received.split(b"HTTP/1.1 ")[1:]]


def digest(body):
    return hashlib.sha256(body).hexdigest()


@pytest.mark.parametrize("seed", range(4))
def test_a_large_body_arrives_whole_however_it_is_cut(server, seed):
    cuts = random.Random(seed)
    data = head(SIZE) + BODY
    with connected(server) as connection:
        while data:
            size = cuts.choice((1, 100, 70_000, 600_000, 4_000_000))
            connection.sendall(data[:size])
            data = data[size:]
        assert answers(connection, 1) == [digest(BODY)]


def test_requests_behind_a_large_body_are_answered_on_the_same_connection(server):
    small = head(5) + b"small"
    with connected(server) as connection:
        threading.Thread(
            target=connection.sendall, args=(head(SIZE) + BODY + small + head(SIZE) + BODY + small,), daemon=True
        ).start()
        expected = [digest(BODY), digest(b"small")]
        assert answers(connection, 4) == expected * 2


def test_a_large_body_in_chunks_goes_through_the_parser(server):
    with connected(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        connection.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (SIZE, BODY))
        assert answers(connection, 1) == [digest(BODY)]


def test_a_client_that_waits_for_100_continue_is_told_to_go_on(server):
    with connected(server) as connection:
        connection.sendall(head(SIZE, "Expect: 100-continue"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(BODY)
        assert answers(connection, 1) == [digest(BODY)]


def test_a_client_that_is_gone_in_the_middle_is_a_disconnect(server, application):
    with connected(server) as connection:
        connection.sendall(head(SIZE) + BODY[: SIZE // 2])
        time.sleep(0.2)
    deadline = time.monotonic() + 60
    while not application.ends:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert application.ends == ["disconnect"]


def test_a_slow_application_holds_little_of_a_body(server, application):
    application.slow = 0.05
    with connected(server) as connection:
        connection.sendall(head(SIZE) + BODY)
        assert answers(connection, 1) == [digest(BODY)]
    assert max(application.sizes) <= MAX_WAITING
    assert len(application.sizes) > SIZE / MAX_WAITING


def test_what_comes_behind_an_answer_that_was_sent_early_is_dropped(server, application):
    application.reads = False
    with connected(server) as connection:
        connection.sendall(head(SIZE) + BODY[:1000])
        assert answers(connection, 1) == [digest(b"")]
        connection.sendall(BODY[1000:] + head(5) + b"small")
        assert answers(connection, 1) == [digest(b"")]
