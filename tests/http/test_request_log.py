"""The request log: one line per request, without secrets."""

from alphareel.testing.fakes import TINY_MP4


def lines(logs):
    return [entry for entry in logs() if entry["event"] == "request"]


def test_one_log_line_has_method_route_status_time_bytes_and_key(client, logs):
    client.get("/v1/jobs/job_9", headers={"X-Request-Id": "abc"})
    (line,) = lines(logs)
    assert (line["method"], line["path"], line["status"]) == ("GET", "/v1/jobs/job_9", 404)
    assert line["route"] == "/v1/jobs/{job_id}"
    assert line["request_id"] == "abc"
    assert line["key"].startswith("fp_")
    assert line["ms"] >= 0
    assert line["bytes"] > 20


def test_key_and_link_signature_are_never_logged(client, key, logs):
    client.get("/files/outputs/a.webm?exp=1&sig=very-secret")
    client.get("/v1/jobs")
    text = repr(logs())
    assert "very-secret" not in text
    assert key not in text


def test_a_crash_is_logged_with_its_request_id_and_traceback(client, harness, monkeypatch, logs):
    monkeypatch.setattr(harness.services.jobs, "list", lambda *_, **__: 1 / 0)
    response = client.get("/v1/jobs")
    (entry,) = [entry for entry in logs() if entry["event"] == "request_crashed"]
    assert entry["request_id"] == response.headers["x-request-id"]
    assert "ZeroDivisionError" in entry["exception"]
    assert lines(logs)[0]["status"] == 500


def test_log_lines_name_the_job_and_the_upload(client, logs):
    sent = client.post("/v1/uploads", files={"file": ("a.mp4", TINY_MP4)}).json()
    created = client.post("/v1/jobs", json={"video_url": sent["video_url"]}).json()
    client.post(f"/v1/jobs/{created['id']}/cancel")
    client.delete(f"/v1/uploads/{sent['video_id']}")
    ids = [(line.get("job_id"), line.get("video_id")) for line in lines(logs)]
    video, job = sent["video_id"], created["id"]
    assert ids == [(None, video), (job, video), (job, video), (None, video)]


def test_log_context_does_not_leak_into_the_next_request(client, logs):
    client.get("/livez", headers={"X-Request-Id": "first"})
    client.get("/livez", headers={"X-Request-Id": "second"})
    assert [line["request_id"] for line in lines(logs)] == ["first", "second"]
