"""Signed links: whole files, ranges, forged, expired and deleted links."""

import pytest

from alphareel.http.ranges import Range, Unsatisfiable, matches_etag, parse_range


@pytest.fixture
def link(client, finish_job):
    job = client.post("/v1/jobs", json={"video_url": "https://a.example/v.mp4"}).json()
    finish_job(job["id"])
    return client.get(f"/v1/jobs/{job['id']}").json()["output_url"]


RESULT = bytes(range(256)) * 20


def test_a_signed_link_needs_no_key(anonymous_client, link):
    response = anonymous_client.get(link)
    assert response.status_code == 200
    assert response.content == RESULT
    assert response.headers["content-type"] == "video/webm"
    assert response.headers["content-length"] == "5120"
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-disposition"].startswith("attachment; filename=")
    assert response.headers["x-content-type-options"] == "nosniff"


def test_pages_of_other_sites_may_use_a_file_and_nothing_else(anonymous_client, link):
    origin = {"Origin": "https://shop.example"}
    asked = {**origin, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "range"}
    preflight = anonymous_client.options(link, headers=asked)
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert "Range" in preflight.headers["access-control-allow-headers"]
    for header in ({}, {"Range": "bytes=0-9"}, {"Range": "bytes=99999-"}, {"If-None-Match": "*"}):
        response = anonymous_client.get(link, headers={**origin, **header})
        assert response.headers["access-control-allow-origin"] == "*"
        assert "Content-Range" in response.headers["access-control-expose-headers"]
    for path in ("/v1/jobs", "/health", "/api/pricing"):
        assert "access-control-allow-origin" not in anonymous_client.get(path, headers=origin).headers
        assert anonymous_client.options(path, headers=asked).status_code == 405


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [("bytes=0-99", 0, 100), ("bytes=100-", 100, 5120), ("bytes=-20", 5100, 5120), ("bytes=5000-99999", 5000, 5120)],
)
def test_a_range_request_returns_that_part(anonymous_client, link, header, start, stop):
    response = anonymous_client.get(link, headers={"Range": header})
    assert response.status_code == 206
    assert response.content == RESULT[start:stop]
    assert response.headers["content-range"] == f"bytes {start}-{stop - 1}/5120"
    assert response.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("header", ["bytes=5120-", "bytes=9999-10000", "bytes=-0"])
def test_a_range_outside_of_the_file_is_416_in_the_error_shape(anonymous_client, link, header):
    response = anonymous_client.get(link, headers={"Range": header})
    assert response.status_code == 416
    assert response.headers["content-range"] == "bytes */5120"
    assert response.json()["error"]["code"] == "invalid_request"


@pytest.mark.parametrize("header", ["bytes=0-1,3-4", "bytes=9-1", "bytes=x", "lines=1-2", "bytes=-", "bytes=1-2x"])
def test_an_invalid_range_returns_the_whole_file(anonymous_client, link, header):
    assert anonymous_client.get(link, headers={"Range": header}).status_code == 200


def test_head_ignores_range(anonymous_client, link):
    response = anonymous_client.head(link, headers={"Range": "bytes=0-9"})
    assert (response.status_code, response.headers["content-length"]) == (200, "5120")


def test_if_none_match_star_matches_any_version(anonymous_client, link):
    assert anonymous_client.get(link, headers={"If-None-Match": "*"}).status_code == 304


def test_head_tells_the_size_without_the_bytes(anonymous_client, link):
    response = anonymous_client.head(link)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == "5120"


def test_etag_answers_304_and_guards_ranges(anonymous_client, link):
    tag = anonymous_client.get(link).headers["etag"]
    assert anonymous_client.get(link, headers={"If-None-Match": tag}).status_code == 304
    assert anonymous_client.get(link, headers={"Range": "bytes=0-9", "If-Range": tag}).status_code == 206
    assert anonymous_client.get(link, headers={"Range": "bytes=0-9", "If-Range": '"other"'}).status_code == 200


def test_forged_links_are_not_found(anonymous_client, link):
    for forged in (
        link[:-1] + ("0" if link[-1] != "0" else "1"),
        link.partition("?")[0],
        link.replace("exp=", "exp=9"),
    ):
        response = anonymous_client.get(forged)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_expired_link_is_not_found_and_says_where_to_get_a_fresh_one(anonymous_client, link, harness):
    harness.clock.advance(hours=2)
    response = anonymous_client.get(link)
    assert response.status_code == 404
    assert "fresh link" in response.json()["error"]["message"]


def test_link_to_a_deleted_file_is_not_found(anonymous_client, link, harness):
    harness.blobs.delete_prefix("outputs/")
    assert anonymous_client.get(link).json()["error"]["code"] == "not_found"


def test_a_path_traversal_is_not_found(anonymous_client):
    assert anonymous_client.get("/files/..%2f..%2fetc/passwd?exp=9&sig=0").status_code == 404


@pytest.mark.parametrize(("size", "header"), [(0, "bytes=0-"), (0, "bytes=-1")])
def test_no_range_of_an_empty_file_can_be_satisfied(size, header):
    with pytest.raises(Unsatisfiable):
        parse_range(header, size)


def test_range_counts_its_bytes():
    assert parse_range("bytes=10-19", 100) == Range(10, 20)
    assert Range(10, 20).length == 10


def test_a_result_with_retention_zero_is_deleted_after_one_complete_download(client, harness, finish_job):
    body = {"video_url": "https://example.com/in.mp4", "retention_seconds": 0}
    job = client.post("/v1/jobs", json=body).json()
    finish_job(job["id"])
    shown = client.get(f"/v1/jobs/{job['id']}").json()
    client.get(shown["output_url"], headers={"Range": "bytes=0-9"})
    assert client.get(f"/v1/jobs/{job['id']}").json()["files_expire_at"] == shown["files_expire_at"]
    client.get(shown["output_url"])
    assert client.get(f"/v1/jobs/{job['id']}").json()["files_expire_at"] < shown["files_expire_at"]


@pytest.mark.parametrize(
    ("header", "matches"),
    [
        ('"ab"', True),
        ('"x", "ab"', True),
        ('W/"ab"', True),
        (" * ", True),
        ("", False),
        ("ab", False),
        ('"xab"', False),
        ('"x, ab"', False),
    ],
)
def test_if_none_match_compares_whole_etags(header, matches):
    assert matches_etag(header, '"ab"') is matches


def test_from_the_expiry_of_its_files_on_a_job_has_no_link(client, harness, finish_job):
    """The files are deleted a little later, but no link to them works any more."""
    job_id = client.post("/v1/jobs", json={"video_url": "https://a.example/v.mp4", "retention_seconds": 60}).json()[
        "id"
    ]
    finish_job(job_id)
    harness.clock.advance(seconds=59)
    assert client.get(f"/v1/jobs/{job_id}").json()["output_url"]
    harness.clock.advance(seconds=1)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["output_url"], job["expires_at"]) == ("completed", None, None)
    assert job["warnings"][-1].startswith("expired")
    assert client.get(f"/api/download/{job_id}").json()["error"]["code"] == "not_found"
