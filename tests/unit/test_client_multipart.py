"""Parts of a file that go straight to the bucket, against a bucket on a bad day."""

import threading

import httpx2
import pytest

from alphareel_client import ApiError, Client

PART = 1000
DATA = bytes(range(250)) * 10


class Server:
    """A service with a bucket; ``faults``: what the next PUT of a part does instead."""

    def __init__(self, faults=(), *, locked=0, refuses_file=False):
        self.faults = {number: list(each) for number, each in dict(faults).items()}
        self.locked = locked
        self.refuses_file = refuses_file
        self.stored = {}
        self.calls = []
        self._lock = threading.Lock()

    def __call__(self, request):
        data = request.read()
        with self._lock:
            path = request.url.path
            self.calls.append(f"{request.method} {path}")
            if request.url.host == "bucket":
                assert "x-api-key" not in request.headers, "the key goes to the service alone"
                return self.put(int(path.strip("/")), data, request.url.params["generation"])
            assert request.headers["x-api-key"] == "key"
            if request.method == "DELETE":
                return httpx2.Response(200, json={"id": "m1"})
            if path.endswith("/complete"):
                return self.complete(request)
            return httpx2.Response(200, json=self.shown(1 if request.method == "POST" else 2))

    def shown(self, generation):
        sizes = {n: len(DATA[(n - 1) * PART :][:PART]) for n in (1, 2, 3) if n not in self.stored}
        urls = {n: f"http://bucket/{n}?generation={generation}&sig=SECRET" for n in sizes}
        parts = [{"number": n, "bytes": size, "url": urls[n]} for n, size in sizes.items()]
        return {
            "upload_id": "m1",
            "bytes": len(DATA),
            "part_size": PART,
            "parts": parts,
            "complete_url": "http://evil/",
        }

    def put(self, number, data, generation):
        fault = self.faults[number].pop(0) if self.faults.get(number) else None
        if fault == "expired" and generation == "2":
            fault = None
        if fault == "lost":
            raise httpx2.ReadError("gone")
        if fault is not None:
            return httpx2.Response(403 if fault == "expired" else fault)
        self.stored[number] = data
        return httpx2.Response(200, headers={"ETag": f'"e{number}"'})

    def complete(self, request):
        if self.locked:
            self.locked -= 1
            error = {"code": "upload_locked", "message": "It is being completed."}
            return httpx2.Response(423, json={"error": error}, headers={"Retry-After": "2"})
        if self.refuses_file:
            return httpx2.Response(400, json={"error": {"code": "invalid_file_type", "message": "It is no video."}})
        return httpx2.Response(200, json={"video_id": "v1", "video_url": "http://api/v1", "size": len(DATA)})


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    slept = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "in.mp4"
    path.write_bytes(DATA)
    return path


def upload(server, file, **options):
    with Client("key", base_url="http://api", transport=httpx2.MockTransport(server), retries=2) as client:
        return client.upload(file, multipart=True, **options)


def test_every_part_arrives_and_the_key_stays_at_home(file):
    server, seen = Server(), []
    assert upload(server, file, on_progress=lambda sent, total: seen.append((sent, total)))["video_id"] == "v1"
    assert b"".join(server.stored[n] for n in (1, 2, 3)) == DATA
    assert seen[-1] == (len(DATA), len(DATA))


@pytest.mark.parametrize("faults", [["lost"], [503, "lost"], ["expired"], [500]], ids=str)
def test_a_part_is_sent_again_by_itself(file, faults):
    server = Server({2: faults})
    assert upload(server, file)["video_id"] == "v1"
    assert server.stored[2] == DATA[PART : 2 * PART]
    assert server.calls.count("PUT /1") == 1
    assert server.calls.count("PUT /2") == len(faults) + 1


@pytest.mark.parametrize("faults", [["lost"] * 3, [400], [403] * 3], ids=str)
def test_an_upload_that_fails_is_aborted_and_no_error_tells_the_signature(file, faults):
    server = Server({2: faults})
    with pytest.raises(ApiError) as caught:
        upload(server, file)
    assert "DELETE /v1/uploads/multipart/m1" in server.calls
    assert "SECRET" not in f"{caught.value!r} {caught.value} {caught.value.__cause__}"


def test_a_completion_that_is_under_way_is_waited_for(file, pauses):
    server = Server(locked=3)
    assert upload(server, file)["video_id"] == "v1"
    assert pauses == [2.0] * 3


def test_what_is_no_video_is_refused_as_in_a_form(file):
    server = Server(refuses_file=True)
    with pytest.raises(ApiError, match="no video") as caught:
        upload(server, file)
    assert caught.value.code == "invalid_file_type"
    assert server.calls[-1] == "DELETE /v1/uploads/multipart/m1"


def test_a_file_that_becomes_shorter_is_an_error(file):
    server = Server()

    def shorten(sent, total):
        file.write_bytes(b"")

    with pytest.raises((OSError, ApiError)):
        upload(server, file, on_progress=shorten)
    assert server.calls[-1] == "DELETE /v1/uploads/multipart/m1"


def test_two_ways_at_once_are_refused(file):
    with pytest.raises(ValueError, match="choose one"):
        upload(Server(), file, resumable=True)
