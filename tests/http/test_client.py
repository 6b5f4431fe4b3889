"""Both interfaces of the SDK against the real application."""

import pytest

from alphareel.testing.fakes import TINY_MP4
from alphareel_client import AdminClient, ApiError, Client, JobFailed, RemoveBGVideoAdminClient, RemoveBGVideoClient


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "in.mp4"
    path.write_bytes(TINY_MP4)
    return path


@pytest.fixture
def sdk(client, key):
    return Client(key, base_url="http://testserver", transport=client._transport, retries=0)


@pytest.fixture
def dropin(client, key):
    return RemoveBGVideoClient(key, base_url="http://testserver", transport=client._transport)


def test_the_admin_client_lists_inspects_and_cancels_jobs_of_all_keys(make_client, sdk, harness, key):
    token = "t" * 20
    admin = AdminClient(
        token, base_url="http://testserver", transport=make_client(access={"admin_token": token})._transport
    )
    job = sdk.create_job("https://a.example/v.mp4")
    client_id = harness.keys.authenticate(key).client_id  # all tests share the jobs, and the clock stands still
    assert [item["id"] for item in admin.list_jobs(status="pending", client_id=client_id)["items"]] == [job["id"]]
    assert admin.cancel_job(job["id"])["error_code"] == "cancelled"
    assert admin.get_job(job["id"])["history"][-1]["to_status"] == "failed"


def test_the_client_processes_a_file_into_a_file(sdk, source, finish_job, tmp_path):
    uploaded = sdk.upload(source)
    job = sdk.create_job(uploaded["video_url"], model="human", background={"type": "color", "color": "#fff"})
    assert job["status"] == "processing"
    finish_job(job["id"])
    done = sdk.wait_for_completion(job["id"], timeout=60)
    path = sdk.download(done, tmp_path / "out.webm")
    assert path.stat().st_size == done["output"]["size"]


def test_draft_is_started_later(sdk, source):
    job = sdk.create_job(sdk.upload(source)["video_url"], auto_start=False)
    assert job["status"] == "created"
    assert sdk.start_job(job["id"], model="pro", text_prompt="dog")["model"] == "pro"
    assert [listed["id"] for listed in sdk.list_jobs()["items"]] == [job["id"]]


def test_failed_job_is_raised(sdk, harness):
    job = sdk.create_job("https://a.example/v.mp4")
    harness.jobs.fail(job["id"], attempt=None, error="No frame could be read.", error_code="invalid_video", actor="w")
    with pytest.raises(JobFailed, match="No frame") as caught:
        sdk.wait_for_completion(job["id"])
    assert caught.value.code == "invalid_video"


def test_refusal_carries_code_request_id_and_details(sdk):
    with pytest.raises(ApiError) as caught:
        sdk.create_job("https://a.example/v.mp4", model="huge")
    assert (caught.value.status_code, caught.value.code) == (400, "invalid_request")
    assert caught.value.request_id.startswith("req_")
    assert caught.value.details[0]["field"] == "model"


def test_the_dropin_client_processes_a_video_with_its_own_defaults(dropin, source, finish_job):
    uploaded = dropin.upload(source)
    job = dropin.create_job(video_url=uploaded["video_url"])
    finish_job(job["id"])
    done = dropin.wait_for_completion(job["id"], interval_seconds=0)
    assert done["background"]["color"] == "#09A246"
    assert done["output_url"].startswith("http://testserver/files/")


def test_dropin_draft_start_and_list(dropin):
    job = dropin.create_job("https://a.example/v.mp4", auto_start=False, metadata={"a": 1})
    assert dropin.start_job(job["id"])["id"] == job["id"]
    assert dropin.list_jobs(limit=5)["items"][0]["metadata"] == {"a": 1}


def test_dropin_refusals_are_api_errors(dropin):
    with pytest.raises(ApiError) as caught:
        dropin.get_job("job_0")
    assert (caught.value.status_code, caught.value.code) == (404, "not_found")
    with pytest.raises(ApiError) as caught:
        dropin.create_job("https://a.example/v.mp4", bg_type="color", bg_color=[])
    assert caught.value.status_code == 400


def test_job_is_followed_live_and_its_history_is_read(sdk, finish_job):
    job = sdk.create_job("https://a.example/v.mp4")
    finish_job(job["id"])
    events = list(sdk.events(job["id"]))
    assert events[-1]["event"] == "end"
    assert events[-1]["data"]["status"] == "completed"
    seen = [event for event in events if event["event"] == "state"]
    assert [event["data"]["to_status"] for event in seen] == [i["to_status"] for i in sdk.history(job["id"])["items"]]
    assert list(sdk.events(job["id"], last_event_id=seen[-1]["id"])) == []


def test_models_prices_and_estimates_are_read(sdk):
    assert "human" in [tier["model"] for tier in sdk.models()["items"]]
    assert sdk.pricing()["model_pricing_credits_per_minute"]
    assert sdk.estimate("https://a.example/v.mp4", source={"seconds": 60})["video_seconds"] == 60


def test_webhooks_are_listed_resent_and_tested(sdk, finish_job):
    job = sdk.create_job("https://a.example/v.mp4", webhook_url="https://hook.example.com/x")
    finish_job(job["id"])
    deliveries = sdk.webhooks.list(job["id"])["items"]
    assert "job.completed" in [delivery["event"] for delivery in deliveries]
    assert sdk.webhooks.redeliver(job["id"], deliveries[0]["id"])["id"] == deliveries[0]["id"]
    assert sdk.webhooks.test("https://hook.example.com/x")["delivered"] in (True, False)


TOKEN = "an operator's token for the tests"


@pytest.fixture
def operated(make_client):
    """The address and the transport of a service that has an admin token."""
    return {
        "base_url": "http://testserver",
        "transport": make_client(secret=None, access={"admin_token": TOKEN})._transport,
    }


def test_admin_dropin_manages_keys_like_the_other_sdk(operated):
    admin = RemoveBGVideoAdminClient(TOKEN, **operated)
    made = admin.create_key("studio-sdk", "night")
    fingerprint = made["key_fingerprint"]
    assert made["api_key"].startswith("ar_live_")
    assert "studio-sdk" in [key["client_id"] for key in admin.list_keys()["items"]]
    assert admin.disable_key(fingerprint)["enabled"] is False
    assert admin.enable_key(fingerprint)["enabled"] is True
    assert admin.get_config()["success"] is True
    with pytest.raises(ApiError) as caught:
        RemoveBGVideoAdminClient("wrong", **operated).list_keys()
    assert (caught.value.status_code, caught.value.code) == (401, "invalid_admin_token")


def test_admin_client_rotates_limits_and_charges(operated, key):
    admin = Client(key, **operated).admin(TOKEN)
    made = admin.create_key("studio-charged", test=True)
    rotated = admin.rotate_key(made["key_fingerprint"], grace_seconds=60)
    assert rotated["api_key"] != made["api_key"]
    assert admin.limit_key(rotated["key_fingerprint"], max_queued_jobs=3)["max_queued_jobs"] == 3
    assert admin.set_credits("studio-charged", 10)["balance"] == 10
    assert admin.grant_credits("studio-charged", 5)["balance"] == 15
    assert admin.get_credits("studio-charged", limit=5)["items"]
    assert "items" in admin.usage(days=1)
    assert admin.list_events(limit=5)["items"]


def test_a_resumable_upload_becomes_what_a_form_becomes(sdk, source):
    sent = []
    uploaded = sdk.upload(source, resumable=True, on_progress=lambda done, total: sent.append((done, total)))
    assert set(uploaded) == set(sdk.upload(source))
    assert (uploaded["filename"], uploaded["size"], sent) == ("in.mp4", len(TINY_MP4), [(len(TINY_MP4),) * 2])
    assert sdk.create_job(uploaded["video_url"], auto_start=False)["status"] == "created"


def test_large_files_are_resumable_by_themselves(sdk, source, monkeypatch):
    monkeypatch.setattr("alphareel_client.client.RESUMABLE_BYTES", 10)
    paths = []
    exchange = sdk._session.exchange_once
    monkeypatch.setattr(sdk._session, "exchange_once", lambda asked: (paths.append(asked.path), exchange(asked))[1])
    assert sdk.upload(source)["filename"] == "in.mp4"
    assert paths[0] == "/v1/uploads/tus"
    assert "/v1/uploads" not in paths


def test_a_resumable_upload_that_is_no_video_says_why(sdk, tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(ApiError) as caught:
        sdk.upload(path, resumable=True)
    assert (caught.value.status_code, caught.value.code) == (400, "invalid_file_type")
