"""The metrics route: access, and that it counts what happened."""

import os
import re
from contextlib import closing
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from alphareel.db.stats import StatsStore
from alphareel.domain.errors import Unavailable
from alphareel.http.app import create_app
from alphareel.service.worker.spare_usage import SpareUsage, write_usage
from alphareel.testing.fakes import make_settings, open_harness

VIDEO = "https://example.com/in.mp4"
TOKEN = "a token for operators"


def read(client):
    response = client.get("/metrics")
    assert response.status_code == 200
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


@pytest.fixture
def open_client(make_client):
    return make_client(access={"metrics_open": True})


def test_metrics_require_the_admin_token(make_client):
    client = make_client(access={"admin_token": TOKEN})
    assert client.get("/metrics").json()["error"]["code"] == "missing_admin_token"
    assert client.get("/metrics", headers={"Authorization": "Bearer wrong"}).status_code == 401
    for headers in ({"Authorization": f"Bearer {TOKEN}"}, {"X-Admin-Token": TOKEN}):
        assert client.get("/metrics", headers=headers).status_code == 200


def test_metrics_without_a_configured_token_are_closed_unless_opened(make_client, open_client):
    assert make_client().get("/metrics").status_code == 401
    assert open_client.get("/metrics").headers["content-type"].startswith("text/plain")


def test_requests_are_counted_by_route_and_never_by_id(open_client):
    job = open_client.post("/v1/jobs", json={"video_url": VIDEO}).json()
    for _ in range(3):
        open_client.get(f"/v1/jobs/{job['id']}")
    open_client.get("/no/such/path")
    samples = read(open_client)
    key = (("method", "GET"), ("route", "/v1/jobs/{job_id}"), ("status", "200"))
    assert samples["alphareel_http_requests_total", *key] == 3
    assert ("alphareel_http_requests_total", ("method", "GET"), ("route", "none"), ("status", "404")) in samples
    assert job["id"] not in open_client.get("/metrics").text


def test_failures_that_raise_an_alert_start_at_zero(tmp_path):
    alerts = (Path(__file__).parents[2] / "deploy/prometheus/alerts.yml").read_text()
    [codes] = re.findall(r'alphareel_job_failures_total\{code=~"([a-z_|]+)"', alerts)
    with closing(open_harness(tmp_path)) as unused:
        app = create_app(unused.services, make_settings(access={"metrics_open": True}))
        samples = read(TestClient(app))
    assert {samples["alphareel_job_failures_total", ("code", code)] for code in codes.split("|")} == {0}
    assert samples["alphareel_webhooks", ("state", "failed")] == 0


def test_jobs_queue_and_failures_come_from_the_database(open_client, harness, finish_job):
    before = read(open_client)
    jobs = [open_client.post("/v1/jobs", json={"video_url": VIDEO}).json()["id"] for _ in range(3)]
    harness.clock.advance(seconds=30)
    finish_job(jobs[0])
    open_client.post(f"/v1/jobs/{jobs[1]}/cancel")
    open_client.delete(f"/v1/jobs/{jobs[1]}")
    samples = read(open_client)

    def increase(*name):
        return samples[name] - before.get(name, 0)

    assert increase("alphareel_jobs", ("status", "completed")) == 1
    assert increase("alphareel_jobs", ("status", "pending")) == increase("alphareel_queue_depth") == 1
    assert increase("alphareel_job_failures_total", ("code", "cancelled")) == 1
    assert samples["alphareel_queue_oldest_seconds",] >= 30
    assert ("alphareel_job_wait_seconds", ("quantile", "0.5")) in samples
    assert samples["alphareel_database_up",] == 1


def test_requests_are_still_counted_while_the_database_is_unavailable(open_client, harness, monkeypatch):
    def raise_unavailable(_store):
        raise Unavailable("The database does not respond.")

    open_client.get("/livez")
    monkeypatch.setattr(StatsStore, "collect", raise_unavailable)
    samples = read(open_client)
    assert samples["alphareel_database_up",] == 0
    assert any(name[0] == "alphareel_http_requests_total" for name in samples)


def test_the_memory_of_spares_is_shown_while_a_worker_tells_it(open_client):
    path = open_client.app.state.context.settings.storage.spares
    path.parent.mkdir(parents=True, exist_ok=True)
    write_usage(path, SpareUsage(2, 50_000_000))
    shown = read(open_client)
    assert shown[("alphareel_spares",)] == 2
    assert shown[("alphareel_spare_memory_bytes",)] == 50_000_000
    os.utime(path, (0, 0))
    assert ("alphareel_spares",) not in read(open_client), "its worker is gone"
    path.write_text("nonsense")
    assert ("alphareel_spares",) not in read(open_client)
