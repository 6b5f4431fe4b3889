"""Multipart uploads over HTTP, with a bucket that a test fills."""

import hashlib

import pytest

from alphareel.testing.fakes import TINY_MP4

SIZE = len(TINY_MP4)


@pytest.fixture
def bucket(harness):
    harness.blobs.signs = True
    yield harness.blobs.blobs
    harness.blobs.signs = False


def begin(client, size=SIZE):
    return client.post("/v1/uploads/multipart", json={"filename": "a.mp4", "bytes": size})


def send(bucket, begun, data=TINY_MP4):
    bucket[f"parts/{begun['upload_id']}/1"] = data
    return {"parts": [{"number": 1, "etag": hashlib.md5(data).hexdigest()}]}


def test_a_file_goes_to_the_bucket_and_a_job_takes_it(client, bucket):
    begun = begin(client).json()
    assert "error" not in begun, begun
    assert (begun["bytes"], [part["bytes"] for part in begun["parts"]]) == (len(TINY_MP4), [len(TINY_MP4)])
    assert begun["complete_url"].endswith(f"/v1/uploads/multipart/{begun['upload_id']}/complete")
    receipts = send(bucket, begun)
    upload = client.post(begun["complete_url"], json=receipts)
    assert upload.status_code == 200, upload.text
    assert (upload.json()["filename"], upload.json()["size"]) == ("a.mp4", len(TINY_MP4))
    assert client.post(begun["complete_url"], json=receipts).json()["video_id"] == upload.json()["video_id"]
    job = client.post("/v1/jobs", json={"video_url": upload.json()["video_url"]})
    assert job.status_code == 200
    gone = client.delete(f"/v1/uploads/multipart/{begun['upload_id']}")
    assert (gone.status_code, gone.json()["error"]["code"]) == (409, "invalid_state")


def test_on_a_disk_the_answer_says_what_to_use(client):
    answer = begin(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "multipart_unavailable")
    assert "POST /v1/uploads" in answer.text


def test_a_bad_part_is_named_and_a_completion_can_be_repeated(client, bucket):
    begun = begin(client).json()
    receipts = send(bucket, begun)
    wrong = {"parts": [{"number": 1, "etag": "abc"}]}
    refused = client.post(begun["complete_url"], json=wrong)
    assert (refused.status_code, refused.json()["error"]["details"][0]["field"]) == (400, "parts.0.etag")
    bad = send(bucket, begun, b"x" * len(TINY_MP4))
    refused = client.post(begun["complete_url"], json=bad)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_file_type")
    send(bucket, begun)
    assert client.post(begun["complete_url"], json=receipts).status_code == 200


def test_missing_parts_are_listed_until_it_is_aborted(client, bucket):
    begun = begin(client).json()
    path = f"/v1/uploads/multipart/{begun['upload_id']}"
    assert [part["number"] for part in client.get(path).json()["parts"]] == [1]
    send(bucket, begun)
    assert client.get(path).json()["parts"] == []
    assert [client.delete(path).status_code for _ in range(2)] == [200, 200]
    assert client.get(path).status_code == 409


@pytest.mark.parametrize(
    "body",
    [{}, {"bytes": [1]}, {"bytes": 0}, {"bytes": "1"}, {"bytes": True}, {"bytes": 1, "filename": 7}, {"bytes": 2**60}],
)
def test_a_bad_request_is_refused(client, bucket, body):
    answer = client.post("/v1/uploads/multipart", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("parts", [None, [], [7], [None], [[None]], [{"number": 1}], [{"number": 0, "etag": "a"}]])
def test_bad_receipts_are_refused(client, bucket, parts):
    begun = begin(client).json()
    answer = client.post(begun["complete_url"], json={"parts": parts})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_what_is_too_large_is_refused(make_client, bucket):
    answer = begin(make_client(), size=9_000_001)
    assert answer.json()["error"]["code"] == "file_too_large"


def test_another_key_and_no_key_find_nothing(client, make_client, new_key, anonymous_client, bucket):
    begun = begin(client).json()
    other = make_client(secret=new_key())
    assert other.post(begun["complete_url"], json=send(bucket, begun)).status_code == 404
    assert other.get(f"/v1/uploads/multipart/{begun['upload_id']}").status_code == 404
    assert anonymous_client.post("/v1/uploads/multipart", json={"bytes": 1}).status_code == 401


def test_the_log_has_no_signed_url(client, bucket, logs):
    begun = begin(client).json()
    assert "sig=" in begun["parts"][0]["url"]
    assert "sig=" not in repr(logs())
