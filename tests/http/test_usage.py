"""A key sees its own usage and nothing of other keys."""

import csv
import io

import pytest

from alphareel.service.api_keys.admin import Operator
from alphareel_client import Client

VIDEO = {"video_url": "https://a.example/v.mp4"}


def summary(client, days=7):
    return client.get(f"/v1/usage/summary?days={days}").json()


def events(client, harness, limit=20):
    harness.services.calls.flush()
    return client.get(f"/v1/usage/events?limit={limit}").json()["items"]


def test_a_new_key_has_no_usage(client):
    report = summary(client)
    assert [report[name] for name in ("total_jobs", "completed_jobs", "failed_jobs", "credits_used")] == [0, 0, 0, 0]
    assert (report["total_requests"], report["by_model"], report["daily"]) == (0, {}, [])


def test_jobs_are_summed_in_all_and_by_model_and_day(client, harness, finish_job):
    for model in ("human", "human", "pro"):
        last = client.post("/v1/jobs", json={**VIDEO, "model": model}).json()["id"]
        if model == "human":
            finish_job(last)
    harness.jobs.fail(last, attempt=None, error="x", error_code="timeout", actor="w")
    report = summary(client, days=1)
    assert (report["total_jobs"], report["completed_jobs"], report["failed_jobs"]) == (3, 2, 1)
    assert report["by_model"]["human"] == {"jobs": 2, "completed": 2, "failed": 0, "credits_used": 0}
    assert report["by_model"]["pro"]["failed"] == 1
    assert [(day["date"], day["jobs"]) for day in report["daily"]] == [(f"{harness.clock.now():%Y-%m-%d}", 3)]


def test_usage_outside_of_the_period_does_not_count(client, harness):
    client.post("/v1/jobs", json=VIDEO)
    harness.clock.advance(days=2)
    assert summary(client, days=1)["total_jobs"] == 0
    assert summary(client, days=3)["total_jobs"] == 1


def test_another_keys_jobs_and_calls_are_not_seen(client, make_client, new_key, harness):
    client.post("/v1/jobs", json=VIDEO)
    other = make_client(secret=new_key())
    assert events(other, harness) == []
    assert summary(other)["total_jobs"] == 0


def test_requests_are_counted_once_they_are_written(client, harness):
    for _ in range(3):
        client.get("/v1/jobs")
    harness.services.calls.flush()
    assert summary(client)["total_requests"] == 3


def test_a_usage_event_describes_the_call_and_its_job(client, harness):
    job = client.post("/v1/jobs", json={**VIDEO, "model": "light"}, headers={"X-Request-Id": "req_mine"}).json()
    client.get(f"/v1/jobs/{job['id']}")
    client.post("/v1/jobs", json={})
    refused, looked, created = events(client, harness)
    assert (refused["status_code"], refused["error_code"], refused["job_id"]) == (400, "invalid_request", None)
    assert (looked["method"], looked["endpoint"], looked["job_id"]) == ("GET", "/v1/jobs/{job_id}", job["id"])
    assert (created["endpoint"], created["status_code"], created["request_id"]) == ("/v1/jobs", 200, "req_mine")
    assert (created["job_id"], created["model"]) == (job["id"], "light")


def test_usage_events_hide_the_model_of_another_keys_job(client, make_client, new_key, harness):
    foreign = client.post("/v1/jobs", json=VIDEO).json()["id"]
    other = make_client(secret=new_key())
    other.get(f"/v1/jobs/{foreign}")
    assert [(e["status_code"], e["model"]) for e in events(other, harness)] == [(404, None)]


def test_usage_events_are_available_as_csv(client, harness):
    client.get("/v1/jobs")
    harness.services.calls.flush()
    response = client.get("/v1/usage/events?format=csv")
    assert response.headers["content-type"].startswith("text/csv")
    assert [row["endpoint"] for row in csv.DictReader(response.text.splitlines())] == ["/v1/jobs"]


@pytest.mark.parametrize(
    "query", ["summary?days=0", "summary?days=91", "summary?days=x", "events?limit=0", "events?limit=101"]
)
def test_usage_parameters_out_of_range_are_refused(client, query):
    response = client.get(f"/v1/usage/{query}")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


def test_the_usage_of_a_key_is_listed_for_operators(client, harness, key):
    client.get("/v1/jobs")
    harness.services.calls.flush()
    used = harness.keys.authenticate(key)
    assert (used.calls, used.last_used_at) == (1, harness.clock.now())


def test_the_sdk_reads_both(client, key):
    sdk = Client(key, base_url="http://testserver", transport=client._transport)
    assert sdk.usage_summary(days=1)["days"] == 1
    assert sdk.usage_events(limit=1)["items"] == []


def rows_of(response):
    assert response.status_code == 200, response.text
    assert response.headers["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(response.text)))


def test_a_usage_summary_is_available_as_csv(client):
    for model in ("light", "light", "human"):
        client.post("/v1/jobs", json={"video_url": "https://a.example/v.mp4", "model": model})
    rows = rows_of(client.get("/v1/usage/summary?format=csv"))
    assert [(row["model"], row["jobs"], row["credits_used"]) for row in rows] == [
        ("human", "1", "0.0"),
        ("light", "2", "0.0"),
    ]


def test_operators_see_the_usage_of_each_key(make_client, harness):
    operator = Operator("test")
    keys = [harness.services.admin.create_key(operator, client_id=name) for name in ("use-a", "use-a", "use-b")]
    server = make_client(access={"admin_token": "a token for operators"})
    for key, models in zip(keys, (("light",), ("light", "pro"), ("human",)), strict=True):
        for model in models:
            body = {"video_url": "https://a.example/v.mp4", "model": model}
            assert server.post("/v1/jobs", json=body, headers={"X-Api-Key": key.secret}).status_code == 200
    admin = {"X-Admin-Token": "a token for operators"}
    items = server.get("/v1/admin/usage?days=1&client_id=use-a", headers=admin).json()["items"]
    rows = {(row["key_fingerprint"], row["model"], row["jobs"]) for row in items}
    first, second = (key.key.fingerprint for key in keys[:2])
    assert rows == {(first, "light", 1), (second, "light", 1), (second, "pro", 1)}
    rows = rows_of(server.get("/v1/admin/usage?format=csv", headers=admin))
    assert [row["model"] for row in rows if row["client_id"] == "use-b"] == ["human"]
    assert server.get("/v1/admin/usage?days=91", headers=admin).status_code == 400
