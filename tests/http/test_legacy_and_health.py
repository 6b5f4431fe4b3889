"""Routes that ask for no key."""

import pytest
from starlette.testclient import TestClient

from alphareel.http.app import create_app
from alphareel.http.config import HttpConfig
from alphareel.service.health import Health, HealthMonitor
from alphareel.testing.fakes import TINY_MP4

VIDEO = {"video_url": "https://a.example/v.mp4"}


def process(client, **fields):
    return client.post("/api/process", json={**VIDEO, **fields})


def test_process_creates_and_starts_even_when_a_draft_was_asked_for(anonymous_client):
    body = process(anonymous_client, auto_start=False).json()
    assert body["success"] is True
    assert body["job_id"] == body["id"]
    assert body["status"] == "processing"


def test_status_is_the_job(anonymous_client):
    made = process(anonymous_client).json()
    body = anonymous_client.get(f"/api/status/{made['id']}").json()
    assert {"job_id", "status", "progress", "output_url", "error"} <= set(body)


def test_legacy_upload_needs_no_key_and_can_be_processed(anonymous_client):
    uploaded = anonymous_client.post("/api/upload", files={"file": ("in.mp4", TINY_MP4)}).json()
    assert anonymous_client.post("/api/process", json={"video_url": uploaded["video_url"]}).status_code == 200


def test_download_answers_json_with_a_link(anonymous_client, finish_job):
    made = process(anonymous_client).json()
    finish_job(made["id"])
    body = anonymous_client.get(f"/api/download/{made['id']}").json()
    assert body["success"] is True
    assert body["output_format"] == "webm"
    assert anonymous_client.get(body["download_url"]).status_code == 200


def test_download_too_early_is_400(anonymous_client):
    made = process(anonymous_client).json()
    answer = anonymous_client.get(f"/api/download/{made['id']}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "job_not_completed")
    assert answer.json()["error"]["message"].startswith("Job not completed")


def test_download_of_nothing_is_404(anonymous_client):
    assert anonymous_client.get("/api/download/job_0").json()["error"]["code"] == "not_found"


def test_key_that_is_sent_must_own_the_job(anonymous_client, client, make_client, new_key):
    mine = process(client).json()["id"]
    assert client.get(f"/api/status/{mine}").status_code == 200
    assert anonymous_client.get(f"/api/status/{mine}").status_code == 200
    assert make_client(secret=new_key()).get(f"/api/status/{mine}").status_code == 404
    assert make_client(secret="wrong").get(f"/api/status/{mine}").status_code == 401


def test_one_switch_turns_the_legacy_routes_off(make_client):
    client = make_client(legacy_routes=False)
    for method, path in (("POST", "/api/process"), ("GET", "/api/pricing"), ("POST", "/api/upload")):
        assert client.request(method, path).json()["error"]["code"] == "not_found"


def test_one_switch_makes_them_ask_for_a_key(make_client, key):
    assert process(make_client(secret=None, legacy_needs_key=True)).json()["error"]["code"] == "missing_api_key"
    assert process(make_client(secret=key, legacy_needs_key=True)).status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null"])
def test_page_of_another_site_cannot_use_the_open_routes(anonymous_client, origin):
    answer = anonymous_client.post("/api/process", json=VIDEO, headers={"Origin": origin})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "missing_api_key")
    assert anonymous_client.post("/api/process", json=VIDEO, headers={"Origin": "http://testserver"}).status_code == 200


@pytest.mark.parametrize("client_address", ["127.0.0.1", "192.168.1.5", "::1"])
def test_page_whose_name_was_pointed_at_this_machine_cannot_use_the_open_routes(harness, client_address):
    def ask(host, address=client_address, **settings):
        app = create_app(harness.services, HttpConfig(**settings))
        with TestClient(app, client=(address, 5000)) as visitor:
            return visitor.post("/api/process", json=VIDEO, headers={"Host": host}).status_code

    assert ask("evil.example:8080") == 401
    assert ask("evil.example.") == 401
    for host in ("localhost:8080", "127.0.0.1:8080", "[::1]:8080", "192.168.1.9", "studio", "studio.local:8080"):
        assert ask(host) == 200
    assert ask("cut.example.com", public_url="https://cut.example.com") == 200
    assert ask("cut.example.com", address="203.0.114.7") == 200


def test_pricing_has_the_highlights_of_the_contract(anonymous_client):
    answer = anonymous_client.get("/api/pricing")
    body = answer.json()
    assert body["model_pricing_credits_per_minute"] == {"original": 60, "light": 45, "pro": 180, "human": 45}
    assert [package["name"] for package in body["packages"]] == ["Starter", "Pro", "Business"]
    assert "price_per_second_cents" in body
    assert "max-age" in answer.headers["cache-control"]


@pytest.mark.parametrize(
    ("found", "status"), [(Health(True, True, True), "healthy"), (Health(True, True, False), "degraded")]
)
def test_health_is_200_and_says_what_is_missing(anonymous_client, harness, monkeypatch, found, status):
    monkeypatch.setattr(HealthMonitor, "check", lambda _: found)
    answer = anonymous_client.get("/health")
    checks = answer.json()["checks"]
    assert (answer.status_code, answer.json()["status"]) == (200, status)
    assert checks["api"] is True
    assert checks["runpod_configured"] is checks["worker_configured"] is found.worker
    assert checks["r2_configured"] is checks["storage_configured"] is found.storage


def test_readiness_needs_database_and_storage_but_no_worker(anonymous_client, harness, monkeypatch):
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(True, True, False))
    assert anonymous_client.get("/readyz").json() == {"status": "ready"}
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(False, True, True))
    answer = anonymous_client.get("/readyz")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]


def test_readiness_needs_a_worker_that_beats_where_one_belongs_to_the_service(make_client, harness, monkeypatch):
    anonymous_client = make_client(secret=None, ready_with_worker=True)
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(True, True, True))
    assert anonymous_client.get("/readyz").json() == {"status": "ready"}
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(True, True, False))
    answer = anonymous_client.get("/readyz")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]


def test_readiness_and_health_tell_of_a_full_disk(anonymous_client, harness, monkeypatch):
    monkeypatch.setattr(HealthMonitor, "check", lambda _: Health(True, True, True, space=False))
    assert anonymous_client.get("/health").json()["status"] == "degraded"
    answer = anonymous_client.get("/readyz")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_full")
    assert answer.headers["retry-after"]


def test_liveness_asks_nobody(anonymous_client, harness, monkeypatch):
    monkeypatch.setattr(HealthMonitor, "check", lambda _: 1 / 0)
    assert anonymous_client.get("/livez").status_code == 200


@pytest.mark.parametrize("path", ["/health", "/livez", "/readyz"])
def test_health_routes_answer_head(anonymous_client, path):
    assert anonymous_client.head(path).status_code == 200
