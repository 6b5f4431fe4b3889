"""A file comes whole or goes on where it stopped; nothing is taken over an open line, and lies about sizes are noticed."""

import json
import shutil
from types import SimpleNamespace

import pytest

from alphareel.domain.errors import FetchFailed, FetchRefused, StorageFailed, WeightsInvalid
from alphareel.weights.downloader import Downloader, DownloadRefused, RetryPolicy

from .weights_server import open_shop

BODY = bytes(range(256)) * 400


@pytest.fixture
def shop():
    with open_shop(files={"/net.onnx": BODY}) as made:
        yield made


@pytest.fixture
def part(tmp_path):
    return tmp_path / "net.part"


@pytest.fixture
def naps():
    return []


@pytest.fixture
def fetch(shop, part, naps):
    reports = []

    def run(path="/net.onnx", *, tries=3, **more):
        url = path if "://" in path else shop.url + path
        loader = Downloader(RetryPolicy(tries=tries, connect=5, idle=5, pause=1.0), sleep=naps.append)
        loader.fetch(url, part, report=lambda done, whole: reports.append((done, whole)), **more)
        return reports

    return run


def begin(part, shop, bytes_, validator='"v1"', path="/net.onnx"):
    part.write_bytes(bytes_)
    part.with_name(part.name + ".json").write_text(json.dumps({"url": shop.url + path, "validator": validator}))


def test_a_file_comes_whole_and_its_progress_is_told(fetch, part):
    reports = fetch(size=len(BODY))
    assert part.read_bytes() == BODY
    assert reports[0] == (0, len(BODY))
    assert reports[-1] == (len(BODY), len(BODY))


def test_a_broken_line_is_taken_up_again_where_it_broke(fetch, part, shop, naps):
    shop.script = ["break", "break"]
    fetch()
    assert part.read_bytes() == BODY
    half, three = len(BODY) // 2, len(BODY) // 2 + len(BODY) // 4
    assert [asked for _, asked in shop.seen] == [None, f"bytes={half}-", f"bytes={three}-"]
    assert naps == [1.0, 1.0], "bytes came, so patience begins anew"


def test_a_later_call_goes_on_with_what_lies_there(fetch, part, shop):
    begin(part, shop, BODY[:1000])
    fetch()
    assert part.read_bytes() == BODY
    assert shop.seen == [("/net.onnx", "bytes=1000-")]


def test_another_version_on_the_other_side_starts_from_the_beginning(fetch, part, shop):
    begin(part, shop, b"old" * 100, validator='"v0"')
    fetch()
    assert part.read_bytes() == BODY


def test_a_server_that_refuses_to_resume_sends_it_all_again(fetch, part, shop):
    shop.ranges = False
    begin(part, shop, BODY[:1000])
    fetch()
    assert part.read_bytes() == BODY


def test_pieces_are_joined_without_the_servers_word_only_where_a_hash_will_tell(fetch, part, shop):
    shop.etag = None
    begin(part, shop, BODY[:1000], validator="")
    fetch()
    assert shop.seen[-1][1] is None
    begin(part, shop, BODY[:1000], validator="")
    fetch(safe=True)
    assert shop.seen[-1][1] == "bytes=1000-"
    assert part.read_bytes() == BODY


def test_what_was_begun_at_another_address_is_not_continued(fetch, part, shop):
    begin(part, shop, BODY[:1000], path="/other.onnx")
    fetch()
    assert shop.seen == [("/net.onnx", None)]


def test_more_than_there_is_was_kept_so_it_starts_anew(fetch, part, shop):
    begin(part, shop, BODY + b"more")
    fetch()
    assert part.read_bytes() == BODY
    assert len(shop.seen) == 2


def test_a_whole_part_is_not_asked_for_again(fetch, part, shop):
    begin(part, shop, BODY)
    fetch(size=len(BODY))
    assert shop.seen == []


def test_trouble_that_passes_is_waited_for_and_then_given_up(fetch, part, shop, naps):
    shop.script = ["503", "429"]
    fetch()
    assert part.read_bytes() == BODY
    assert naps == [1.0, 2.0]
    part.unlink()
    shop.script = ["500"] * 3
    with pytest.raises(FetchFailed, match="500") as caught:
        fetch()
    assert "goes on" in caught.value.hint


@pytest.mark.parametrize("status", ["404", "401", "403", "410"])
def test_a_no_is_final(fetch, shop, status, naps):
    shop.script = [status]
    with pytest.raises(DownloadRefused, match=status):
        fetch()
    assert naps == []
    assert not DownloadRefused.retryable


def test_another_size_than_the_known_one_is_refused_before_it_is_fetched(fetch, part):
    with pytest.raises(WeightsInvalid, match="102400 bytes, not 5"):
        fetch(size=5)
    assert not part.exists()


def test_a_compressed_answer_is_refused(fetch, shop):
    shop.script = ["zipped"]
    with pytest.raises(DownloadRefused, match="compressed"):
        fetch()


def test_nobody_there_is_told_as_such(fetch, shop):
    with pytest.raises(FetchFailed, match="cannot be fetched"):
        fetch("http://127.0.0.1:9/net.onnx", tries=2)


@pytest.mark.parametrize("url", ["http://example.org/net", "ftp://example.org/net", "file:///etc/passwd", "net.onnx"])
def test_only_https_and_this_machine_itself_are_asked(part, url):
    with pytest.raises(FetchRefused):
        Downloader().fetch(url, part, report=lambda *_: None)


def test_redirects_are_followed_and_checked(fetch, part, shop):
    shop.script = [f"to {shop.url}/net.onnx"]
    fetch("/moved")
    assert part.read_bytes() == BODY
    shop.script = ["to http://example.org/net.onnx"]
    with pytest.raises(FetchRefused, match="not encrypted"):
        fetch("/moved")
    shop.script = ["to /again"] * 9
    with pytest.raises(FetchRefused, match="more than"):
        fetch("/again")


def test_a_full_disk_is_seen_before_it_is_full(fetch, part, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StorageFailed, match="MB are needed"):
        fetch()
    assert not part.exists()
