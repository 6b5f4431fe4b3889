"""Routes that need no key: the legacy API, health checks and prices."""

from unittest.mock import patch

import pytest
from starlette.testclient import TestClient

from alphareel.domain.errors import DatabaseFull
from alphareel.http.app import create_app
from alphareel.service.health import Health, HealthMonitor
from alphareel.testing.fakes import TINY_MP4, make_settings

VIDEO = {"video_url": "https://a.example/v.mp4"}


def process(client, **fields):
    return client.post("/api/process", json={**VIDEO, **fields})


def test_process_creates_and_starts_even_when_a_draft_was_asked_for(anonymous_client):
    body = process(anonymous_client, auto_start=False).json()
    assert body["success"] is True
    assert body["job_id"] == body["id"]
    assert body["status"] == "processing"


def test_the_legacy_status_route_returns_the_job(anonymous_client):
    job = process(anonymous_client).json()
    body = anonymous_client.get(f"/api/status/{job['id']}").json()
    assert {"job_id", "status", "progress", "output_url", "error"} <= set(body)


def test_legacy_upload_needs_no_key_and_can_be_processed(anonymous_client):
    uploaded = anonymous_client.post("/api/upload", files={"file": ("in.mp4", TINY_MP4)}).json()
    assert anonymous_client.post("/api/process", json={"video_url": uploaded["video_url"]}).status_code == 200


def test_download_answers_json_with_a_link(anonymous_client, finish_job):
    job = process(anonymous_client).json()
    finish_job(job["id"])
    body = anonymous_client.get(f"/api/download/{job['id']}").json()
    assert body["success"] is True
    assert body["output_format"] == "webm"
    assert anonymous_client.get(body["download_url"]).status_code == 200


def test_a_download_before_completion_is_400(anonymous_client):
    job = process(anonymous_client).json()
    response = anonymous_client.get(f"/api/download/{job['id']}")
    assert (response.status_code, response.json()["error"]["code"]) == (400, "job_not_completed")
    assert response.json()["error"]["message"] == "Job not completed"


def test_a_download_of_an_unknown_job_is_404(anonymous_client):
    assert anonymous_client.get("/api/download/job_0").json()["error"]["code"] == "not_found"


def test_key_that_is_sent_must_own_the_job(anonymous_client, client, make_client, new_key):
    mine = process(client).json()["id"]
    assert client.get(f"/api/status/{mine}").status_code == 200
    assert anonymous_client.get(f"/api/status/{mine}").status_code == 200
    assert make_client(secret=new_key()).get(f"/api/status/{mine}").status_code == 404
    assert make_client(secret="wrong").get(f"/api/status/{mine}").status_code == 401


def test_a_setting_disables_the_legacy_routes(make_client):
    client = make_client(http={"legacy_routes": False})
    for method, path in (("POST", "/api/process"), ("GET", "/api/status/job_1"), ("POST", "/api/upload")):
        assert client.request(method, path).json()["error"]["code"] == "not_found"


def test_routes_without_a_v1_form_stay_when_the_legacy_routes_are_off(make_client, finish_job):
    client = make_client(http={"legacy_routes": False})
    job_id = client.post("/v1/jobs", json=VIDEO).json()["id"]
    finish_job(job_id)
    assert client.get(f"/api/download/{job_id}").json()["download_url"]
    nobody = make_client(secret=None, http={"legacy_routes": False})
    assert nobody.get("/api/pricing").status_code == 200
    assert nobody.get(f"/api/download/{job_id}").json()["error"]["code"] == "missing_api_key"


def test_a_setting_makes_the_legacy_routes_require_a_key(make_client, key):
    assert (
        process(make_client(secret=None, http={"legacy_needs_key": True})).json()["error"]["code"] == "missing_api_key"
    )
    assert process(make_client(secret=key, http={"legacy_needs_key": True})).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_a_cross_origin_page_cannot_use_the_open_routes(anonymous_client, origin):
    response = anonymous_client.post("/api/process", json=VIDEO, headers={"Origin": origin})
    assert (response.status_code, response.json()["error"]["code"]) == (401, "missing_api_key")
    assert anonymous_client.post("/api/process", json=VIDEO, headers={"Origin": "http://testserver"}).status_code == 200


@pytest.mark.parametrize("client_address", ["127.0.0.1", "192.168.1.5", "::1"])
def test_a_page_that_rebinds_dns_cannot_use_the_open_routes(harness, client_address):
    def ask(host, address=client_address, **settings):
        app = create_app(harness.services, make_settings(**settings))
        with TestClient(app, client=(address, 5000)) as visitor:
            return visitor.post("/api/process", json=VIDEO, headers={"Host": host}).status_code

    assert ask("evil.example:8080") == 401
    assert ask("evil.example.") == 401
    for host in ("localhost:8080", "127.0.0.1:8080", "[::1]:8080", "192.168.1.9", "studio", "studio.local:8080"):
        assert ask(host) == 200
    assert ask("cut.example.com", http={"public_url": "https://cut.example.com"}) == 200
    assert ask("cut.example.com", address="203.0.114.7") == 200


def test_pricing_has_the_highlights_of_the_contract(anonymous_client):
    response = anonymous_client.get("/api/pricing")
    body = response.json()
    assert body["model_pricing_credits_per_minute"] == {"original": 60, "light": 45, "pro": 180, "human": 45}
    assert [package["name"] for package in body["packages"]] == ["Starter", "Pro", "Business"]
    assert "price_per_second_cents" in body
    assert "max-age" in response.headers["cache-control"]


@pytest.mark.parametrize(
    ("health", "status"), [(Health(True, True, True), "healthy"), (Health(True, True, False), "degraded")]
)
def test_health_is_200_and_says_what_is_missing(anonymous_client, harness, monkeypatch, health, status):
    monkeypatch.setattr(HealthMonitor, "check", lambda _: health)
    response = anonymous_client.get("/health")
    checks = response.json()["checks"]
    assert (response.status_code, response.json()["status"]) == (200, status)
    assert checks["api"] is True
    assert checks["runpod_configured"] is checks["worker_configured"] is health.worker
    assert checks["r2_configured"] is checks["storage_configured"] is health.storage


def test_readiness_needs_database_and_storage_but_no_worker(anonymous_client, harness, monkeypatch):
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(True, True, False))
    assert anonymous_client.get("/readyz").json() == {"status": "ready"}
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(False, True, True))
    response = anonymous_client.get("/readyz")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert response.headers["retry-after"]


def test_readiness_needs_a_live_worker_if_the_service_runs_workers(make_client, harness, monkeypatch):
    anonymous_client = make_client(secret=None, worker={"jobs": 1})
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(True, True, True))
    assert anonymous_client.get("/readyz").json() == {"status": "ready"}
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(True, True, False))
    response = anonymous_client.get("/readyz")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
    assert response.headers["retry-after"]


def test_readiness_and_health_report_a_full_disk(anonymous_client, harness, monkeypatch):
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(True, True, True, space=False))
    assert anonymous_client.get("/health").json()["status"] == "degraded"
    response = anonymous_client.get("/readyz")
    assert (response.status_code, response.json()["error"]["code"]) == (503, "storage_full")
    assert response.headers["retry-after"]


def test_readiness_says_at_once_that_the_disk_of_the_database_is_full(anonymous_client, harness):
    assert anonymous_client.get("/readyz").status_code == 200
    database = harness.jobs._database
    database.write_error = DatabaseFull("The disk of the database is full.", hint="Try again later.")
    with patch.object(database, "check_writes", lambda: None):
        response = anonymous_client.get("/readyz")
        assert (response.status_code, response.json()["error"]["code"]) == (503, "database_full")
        assert response.headers["retry-after"]
        assert anonymous_client.get("/health").json()["checks"]["database_configured"] is False
    assert anonymous_client.get("/readyz").status_code == 200, "a write succeeded"


def test_liveness_depends_on_nothing(anonymous_client, harness, monkeypatch):
    monkeypatch.setattr(HealthMonitor, "check", lambda _: 1 / 0)
    assert anonymous_client.get("/livez").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_health_routes_answer_head(anonymous_client, path):
    assert anonymous_client.head(path).status_code == 200
