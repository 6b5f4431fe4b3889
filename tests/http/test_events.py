"""The event stream: every event once, in order, until the end, and slots released on disconnect."""

import json
import threading
import time
from functools import partial

import fastapi.routing
import pytest
import requests

from alphareel.domain.errors import RateLimited, Unavailable
from alphareel.http import sse
from alphareel.http.app import create_app
from alphareel.http.sse import StreamSlots
from alphareel.service.api_keys.admin import Operator
from alphareel.testing.fakes import make_settings

VIDEO = "https://example.com/in.mp4"


@pytest.fixture(autouse=True)
def fast_polling(monkeypatch):
    monkeypatch.setattr(sse, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(fastapi.routing, "_PING_INTERVAL", 0.2)


@pytest.fixture
def server(harness, serve):
    with serve(create_app(harness.services, make_settings(http={"streams_per_key": 2}))) as running:
        yield running


@pytest.fixture
def job(client):
    return client.post("/v1/jobs", json={"video_url": VIDEO}).json()


def open_stream(server, key, job, **headers):
    url = f"{server.url}/v1/jobs/{job['id']}/events"
    return requests.get(url, headers={"X-Api-Key": key, **headers}, stream=True, timeout=60)


def read(response):
    """(event, id, data) of each event as it arrives, until the stream ends."""
    fields = {}
    for line in response.iter_lines(decode_unicode=True):
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        if not line and fields:
            yield fields["event"], fields.get("id"), json.loads(fields["data"])
            fields = {}


def test_a_stream_ends_when_the_server_stops(harness, serve, key, job):
    app = create_app(harness.services, make_settings())
    with serve(app) as running:
        events = read(open_stream(running, key, job))
        assert next(events)[0] == "state"
        app.state.context.streams.close()
        assert not [event for event, _, _ in events if event in ("state", "end")]


def test_a_stream_survives_a_database_outage(server, key, job, harness, finish_job, monkeypatch):
    real = harness.services.jobs.get

    def get(principal, job_id):
        if opened.is_set() and len(refused) < 3:
            refused.append(job_id)
            raise Unavailable("The database does not respond.")
        return real(principal, job_id)

    opened, refused = threading.Event(), []
    monkeypatch.setattr(harness.services.jobs, "get", get)
    response = open_stream(server, key, job)
    opened.set()
    deadline = time.monotonic() + 60
    while len(refused) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    finish_job(job["id"])
    assert [event for event, _, _ in read(response)][-1] == "end"


def test_a_stream_reports_a_job_from_its_start_to_its_end(server, key, job, harness, finish_job):
    def work():
        time.sleep(0.3)
        running = harness.jobs.begin_attempt(job["id"], ticket=1, actor="worker")
        harness.jobs.set_progress(job["id"], attempt=running.attempt, progress=40)
        time.sleep(0.3)
        finish_job(job["id"])

    worker = threading.Thread(target=work)
    worker.start()
    response = open_stream(server, key, job)
    assert response.headers["content-type"].startswith("text/event-stream")
    events = list(read(response))
    worker.join()
    numbers = [int(number) for _, number, _ in events if number]
    assert numbers == sorted(set(numbers))
    states = [data["to_status"] for event, _, data in events if event == "state"]
    assert (states[0], states[-1]) == ("pending", "completed")
    percentages = [data["progress"] for event, _, data in events if event == "progress"]
    assert percentages == sorted(percentages)
    assert percentages[-1] == 100
    last, _, end = events[-1]
    assert (last, end["status"], end["id"]) == ("end", "completed", job["id"])


def test_a_stream_reports_previews_with_working_links(server, key, job, harness, finish_job, tmp_path):
    seen = []

    def work():
        time.sleep(0.3)
        running = harness.jobs.begin_attempt(job["id"], ticket=1, actor="worker")
        (tmp_path / "p.webp").write_bytes(b"a picture")
        blob = f"previews/{job['id']}/1/preview-0.webp"
        harness.blobs.put_file(blob, tmp_path / "p.webp")
        harness.jobs.set_progress(job["id"], attempt=running.attempt, progress=40, preview=blob)
        shown = requests.get(f"{server.url}/v1/jobs/{job['id']}", headers={"X-Api-Key": key}, timeout=60)
        seen.append(requests.get(shown.json()["preview_url"], timeout=60).content)
        reported.wait(60)
        finish_job(job["id"])

    reported = threading.Event()
    worker = threading.Thread(target=work)
    worker.start()
    events = []
    for event in read(open_stream(server, key, job)):
        events.append(event)
        if event[0] == "preview":
            reported.set()
    worker.join()
    assert seen == [b"a picture"]
    previews = [data for event, _, data in events if event == "preview"]
    assert [(p["id"], p["progress"]) for p in previews] == [(job["id"], 40)]
    assert "/files/previews/" in previews[0]["preview_url"]
    assert events[-1][2]["preview_url"] is None, "a job that has ended has its result"


def test_a_poll_between_two_previews_is_not_modified(client, job, harness):
    running = harness.jobs.begin_attempt(job["id"], ticket=1, actor="worker")
    harness.jobs.set_progress(job["id"], attempt=running.attempt, progress=40, preview=f"previews/{job['id']}/1/0.webp")
    first = client.get(f"/v1/jobs/{job['id']}")
    again = client.get(f"/v1/jobs/{job['id']}", headers={"If-None-Match": first.headers["etag"]})
    assert again.status_code == 304


def test_a_reconnecting_client_gets_the_events_that_it_missed(server, key, job, client):
    client.post(f"/v1/jobs/{job['id']}/cancel")
    events = list(read(open_stream(server, key, job, **{"Last-Event-ID": "1"})))
    assert [number for event, number, _ in events if event == "state"] == ["2"]
    assert open_stream(server, key, job, **{"Last-Event-ID": "2"}).status_code == 204


@pytest.mark.parametrize("nonsense", ["", "x", "-1", "²"])
def test_an_invalid_last_event_id_starts_the_stream_from_the_beginning(nonsense, server, key, job, client):
    client.post(f"/v1/jobs/{job['id']}/cancel")
    events = list(read(open_stream(server, key, job, **{"Last-Event-ID": nonsense.encode()})))
    assert [number for event, number, _ in events if event == "state"] == ["1", "2"]


def test_an_idle_stream_sends_keep_alive_comments(server, key, job, client):
    lines = open_stream(server, key, job).iter_lines(decode_unicode=True)
    assert ": ping" in lines  # takes the lines up to the first comment
    client.post(f"/v1/jobs/{job['id']}/cancel")
    assert "event: end" in lines


def test_a_deleted_job_ends_the_stream(server, key, job, client):
    events = read(open_stream(server, key, job))
    next(events)
    client.delete(f"/v1/jobs/{job['id']}")
    assert [event for event, _, _ in events][-1] in ("deleted", "end")


def test_a_stream_and_a_waiting_poll_end_once_their_key_is_disabled(server, new_key, harness):
    key = new_key()
    url, headers = f"{server.url}/v1/jobs", {"X-Api-Key": key}
    job = requests.post(url, json={"video_url": VIDEO}, headers=headers, timeout=60).json()
    events = read(open_stream(server, key, job))
    next(events)
    shown = harness.services.api_keys.authenticate(key).fingerprint
    disable = partial(harness.services.admin.set_enabled, Operator("test"), shown, enabled=False)
    threading.Timer(0.3, disable).start()
    refused = requests.get(f"{url}/{job['id']}", params={"wait": 50}, headers=headers, timeout=60)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
    assert not [event for event, _, _ in events if event in ("end", "deleted")]
    assert open_stream(server, key, job).status_code == 401


def test_streams_of_a_key_are_limited_and_their_slots_released(server, key, job, client, make_client, new_key):
    first, second = (open_stream(server, key, job) for _ in range(2))
    refused = open_stream(server, key, job)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limited")
    first.close()
    second.close()
    deadline = time.monotonic() + 60
    while (again := open_stream(server, key, job)).status_code == 429:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    client.post(f"/v1/jobs/{job['id']}/cancel")
    assert list(read(again))[-1][0] == "end"


def test_a_job_of_another_key_is_not_found(server, new_key, job):
    response = open_stream(server, new_key(), job)
    assert (response.status_code, response.json()["error"]["code"]) == (404, "not_found")


def test_stream_slots_are_counted_per_key():
    slots = StreamSlots(1)
    release = slots.acquire("a")
    slots.acquire("b")
    with pytest.raises(RateLimited):
        slots.acquire("a")
    release()
    slots.acquire("a")


def test_a_stream_reports_each_change_of_the_queue_position(server, client, key, job, harness, finish_job):
    harness.clock.advance(seconds=1)
    queued = client.post("/v1/jobs", json={"video_url": VIDEO}).json()

    stream = read(open_stream(server, key, queued))
    events = [next(event for event in stream if event[0] == "queue")]
    client.post(f"/v1/jobs/{job['id']}/cancel")
    events.append(next(event for event in stream if event[0] == "queue"))
    finish_job(queued["id"])
    events += stream
    first = queued["queue_position"]
    assert [data["queue_position"] for event, _, data in events if event == "queue"] == [first, first - 1]
    assert events[-1][2]["queue_position"] is None
