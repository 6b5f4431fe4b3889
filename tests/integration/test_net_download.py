"""The guarded fetch, against servers on loopback that the test allows by address."""

import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from alphareel.domain.errors import FetchFailed, FetchRefused, FileTooLarge
from alphareel.service.net.download import GuardedFetcher, SourceMissing, SourceTooSlow
from alphareel.service.net.ssrf_guard import is_public
from alphareel.service.settings import FetchSettings

HERE = (ipaddress.ip_network("127.0.0.1/32"),)
FRIENDLY = GuardedFetcher(FetchSettings(allow_cidrs=HERE))
BODY = bytes(range(256)) * 1000


class Handler(BaseHTTPRequestHandler):
    requests: list[str]
    over: threading.Event

    def do_GET(self) -> None:
        type(self).requests.append(self.path)
        route = self.path.partition("?")[0].strip("/").partition("/")[0]
        getattr(self, f"_{route}", self._file)()

    def _answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _file(self) -> None:
        self._answer(200, {"Content-Length": str(len(BODY)), "Content-Type": "video/mp4"}, BODY)

    def _chunked(self) -> None:
        self._answer(200, {}, BODY)

    def _short(self) -> None:
        self._answer(200, {"Content-Length": str(len(BODY) + 1)}, BODY)

    def _gzip(self) -> None:
        self._answer(200, {"Content-Encoding": "gzip"}, BODY)

    def _status(self) -> None:
        self._answer(int(self.path.rpartition("/")[2]), {"Content-Length": "0"})

    def _redirect(self) -> None:
        self._answer(302, {"Location": self.path.partition("?to=")[2], "Content-Length": "0"})

    def _loop(self) -> None:
        self._answer(302, {"Location": "/loop", "Content-Length": "0"})

    def _drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        try:
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)
        except OSError:
            pass

    def _tired(self) -> None:
        self._answer(200, {}, BODY)
        self._drip()

    def _silent(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.over.wait(200)

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    handler = type("Handler", (Handler,), {"requests": [], "over": threading.Event()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield server
    handler.over.set()  # type: ignore[attr-defined]
    server.shutdown()
    server.server_close()


@pytest.fixture
def base(server: ThreadingHTTPServer) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def asked(server: ThreadingHTTPServer) -> list[str]:
    return server.RequestHandlerClass.requests  # type: ignore[attr-defined]


def test_a_file_arrives_whole_and_named(base: str, tmp_path: Path) -> None:
    fetched = FRIENDLY.fetch(f"{base}/v%C3%ADdeo%20a.mp4?x=1", tmp_path / "in", max_bytes=10**6)
    assert (tmp_path / "in").read_bytes() == BODY
    assert (fetched.filename, fetched.content_type, fetched.bytes) == ("vídeo a.mp4", "video/mp4", len(BODY))


def test_an_address_with_letters_of_the_world_is_understood(base: str, tmp_path: Path) -> None:
    assert FRIENDLY.fetch(f"{base}/vídeo a.mp4", tmp_path / "in", max_bytes=10**6).filename == "vídeo a.mp4"


HOSTILE = [
    "http://127.0.0.1:{port}/",
    "http://localhost:{port}/",
    "http://127.1:{port}/",
    "http://2130706433:{port}/",
    "http://0x7f.1:{port}/",
    "http://0177.0.0.1:{port}/",
    "http://0.0.0.0:{port}/",
    "http://[::1]:{port}/",
    "http://[::]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/",
    "http://[::127.0.0.1]:{port}/",
    "http://[64:ff9b::7f00:1]:{port}/",
    "http://[64:ff9b:1::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/",
    "http://[fe80::1]:{port}/",
    "http://[fd00:ec2::254]/latest/meta-data/",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.100.100.200/latest/meta-data/",
    "http://168.63.129.16/machine",
    "http://100.64.0.1/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.1.1/",
    "http://198.18.0.1/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://user:secret@127.0.0.1:{port}/",
    "http://8.8.8.8:22/",
    "ftp://127.0.0.1:{port}/",
    "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/",
    "data:video/mp4;base64,AAAA",
    "http://",
    "http:///nowhere",
    "//127.0.0.1/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:0/",
    "http://" + 64 * "a" + ".example.com/",
    "http://a..example.com/",
    "http://[::1",
]


@pytest.mark.parametrize("url", HOSTILE)
def test_a_hostile_address_is_refused_without_a_connection(
    url: str, server: ThreadingHTTPServer, tmp_path: Path
) -> None:
    with pytest.raises(FetchRefused):
        GuardedFetcher().fetch(url.format(port=server.server_port), tmp_path / "in", max_bytes=10**6)
    assert asked(server) == []
    assert not (tmp_path / "in").exists()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::808:808", True),
        ("64:ff9b::a00:1", False),
        ("2002:0a00:0001::", False),
        ("2001:0:4136:e378:8000:63bf:f5ff:fffe", False),
        ("192.0.0.8", False),
        ("240.0.0.1", False),
        ("ff02::1", False),
        ("fec0::1", False),
        ("2001:db8::1", False),
    ],
)
def test_an_address_is_public_only_with_what_it_carries(address: str, *, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.2:{port}/secret",
        "http://[::1]:{port}/",
        "file:///etc/passwd",
        "http://127.0.0.1:99999/",
        f"http://{64 * 'a'}.example.com/",
    ],
)
def test_a_redirect_is_checked_like_the_first_address(
    target: str, server: ThreadingHTTPServer, base: str, tmp_path: Path
) -> None:
    with pytest.raises(FetchRefused):
        FRIENDLY.fetch(f"{base}/redirect?to={target.format(port=server.server_port)}", tmp_path / "in", max_bytes=10**6)
    assert len(asked(server)) == 1


def test_a_relative_redirect_is_followed(base: str, tmp_path: Path) -> None:
    assert FRIENDLY.fetch(f"{base}/redirect?to=/a.mp4", tmp_path / "in", max_bytes=10**6).bytes == len(BODY)


def test_a_redirect_to_nowhere_is_not_followed(base: str, server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="answered with status 302"):
        FRIENDLY.fetch(f"{base}/status/302", tmp_path / "in", max_bytes=10**6)
    assert len(asked(server)) == 1


def test_redirects_end(base: str, server: ThreadingHTTPServer, tmp_path: Path) -> None:
    with pytest.raises(FetchRefused, match="redirects"):
        FRIENDLY.fetch(f"{base}/loop", tmp_path / "in", max_bytes=10**6)
    assert len(asked(server)) == 6


def test_a_host_is_looked_up_once_so_that_it_cannot_change_its_mind(
    server: ThreadingHTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookups: list[str] = []
    real = socket.getaddrinfo

    def rebinding(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host != "rebind.test":
            return real(host, *args, **kwargs)
        lookups.append(host)
        return real("127.0.0.1" if len(lookups) == 1 else "127.0.0.2", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    FRIENDLY.fetch(f"http://rebind.test:{server.server_port}/a.mp4", tmp_path / "in", max_bytes=10**6)
    assert lookups == ["rebind.test"]


def test_one_private_address_among_public_ones_is_enough_to_refuse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mixed(*_: Any, **__: Any) -> Any:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in ("8.8.8.8", "10.0.0.1")]

    monkeypatch.setattr(socket, "getaddrinfo", mixed)
    with pytest.raises(FetchRefused):
        GuardedFetcher().fetch("http://mixed.test/", tmp_path / "in", max_bytes=10**6)


def test_a_proxy_in_the_environment_is_not_used(base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert FRIENDLY.fetch(f"{base}/a.mp4", tmp_path / "in", max_bytes=10**6).bytes == len(BODY)


@pytest.mark.parametrize("path", ["/a.mp4", "/chunked"])
def test_a_file_past_the_limit_is_cut_off(path: str, base: str, tmp_path: Path) -> None:
    with pytest.raises(FileTooLarge):
        FRIENDLY.fetch(base + path, tmp_path / "in", max_bytes=len(BODY) - 1)
    assert not (tmp_path / "in").exists() or (tmp_path / "in").stat().st_size < len(BODY)


def test_a_file_that_breaks_off_is_a_failure(base: str, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed):
        FRIENDLY.fetch(f"{base}/short", tmp_path / "in", max_bytes=10**6)


def test_a_compressed_answer_is_refused(base: str, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match="compressed"):
        FRIENDLY.fetch(f"{base}/gzip", tmp_path / "in", max_bytes=10**6)


@pytest.mark.parametrize(("status", "retryable"), [(404, False), (403, False), (429, True), (500, True), (503, True)])
def test_a_refusal_is_retried_only_when_it_may_pass(status: int, *, retryable: bool, base: str, tmp_path: Path) -> None:
    with pytest.raises(FetchFailed, match=str(status)) as failure:
        FRIENDLY.fetch(f"{base}/status/{status}", tmp_path / "in", max_bytes=10**6)
    assert failure.value.retryable is retryable
    assert isinstance(failure.value, SourceMissing) is not retryable


def test_a_sender_who_dribbles_is_cut_off(base: str, tmp_path: Path) -> None:
    hurried = GuardedFetcher(FetchSettings(allow_cidrs=HERE, seconds=1.0))
    with pytest.raises(FetchFailed, match="in time"):
        hurried.fetch(f"{base}/drip", tmp_path / "in", max_bytes=10**6)


def test_nobody_listening_is_a_failure_that_may_pass(tmp_path: Path, free_port: Callable[[], int]) -> None:
    with pytest.raises(FetchFailed) as failure:
        FRIENDLY.fetch(f"http://127.0.0.1:{free_port()}/", tmp_path / "in", max_bytes=10**6)
    assert failure.value.retryable


@pytest.fixture
def free_port() -> Callable[[], int]:
    def find() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return find


def test_a_download_that_nobody_wants_any_more_ends(base: str, tmp_path: Path) -> None:
    class Unwanted(Exception): ...

    def tick() -> None:
        raise Unwanted

    with pytest.raises(Unwanted):
        FRIENDLY.fetch(f"{base}/drip", tmp_path / "in", max_bytes=10**6, tick=tick)


def test_address_with_ipv6_in_brackets_is_reached_where_it_is_allowed(tmp_path):
    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6

    try:
        server = Server(("::1", 0), type("Handler", (Handler,), {"requests": []}))
    except OSError:
        pytest.skip("this machine has no IPv6")
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    url = f"http://[::1]:{server.server_address[1]}/clip.mp4"
    allowed = GuardedFetcher(FetchSettings(allow_cidrs=(ipaddress.ip_network("::1/128"),)))
    try:
        assert allowed.fetch(url, tmp_path / "clip", max_bytes=len(BODY)).path.read_bytes() == BODY
        with pytest.raises(FetchRefused):
            FRIENDLY.fetch(url, tmp_path / "refused", max_bytes=len(BODY))
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("path", ["/drip", "/tired"])
def test_a_source_that_sends_too_slowly_is_given_up_for_good(path: str, base: str, tmp_path: Path) -> None:
    """Also one that was quick at first: the last seconds count."""
    demanding = GuardedFetcher(FetchSettings(allow_cidrs=HERE, min_rate=1000, rate_seconds=1.5))
    with pytest.raises(SourceTooSlow, match="too slowly") as failure:
        demanding.fetch(base + path, tmp_path / "in", max_bytes=10**6)
    assert not failure.value.retryable


def test_a_source_may_be_as_slow_as_it_likes_where_no_rate_is_set(base: str, tmp_path: Path) -> None:
    patient = GuardedFetcher(FetchSettings(allow_cidrs=HERE, min_rate=0, rate_seconds=0.5))
    assert patient.fetch(f"{base}/drip", tmp_path / "in", max_bytes=10**6).bytes == 100


def test_a_reader_that_is_slow_itself_is_not_the_source_s_fault(base: str, tmp_path: Path) -> None:
    demanding = GuardedFetcher(FetchSettings(allow_cidrs=HERE, min_rate=10**6, rate_seconds=2))
    began = time.monotonic()

    def tick() -> None:
        if time.monotonic() - began < 5:
            time.sleep(1)

    fetched = demanding.fetch(f"{base}/a.mp4", tmp_path / "in", max_bytes=10**6, tick=tick)
    assert fetched.bytes == len(BODY)


def test_a_fetch_past_its_time_is_not_tried_again(base: str, tmp_path: Path) -> None:
    hurried = GuardedFetcher(FetchSettings(allow_cidrs=HERE, seconds=1.0))
    with pytest.raises(FetchFailed, match="in time") as failure:
        hurried.fetch(f"{base}/drip", tmp_path / "in", max_bytes=10**6)
    assert not failure.value.retryable


def test_a_fetch_that_nobody_wants_ends_at_once_while_the_other_side_is_silent(base: str, tmp_path: Path) -> None:
    class Unwanted(Exception): ...

    begun = time.monotonic()

    def tick() -> None:
        if time.monotonic() - begun > 0.5:
            raise Unwanted

    with pytest.raises(Unwanted):
        FRIENDLY.fetch(f"{base}/silent", tmp_path / "in", max_bytes=10**6, tick=tick)


def test_a_fetch_that_nobody_wants_ends_at_once_while_nobody_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unwanted(Exception): ...

    over = threading.Event()

    def never(*_: Any, **__: Any) -> Any:
        over.wait(200)

    def tick() -> None:
        if time.monotonic() - begun > 0.5:
            raise Unwanted

    monkeypatch.setattr(socket, "getaddrinfo", never)
    begun = time.monotonic()
    with pytest.raises(Unwanted):
        FRIENDLY.fetch("http://slow.test/", tmp_path / "in", max_bytes=10**6, tick=tick)
    over.set()
