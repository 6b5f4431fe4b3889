"""Resumable uploads over HTTP: the tus protocol 1.0.0, its extensions, and what becomes of a finished file."""

import base64
import hashlib
import http.client
import re
import threading
from datetime import timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import pytest

from alphareel.service.api_keys.admin import Operator
from alphareel.service.tus.models import TusUpload
from alphareel.testing.fakes import TINY_MP4

PATH = "/v1/uploads/tus"
TUS = {"Tus-Resumable": "1.0.0"}
PATCH = {**TUS, "Content-Type": "application/offset+octet-stream"}
FILE = TINY_MP4 + bytes(range(256)) * 4


def encode(text):
    return base64.b64encode(text.encode()).decode()


NAMED = f"filename {encode('clip é.mp4')},filetype {encode('video/mp4')},empty"


def create(client, content=FILE, **headers):
    return client.post(PATH, headers={**TUS, "Upload-Length": str(len(content)), **headers})


def location(response):
    assert response.status_code == 201, response.text
    return urlsplit(response.headers["location"]).path


def append(client, path, data, offset, **headers):
    return client.patch(path, content=data, headers={**PATCH, "Upload-Offset": str(offset), **headers})


def offset_of(client, path):
    return int(client.head(path, headers=TUS).headers["upload-offset"])


def parts_of(harness, path):
    return [key for key in harness.blobs.blobs if key.startswith(f"parts/{path.rpartition('/')[2]}/")]


def incoming(harness):
    return list(harness.services.uploads._settings.incoming.glob("*"))


def assert_refused(response, status, code):
    assert (response.status_code, response.json()["error"]["code"]) == (status, code), response.text
    assert response.headers["tus-resumable"] == "1.0.0"


def test_options_tells_versions_extensions_and_limits_without_a_key(anonymous_client, make_client):
    response = anonymous_client.options(PATH)
    assert response.status_code == 200
    assert response.headers["tus-version"] == response.headers["tus-resumable"] == "1.0.0"
    extensions = response.headers["tus-extension"].split(",")
    assert extensions == ["creation", "creation-with-upload", "termination", "expiration", "checksum"]
    assert response.headers["tus-checksum-algorithm"] == "sha1,sha256"
    limited = make_client(secret=None, limits={"max_upload_bytes": 1234})
    assert limited.options(f"{PATH}/any").headers["tus-max-size"] == "1234"


def test_a_file_in_pieces_becomes_an_ordinary_upload(client, harness):
    created = create(client, **{"Upload-Metadata": NAMED})
    path = location(created)
    assert created.headers["location"].startswith("http://testserver/")
    assert (created.headers["upload-offset"], created.headers["tus-resumable"]) == ("0", "1.0.0")
    first = append(client, path, FILE[:100], 0)
    assert (first.status_code, first.headers["upload-offset"], first.content) == (204, "100", b"")
    assert parsedate_to_datetime(first.headers["upload-expires"]) == harness.clock.now() + timedelta(days=1)
    head = client.head(path, headers=TUS)
    assert (head.status_code, head.headers["cache-control"]) == (200, "no-store")
    assert (head.headers["upload-offset"], head.headers["upload-length"]) == ("100", str(len(FILE)))
    assert head.headers["upload-metadata"] == NAMED
    receiving = client.get(path).json()
    assert receiving["status"] == "receiving"
    assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{3}Z", receiving["expires_at"])

    last = append(client, path, FILE[100:], 100)
    assert (last.status_code, last.headers["upload-offset"]) == (204, str(len(FILE)))
    shown = client.get(path).json()
    assert shown["status"] == "completed"
    upload = shown["upload"]
    assert (upload["filename"], upload["size"]) == ("clip é.mp4", len(FILE))
    assert (last.headers["video-id"], last.headers["video-url"]) == (upload["video_id"], upload["video_url"])
    assert set(upload) == set(client.post("/v1/uploads", files={"file": ("a.mp4", TINY_MP4)}).json())
    assert client.get(upload["video_url"]).content == FILE
    assert client.post("/v1/jobs", json={"video_url": upload["video_url"]}).status_code == 200
    assert parts_of(harness, path) == []
    assert incoming(harness) == []
    head = client.head(path, headers=TUS)
    assert (head.headers["upload-offset"], head.headers["video-id"]) == (str(len(FILE)), upload["video_id"])
    again = append(client, path, b"", len(FILE))
    assert (again.status_code, again.headers["video-id"]) == (204, upload["video_id"])


def test_a_body_in_the_creation_may_be_the_whole_file(client):
    body = {**PATCH, "Upload-Length": str(len(FILE))}
    created = client.post(PATH, content=FILE, headers=body)
    path = location(created)
    assert created.headers["upload-offset"] == str(len(FILE))
    assert client.get(path).json()["upload"]["video_id"] == created.headers["video-id"]
    begun = client.post(PATH, content=FILE[:7], headers=body)
    assert begun.headers["upload-offset"] == "7"
    assert "video-id" not in begun.headers
    assert append(client, location(begun), FILE[7:], 7).status_code == 204


def test_a_file_that_this_key_has_sent_before_shares_its_blob(client, harness, key):
    first = client.post("/v1/uploads", files={"file": ("a.mp4", FILE)}).json()
    path = location(create(client))
    done = append(client, path, FILE, 0)
    assert done.headers["video-id"] != first["video_id"]
    assert harness.uploads.upload(done.headers["video-id"]).blob == harness.uploads.upload(first["video_id"]).blob
    assert parts_of(harness, path) == []


@pytest.mark.parametrize("version", [None, "0.2.2", "1.0.1"])
def test_other_versions_are_refused_with_those_that_work(client, version):
    path = location(create(client))
    headers = {} if version is None else {"Tus-Resumable": version}
    assert_refused(client.post(PATH, headers={"Upload-Length": "9", **headers}), 412, "version_unsupported")
    assert_refused(client.patch(path, headers=headers), 412, "version_unsupported")
    response = client.delete(path, headers=headers)
    assert_refused(response, 412, "version_unsupported")
    assert response.headers["tus-version"] == "1.0.0"
    assert client.head(path, headers=headers).status_code == 412


@pytest.mark.parametrize("offset", ["1", "5", "99999", str(len(FILE))])
def test_another_offset_is_refused_and_changes_nothing(client, offset):
    path = location(create(client))
    append(client, path, FILE[:3], 0)
    assert_refused(
        append(client, path, b"x", offset),
        409 if int(offset) < len(FILE) else 413,
        {True: "offset_mismatch", False: "file_too_large"}[int(offset) < len(FILE)],
    )
    assert offset_of(client, path) == 3


@pytest.mark.parametrize(
    "headers",
    [
        {"Upload-Length": "-1"},
        {"Upload-Length": "1e3"},
        {"Upload-Length": ""},
        {"Upload-Length": "9" * 19},
        {"Upload-Length": "9", "Upload-Defer-Length": "1"},
        {"Upload-Length": "9", "Upload-Metadata": "filename not-base64!"},
        {"Upload-Length": "9", "Upload-Metadata": "a QQ==,a QQ=="},
        {"Upload-Length": "9", "Upload-Metadata": ","},
        {"Upload-Length": "9", "Upload-Metadata": "a " + "QUJD" * 2000},
        {"Upload-Length": "9", "Upload-Checksum": "md5 QQ=="},
        {"Upload-Length": "9", "Upload-Checksum": "sha1 QQ=="},
    ],
)
def test_headers_that_make_no_sense_are_refused(client, headers):
    assert_refused(client.post(PATH, headers={**TUS, **headers}), 400, "invalid_request")


def test_a_file_without_a_length_or_that_is_too_large_or_empty_or_no_video_is_refused(client, make_client):
    assert_refused(client.post(PATH, headers=TUS), 400, "invalid_request")
    assert_refused(client.post(PATH, headers={**TUS, "Upload-Length": "9000001"}), 413, "file_too_large")
    assert_refused(create(client, b""), 400, "invalid_file_type")
    text = {"Upload-Metadata": f"filetype {encode('text/html')}"}
    assert_refused(create(client, **text), 400, "invalid_file_type")


def test_another_content_type_is_refused(client):
    path = location(create(client))
    assert_refused(append(client, path, FILE, 0, **{"Content-Type": "video/mp4"}), 415, "media_type_unsupported")
    headers = {**TUS, "Upload-Length": "9", "Content-Type": "text/plain"}
    assert_refused(client.post(PATH, content=b"abc", headers=headers), 415, "media_type_unsupported")


def test_bytes_beyond_the_length_are_refused_and_those_before_kept(client):
    path = location(create(client))
    assert_refused(append(client, path, FILE + b"x", 0), 413, "file_too_large")
    assert offset_of(client, path) == 0
    pieces = iter([FILE[:50], FILE[50:] + b"x"])
    response = client.patch(path, content=pieces, headers={**PATCH, "Upload-Offset": "0"})
    assert_refused(response, 413, "file_too_large")
    assert offset_of(client, path) < len(FILE)
    assert append(client, path, FILE[offset_of(client, path) :], offset_of(client, path)).status_code == 204


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_a_checksum_is_verified_before_anything_is_kept(client, algorithm):
    path = location(create(client))

    def checksum(data):
        return {"Upload-Checksum": f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"}

    assert_refused(append(client, path, FILE[:99], 0, **checksum(FILE[:98])), 460, "checksum_mismatch")
    assert offset_of(client, path) == 0
    assert append(client, path, FILE[:99], 0, **checksum(FILE[:99])).headers["upload-offset"] == "99"
    assert_refused(append(client, path, FILE[99:], 99, **checksum(FILE)), 460, "checksum_mismatch")
    assert "video-id" in append(client, path, FILE[99:], 99, **checksum(FILE[99:])).headers


def test_a_file_that_is_no_video_is_refused_at_its_end_and_again(client, harness):
    junk = b"no video" * 20
    path = location(create(client, junk))
    append(client, path, junk[:80], 0)
    assert_refused(append(client, path, junk[80:], 80), 400, "invalid_file_type")
    assert_refused(append(client, path, junk[80:], 80), 400, "invalid_file_type")
    assert client.head(path, headers=TUS).status_code == 400
    shown = client.get(path).json()
    assert (shown["status"], shown["error_code"], shown["upload"]) == ("failed", "invalid_file_type", None)
    assert parts_of(harness, path) == []
    assert client.get("/v1/usage/summary").status_code == 200


def test_another_key_finds_nothing_and_no_key_gets_no_further(client, make_client, new_key, anonymous_client):
    path = location(create(client))
    other = make_client(secret=new_key())
    for response in (append(other, path, FILE, 0), other.delete(path, headers=TUS), other.get(path)):
        assert_refused(response, 404, "not_found")
    assert other.head(path, headers=TUS).status_code == 404
    assert_refused(append(anonymous_client, path, FILE, 0), 401, "missing_api_key")
    assert_refused(create(anonymous_client), 401, "missing_api_key")
    assert offset_of(client, path) == 0


def test_delete_removes_what_was_received_and_what_it_became(client, harness):
    path = location(create(client))
    append(client, path, FILE[:10], 0)
    assert len(parts_of(harness, path)) == 1
    response = client.delete(path, headers=TUS)
    assert (response.status_code, response.headers["tus-resumable"]) == (204, "1.0.0")
    assert parts_of(harness, path) == []
    assert client.head(path, headers=TUS).status_code == 404
    done = location(client.post(PATH, content=FILE, headers={**PATCH, "Upload-Length": str(len(FILE))}))
    upload = client.get(done).json()["upload"]
    client.delete(done, headers=TUS)
    assert client.get(upload["video_url"]).status_code == 404
    assert client.get(done).status_code == 404


def test_a_method_that_a_proxy_does_not_pass_on_may_be_overridden(client):
    path = location(create(client))
    headers = {**PATCH, "Upload-Offset": "0", "X-HTTP-Method-Override": "PATCH"}
    assert client.post(path, content=FILE[:9], headers=headers).headers["upload-offset"] == "9"
    assert client.post(path, headers={**TUS, "X-HTTP-Method-Override": "DELETE"}).status_code == 204
    assert client.post("/v1/jobs", headers={"X-HTTP-Method-Override": "DELETE"}).status_code == 400


def test_what_arrived_counts_against_the_quota_of_the_key(client, harness, key):
    quota = {"max_storage_bytes": 2 * len(FILE)}
    harness.services.admin.set_limits(Operator("test"), harness.keys.authenticate(key).fingerprint, quota)
    first, second = location(create(client)), location(create(client))
    append(client, first, FILE[:1000], 0)
    append(client, second, FILE[:1000], 0)
    assert_refused(create(client), 400, "storage_quota_exceeded")
    assert append(client, first, FILE[1000:], 1000).status_code == 204
    assert append(client, second, FILE[1000:], 1000).status_code == 204  # the same content, stored once
    assert create(client).status_code == 201


def test_a_key_may_have_so_many_unfinished_uploads_only(client, harness, monkeypatch):
    settings = harness.services.tus._settings.model_copy(update={"uploads_per_key": 2})
    monkeypatch.setattr(harness.services.tus, "_settings", settings)
    first, _ = location(create(client)), location(create(client))
    refused = create(client)
    assert_refused(refused, 429, "too_many_uploads")
    assert int(refused.headers["retry-after"]) > 0
    assert append(client, first, FILE, 0).status_code == 204
    assert create(client).status_code == 201


def test_the_requests_of_an_upload_have_a_budget_of_their_own(make_client):
    client = make_client(rate_limits={"write": 2})
    path = location(create(client))
    for offset in range(10):
        assert append(client, path, FILE[offset : offset + 1], offset).status_code == 204
    assert create(client).status_code == 201
    assert_refused(create(client), 429, "rate_limited")


def open_patch(port, key, path, offset, length):
    """A PATCH whose head is sent; the caller sends the body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.putrequest("PATCH", path)
    for name, value in {**PATCH, "X-Api-Key": key, "Upload-Offset": str(offset), "Content-Length": str(length)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    return connection


def wait_until(done):
    for _ in range(2400):
        if done():
            return
        threading.Event().wait(0.025)
    raise AssertionError("it did not come true")


def test_of_two_requests_at_once_the_second_is_refused(client, serve, harness, key):
    path = location(create(client))
    tus_id = path.rpartition("/")[2]
    with serve(client.app) as served:
        first = open_patch(served.port, key, path, 0, len(FILE))
        first.send(FILE[:10])
        wait_until(lambda: harness.services.tus._store.find(tus_id).locked_until)
        refused = append(client, path, FILE, 0)
        assert_refused(refused, 423, "upload_locked")
        assert 1 <= int(refused.headers["retry-after"]) <= 6
        first.send(FILE[10:])
        assert first.getresponse().status == 204
        first.close()
    assert client.get(path).json()["status"] == "completed"


def test_what_arrived_before_a_connection_broke_is_kept(client, serve, harness, key):
    path = location(create(client))
    with serve(client.app) as served:
        for cut in (10, 700):
            offset = offset_of(client, path)
            connection = open_patch(served.port, key, path, offset, len(FILE) - offset)
            connection.send(FILE[offset:cut])
            threading.Event().wait(0.2)
            connection.close()
            wait_until(lambda cut=cut: offset_of(client, path) == cut)
            wait_until(lambda: not _tus(harness, path).locked_until)
    assert append(client, path, FILE[700:], 700).status_code == 204
    assert client.get(client.get(path).json()["upload"]["video_url"]).content == FILE
    assert incoming(harness) == []


def _tus(harness, path) -> TusUpload:
    return harness.services.tus._store.find(path.rpartition("/")[2])
