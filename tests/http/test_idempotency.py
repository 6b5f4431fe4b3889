"""A request under a name is carried out once, however often and however closely together it is sent."""

from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from alphareel.testing.fakes import TINY_MP4, TINY_PNG
from alphareel_client import Client

VIDEO = {"video_url": "https://a.example/v.mp4"}


def named(name):
    return {"Idempotency-Key": name}


def total(client):
    return client.get("/v1/jobs").json()["total"]


def upload(client, name, data=TINY_MP4, filename="a.mp4"):
    return client.post("/v1/uploads", files={"file": (filename, data)}, headers=named(name))


def test_the_same_again_is_answered_as_before_and_makes_no_second_job(client, finish_job):
    first = client.post("/v1/jobs", json=VIDEO, headers=named("n1"))
    finish_job(first.json()["id"])
    again = client.post("/v1/jobs", json=VIDEO, headers=named("n1"))
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert total(client) == 1


def test_the_order_of_fields_makes_no_other_request(client):
    client.post("/v1/jobs", content='{"video_url": "https://a.example/v", "model": "pro"}', headers=named("n1"))
    again = client.post("/v1/jobs", content='{"model":"pro","video_url":"https://a.example/v"}', headers=named("n1"))
    assert again.headers["Idempotency-Replayed"] == "true"


def test_another_body_under_the_same_name_is_a_conflict(client):
    client.post("/v1/jobs", json=VIDEO, headers=named("n1"))
    answer = client.post("/v1/jobs", json={**VIDEO, "model": "pro"}, headers=named("n1"))
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "idempotency_conflict")
    assert total(client) == 1


def test_another_route_under_the_same_name_is_a_conflict(client):
    draft = client.post("/v1/jobs", json={**VIDEO, "auto_start": False}).json()["id"]
    client.post("/v1/jobs", json=VIDEO, headers=named("n1"))
    assert client.post(f"/v1/jobs/{draft}/start", headers=named("n1")).status_code == 422


def test_names_of_other_keys_are_other_names(client, make_client, new_key):
    other = make_client(secret=new_key())
    one = client.post("/v1/jobs", json=VIDEO, headers=named("n1")).json()["id"]
    two = other.post("/v1/jobs", json=VIDEO, headers=named("n1"))
    assert two.status_code == 200
    assert two.json()["id"] != one


def test_a_refused_request_leaves_its_name_free(client):
    assert client.post("/v1/jobs", json={**VIDEO, "model": "huge"}, headers=named("n1")).status_code == 400
    assert client.post("/v1/jobs", json=VIDEO, headers=named("n1")).status_code == 200


def test_a_name_is_forgotten_after_a_day(client, harness):
    first = client.post("/v1/jobs", json=VIDEO, headers=named("n1")).json()["id"]
    harness.clock.advance(hours=24)
    harness.services.uploads._idempotency.sweep_idempotency_keys()
    assert client.post("/v1/jobs", json=VIDEO, headers=named("n1")).json()["id"] != first


@pytest.mark.parametrize("name", ["", "x" * 256, "ä".encode()])
@pytest.mark.parametrize("path", ["jobs", "uploads"])
def test_a_name_that_is_none_is_refused(client, name, path):
    sent = {"files": {"file": ("a.mp4", TINY_MP4)}} if path == "uploads" else {"json": VIDEO}
    answer = client.post(f"/v1/{path}", headers={"Idempotency-Key": name}, **sent)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")


def test_many_at_once_make_one_job(client):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: client.post("/v1/jobs", json=VIDEO, headers=named("n1")), range(8)))
    assert {a.status_code for a in answers} == {200}
    assert len({a.json()["id"] for a in answers}) == 1
    assert sum("Idempotency-Replayed" not in a.headers for a in answers) == 1
    assert total(client) == 1


class TestAStart:
    def test_again_is_answered_as_before_even_when_the_job_is_done(self, client, finish_job):
        draft = client.post("/v1/jobs", json={**VIDEO, "auto_start": False}).json()["id"]
        first = client.post(f"/v1/jobs/{draft}/start", headers=named("s1"))
        finish_job(draft)
        again = client.post(f"/v1/jobs/{draft}/start", headers=named("s1"))
        assert (again.status_code, again.json()) == (200, first.json())
        assert client.post(f"/v1/jobs/{draft}/start", headers=named("s2")).status_code == 409

    def test_of_a_failed_job_begins_one_run(self, client, harness):
        made = client.post("/v1/jobs", json=VIDEO).json()["id"]
        for _ in range(3):
            harness.jobs.fail(made, attempt=None, error="x", error_code="timeout", actor="w")
            client.post(f"/v1/jobs/{made}/start", headers=named("s1"))
        assert harness.jobs.job(made).run == 2


class TestAnUpload:
    def test_again_is_answered_as_before_and_kept_once(self, client, harness):
        first = upload(client, "u1")
        kept = len(harness.blobs.blobs)
        again = upload(client, "u1")
        assert (again.json(), again.headers["Idempotency-Replayed"]) == (first.json(), "true")
        assert len(harness.blobs.blobs) == kept

    def test_of_another_file_or_name_is_a_conflict(self, client):
        upload(client, "u1")
        assert upload(client, "u1", TINY_PNG).status_code == 422
        assert upload(client, "u1", filename="b.mp4").status_code == 422

    def test_that_was_refused_leaves_its_name_free(self, client):
        assert upload(client, "u1", b"no video").status_code == 400
        assert upload(client, "u1").status_code == 200

    def test_while_another_is_under_way_is_told_so(self, client, harness, key):
        held = harness.services.uploads._idempotency.reserve(harness.keys.authenticate(key).id, "u1")
        busy = upload(client, "u1")
        assert (busy.status_code, busy.json()["error"]["code"]) == (409, "idempotency_in_progress")
        assert 1 <= int(busy.headers["Retry-After"]) <= 30
        assert client.post("/v1/jobs", json=VIDEO, headers=named("u1")).status_code == 409
        harness.services.uploads._idempotency.release(held)
        assert upload(client, "u1").status_code == 200

    def test_whose_server_died_may_be_tried_again_later(self, client, harness, key):
        harness.services.uploads._idempotency.reserve(harness.keys.authenticate(key).id, "u1")
        harness.clock.advance(seconds=31)
        assert upload(client, "u1").status_code == 200
        assert upload(client, "u1").headers["Idempotency-Replayed"] == "true"


def test_the_sdk_may_send_a_creation_again_after_a_lost_answer(client, key, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda _: None)

    class Lossy(httpx2.BaseTransport):
        lost = 0

        def handle_request(self, request):
            answer = client._transport.handle_request(request)
            if request.method == "POST" and self.lost < 2:
                self.lost += 1
                raise httpx2.ReadError("the line broke")
            return answer

    sdk = Client(key, base_url="http://testserver", transport=Lossy())
    made = sdk.create_job("https://a.example/v.mp4")
    assert sdk.list_jobs()["total"] == 1
    assert sdk.list_jobs()["items"][0]["id"] == made["id"]
