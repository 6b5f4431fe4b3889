"""The routes of operators: shut without the token, keys that come, go and change their secret, and the audit."""

import pytest

TOKEN = "a token for operators"


@pytest.fixture
def admin(make_client):
    made = make_client(secret=None, admin_token=TOKEN)
    made.headers["X-Admin-Token"] = TOKEN
    return made


@pytest.fixture
def made(admin):
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
def test_nobody_enters_without_the_token(make_client, path, configured, sent, code):
    client = make_client(admin_token=configured)
    answer = client.get(f"/v1/admin/{path}", headers={} if sent is None else {"X-Admin-Token": sent})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)


def test_an_api_key_is_no_admin_token(make_client, key):
    client = make_client(admin_token=TOKEN)
    assert client.post("/v1/admin/keys", json={"client_id": "x"}, headers={"X-Admin-Token": key}).status_code == 401


def test_a_made_key_works_and_its_secret_is_shown_once(admin, made):
    assert status_with(admin, made["api_key"]) == 200
    assert made["api_key"] not in admin.get("/v1/admin/keys").text
    assert made["api_key"] not in admin.get("/v1/admin/events").text


def test_a_listed_key_has_the_fields_of_the_contract(admin, made):
    shown = listed(admin, made["key_fingerprint"])
    assert shown["client_id"] == "studio-7"
    assert shown["note"] == "night"
    assert shown["enabled"] is True
    assert shown["total_calls"] == 0
    assert shown["last_used_at"] is shown["disabled_at"] is None


def test_a_client_may_have_several_keys(admin, made):
    second = admin.post("/v1/admin/keys", json={"client_id": "studio-7"}).json()
    assert second["key_fingerprint"] != made["key_fingerprint"]
    assert status_with(admin, second["api_key"]) == status_with(admin, made["api_key"]) == 200


def test_a_disabled_key_is_invalid_at_once_and_works_again_when_enabled(admin, made):
    chosen = {"key_fingerprint": made["key_fingerprint"]}
    shut = admin.post("/v1/admin/keys/disable", json=chosen).json()
    assert shut["enabled"] is False
    assert shut["disabled_at"]
    refused = admin.get("/v1/jobs", headers={"X-Api-Key": made["api_key"]})
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    opened = admin.post("/v1/admin/keys/enable", json=chosen).json()
    assert (opened["enabled"], opened["disabled_at"]) == (True, None)
    assert status_with(admin, made["api_key"]) == 200


def test_disabling_twice_keeps_the_first_time(admin, made, harness):
    chosen = {"key_fingerprint": made["key_fingerprint"]}
    first = admin.post("/v1/admin/keys/disable", json=chosen).json()["disabled_at"]
    harness.clock.advance(hours=1)
    assert admin.post("/v1/admin/keys/disable", json=chosen).json()["disabled_at"] == first


def test_a_rotated_key_keeps_its_jobs_and_for_a_while_its_old_secret(admin, made, harness):
    job = admin.post(
        "/v1/jobs", json={"video_url": "https://a.example/v.mp4"}, headers={"X-Api-Key": made["api_key"]}
    ).json()["id"]
    turned = {"key_fingerprint": made["key_fingerprint"], "grace_seconds": 60}
    fresh = admin.post("/v1/admin/keys/rotate", json=turned).json()
    assert admin.get(f"/v1/jobs/{job}", headers={"X-Api-Key": fresh["api_key"]}).status_code == 200
    assert status_with(admin, made["api_key"]) == 200
    harness.clock.advance(seconds=61)
    assert status_with(admin, made["api_key"]) == 401
    assert status_with(admin, fresh["api_key"]) == 200


def test_a_rotation_without_grace_ends_the_old_secret(admin, made):
    turned = {"key_fingerprint": made["key_fingerprint"], "grace_seconds": 0}
    assert admin.post("/v1/admin/keys/rotate", json=turned).status_code == 200
    assert status_with(admin, made["api_key"]) == 401


def test_limits_of_a_key_are_set_and_taken_back(admin, made):
    chosen = {"key_fingerprint": made["key_fingerprint"]}
    assert admin.post("/v1/admin/keys/limits", json={**chosen, "write_per_minute": 5}).json()["write_per_minute"] == 5
    assert listed(admin, made["key_fingerprint"])["write_per_minute"] == 5
    other = admin.post("/v1/admin/keys/limits", json={**chosen, "max_running_jobs": 2}).json()
    assert (other["write_per_minute"], other["max_running_jobs"], other["max_queued_jobs"]) == (5, 2, None)
    back = admin.post("/v1/admin/keys/limits", json={**chosen, "write_per_minute": None}).json()
    assert (back["write_per_minute"], back["max_running_jobs"]) == (None, 2)


@pytest.mark.parametrize("verb", ["disable", "enable", "rotate", "limits"])
def test_an_unknown_fingerprint_is_not_found(admin, verb):
    answer = admin.post(f"/v1/admin/keys/{verb}", json={"key_fingerprint": "fp_none"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


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
    answer = admin.post(f"/v1/admin/{path}", json=body)
    if field is None:
        assert answer.status_code == 200  # space around a name is dropped
        return
    assert answer.status_code == 400
    assert [d["field"] for d in answer.json()["error"]["details"]] == [field]


def test_every_act_leaves_a_row_that_names_the_request(admin, made):
    admin.post(
        "/v1/admin/keys/disable",
        json={"key_fingerprint": made["key_fingerprint"]},
        headers={"X-Request-Id": "req_shut"},
    )
    newest, before = admin.get("/v1/admin/events?limit=2").json()["items"]
    assert (newest["action"], newest["subject"], newest["request_id"], newest["actor"]) == (
        "keys.disable",
        made["key_fingerprint"],
        "req_shut",
        "admin",
    )
    assert (before["action"], before["detail"]) == ("keys.create", {"client_id": "studio-7"})


def test_config_shows_settings(admin):
    assert admin.get("/v1/admin/config").json()["settings"] == {"port": "8080"}


def test_the_header_of_a_get_without_a_body_is_not_minded(admin):
    assert admin.get("/v1/admin/keys", headers={"Content-Type": "application/json"}).status_code == 200
