"""Requests with an Idempotency-Key are executed once, even when repeated concurrently."""

from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from alphareel.http.schemas.batches import Batch
from alphareel.http.schemas.jobs import AcceptedExport, AcceptedJob
from alphareel.service.api_keys.admin import Operator
from alphareel.testing.fakes import TINY_MP4, TINY_PNG
from alphareel_client import Client

VIDEO = {"video_url": "https://a.example/v.mp4"}
SECRETS = {
    "video_url": "https://a.example/secret.mp4",
    "text_prompt": "secret",
    "webhook_url": "https://hook.example/secret",
    "metadata": {"name": "secret"},
    "background": {"type": "image", "image_url": "https://a.example/secret.png"},
    "outputs": [{"format": "webm", "output_target": {"url": "https://put.example/secret"}}],
}


def idempotency_key(name):
    return {"Idempotency-Key": name}


def total(client):
    return client.get("/v1/jobs").json()["total"]


def upload(client, name, data=TINY_MP4, filename="a.mp4"):
    return client.post("/v1/uploads", files={"file": (filename, data)}, headers=idempotency_key(name))


def test_a_repeated_creation_replays_its_response_and_creates_no_second_job(client, finish_job):
    first = client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1"))
    finish_job(first.json()["id"])
    again = client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1"))
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert total(client) == 1


def test_the_order_of_fields_does_not_matter_for_idempotency(client):
    client.post(
        "/v1/jobs", content='{"video_url": "https://a.example/v", "model": "pro"}', headers=idempotency_key("n1")
    )
    again = client.post(
        "/v1/jobs", content='{"model":"pro","video_url":"https://a.example/v"}', headers=idempotency_key("n1")
    )
    assert again.headers["Idempotency-Replayed"] == "true"


def test_another_body_under_the_same_name_is_a_conflict(client):
    client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1"))
    response = client.post("/v1/jobs", json={**VIDEO, "model": "pro"}, headers=idempotency_key("n1"))
    assert (response.status_code, response.json()["error"]["code"]) == (422, "idempotency_conflict")
    assert total(client) == 1


def test_another_route_under_the_same_name_is_a_conflict(client):
    draft = client.post("/v1/jobs", json={**VIDEO, "auto_start": False}).json()["id"]
    client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1"))
    assert client.post(f"/v1/jobs/{draft}/start", headers=idempotency_key("n1")).status_code == 422


def test_idempotency_keys_are_separate_for_each_api_key(client, make_client, new_key):
    other = make_client(secret=new_key())
    one = client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1")).json()["id"]
    two = other.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1"))
    assert two.status_code == 200
    assert two.json()["id"] != one


def test_a_refused_request_does_not_use_up_its_idempotency_key(client):
    assert client.post("/v1/jobs", json={**VIDEO, "model": "huge"}, headers=idempotency_key("n1")).status_code == 400
    assert client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1")).status_code == 200


def test_an_idempotency_key_expires_after_a_day(client, harness):
    first = client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1")).json()["id"]
    harness.clock.advance(hours=24)
    harness.services.uploads._idempotency.sweep_idempotency_keys()
    assert client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1")).json()["id"] != first


@pytest.mark.parametrize("name", ["", "x" * 256, "ä".encode()])
@pytest.mark.parametrize("path", ["jobs", "uploads"])
def test_an_invalid_idempotency_key_is_refused(client, name, path):
    sent = {"files": {"file": ("a.mp4", TINY_MP4)}} if path == "uploads" else {"json": VIDEO}
    response = client.post(f"/v1/{path}", headers={"Idempotency-Key": name}, **sent)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "invalid_request")


def test_many_concurrent_repetitions_create_one_job(client):
    with ThreadPoolExecutor(8) as pool:
        responses = list(
            pool.map(lambda _: client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("n1")), range(8))
        )
    assert {a.status_code for a in responses} == {200}
    assert len({a.json()["id"] for a in responses}) == 1
    assert sum("Idempotency-Replayed" not in a.headers for a in responses) == 1
    assert total(client) == 1


class TestRepeatedStarts:
    def test_a_repeated_start_replays_its_response_even_after_completion(self, client, finish_job):
        draft = client.post("/v1/jobs", json={**VIDEO, "auto_start": False}).json()["id"]
        first = client.post(f"/v1/jobs/{draft}/start", headers=idempotency_key("s1"))
        finish_job(draft)
        again = client.post(f"/v1/jobs/{draft}/start", headers=idempotency_key("s1"))
        assert (again.status_code, again.json()) == (200, first.json())
        assert client.post(f"/v1/jobs/{draft}/start", headers=idempotency_key("s2")).status_code == 409

    def test_a_repeated_start_of_a_failed_job_begins_one_run(self, client, harness):
        job_id = client.post("/v1/jobs", json=VIDEO).json()["id"]
        for _ in range(3):
            harness.jobs.fail(job_id, attempt=None, error="x", error_code="timeout", actor="w")
            client.post(f"/v1/jobs/{job_id}/start", headers=idempotency_key("s1"))
        assert harness.jobs.job(job_id).run == 2

    def test_a_start_that_found_the_job_running_starts_no_later_run(self, client, harness):
        job_id = client.post("/v1/jobs", json=VIDEO).json()["id"]
        first = client.post(f"/v1/jobs/{job_id}/start", headers=idempotency_key("s1"))
        harness.jobs.fail(job_id, attempt=None, error="x", error_code="timeout", actor="w")
        again = client.post(f"/v1/jobs/{job_id}/start", headers=idempotency_key("s1"))
        assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
        assert harness.jobs.job(job_id).run == 1
        changed = client.post(f"/v1/jobs/{job_id}/start", json={"model": "light"}, headers=idempotency_key("s1"))
        assert changed.status_code == 422


def test_a_request_for_an_export_that_exists_uses_up_its_idempotency_key(client, finish_job):
    job_id = client.post("/v1/jobs", json=VIDEO).json()["id"]
    finish_job(job_id, matte=True)

    def export(name, body):
        return client.post(f"/v1/jobs/{job_id}/exports", json=body, headers=idempotency_key(name))

    first = export("e1", {"format": "mov"})
    assert export("e2", {"format": "mov"}).json()["id"] == first.json()["id"]
    assert export("e2", {"format": "mov"}).headers["Idempotency-Replayed"] == "true"
    assert export("e2", {"format": "gif"}).status_code == 422


class TestRepeatedUploads:
    def test_a_repeated_upload_replays_its_response_and_is_stored_once(self, client, harness):
        first = upload(client, "u1")
        stored = len(harness.blobs.blobs)
        again = upload(client, "u1")
        assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
        assert len(harness.blobs.blobs) == stored

    def test_an_upload_of_another_file_under_the_same_key_is_a_conflict(self, client):
        upload(client, "u1")
        assert upload(client, "u1", TINY_PNG).status_code == 422
        assert upload(client, "u1", filename="b.mp4").status_code == 422

    def test_a_refused_upload_does_not_use_up_its_idempotency_key(self, client):
        assert upload(client, "u1", b"no video").status_code == 400
        assert upload(client, "u1").status_code == 200

    def test_an_upload_during_another_with_the_same_key_is_refused_as_in_progress(self, client, harness, key):
        reservation = harness.services.uploads._idempotency.reserve(harness.keys.authenticate(key).id, "u1")
        busy = upload(client, "u1")
        assert (busy.status_code, busy.json()["error"]["code"]) == (409, "idempotency_in_progress")
        assert 1 <= int(busy.headers["Retry-After"]) <= 30
        assert client.post("/v1/jobs", json=VIDEO, headers=idempotency_key("u1")).status_code == 409
        harness.services.uploads._idempotency.release(reservation)
        assert upload(client, "u1").status_code == 200

    def test_an_upload_whose_server_died_can_be_retried_later(self, client, harness, key):
        harness.services.uploads._idempotency.reserve(harness.keys.authenticate(key).id, "u1")
        harness.clock.advance(seconds=31)
        assert upload(client, "u1").status_code == 200
        assert upload(client, "u1").headers["Idempotency-Replayed"] == "true"


class TestReplaysOfDeletedJobs:
    """A replay says nothing that a caller deleted, and is still what the OpenAPI document promises."""

    def test_a_job_keeps_all_fields_and_none_of_what_the_caller_wrote(self, client):
        first = client.post("/v1/jobs", json=SECRETS, headers=idempotency_key("n1")).json()
        assert "secret" in str(first)
        client.delete(f"/v1/jobs/{first['id']}")
        again = client.post("/v1/jobs", json=SECRETS, headers=idempotency_key("n1"))
        assert again.headers["Idempotency-Replayed"] == "true"
        shown = AcceptedJob.model_validate(again.json())
        assert (shown.id, shown.message) == (first["id"], "Job deleted")
        assert "secret" not in again.text
        assert client.get(f"/v1/jobs/{first['id']}").status_code == 404

    def test_a_batch_stays_the_batch_with_its_other_jobs(self, client):
        body = {"items": [SECRETS, VIDEO]}
        first = client.post("/v1/batches", json=body, headers=idempotency_key("n1")).json()
        client.delete(f"/v1/jobs/{first['jobs'][0]['id']}")
        again = client.post("/v1/batches", json=body, headers=idempotency_key("n1"))
        shown = Batch.model_validate(again.json())
        assert (shown.id, [job.id for job in shown.jobs]) == (first["id"], [job["id"] for job in first["jobs"]])
        assert again.json()["jobs"][1] == first["jobs"][1]
        assert "secret" not in again.text

    def test_an_export_keeps_the_id_of_its_job(self, client, finish_job):
        job_id = client.post("/v1/jobs", json=VIDEO).json()["id"]
        finish_job(job_id, matte=True)
        body = {"format": "mov", "output_target": {"url": "https://put.example/secret"}}
        first = client.post(f"/v1/jobs/{job_id}/exports", json=body, headers=idempotency_key("n1")).json()
        client.delete(f"/v1/jobs/{first['id']}")
        again = client.post(f"/v1/jobs/{job_id}/exports", json=body, headers=idempotency_key("n1"))
        shown = AcceptedExport.model_validate(again.json())
        assert (shown.id, shown.job_id, shown.output_target_url) == (first["id"], job_id, None)

    def test_a_response_to_another_key_of_the_client_forgets_the_job_too(
        self, client, harness, key, make_client, monkeypatch
    ):
        shared = harness.services.jobs._settings.model_copy(update={"share_within_client": True})
        monkeypatch.setattr(harness.services.jobs, "_settings", shared)
        own = harness.keys.authenticate(key)
        sibling = make_client(
            secret=harness.services.admin.create_key(Operator("test"), client_id=own.client_id).secret
        )
        draft = client.post("/v1/jobs", json={**SECRETS, "auto_start": False}).json()["id"]
        assert "secret" in sibling.post(f"/v1/jobs/{draft}/start", headers=idempotency_key("s1")).text
        client.delete(f"/v1/jobs/{draft}")
        again = sibling.post(f"/v1/jobs/{draft}/start", headers=idempotency_key("s1"))
        assert (again.status_code, "secret" in again.text) == (200, False)


def test_the_sdk_can_retry_a_creation_after_a_lost_response(client, key, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)

    class Lossy(httpx2.BaseTransport):
        lost = 0

        def handle_request(self, request):
            response = client._transport.handle_request(request)
            if request.method == "POST" and self.lost < 2:
                self.lost += 1
                raise httpx2.ReadError("the line broke")
            return response

    sdk = Client(key, base_url="http://testserver", transport=Lossy())
    job = sdk.create_job("https://a.example/v.mp4")
    assert sdk.list_jobs()["total"] == 1
    assert sdk.list_jobs()["items"][0]["id"] == job["id"]
