"""Rate limits: reported in every response, enforced per key and kind."""

import socket
from functools import partial

import httpx2
import pytest
from starlette.testclient import TestClient

from alphareel.domain.errors import InvalidRequest
from alphareel.http.app import create_app
from alphareel.http.origins import origin_of
from alphareel.http.rate_limits import JOB_READS, Limiter
from alphareel.http.token_bucket import MemoryBuckets
from alphareel.service.api_keys.admin import Operator
from alphareel.service.api_keys.service import digest
from alphareel.service.jobs.queue_limits import QueueLimits
from alphareel.service.settings import RateLimitSettings
from alphareel.testing.fakes import make_settings, open_harness


class Clock:
    now = 1000.0


VIDEO = {"video_url": "https://a.example/v.mp4"}


@pytest.fixture
def clock(monkeypatch):
    """The time of the counters. It stands still, so that no slow request finds a token more."""
    clock = Clock()
    monkeypatch.setattr("alphareel.http.rate_limits.MemoryBuckets", partial(MemoryBuckets, now=lambda: clock.now))
    return clock


@pytest.fixture
def limited(make_client, clock):
    return make_client(rate_limits={"write": 2, "read": 3})


def test_every_response_reports_the_remaining_budget(limited):
    first, second = limited.get("/v1/jobs"), limited.get("/v1/jobs/job_none")
    assert [first.headers[f"RateLimit-{n}"] for n in ("Limit", "Remaining")] == ["3", "2"]
    assert 1 <= int(first.headers["RateLimit-Reset"]) <= 60
    assert (second.status_code, second.headers["RateLimit-Remaining"]) == (404, "1")


def test_a_request_beyond_the_rate_limit_is_refused_until_the_next_token(limited):
    responses = [limited.post("/v1/jobs", json=VIDEO) for _ in range(3)]
    assert [a.status_code for a in responses] == [200, 200, 429]
    refused = responses[-1]
    assert refused.json()["error"]["code"] == "rate_limited"
    assert refused.headers["Retry-After"] == "30"  # two a minute are one every 30 seconds
    assert refused.headers["RateLimit-Reset"] == refused.headers["Retry-After"]
    assert refused.headers["RateLimit-Remaining"] == "0"
    assert limited.get("/v1/jobs").json()["total"] == 2


def test_after_a_burst_a_request_passes_as_soon_as_retry_after_says(make_client, clock):
    """The vendor documents a pause of 1-2 s before the first retry; 60 writes a minute are one each second."""
    client = make_client(rate_limits={"write": 60})
    statuses = [client.post("/v1/webhooks/test", json={}).status_code for _ in range(61)]
    assert statuses == [400] * 60 + [429]
    for _ in range(3):
        clock.now += int(client.post("/v1/webhooks/test", json={}).headers["Retry-After"])
        assert [client.post("/v1/webhooks/test", json={}).status_code for _ in range(2)] == [400, 429]


def test_waiting_for_unfinished_jobs_does_not_use_up_the_reads_of_the_key(limited, finish_job):
    job_ids = [limited.post("/v1/jobs", json=VIDEO).json()["id"] for _ in range(2)]
    polls = [limited.get(f"/v1/jobs/{job_id}") for _ in range(5) for job_id in job_ids]
    assert {poll.status_code for poll in polls} == {200}
    assert polls[-1].headers["RateLimit-Limit"] == str(JOB_READS)
    assert polls[-1].headers["RateLimit-Remaining"] == str(JOB_READS - 5)
    finish_job(job_ids[0])
    assert limited.get(f"/v1/jobs/{job_ids[0]}").headers["RateLimit-Remaining"] == "2"
    assert [limited.get("/v1/jobs").status_code for _ in range(3)] == [200, 200, 429]
    assert limited.get(f"/v1/jobs/{job_ids[1]}").status_code == 200


def test_too_many_reads_of_an_unfinished_job_count_for_the_key(limited):
    job_id = limited.post("/v1/jobs", json=VIDEO).json()["id"]
    answered = 0
    while limited.get(f"/v1/jobs/{job_id}").status_code == 200:
        answered += 1
        assert answered < 3 * JOB_READS
    assert answered == JOB_READS + 3


def test_reads_of_jobs_that_nobody_waits_for_count_for_the_key(limited, new_key):
    draft = limited.post("/v1/jobs", json={**VIDEO, "auto_start": False}).json()["id"]
    others = limited.post("/v1/jobs", json=VIDEO, headers={"X-Api-Key": new_key()}).json()["id"]
    responses = [limited.get(f"/v1/jobs/{job_id}") for job_id in (draft, others, "job_none")]
    assert [a.headers["RateLimit-Remaining"] for a in responses] == ["2", "1", "0"]


def test_waiting_without_a_key_does_not_use_up_the_reads_of_the_address(make_client):
    client = make_client(secret=None, rate_limits={"write": 1, "read": 1})
    job_id = client.post("/api/process", json=VIDEO).json()["id"]
    assert {client.get(f"/api/status/{job_id}").status_code for _ in range(5)} == {200}


@pytest.mark.parametrize(
    ("method", "path", "status", "remaining"),
    [
        ("GET", "/v1/jobs", 401, "3"),
        ("POST", "/v1/jobs", 401, "2"),
        ("GET", "/nowhere", 404, "3"),
        ("PUT", "/v1/jobs", 405, "2"),
        ("GET", "/health", 200, "3"),
        ("GET", "/api/pricing", 200, "3"),
        ("GET", "/files/none", 404, "3"),
        ("GET", "/v1/admin/keys", 401, "3"),
        ("GET", "/v1/%00", 404, "3"),
    ],
)
def test_a_response_that_is_not_counted_reports_the_budget_of_the_address(make_client, method, path, status, remaining):
    client = make_client(secret=None, rate_limits={"write": 2, "read": 3})
    responses = [client.request(method, path) for _ in range(2)]
    assert [a.status_code for a in responses] == [status] * 2
    assert [a.headers["RateLimit-Remaining"] for a in responses] == [remaining] * 2
    assert responses[0].headers["RateLimit-Reset"] == "0"


def test_responses_of_the_api_must_not_be_stored_by_caches(limited):
    paths = ("/v1/jobs", "/v1/jobs/job_none", "/v1/models", "/v1/admin/keys", "/api/status/job_none")
    assert {limited.get(path).headers["Cache-Control"] for path in paths} == {"no-store"}
    assert limited.get("/api/pricing").headers["Cache-Control"] == "public, max-age=300"
    assert "Cache-Control" not in limited.get("/health").headers


def test_reads_and_writes_are_counted_separately(limited):
    for _ in range(3):
        limited.post("/v1/jobs", json=VIDEO)
    assert limited.get("/v1/jobs").status_code == 200


def test_requests_are_counted_per_key(limited, new_key):
    for _ in range(4):
        last = limited.get("/v1/jobs")
    assert last.status_code == 429
    assert limited.get("/v1/jobs", headers={"X-Api-Key": new_key()}).status_code == 200


def test_a_key_can_have_its_own_rate_limits(limited, harness, key):
    own = harness.keys.authenticate(key).fingerprint
    harness.services.admin.set_limits(Operator("test"), own, {"read_per_minute": 50})
    assert limited.get("/v1/jobs").headers["RateLimit-Limit"] == "50"
    assert limited.post("/v1/jobs", json=VIDEO).headers["RateLimit-Limit"] == "2"


def test_without_a_limit_there_are_no_rate_limit_headers(make_client):
    response = make_client(rate_limits={"write": 0, "read": 0}).get("/v1/jobs")
    assert response.status_code == 200
    assert not [name for name in response.headers if name.lower().startswith("ratelimit")]


def test_an_upload_is_refused_before_its_body_is_read(harness, key, serve):
    with serve(create_app(harness.services, make_settings(rate_limits={"write": 1}))) as server:
        httpx2.post(f"{server.url}/v1/jobs", json=VIDEO, headers={"X-Api-Key": key})
        head = (
            f"POST /v1/uploads HTTP/1.1\r\nHost: a\r\nX-Api-Key: {key}\r\nContent-Length: 100000000\r\n"
            "Content-Type: multipart/form-data; boundary=b\r\nExpect: 100-continue\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as line:
            line.sendall(head.encode())
            response = line.recv(65536)
    assert response.startswith(b"HTTP/1.1 429")


def test_clients_without_a_key_are_counted_by_address(make_client):
    anonymous_client = make_client(secret=None, rate_limits={"write": 1})
    assert anonymous_client.post("/api/process", json=VIDEO).status_code == 200
    assert anonymous_client.post("/api/process", json=VIDEO).status_code == 429
    assert anonymous_client.get("/api/pricing").status_code == 200


def test_requests_with_an_unknown_key_are_not_counted_as_usage(limited):
    responses = {limited.get("/v1/jobs", headers={"X-Api-Key": "unknown"}).status_code for _ in range(5)}
    assert responses == {401}


def test_an_unusable_counter_store_is_reported_at_startup():
    with pytest.raises(InvalidRequest, match="ALPHAREEL_RATE_LIMIT_URL"):
        Limiter(RateLimitSettings.model_construct(storage_url="nonsense://host"))


@pytest.mark.parametrize(
    ("one", "same", "other"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:3::1"),
        ("192.0.2.7", "::ffff:192.0.2.7", "192.0.2.8"),
    ],
)
def test_clients_without_a_key_cannot_evade_a_limit_with_another_address_of_their_ipv6_network(
    harness, one, same, other
):
    app = create_app(harness.services, make_settings(rate_limits={"write": 1}))

    def create(address):
        return TestClient(app, client=(address, 5000)).post("/api/process", json=VIDEO).status_code

    assert [create(one), create(same), create(other)] == [200, 429, 200]


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("192.0.2.7", "192.0.2.7"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_every_limit_counts_an_address_under_one_name(address, origin):
    assert origin_of(address) == origin


@pytest.fixture
def narrow(tmp_path):
    """A service that lets one job of a key wait, and two in all."""
    harness = open_harness(tmp_path, queue_limits=QueueLimits(queued=1, queued_in_all=2))
    for name in ("one", "two", "three"):
        harness.keystore.add_key(key_id=name, secret_sha256=digest(name), fingerprint=name, client_id=name, note="")
    client = TestClient(create_app(harness.services, make_settings()))
    yield lambda key, **more: client.post("/v1/jobs", json=VIDEO, headers={"X-Api-Key": key, **more})
    harness.close()


def test_a_job_beyond_the_queue_limit_of_its_key_is_refused_with_retry_after(narrow):
    assert narrow("one").status_code == 200
    refused = narrow("one", **{"Idempotency-Key": "again"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "too_many_jobs")
    assert 10 <= int(refused.headers["Retry-After"]) <= 16
    assert narrow("one", **{"Idempotency-Key": "again"}).json()["error"]["code"] == "too_many_jobs"


def test_a_full_queue_refuses_jobs_with_retry_after(narrow):
    for key in ("one", "two"):
        assert narrow(key).status_code == 200
    refused = narrow("three")
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "queue_full")
    assert refused.headers["Retry-After"] == "10"
