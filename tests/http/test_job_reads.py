"""Reads of a job that need no route are answered as the route would answer them."""

from functools import partial

import pytest

from alphareel.http.token_bucket import MemoryBuckets
from alphareel.service.api_keys.admin import Operator

VARIABLE = ("x-request-id", "date")


def create(client, **fields):
    return client.post("/v1/jobs", json={"video_url": "https://example.com/in.mp4", **fields}).json()


def answer(response):
    body = response.json() if response.content else None
    if body is not None and "error" in body and isinstance(body["error"], dict):
        body["error"].pop("request_id")
    headers = {name: value for name, value in response.headers.items() if name not in VARIABLE}
    assert headers.pop("ratelimit-remaining", "").isdigit()
    headers.pop("ratelimit-reset")
    return response.status_code, headers, body


def both(client, job_id, *, method="GET", **options):
    """The answer without the route, which takes what has no query, and the one of the route."""
    return [
        answer(client.request(method, f"/v1/jobs/{job_id}", params=query, **options)) for query in ({}, {"wait": 0})
    ]


@pytest.mark.parametrize("status", ["created", "pending", "processing", "completed", "failed"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_job_is_presented_alike(client, harness, finish_job, status, method):
    job = create(client, auto_start=status != "created")
    if status == "completed":
        finish_job(job["id"])
    elif status == "failed":
        harness.jobs.fail(job["id"], attempt=None, error="It broke.", error_code="bad_video", actor="worker")
    elif status == "processing":
        harness.jobs.begin_attempt(job["id"], ticket=1, actor="worker")
    direct, routed = both(client, job["id"], method=method)
    assert direct == routed
    assert direct[0] == 200
    assert method == "HEAD" or direct[2]["id"] == job["id"]


def test_an_unchanged_job_is_a_304_alike(client):
    job = create(client)
    tag = client.get(f"/v1/jobs/{job['id']}").headers["etag"]
    direct, routed = both(client, job["id"], headers={"If-None-Match": tag})
    assert direct == routed
    assert direct[0] == 304


@pytest.mark.parametrize(
    ("headers", "status"),
    [({}, 404), ({"X-Api-Key": "wrong"}, 401), ({"X-Api-Key": ""}, 401), ({"X-Api-Key": " "}, 401)],
)
@pytest.mark.parametrize("path", ["job_unknown", "a%20b", "%2E", "-"])
def test_a_refusal_is_alike(make_client, headers, status, path):
    client = make_client()
    direct, routed = both(client, path, headers=headers)
    assert direct == routed
    assert direct[0] == status


def test_a_job_of_another_key_is_not_found_alike(client, make_client, new_key):
    job = create(client)
    direct, routed = both(make_client(secret=new_key()), job["id"])
    assert direct == routed
    assert direct[0] == 404


def test_a_disabled_key_is_refused_from_the_next_read_on(client, harness, key):
    job = create(client)
    assert client.get(f"/v1/jobs/{job['id']}").status_code == 200
    fingerprint = harness.services.api_keys.authenticate(key).fingerprint
    harness.services.admin.set_enabled(Operator("test"), fingerprint, enabled=False)
    assert [each[0] for each in both(client, job["id"])] == [401, 401]
    harness.services.admin.set_enabled(Operator("test"), fingerprint, enabled=True)
    assert [each[0] for each in both(client, job["id"])] == [200, 200]


def test_reads_are_counted_alike(make_client, finish_job, monkeypatch):
    monkeypatch.setattr("alphareel.http.rate_limits.MemoryBuckets", partial(MemoryBuckets, now=lambda: 0.0))
    client = make_client(rate_limits={"read": 4})
    job = create(client)
    finish_job(job["id"])
    answers = [client.get(f"/v1/jobs/{job['id']}", params={"wait": 0} if n % 2 else {}) for n in range(6)]
    assert [each.status_code for each in answers] == [200] * 4 + [429] * 2
    assert [each.headers["ratelimit-remaining"] for each in answers] == ["3", "2", "1", "0", "0", "0"]
    assert [each.headers.get("retry-after") for each in answers[4:]] == ["15", "15"]


def test_the_log_names_route_job_and_key_alike(client, logs):
    job = create(client)
    before = len(logs())
    both(client, job["id"])
    lines = [line for line in logs()[before:] if line["event"] == "request"]
    facts = [
        {name: line[name] for name in ("method", "path", "route", "status", "bytes", "key", "job_id")} for line in lines
    ]
    assert facts[0] == facts[1]
    assert facts[0]["route"] == "/v1/jobs/{job_id}"
