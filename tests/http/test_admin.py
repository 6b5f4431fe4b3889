"""The operator routes: access, the life cycle of keys, and the audit log."""

import pytest
import sqlalchemy as sa

from alphareel.db.tables import keys
from alphareel.service.api_keys.service import fingerprint as make_fingerprint

TOKEN = "a token for operators"


@pytest.fixture
def admin(make_client):
    client = make_client(secret=None, access={"admin_token": TOKEN})
    client.headers["X-Admin-Token"] = TOKEN
    return client


@pytest.fixture
def created_key(admin):
    return admin.post("/v1/admin/keys", json={"client_id": "studio-7", "note": "night"}).json()


def listed(admin, fingerprint):
    return next(i for i in admin.get("/v1/admin/keys").json()["items"] if i["key_fingerprint"] == fingerprint)


def status_with(client, secret):
    return client.get("/v1/jobs", headers={"X-Api-Key": secret}).status_code


@pytest.mark.parametrize("path", ["config", "keys", "events"])
@pytest.mark.parametrize(
    ("configured", "sent", "code"),
    [
        (TOKEN, None, "missing_admin_token"),
        (TOKEN, "a token for operator", "invalid_admin_token"),
        (TOKEN, "ä".encode(), "invalid_admin_token"),
        (None, TOKEN, "invalid_admin_token"),
        (None, "None", "invalid_admin_token"),
    ],
)
def test_admin_routes_require_the_token(make_client, path, configured, sent, code):
    client = make_client(access={"admin_token": configured})
    response = client.get(f"/v1/admin/{path}", headers={} if sent is None else {"X-Admin-Token": sent})
    assert (response.status_code, response.json()["error"]["code"]) == (401, code)


def test_an_api_key_is_no_admin_token(make_client, key):
    client = make_client(access={"admin_token": TOKEN})
    assert client.post("/v1/admin/keys", json={"client_id": "x"}, headers={"X-Admin-Token": key}).status_code == 401


def test_a_created_key_works_and_its_secret_is_shown_once(admin, created_key):
    assert status_with(admin, created_key["api_key"]) == 200
    assert created_key["api_key"] not in admin.get("/v1/admin/keys").text
    assert created_key["api_key"] not in admin.get("/v1/admin/events").text


def test_a_listed_key_has_the_fields_of_the_contract(admin, created_key):
    shown = listed(admin, created_key["key_fingerprint"])
    assert shown["client_id"] == "studio-7"
    assert shown["note"] == "night"
    assert shown["enabled"] is True
    assert shown["total_calls"] == 0
    assert shown["last_used_at"] is shown["disabled_at"] is None


def test_a_client_may_have_several_keys(admin, created_key):
    second = admin.post("/v1/admin/keys", json={"client_id": "studio-7"}).json()
    assert second["key_fingerprint"] != created_key["key_fingerprint"]
    assert status_with(admin, second["api_key"]) == status_with(admin, created_key["api_key"]) == 200


def test_a_disabled_key_is_invalid_at_once_and_works_again_when_enabled(admin, created_key):
    selector = {"key_fingerprint": created_key["key_fingerprint"]}
    disabled = admin.post("/v1/admin/keys/disable", json=selector).json()
    assert disabled["enabled"] is False
    assert disabled["disabled_at"]
    refused = admin.get("/v1/jobs", headers={"X-Api-Key": created_key["api_key"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    enabled = admin.post("/v1/admin/keys/enable", json=selector).json()
    assert (enabled["enabled"], enabled["disabled_at"]) == (True, None)
    assert status_with(admin, created_key["api_key"]) == 200


def test_a_deleted_key_is_gone_for_good_and_its_jobs_stay_with_its_client(admin, created_key, harness):
    fingerprint, secret = created_key["key_fingerprint"], created_key["api_key"]
    order = {"video_url": "https://example.com/a.mp4"}
    job = admin.post("/v1/jobs", json=order, headers={"X-Api-Key": secret}).json()["id"]
    deleted = admin.post("/v1/admin/keys/delete", json={"key_fingerprint": fingerprint})
    assert (deleted.status_code, deleted.json()["id"]) == (200, fingerprint)
    assert status_with(admin, secret) == 401
    assert fingerprint not in admin.get("/v1/admin/keys").text
    assert harness.jobs.job(job) is not None
    listed_jobs = admin.get("/v1/admin/jobs", params={"client_id": "studio-7"}).json()["items"]
    for shown in (admin.get(f"/v1/admin/jobs/{job}").json(), next(each for each in listed_jobs if each["id"] == job)):
        assert (shown["client_id"], shown["key_fingerprint"]) == ("studio-7", fingerprint)
    assert admin.get("/v1/admin/events").json()["items"][0]["action"] == "keys.delete"
    body = {"key_fingerprint": fingerprint}
    for verb in ("enable", "rotate", "disable", "delete"):
        assert admin.post(f"/v1/admin/keys/{verb}", json=body).status_code == 404, verb
    with harness.database.read() as connection:
        row = connection.execute(sa.select(keys).where(keys.c.fingerprint == fingerprint)).one()
    assert (row.secret_sha256, row.previous_sha256, row.note) == (f"deleted {row.id}", None, "")


def test_the_key_of_the_settings_is_not_deleted(admin, harness):
    harness.keys.admit("a secret of the settings")
    body = {"key_fingerprint": make_fingerprint("a secret of the settings")}
    refused = admin.post("/v1/admin/keys/delete", json=body)
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "invalid_state")


def test_disabling_a_key_twice_keeps_the_first_time(admin, created_key, harness):
    selector = {"key_fingerprint": created_key["key_fingerprint"]}
    first = admin.post("/v1/admin/keys/disable", json=selector).json()["disabled_at"]
    harness.clock.advance(hours=1)
    assert admin.post("/v1/admin/keys/disable", json=selector).json()["disabled_at"] == first


def test_a_rotated_key_keeps_its_jobs_and_its_old_secret_for_the_grace_period(admin, created_key, harness):
    job = admin.post(
        "/v1/jobs", json={"video_url": "https://a.example/v.mp4"}, headers={"X-Api-Key": created_key["api_key"]}
    ).json()["id"]
    rotation = {"key_fingerprint": created_key["key_fingerprint"], "grace_seconds": 60}
    fresh = admin.post("/v1/admin/keys/rotate", json=rotation).json()
    assert admin.get(f"/v1/jobs/{job}", headers={"X-Api-Key": fresh["api_key"]}).status_code == 200
    assert status_with(admin, created_key["api_key"]) == 200
    harness.clock.advance(seconds=61)
    assert status_with(admin, created_key["api_key"]) == 401
    assert status_with(admin, fresh["api_key"]) == 200


def test_a_rotation_without_a_grace_period_disables_the_old_secret(admin, created_key):
    rotation = {"key_fingerprint": created_key["key_fingerprint"], "grace_seconds": 0}
    assert admin.post("/v1/admin/keys/rotate", json=rotation).status_code == 200
    assert status_with(admin, created_key["api_key"]) == 401


def test_limits_of_a_key_can_be_set_and_reset(admin, created_key):
    selector = {"key_fingerprint": created_key["key_fingerprint"]}
    assert admin.post("/v1/admin/keys/limits", json={**selector, "write_per_minute": 5}).json()["write_per_minute"] == 5
    assert listed(admin, created_key["key_fingerprint"])["write_per_minute"] == 5
    other = admin.post("/v1/admin/keys/limits", json={**selector, "max_running_jobs": 2}).json()
    assert (other["write_per_minute"], other["max_running_jobs"], other["max_queued_jobs"]) == (5, 2, None)
    back = admin.post("/v1/admin/keys/limits", json={**selector, "write_per_minute": None}).json()
    assert (back["write_per_minute"], back["max_running_jobs"]) == (None, 2)


def test_a_body_without_any_known_limit_is_refused(admin, created_key):
    selector = {"key_fingerprint": created_key["key_fingerprint"]}
    response = admin.post("/v1/admin/keys/limits", json={**selector, "read_per_minut": 5})
    assert (response.status_code, "read_per_minute" in response.text) == (400, True)


@pytest.mark.parametrize("verb", ["disable", "enable", "rotate", "limits"])
def test_an_unknown_fingerprint_is_not_found(admin, verb):
    response = admin.post(f"/v1/admin/keys/{verb}", json={"key_fingerprint": "fp_none"})
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("keys", {}, "client_id"),
        ("keys", {"client_id": "  "}, "client_id"),
        ("keys", {"client_id": 7}, "client_id"),
        ("keys", {"client_id": "x" * 201}, "client_id"),
        ("keys", {"client_id": "x\n"}, None),
        ("keys", {"client_id": "a\0b"}, "client_id"),
        ("keys", {"client_id": "x", "note": ["n"]}, "note"),
        ("keys/disable", {}, "key_fingerprint"),
        ("keys/rotate", {"key_fingerprint": "fp", "grace_seconds": -1}, "grace_seconds"),
        ("keys/rotate", {"key_fingerprint": "fp", "grace_seconds": True}, "grace_seconds"),
        ("keys/limits", {"key_fingerprint": "fp", "read_per_minute": -1}, "read_per_minute"),
        ("keys/limits", {"key_fingerprint": "fp", "max_queued_jobs": 2.5}, "max_queued_jobs"),
    ],
)
def test_a_bad_field_is_named(admin, path, body, field):
    response = admin.post(f"/v1/admin/{path}", json=body)
    if field is None:
        assert response.status_code == 200  # white space around a name is stripped
        return
    assert response.status_code == 400
    assert [d["field"] for d in response.json()["error"]["details"]] == [field]


def test_every_admin_action_is_audited_with_its_request_id(admin, created_key):
    admin.post(
        "/v1/admin/keys/disable",
        json={"key_fingerprint": created_key["key_fingerprint"]},
        headers={"X-Request-Id": "req_disable"},
    )
    newest, before = admin.get("/v1/admin/events?limit=2").json()["items"]
    assert (newest["action"], newest["subject"], newest["request_id"], newest["actor"]) == (
        "keys.disable",
        created_key["key_fingerprint"],
        "req_disable",
        "admin",
    )
    assert (before["action"], before["detail"]) == ("keys.create", {"client_id": "studio-7"})


def test_config_shows_settings_without_secrets(admin):
    settings = admin.get("/v1/admin/config").json()["settings"]
    assert (settings["port"], settings["api_key"], settings["webhook_secret"]) == (8080, "unset", "set")
    assert isinstance(settings["port"], int)


def test_the_content_type_of_a_get_without_a_body_is_ignored(admin):
    assert admin.get("/v1/admin/keys", headers={"Content-Type": "application/json"}).status_code == 200


@pytest.fixture
def foreign_job(client, created_key):
    """A job of another client, with a webhook."""
    body = {"video_url": "https://a.example/v.mp4?token=hidden", "webhook_url": "https://hook.example/x"}
    return client.post("/v1/jobs", json=body, headers={"X-Api-Key": created_key["api_key"]}).json()["id"]


def test_an_operator_sees_the_jobs_of_all_keys_without_what_callers_sent(admin, foreign_job, created_key):
    listing = admin.get("/v1/admin/jobs", params={"client_id": "studio-7", "status": "pending"})
    found = next(item for item in listing.json()["items"] if item["id"] == foreign_job)
    assert (found["client_id"], found["status"]) == ("studio-7", "pending")
    assert found["key_fingerprint"] == created_key["key_fingerprint"]
    assert "hidden" not in listing.text
    assert "output_url" not in listing.text
    assert admin.get("/v1/admin/jobs", params={"client_id": "nobody"}).json()["total"] == 0
    assert admin.get("/v1/admin/jobs?limit=101").status_code == 400


def test_an_operator_inspects_and_cancels_a_job(admin, foreign_job, finish_job):
    assert [entry["to_status"] for entry in admin.get(f"/v1/admin/jobs/{foreign_job}").json()["history"]] == ["pending"]
    cancelled = admin.post(f"/v1/admin/jobs/{foreign_job}/cancel").json()
    assert (cancelled["status"], cancelled["error_code"]) == ("failed", "cancelled")
    assert cancelled["history"][-1]["actor"] == "operator:admin"
    (delivery,) = cancelled["webhooks"]
    again = admin.post(f"/v1/admin/jobs/{foreign_job}/webhooks/{delivery['id']}/redeliver")
    assert again.json()["webhooks"][0]["status"] == "pending"


@pytest.mark.parametrize(
    "method_and_path", ["GET jobs/job_x", "POST jobs/job_x/cancel", "POST jobs/job_x/webhooks/w/redeliver"]
)
def test_an_unknown_job_of_an_operator_is_not_found(admin, method_and_path):
    method, path = method_and_path.split()
    assert admin.request(method, f"/v1/admin/{path}").status_code == 404


def test_an_api_key_does_not_open_the_jobs_of_all_keys(client, key):
    assert client.get("/v1/admin/jobs", headers={"X-Api-Key": key}).status_code == 401
