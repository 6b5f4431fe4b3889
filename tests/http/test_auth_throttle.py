"""Wrong keys and tokens are limited by address; valid keys from the same address still work."""

import pytest

from alphareel.domain.errors import RateLimited
from alphareel.http.auth_throttle import AuthFailureLimiter

TOKEN = "a token for operators"


@pytest.fixture
def guarded(make_client):
    return make_client(rate_limits={"auth_failures": 3}, access={"admin_token": TOKEN})


def statuses(client, path, headers, times):
    return [client.get(path, headers=headers).status_code for _ in range(times)]


def test_after_too_many_wrong_keys_further_ones_are_rate_limited(guarded):
    assert statuses(guarded, "/v1/jobs", {"X-Api-Key": "wrong"}, 5) == [401, 401, 401, 429, 429]
    refused = guarded.get("/v1/jobs", headers={"X-Api-Key": "another"})
    assert refused.json()["error"]["code"] == "rate_limited"
    assert 1 <= int(refused.headers["Retry-After"]) <= 20


def test_a_valid_key_passes_despite_many_wrong_ones_from_its_address(guarded):
    statuses(guarded, "/v1/jobs", {"X-Api-Key": "wrong"}, 5)
    assert guarded.get("/v1/jobs").status_code == 200


def test_after_too_many_wrong_admin_tokens_the_right_one_must_wait_too(guarded):
    wrong, right = {"X-Admin-Token": "wrong"}, {"X-Admin-Token": TOKEN}
    assert statuses(guarded, "/v1/admin/keys", right, 5) == [200] * 5
    assert statuses(guarded, "/v1/admin/keys", wrong, 4) == [401, 401, 401, 429]
    assert statuses(guarded, "/v1/admin/keys", right, 1) == [429]
    assert statuses(guarded, "/metrics", {"Authorization": "Bearer wrong"}, 1) == [429]
    assert guarded.get("/v1/jobs").status_code == 200


def test_spaces_around_a_key_or_token_are_not_part_of_it(guarded, key):
    for around in (" {} ", "\t{}", "{}  "):
        assert statuses(guarded, "/v1/jobs", {"X-Api-Key": around.format(key)}, 1) == [200]
        assert statuses(guarded, "/v1/admin/keys", {"X-Admin-Token": around.format(TOKEN)}, 1) == [200]
    assert guarded.get("/v1/jobs", headers={"X-Api-Key": "  "}).json()["error"]["code"] == "missing_api_key"


def test_a_missing_key_is_not_counted_as_a_failure(guarded):
    assert statuses(guarded, "/v1/jobs", {"X-Api-Key": ""}, 6) == [401] * 6


def test_client_addresses_are_logged_only_for_refused_requests(guarded, logs):
    guarded.get("/v1/jobs")
    guarded.get("/v1/jobs", headers={"X-Api-Key": "wrong"})
    passed, refused = [line for line in logs() if line["event"] == "request"]
    assert "address" not in passed
    assert (refused["status"], refused["address"]) == (401, "testclient")


def test_wrong_keys_are_counted_per_address_and_per_ipv6_network():
    limiter = AuthFailureLimiter(1)
    limiter.record_failure("key", "192.0.2.1")
    limiter.record_failure("key", "192.0.2.2")
    limiter.record_failure("key", "2001:db8:0:1::1")
    with pytest.raises(RateLimited):
        limiter.record_failure("key", "2001:db8:0:1:ffff::2")
    limiter.record_failure("key", "2001:db8:0:2::1")
