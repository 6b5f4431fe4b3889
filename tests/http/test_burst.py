"""A burst against a real server: exactly the limit passes, with counters in one process or in Redis."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx2
import pytest

from alphareel.http.app import create_app
from alphareel.http.token_bucket import MemoryBuckets
from alphareel.testing.fakes import make_settings
from alphareel.testing.servers import MissingServer, free_port, redis_server

VIDEO = {"video_url": "https://a.example/v.mp4"}
NOWHERE = "redis://127.0.0.1:1/0"


def burst(urls, key, requests):
    def ask(number):
        return client.post(f"{urls[number % len(urls)]}/v1/jobs", json=VIDEO, headers={"X-Api-Key": key})

    with httpx2.Client(timeout=60, trust_env=False) as client, ThreadPoolExecutor(16) as pool:
        return list(pool.map(ask, range(requests)))


def assert_exactly(responses, passed, *, refilled=0):
    counts = Counter(response.status_code for response in responses)
    assert set(counts) == {200, 429}
    assert passed <= counts[200] <= passed + refilled
    for refused in (response for response in responses if response.status_code == 429):
        assert refused.json()["error"]["code"] == "rate_limited"
        assert 1 <= int(refused.headers["Retry-After"]) <= 17
        assert refused.headers["RateLimit-Remaining"] == "0"


def test_exactly_the_limit_of_a_burst_passes_and_polling_continues(harness, key, serve, monkeypatch):
    monkeypatch.setattr("alphareel.http.rate_limits.MemoryBuckets", partial(MemoryBuckets, now=lambda: 1000.0))
    with serve(create_app(harness.services, make_settings(rate_limits={"write": 20}))) as server:
        responses = burst([server.url], key, 50)
        job = next(a.json()["id"] for a in responses if a.status_code == 200)
        polls = [httpx2.get(f"{server.url}/v1/jobs/{job}", headers={"X-Api-Key": key}) for _ in range(30)]
    assert_exactly(responses, 20)
    assert {poll.status_code for poll in polls} == {200}


def test_two_servers_count_together_in_redis(harness, key, serve, redis_url):
    settings = make_settings(rate_limits={"write": 20, "storage_url": redis_url})
    with serve(create_app(harness.services, settings)) as one, serve(create_app(harness.services, settings)) as other:
        for server in (one, other):  # builds its routes, which two threads of one process cannot do at once
            assert httpx2.get(f"{server.url}/livez").status_code == 200
        began = time.monotonic()
        responses = burst([one.url, other.url], key, 50)
        seconds = time.monotonic() - began
    assert_exactly(responses, 20, refilled=seconds / 3)  # twenty a minute are one every three seconds


def test_while_redis_is_unavailable_requests_pass_and_it_is_logged_once(make_client, logs):
    client = make_client(rate_limits={"write": 1, "storage_url": NOWHERE})
    responses = [client.post("/v1/jobs", json=VIDEO) for _ in range(4)]
    assert [a.status_code for a in responses] == [200] * 4
    assert "RateLimit-Limit" not in responses[-1].headers
    assert [line["level"] for line in logs() if line["event"] == "rate limits are not counted"] == ["error"]


def test_requests_are_counted_again_when_redis_is_back(make_client, tmp_path, monkeypatch):
    monkeypatch.setattr("alphareel.http.rate_limits._OUTAGE_PAUSE", 0)
    port = free_port()
    try:
        with redis_server(tmp_path, port=port) as process:
            client = make_client(rate_limits={"write": 1, "storage_url": f"redis://127.0.0.1:{port}/0"})
            statuses = [client.post("/v1/jobs", json=VIDEO).status_code for _ in range(2)]
            assert statuses[0] == 200
            process.kill()
            process.wait()
            assert [client.post("/v1/jobs", json=VIDEO).status_code for _ in range(3)] == [200] * 3
        with redis_server(tmp_path, port=port):
            responses = [client.post("/v1/jobs", json=VIDEO) for _ in range(2)]
    except MissingServer as missing:
        pytest.skip(str(missing))
    assert [response.headers["RateLimit-Limit"] for response in responses] == ["1"] * 2, "counted"
    assert responses[0].status_code == 200


def test_a_wrong_key_is_counted_even_while_redis_is_unavailable(make_client):
    client = make_client(secret="wrong", rate_limits={"auth_failures": 1, "storage_url": NOWHERE})
    assert [client.get("/v1/jobs").status_code for _ in range(2)] == [401, 429]
