"""Behavior that needs real sockets: refusals during a body, disconnects, slow clients, load."""

import contextlib
import ipaddress
import json
import select
import socket
import threading
import time

import pytest
import requests
from starlette.responses import StreamingResponse
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from alphareel.http.app import create_app
from alphareel.http.body_timeouts import BodyTimeouts
from alphareel.http.connection_limits import (
    ConnectionLimiter,
    limit_connections,
    limit_request_head,
    limit_slow_readers,
)
from alphareel.http.large_bodies import pass_large_bodies
from alphareel.testing.fakes import TINY_MP4, make_settings

BIG = 16 * 1024 * 1024


@pytest.fixture(scope="module", params=["httptools", "h11", "large bodies"])
def server(request, harness, serve):
    protocol = pass_large_bodies(HttpToolsProtocol) if request.param == "large bodies" else request.param
    config = make_settings(limits={"max_upload_bytes": 9_000_000}, http={"drain_seconds": 60})
    with serve(create_app(harness.services, config), protocol) as running:
        yield running


@pytest.fixture(scope="module", params=["httptools", "h11", "large bodies"])
def hasty_server(request, harness, serve):
    """A server with so little patience that a busy machine may cut off any client."""
    protocol = pass_large_bodies(HttpToolsProtocol) if request.param == "large bodies" else request.param
    config = make_settings(http={"idle_seconds": 0.5, "drain_seconds": 1})
    with serve(create_app(harness.services, config), protocol) as running:
        yield running


@pytest.fixture
def headers(key):
    return {"X-Api-Key": key}


def connected(server):
    return contextlib.closing(socket.create_connection(("127.0.0.1", server.port), timeout=60))


def incoming(harness):
    return list(harness.services.uploads._settings.incoming.glob("*"))


def wait_until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def zeros(size):
    for _ in range(size // 65536):
        yield bytes(65536)


def test_part_without_a_type_as_requests_sends_it(server, headers):
    response = requests.post(
        f"{server.url}/v1/uploads", headers=headers, files={"file": ("in.mp4", TINY_MP4)}, timeout=60
    )
    assert response.status_code == 200
    assert response.json()["filename"] == "in.mp4"


@pytest.mark.parametrize("key_header", [{}, {"X-Api-Key": "wrong"}])
def test_client_that_sends_everything_first_still_sees_401(server, key_header):
    files = {"file": ("in.mp4", bytes(BIG))}
    response = requests.post(f"{server.url}/v1/uploads", headers=key_header, files=files, timeout=60)
    assert response.status_code == 401
    assert response.json()["error"]["code"] in ("missing_api_key", "invalid_api_key")


def test_file_too_large_by_its_length_sees_the_json(server, headers, harness):
    files = {"file": ("in.mp4", bytes(11_000_000))}
    response = requests.post(f"{server.url}/v1/uploads", headers=headers, files=files, timeout=60)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "file_too_large")
    assert incoming(harness) == []


def test_file_too_large_in_chunks_sees_the_json(server, headers, harness):
    def body():
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        yield from zeros(BIG)

    form = {**headers, "Content-Type": "multipart/form-data; boundary=b"}
    response = requests.post(f"{server.url}/v1/uploads", headers=form, data=body(), timeout=60)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "file_too_large")
    assert incoming(harness) == []


def test_refused_json_body_of_any_size_sees_the_json(server, headers):
    response = requests.post(f"{server.url}/v1/jobs", headers=headers, data=b"{" + b" " * 1_900_000, timeout=60)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


def test_refused_client_that_never_stops_sending_is_cut_off(hasty_server):
    def send_for(seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            connection.sendall(b"10000\r\n" + bytes(65536) + b"\r\n")

    with connected(hasty_server) as connection:
        connection.sendall(b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(ConnectionError):
            send_for(60)


def test_a_refused_client_that_stops_sending_is_disconnected(hasty_server):
    with connected(hasty_server) as connection:
        connection.sendall(b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n\r\n" + bytes(100))
        assert b"missing_api_key" in read_to_end(connection)


def test_connection_stays_open_after_small_refusals(server):
    with requests.Session() as session:
        for _ in range(3):
            response = session.post(f"{server.url}/v1/jobs", json={"video_url": "x"}, timeout=60)
            assert response.status_code == 401
            assert response.headers.get("connection", "keep-alive") != "close"


def test_a_client_that_expects_100_continue_never_sends_a_refused_body(server):
    with connected(server) as connection:
        connection.sendall(
            b"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\nExpect: 100-continue\r\n"
            b"Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        )
        response = read_to_end(connection)
    assert response.startswith(b"HTTP/1.1 401")
    assert b"missing_api_key" in response


def test_a_client_that_disconnects_during_an_upload_leaves_nothing_behind(server, key, harness):
    with connected(server) as connection:
        connection.sendall(upload_head(key, 900_000) + bytes(300_000))
        wait_until(lambda: incoming(harness))
    wait_until(lambda: not incoming(harness))


def test_a_stalled_body_times_out(hasty_server, key, harness):
    with connected(hasty_server) as connection:
        connection.sendall(upload_head(key, 60_000) + bytes(3000))
        response = read_response(connection)
    assert b" 400 " in response
    assert b"No data arrived for 0.5 seconds" in response
    wait_until(lambda: not incoming(harness))


def test_a_trickling_body_times_out(harness, serve, key):
    slow = {"idle_seconds": 20, "min_body_rate": 10_000, "grace_seconds": 0.3}
    app = create_app(harness.services, make_settings(http=slow))
    with serve(app) as running, connected(running) as connection:
        connection.sendall(upload_head(key, 60_000))
        answered, sent = [], 0
        while not answered and sent < 60_000:
            connection.sendall(bytes(50))
            sent += 50
            answered, _, _ = select.select([connection], [], [], 0.05)
        response = read_response(connection)
    assert b" 400 " in response
    assert b"The body arrives too slowly: " in response
    assert b"at least 10000 bytes per second" in response
    wait_until(lambda: not incoming(harness))


@pytest.mark.parametrize(
    ("waited", "received", "too_slow"),
    [(59, 0, False), (61, 0, True), (61, 16_000, True), (61, 17_000, False), (3600, 60_000_000, False)],
)
def test_the_time_limit_grows_with_the_bytes_received(waited, received, too_slow):
    assert BodyTimeouts().is_too_slow(waited, received) is too_slow
    assert not BodyTimeouts(bytes_per_second=0).is_too_slow(waited, received)


def test_a_stalled_json_body_times_out(hasty_server, key):
    with connected(hasty_server) as connection:
        head = f"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b"{")
        assert b"No data arrived for 0.5 seconds" in read_response(connection)


def test_an_unreadable_file_breaks_the_download_instead_of_truncating_it(server, headers, harness, monkeypatch, logs):
    uploaded = requests.post(
        f"{server.url}/v1/uploads", headers=headers, files={"file": ("a", TINY_MP4 + bytes(100_000))}, timeout=60
    ).json()

    def breaks(_key, _start, _length):
        yield bytes(1000)
        raise OSError("the disk is gone")

    monkeypatch.setattr(harness.blobs, "read", breaks)
    with pytest.raises(requests.RequestException):
        requests.get(uploaded["video_url"], timeout=60)
    wait_until(lambda: any("the disk is gone" in line.get("exception", "") for line in logs()))


def test_a_client_that_disconnects_during_a_download_does_no_harm(server, headers, harness, tmp_path):
    large = tmp_path / "large"
    large.write_bytes(TINY_MP4 + bytes(900_000))
    with large.open("rb") as file:
        url = requests.post(f"{server.url}/v1/uploads", headers=headers, files={"file": file}, timeout=60).json()[
            "video_url"
        ]
    path = url.removeprefix(server.url)
    with connected(server) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        connection.recv(100)
    assert len(requests.get(url, timeout=60).content) == large.stat().st_size
    part = requests.get(url, headers={"Range": "bytes=900000-"}, timeout=60)
    assert (part.status_code, len(part.content)) == (206, large.stat().st_size - 900_000)


def test_many_uploads_at_once_arrive_whole(server, headers):
    results = []

    def send(n):
        content = TINY_MP4 + bytes([n]) * 400_000
        posted = requests.post(f"{server.url}/v1/uploads", headers=headers, files={"file": ("a", content)}, timeout=60)
        results.append(requests.get(posted.json()["video_url"], timeout=60).content == content)

    threads = [threading.Thread(target=send, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 6


def upload_head(key, length):
    form = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    head = (
        f"POST /v1/uploads HTTP/1.1\r\nHost: x\r\nX-Api-Key: {key}\r\nContent-Length: {length}\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )
    return head.encode() + form


def read_response(connection):
    response = b""
    while b"\r\n\r\n" not in response or not is_json(response.partition(b"\r\n\r\n")[2]):
        piece = connection.recv(65536)
        if not piece:
            break
        response += piece
    return response


def is_json(text):
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def read_to_end(connection):
    response = b""
    while piece := connection.recv(65536):
        response += piece
    return response


@pytest.fixture(params=["httptools", "h11"])
def guarded(request, harness, serve):
    protocol = {"httptools": HttpToolsProtocol, "h11": H11Protocol}[request.param]
    with serve(
        create_app(harness.services, make_settings()), limit_request_head(protocol, seconds=1, size=20_000)
    ) as running:
        yield running


@pytest.mark.parametrize("beginning", [b"", b"GET /livez HTTP/1.1\r\nHost: x\r\nX-More: "])
def test_an_idle_connection_is_closed(guarded, beginning):
    with connected(guarded) as connection:
        connection.sendall(beginning)
        assert connection.recv(1000) == b""


def test_an_idle_keep_alive_connection_is_closed(guarded):
    with connected(guarded) as connection:
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert read_response(connection).startswith(b"HTTP/1.1 200 OK")
        connection.sendall(b"GET /livez HT")
        assert connection.recv(1000) == b""


def test_an_endless_header_is_refused_before_it_fills_memory(guarded):
    sent = 0
    with connected(guarded) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\nX-More: ")
        while sent < 64 * 1024 * 1024:
            sent += connection.send(b"x" * 65536)
    assert sent < 64 * 1024 * 1024


@pytest.mark.parametrize(
    "nonsense", [b"\x16\x03\x01 not http\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 30_000]
)
def test_bytes_that_are_not_http_are_refused_in_the_error_shape(guarded, nonsense):
    with connected(guarded) as connection:
        connection.sendall(nonsense)
        head, _, body = read_to_end(connection).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json")
    assert json.loads(body)["error"]["code"] == "invalid_request"


@pytest.fixture
def crowded(harness, serve):
    with serve(
        create_app(harness.services, make_settings()), limit_request_head(limit_connections(ConnectionLimiter(2)))
    ) as running:
        yield running


def ask_well(connection):
    connection.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    return read_response(connection)


def test_connections_beyond_the_limit_of_an_address_are_refused_until_one_closes(crowded):
    with connected(crowded) as first:
        assert ask_well(first).startswith(b"HTTP/1.1 200 OK")
        with connected(crowded) as second:
            assert ask_well(second).startswith(b"HTTP/1.1 200 OK")
            with connected(crowded) as third:
                head, _, body = read_to_end(third).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5")
        assert json.loads(body)["error"]["code"] == "rate_limited"
        assert ask_well(first).startswith(b"HTTP/1.1 200 OK")

        def comes_in():
            with connected(crowded) as another, contextlib.suppress(ConnectionError):
                return ask_well(another).startswith(b"HTTP/1.1 200 OK")

        wait_until(comes_in)


@pytest.mark.parametrize(
    ("peer", "holder"),
    [
        (("192.0.2.7", 5000), "192.0.2.7/32"),
        (("::ffff:192.0.2.7", 5000, 0, 0), "192.0.2.7/32"),
        (("2001:db8:1:2:3:4:5:6", 5000, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5000, 0, 2), "fe80::/64"),
        (("10.0.0.9", 5000), None),
        (("::ffff:10.0.0.9", 5000, 0, 0), None),
        ("", None),
        (None, None),
    ],
)
def test_connections_count_for_the_holder_of_an_address_and_not_for_a_proxy(peer, holder):
    limiter = ConnectionLimiter(3, (ipaddress.ip_network("10.0.0.0/8"),))
    assert limiter.holder(peer) == (ipaddress.ip_network(holder) if holder else None)
    assert ConnectionLimiter(0).holder(peer) is None


def test_a_response_slower_than_the_head_timeout_is_not_cut_off(harness, serve, headers):
    app = create_app(harness.services, make_settings())

    @app.get("/slow")
    def slow() -> dict[str, bool]:
        time.sleep(1.5)
        return {"success": True}

    with serve(app, limit_request_head(seconds=1)) as running, connected(running) as connection:
        connection.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n\r\n")
        assert read_response(connection).endswith(b'{"success":true}')


@pytest.fixture(params=["httptools", "h11"])
def slow_reader_server(request, harness, serve):
    """Makes a server that waits for slow readers as ``timeouts`` says, with one response of 12 MB."""
    protocol = {"httptools": HttpToolsProtocol, "h11": H11Protocol}[request.param]
    app = create_app(harness.services, make_settings())

    @app.get("/big")
    def big() -> StreamingResponse:
        return StreamingResponse(zeros(12_000_000))

    return lambda timeouts: serve(app, limit_request_head(limit_slow_readers(protocol, timeouts=timeouts)))


def is_cut(connection):
    """Whether the server ends the response early; ``connection`` reads what is left of it."""
    connection.settimeout(60)
    try:
        return not read_to_end(connection).endswith(b"0\r\n\r\n")
    except ConnectionError:
        return True


def slow_connection(running):
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.connect(("127.0.0.1", running.port))
    connection.sendall(b"GET /big HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    return contextlib.closing(connection)


def test_a_stalled_reader_is_cut_off(slow_reader_server, logs):
    with slow_reader_server(BodyTimeouts(idle_seconds=0.5)) as running, slow_connection(running) as connection:
        wait_until(lambda: any(line["event"] == "slow reader cut off" for line in logs()))
        assert is_cut(connection)


def test_a_trickling_reader_is_cut_off(slow_reader_server, logs):
    timeouts = BodyTimeouts(idle_seconds=2, bytes_per_second=100_000_000, grace_seconds=0.5)
    with slow_reader_server(timeouts) as running, slow_connection(running) as connection:
        deadline = time.monotonic() + 100
        with contextlib.suppress(ConnectionError):
            while connection.recv(4096) and time.monotonic() < deadline:
                time.sleep(0.005)
        assert time.monotonic() < deadline
        assert any(line["event"] == "slow reader cut off" for line in logs())


def test_a_reader_that_pauses_and_resumes_gets_everything(slow_reader_server):
    with (
        slow_reader_server(BodyTimeouts(idle_seconds=60, bytes_per_second=1000)) as running,
        slow_connection(running) as connection,
    ):
        time.sleep(1)
        assert not is_cut(connection)


def test_a_form_with_endless_other_fields_is_refused(server, headers):
    def body():
        yield b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\n'
        yield from zeros(BIG)

    form = {**headers, "Content-Type": "multipart/form-data; boundary=b"}
    response = requests.post(f"{server.url}/v1/uploads", headers=form, data=body(), timeout=60)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")
    assert "the fields beside file have more than 1048576 bytes" in response.json()["error"]["message"]
