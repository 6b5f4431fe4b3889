"""Credits over HTTP: 402 errors, credits shown in jobs, and the operator routes."""

from dataclasses import replace

import pytest

from alphareel.service.api_keys.admin import Operator
from alphareel.service.uploads.models import MediaInfo
from alphareel.testing.fakes import TINY_MP4

TOKEN = "a token for operators"
OPERATOR = Operator("test")
ELSEWHERE = {"video_url": "https://a.example/v.mp4"}


@pytest.fixture
def admin(make_client):
    client = make_client(secret=None, access={"admin_token": TOKEN})
    client.headers["X-Admin-Token"] = TOKEN
    return client


@pytest.fixture
def studio(harness, key):
    """The client of the test's key."""
    return harness.keys.authenticate(key).client_id


@pytest.fixture
def video(client, harness, monkeypatch):
    """An upload that lasts ten seconds: ten credits with original."""
    monkeypatch.setattr(
        harness.services.uploads, "_inspect_media", lambda _: MediaInfo("video", "video/mp4", "mp4", 10.0)
    )
    return {"video_url": client.post("/v1/uploads", files={"file": ("a.mp4", TINY_MP4)}).json()["video_url"]}


def balance(harness, studio):
    return harness.services.admin.account(studio).balance


def test_a_key_without_a_balance_is_not_billed(client, video):
    job = client.post("/v1/jobs", json=video).json()
    assert (job["billing_status"], job["credits_used"], job["pricing_version"]) == ("not_billed", 0, None)


def test_a_job_shows_reserved_then_charged_credits(client, harness, studio, video, finish_job):
    harness.services.admin.grant(OPERATOR, client_id=studio, amount=100, start_charging=True)
    job = client.post("/v1/jobs", json=video).json()
    assert (job["billing_status"], job["credits_reserved"], job["credits_used"]) == ("reserved", 10, 0)
    assert balance(harness, studio) == 9000
    finish_job(job["id"])  # its result lasts two seconds
    done = client.get(f"/v1/jobs/{job['id']}").json()
    assert (done["billing_status"], done["credits_reserved"], done["credits_used"]) == ("charged", 0, 2)
    assert done["pricing_version"] == "1"
    assert balance(harness, studio) == 9800
    assert client.get("/v1/usage/summary?days=1").json()["credits_used"] == 2


def test_a_job_without_a_key_is_refused_if_any_client_is_charged(anonymous_client, harness, studio):
    harness.services.admin.set_balance(OPERATOR, client_id=studio, balance=0)
    response = anonymous_client.post("/api/process", json=ELSEWHERE)
    assert (response.status_code, response.json()["error"]["code"]) == (401, "missing_api_key")
    assert "charges credits" in response.json()["error"]["message"]
    assert anonymous_client.post("/api/process", json={**ELSEWHERE, "test": "success"}).status_code == 200
    harness.services.admin.set_balance(OPERATOR, client_id=studio, balance=None)
    assert anonymous_client.post("/api/process", json=ELSEWHERE).status_code == 200


def test_a_key_on_the_legacy_routes_pays_from_its_balance(client, harness, studio, video):
    harness.services.admin.grant(OPERATOR, client_id=studio, amount=10, start_charging=True)
    assert client.post("/api/process", json=video).status_code == 200
    assert balance(harness, studio) == 0
    assert client.post("/api/process", json=video).status_code == 402


def test_a_job_beyond_the_balance_is_402_and_leaves_nothing_behind(client, harness, studio, video):
    harness.services.admin.grant(OPERATOR, client_id=studio, amount=9.99, start_charging=True)
    response = client.post("/v1/jobs", json=video)
    assert (response.status_code, response.json()["error"]["code"]) == (402, "insufficient_credits")
    assert response.json()["error"]["message"] == "Not enough credits to process this video"
    assert client.get("/v1/jobs").json()["total"] == 0


def test_a_preview_and_another_model_have_their_own_price(client, harness, studio, video):
    harness.services.admin.grant(OPERATOR, client_id=studio, amount=100, start_charging=True)
    preview = client.post("/v1/jobs", json={**video, "model": "pro", "preview_duration": 2}).json()
    light = client.post("/v1/jobs", json={**video, "model": "light"}).json()
    assert (preview["credits_reserved"], light["credits_reserved"]) == (6, 7.5)


def test_a_draft_costs_nothing_until_it_is_started(client, harness, studio, video):
    harness.services.admin.grant(OPERATOR, client_id=studio, amount=5, start_charging=True)
    draft = client.post("/v1/jobs", json={**video, "auto_start": False}).json()
    assert draft["billing_status"] == "not_billed"
    refused = client.post(f"/v1/jobs/{draft['id']}/start")
    assert refused.status_code == 402
    assert client.get(f"/v1/jobs/{draft['id']}").json()["status"] == "created"
    harness.services.admin.grant(OPERATOR, client_id=studio, amount=5, start_charging=True)
    assert client.post(f"/v1/jobs/{draft['id']}/start").json()["billing_status"] == "reserved"


def test_a_job_for_a_remote_video_needs_a_positive_balance(client, harness, studio):
    harness.services.admin.set_balance(OPERATOR, client_id=studio, balance=0)
    assert client.post("/v1/jobs", json=ELSEWHERE).status_code == 402
    harness.services.admin.grant(OPERATOR, client_id=studio, amount=0.01, start_charging=True)
    assert client.post("/v1/jobs", json=ELSEWHERE).json()["billing_status"] == "not_billed"


def test_a_failed_job_releases_its_credits(client, harness, studio, video):
    harness.services.admin.grant(OPERATOR, client_id=studio, amount=10, start_charging=True)
    job_id = client.post("/v1/jobs", json=video).json()["id"]
    harness.jobs.fail(job_id, attempt=None, error="x", error_code="timeout", actor="w")
    assert client.get(f"/v1/jobs/{job_id}").json()["billing_status"] == "released"
    assert balance(harness, studio) == 1000


def test_operators_can_grant_take_and_see_credits(admin, harness):
    harness.services.admin.create_key(OPERATOR, client_id="bank-1")
    first = {"client_id": "bank-1", "credits": 12.5, "start_charging": True}
    account = admin.post("/v1/admin/credits/grant", json=first).json()
    assert (account["balance"], account["reserved"], account["charged"]) == (12.5, 0, 0)
    admin.post("/v1/admin/credits/grant", json={"client_id": "bank-1", "credits": -2.5})
    shown = admin.get("/v1/admin/credits?client_id=bank-1").json()
    assert shown["balance"] == 10
    assert sorted(item["credits"] for item in shown["items"]) == [-2.5, 12.5]
    unlimited = admin.post("/v1/admin/credits/set", json={"client_id": "bank-1", "balance": None}).json()
    assert unlimited["balance"] is None
    assert admin.get("/v1/admin/events?limit=1").json()["items"][0]["action"] == "credits.set"


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("grant", {"client_id": "x"}, "credits"),
        ("grant", {"client_id": "x", "credits": "5"}, "credits"),
        ("grant", {"client_id": "x", "credits": True}, "credits"),
        ("grant", {"client_id": "x", "credits": 1e300}, "credits"),
        ("grant", {"credits": 1}, "client_id"),
        ("grant", {"client_id": "x", "credits": 1, "start_charging": "yes"}, "start_charging"),
        ("set", {"client_id": "x"}, "balance"),
        ("set", {"client_id": "x", "balance": -1}, "balance"),
    ],
)
def test_an_invalid_credit_grant_is_refused(admin, path, body, field):
    response = admin.post(f"/v1/admin/credits/{path}", json=body)
    assert response.status_code == 400
    assert [d["field"] for d in response.json()["error"]["details"]] == [field]


def test_a_grant_to_an_unlimited_client_needs_start_charging(admin, client, studio):
    response = admin.post("/v1/admin/credits/grant", json={"client_id": studio, "credits": 0})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "invalid_state")
    assert "start_charging" in response.json()["error"]["message"]
    assert client.post("/v1/jobs", json=ELSEWHERE).status_code == 200


@pytest.mark.parametrize(("path", "body"), [("grant", {"credits": 5, "start_charging": True}), ("set", {"balance": 5})])
def test_a_client_id_without_a_key_cannot_be_granted_credits(admin, path, body):
    response = admin.post(f"/v1/admin/credits/{path}", json={"client_id": "mistyped", **body})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_no_more_credits_can_be_taken_than_the_balance(admin, harness):
    harness.services.admin.create_key(OPERATOR, client_id="bank-2")
    admin.post("/v1/admin/credits/set", json={"client_id": "bank-2", "balance": 0})
    response = admin.post("/v1/admin/credits/grant", json={"client_id": "bank-2", "credits": -1})
    assert (response.status_code, response.json()["error"]["code"]) == (409, "invalid_state")


def test_prices_of_the_operator_are_shown_and_charged(client, harness, studio, video, monkeypatch):
    prices = replace(
        harness.services.prices, per_minute={**harness.services.prices.per_minute, "original": 600}, version="2"
    )
    monkeypatch.setattr(harness.services.jobs, "_prices", prices)
    client.app.state.context.services = replace(harness.services, prices=prices)
    assert client.get("/api/pricing").json()["model_pricing_credits_per_minute"]["original"] == 6
    assert client.get("/api/pricing").json()["pricing_version"] == "2"
    harness.services.admin.grant(OPERATOR, client_id=studio, amount=10, start_charging=True)
    job = client.post("/v1/jobs", json=video).json()
    assert (job["credits_reserved"], job["pricing_version"]) == (1, "2")
