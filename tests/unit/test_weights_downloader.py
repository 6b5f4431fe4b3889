"""Downloads complete or resume, use HTTPS only, and detect wrong sizes."""

import json
import shutil
from types import SimpleNamespace

import pytest

from alphareel.domain.errors import FetchFailed, FetchRefused, StorageFailed, WeightsInvalid
from alphareel.weights.downloader import Downloader, DownloadRefused, RetryPolicy

from .weights_server import weights_server

BODY = bytes(range(256)) * 400


@pytest.fixture
def server():
    with weights_server(files={"/net.onnx": BODY}) as running:
        yield running


@pytest.fixture
def part(tmp_path):
    return tmp_path / "net.part"


@pytest.fixture
def delays():
    return []


@pytest.fixture
def fetch(server, part, delays):
    reports = []

    def run(path="/net.onnx", *, attempts=3, **more):
        url = path if "://" in path else server.url + path
        loader = Downloader(
            RetryPolicy(max_attempts=attempts, connect_timeout=5, idle_timeout=5, delay=1.0), sleep=delays.append
        )
        loader.fetch(url, part, on_progress=lambda done, total: reports.append((done, total)), **more)
        return reports

    return run


def write_partial(part, server, bytes_, validator='"v1"', path="/net.onnx"):
    part.write_bytes(bytes_)
    part.with_name(part.name + ".json").write_text(json.dumps({"url": server.url + path, "validator": validator}))


def test_a_download_is_complete_and_reports_progress(fetch, part):
    reports = fetch(size=len(BODY))
    assert part.read_bytes() == BODY
    assert reports[0] == (0, len(BODY))
    assert reports[-1] == (len(BODY), len(BODY))


def test_a_broken_connection_is_resumed(fetch, part, server, delays):
    server.script = ["break", "break"]
    fetch()
    assert part.read_bytes() == BODY
    half, three = len(BODY) // 2, len(BODY) // 2 + len(BODY) // 4
    assert [range_header for _, range_header in server.requests] == [None, f"bytes={half}-", f"bytes={three}-"]
    assert delays == [1.0, 1.0], "the delay starts over when bytes arrived"


def test_a_later_call_resumes_the_partial_file(fetch, part, server):
    write_partial(part, server, BODY[:1000])
    fetch()
    assert part.read_bytes() == BODY
    assert server.requests == [("/net.onnx", "bytes=1000-")]


def test_a_changed_file_on_the_server_restarts_the_download(fetch, part, server):
    write_partial(part, server, b"old" * 100, validator='"v0"')
    fetch()
    assert part.read_bytes() == BODY


def test_a_server_without_range_support_restarts_the_download(fetch, part, server):
    server.ranges = False
    write_partial(part, server, BODY[:1000])
    fetch()
    assert part.read_bytes() == BODY


def test_without_an_etag_a_download_resumes_only_if_a_hash_is_checked(fetch, part, server):
    server.etag = None
    write_partial(part, server, BODY[:1000], validator="")
    fetch()
    assert server.requests[-1][1] is None
    write_partial(part, server, BODY[:1000], validator="")
    fetch(resumable=True)
    assert server.requests[-1][1] == "bytes=1000-"
    assert part.read_bytes() == BODY


def test_a_partial_file_of_another_url_is_not_resumed(fetch, part, server):
    write_partial(part, server, BODY[:1000], path="/other.onnx")
    fetch()
    assert server.requests == [("/net.onnx", None)]


def test_a_partial_file_that_is_too_large_restarts_the_download(fetch, part, server):
    write_partial(part, server, BODY + b"more")
    fetch()
    assert part.read_bytes() == BODY
    assert len(server.requests) == 2


def test_a_complete_partial_file_is_not_requested_again(fetch, part, server):
    write_partial(part, server, BODY)
    fetch(size=len(BODY))
    assert server.requests == []


def test_transient_errors_are_retried_and_finally_raised(fetch, part, server, delays):
    server.script = ["503", "429"]
    fetch()
    assert part.read_bytes() == BODY
    assert delays == [1.0, 2.0]
    part.unlink()
    server.script = ["500"] * 3
    with pytest.raises(FetchFailed, match="500") as caught:
        fetch()
    assert "resume" in caught.value.hint


@pytest.mark.parametrize("status", ["404", "401", "403", "410"])
def test_a_permanent_error_is_not_retried(fetch, server, status, delays):
    server.script = [status]
    with pytest.raises(DownloadRefused, match=status):
        fetch()
    assert delays == []
    assert not DownloadRefused.retryable


def test_a_file_of_an_unexpected_size_is_rejected_before_the_download(fetch, part):
    with pytest.raises(WeightsInvalid, match="102400 bytes, not 5"):
        fetch(size=5)
    assert not part.exists()


def test_a_compressed_response_is_rejected(fetch, server):
    server.script = ["gzip"]
    with pytest.raises(DownloadRefused, match="compressed"):
        fetch()


def test_an_unreachable_server_is_a_fetch_error(fetch, server):
    with pytest.raises(FetchFailed, match="cannot be downloaded"):
        fetch("http://127.0.0.1:9/net.onnx", attempts=2)


@pytest.mark.parametrize("url", ["http://example.org/net", "ftp://example.org/net", "file:///etc/passwd", "net.onnx"])
def test_urls_other_than_https_and_loopback_http_are_rejected(part, url):
    with pytest.raises(FetchRefused):
        Downloader().fetch(url, part, on_progress=lambda *_: None)


def test_redirects_are_followed_and_checked(fetch, part, server):
    server.script = [f"to {server.url}/net.onnx"]
    fetch("/moved")
    assert part.read_bytes() == BODY
    server.script = ["to http://example.org/net.onnx"]
    with pytest.raises(FetchRefused, match="not encrypted"):
        fetch("/moved")
    server.script = ["to /again"] * 9
    with pytest.raises(FetchRefused, match="more than"):
        fetch("/again")


def test_insufficient_disk_space_is_detected_before_the_download(fetch, part, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageFailed, match="MB are needed"):
        fetch()
    assert not part.exists()
