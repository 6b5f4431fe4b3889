"""Where outputs are sent, as clients of the routes ask for it and see it."""

import pytest

VIDEO = "https://example.com/in.mp4"
TARGET = {"url": "https://bucket.example.com/a/b.webm?X-Amz-Signature=5ec4e7", "headers": {"x-amz-acl": "5ec4e7"}}
ADDRESS = "https://bucket.example.com/a/b.webm"


def create(client, **fields):
    return client.post("/v1/jobs", json={"video_url": VIDEO, **fields})


def test_the_address_is_shown_without_what_grants_access(client, logs):
    created = create(client, output_target=TARGET)
    assert created.status_code == 200
    assert [each["output_target_url"] for each in created.json()["requested_outputs"]] == [ADDRESS]
    seen = [created, client.get(f"/v1/jobs/{created.json()['id']}"), client.get("/v1/jobs")]
    assert all("5ec4e7" not in answer.text for answer in seen)
    assert "5ec4e7" not in repr(logs())


def test_each_output_has_its_own(client):
    outputs = [{"format": "webm", "output_target": TARGET}, {"format": "mov"}]
    job = create(client, outputs=outputs).json()
    assert [each["output_target_url"] for each in job["requested_outputs"]] == [ADDRESS, None]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"output_target": {"url": "ftp://example.com"}}, "output_target.url"),
        ({"output_target": {"url": "https://10.0.0.1/5ec4e7"}}, "output_target.url"),
        ({"output_target": {**TARGET, "headers": {"Host": "a"}}}, "output_target.headers.Host"),
        ({"outputs": [{"format": "webm"}], "output_target": TARGET}, "output_target"),
        ({"outputs": [{"format": "webm", "output_target": {}}]}, "outputs.0.output_target.url"),
        ({"outputs": [{"format": "webm"}, {"format": "mov", "output_target": {"url": "https://127.0.0.1/"}}]},
         "outputs.1.output_target.url"),
    ],
)  # fmt: skip
def test_what_cannot_be_sent_to_is_refused(client, fields, named):
    answer = create(client, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    assert [detail["field"] for detail in answer.json()["error"]["details"]] == [named]
    assert "5ec4e7" not in answer.text


def test_other_bad_fields_are_told_as_well(client):
    answer = create(client, output_target={"url": ""}, model="huge")
    assert {detail["field"] for detail in answer.json()["error"]["details"]} == {"output_target.url", "model"}


def test_jobs_of_a_batch_cannot_share_a_target(client):
    urls = [VIDEO, "https://example.com/b.mp4"]
    answer = client.post("/v1/batches", json={"video_urls": urls, "output_target": TARGET})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"][0]["field"] == "output_target"
    items = [{"video_url": url, "output_target": {"url": f"{TARGET['url']}{n}"}} for n, url in enumerate(urls)]
    batch = client.post("/v1/batches", json={"items": items})
    assert batch.status_code == 200, batch.text
    assert "5ec4e7" not in batch.text


def test_a_start_may_bring_a_target(client):
    draft = create(client, auto_start=False).json()
    started = client.post(f"/v1/jobs/{draft['id']}/start", json={"output_target": TARGET}).json()
    assert started["requested_outputs"][0]["output_target_url"] == ADDRESS


def test_a_repeated_request_gets_the_first_answer_without_secrets(client):
    first, again = (
        client.post("/v1/jobs", json={"video_url": VIDEO, "output_target": TARGET}, headers={"Idempotency-Key": "k1"})
        for _ in range(2)
    )
    assert again.headers["Idempotency-Replayed"] == "true"
    assert first.json()["id"] == again.json()["id"]
    assert "5ec4e7" not in again.text


def test_exports_take_a_target_and_are_then_made_anew(client, finish_job):
    job_id = create(client).json()["id"]
    finish_job(job_id, matte=True)
    path = f"/v1/jobs/{job_id}/exports"
    plain = client.post(path, json={"format": "gif"}).json()
    sent = client.post(path, json={"format": "gif", "output_target": TARGET}).json()
    assert plain["id"] != sent["id"]
    assert (sent["output_target_url"], sent["delivery"]) == (ADDRESS, None)
    refused = client.post(path, json={"format": "mov", "output_target": {"url": "https://192.168.1.1/"}})
    assert refused.status_code == 400


def test_a_job_with_a_target_is_completed_by_its_delivery_only(client, finish_job, harness):
    job_id = create(client, output_target=TARGET).json()["id"]
    finish_job(job_id)
    job = client.get(f"/v1/jobs/{job_id}").json()
    assert (job["status"], job["output_url"], job["outputs"]) == ("processing", None, [])
    assert client.post(f"/v1/jobs/{job_id}/cancel").status_code == 200
    assert harness.jobs.job(job_id).undelivered is None
