"""Both interfaces of the SDK against the real application."""

import pytest

from alphareel.testing.fakes import TINY_MP4
from alphareel_client import ApiError, Client, JobFailed, RemoveBGVideoClient


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


def test_the_client_processes_a_file_into_a_file(sdk, source, finish_job, tmp_path):
    uploaded = sdk.upload(source)
    job = sdk.create_job(uploaded["video_url"], model="human", background={"type": "color", "color": "#fff"})
    assert job["status"] == "processing"
    finish_job(job["id"])
    done = sdk.wait_for_completion(job["id"], timeout=5)
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
