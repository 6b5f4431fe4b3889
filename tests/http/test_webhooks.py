"""The webhook routes, and that receivers get the job as the API shows it."""

import json
import threading
import time
from datetime import timedelta

import pytest

from alphareel.domain.errors import FetchFailed
from alphareel.http.serializers import JobSerializer
from alphareel.service.settings import WebhookSettings
from alphareel.service.webhooks.dispatcher import WebhookDispatcher, WebhookSender
from alphareel.service.webhooks.events import Attempt, Secrets

VIDEO = "https://example.com/in.mp4"
HOOK = "https://hook.example.com/a?b=c"
SLOW = "https://slow.example.com/"


@pytest.fixture(autouse=True)
def settle_other_webhooks(harness):
    """All tests share one database: settle the webhooks that other tests left behind."""
    accepted = Attempt(harness.clock.now(), 200, None, 1)
    while due := harness.webhooks.due(limit=100):
        for delivery in due:
            if claimed := harness.webhooks.claim(delivery.id, lease=timedelta(hours=1)):
                harness.webhooks.settle(delivery.id, tries=claimed.webhook.tries, attempt=accepted)
    harness.poster.sent.clear()
    harness.poster.answers[:] = [200]


def deliver(harness):
    serializer = JobSerializer("http://testserver", harness.services.files.signer, show_pending=False)
    dispatcher = WebhookDispatcher(
        harness.webhooks,
        WebhookSender(harness.poster, Secrets(("secret",)), harness.clock),
        serialize_job=lambda job: serializer.job(job).model_dump(mode="json"),
        settings=WebhookSettings(),
    )
    deadline = time.monotonic() + 60
    while dispatcher.dispatch_due():  # the next event of a job is due once this one is settled
        while dispatcher._hosts:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    dispatcher._workers.shutdown()


def create(client, **fields):
    return client.post("/v1/jobs", json={"video_url": VIDEO, "webhook_url": HOOK, **fields}).json()


def test_receivers_get_the_job_as_the_api_shows_it(client, harness, finish_job):
    job = create(client, metadata={"order": 7})
    finish_job(job["id"])
    deliver(harness)
    started, completed = (json.loads(body) for _, _, body in harness.poster.sent)
    shown = client.get(f"/v1/jobs/{job['id']}").json()
    assert (started["event"], started["data"]["status"]) == ("job.started", "processing")
    assert completed["event"] == "job.completed"
    payload = completed["data"]
    assert client.get(payload.pop("output_url")).status_code == 200
    shown.pop("output_url")
    assert payload == {**shown, "webhook_events": {"job.started": "sent", "job.completed": "pending"}}
    assert shown["webhook_events"] == {"job.started": "sent", "job.completed": "sent"}


def test_a_failed_job_is_reported_with_its_error(client, harness):
    job = create(client, auto_start=False)
    client.post(f"/v1/jobs/{job['id']}/cancel")
    deliver(harness)
    ((_, headers, body),) = harness.poster.sent
    assert headers["X-Webhook-Event"] == "job.failed"
    assert json.loads(body)["data"]["error"] == "Cancelled"


def test_a_receiver_named_at_the_start_gets_the_webhooks(client, harness):
    job = create(client, auto_start=False, webhook_url=None)
    client.post(f"/v1/jobs/{job['id']}/start", json={"webhook_url": "https://later.example.com/"})
    client.post(f"/v1/jobs/{job['id']}/cancel")
    deliver(harness)
    assert [url for url, _, _ in harness.poster.sent] == ["https://later.example.com/"]


def test_log_shows_every_attempt(client, harness):
    harness.poster.answers[:] = [FetchFailed("The receiver did not respond."), 200]
    job = create(client, auto_start=False)
    client.post(f"/v1/jobs/{job['id']}/cancel")
    deliver(harness)
    (item,) = client.get(f"/v1/jobs/{job['id']}/webhooks").json()["items"]
    assert (item["event"], item["url"], item["status"]) == ("job.failed", HOOK, "pending")
    assert item["next_attempt_at"] > item["created_at"]
    assert (item["attempts"][0]["status_code"], item["attempts"][0]["error"]) == (
        None,
        "The receiver did not respond.",
    )
    assert client.get(f"/v1/jobs/{job['id']}").json()["webhook_events"] == {"job.failed": "pending"}


def test_redelivery_goes_out_under_the_same_id(client, harness):
    job = create(client, auto_start=False)
    client.post(f"/v1/jobs/{job['id']}/cancel")
    deliver(harness)
    (item,) = client.get(f"/v1/jobs/{job['id']}/webhooks").json()["items"]
    response = client.post(f"/v1/jobs/{job['id']}/webhooks/{item['id']}/redeliver")
    assert (response.status_code, response.json()["status"]) == (200, "pending")
    deliver(harness)
    assert [headers["webhook-id"] for _, headers, _ in harness.poster.sent] == [item["id"]] * 2


def test_webhooks_of_another_key_are_not_found(client, make_client, new_key, harness):
    job = create(client, auto_start=False)
    client.post(f"/v1/jobs/{job['id']}/cancel")
    (item,) = client.get(f"/v1/jobs/{job['id']}/webhooks").json()["items"]
    other_client = make_client(secret=new_key())
    assert other_client.get(f"/v1/jobs/{job['id']}/webhooks").status_code == 404
    assert other_client.post(f"/v1/jobs/{job['id']}/webhooks/{item['id']}/redeliver").status_code == 404
    assert client.post(f"/v1/jobs/{job['id']}/webhooks/whd_none/redeliver").status_code == 404


def test_a_test_event_is_sent_at_once_and_its_result_returned(client, harness):
    response = client.post("/v1/webhooks/test", json={"webhook_url": HOOK})
    body = response.json()
    assert (response.status_code, body["delivered"], body["attempt"]["status_code"]) == (200, True, 200)
    ((url, headers, sent),) = harness.poster.sent
    assert (url, headers["X-Webhook-Event"], headers["webhook-id"]) == (HOOK, "webhook.test", body["id"])
    assert json.loads(sent)["data"]["id"] == "job_test"
    assert "X-Webhook-Signature" in headers


def test_a_refused_test_event_reports_why(client, harness):
    harness.poster.answers[:] = [503]
    body = client.post("/v1/webhooks/test", json={"webhook_url": HOOK}).json()
    assert (body["delivered"], body["attempt"]["status_code"]) == (False, 503)
    assert "503" in body["attempt"]["error"]


@pytest.mark.parametrize("url", [None, "", "ftp://example.com/", 7])
def test_a_test_event_needs_a_url(client, url):
    response = client.post("/v1/webhooks/test", json={"webhook_url": url})
    assert (response.status_code, response.json()["error"]["details"][0]["field"]) == (400, "webhook_url")


def test_a_client_with_a_hanging_receiver_tests_one_webhook_at_a_time_and_blocks_no_other_client(
    client, make_client, new_key, harness, monkeypatch
):
    requested, gate = threading.Event(), threading.Event()

    def post(url, headers, body):
        if "slow" in url:
            requested.set()
            gate.wait(60)
        return 200

    monkeypatch.setattr(harness.poster, "post", post)
    slow = threading.Thread(target=client.post, args=("/v1/webhooks/test",), kwargs={"json": {"webhook_url": SLOW}})
    slow.start()
    assert requested.wait(60)
    assert client.post("/v1/webhooks/test", json={"webhook_url": HOOK}).status_code == 503
    other = make_client(secret=new_key())
    assert other.post("/v1/webhooks/test", json={"webhook_url": HOOK}).json()["delivered"]
    gate.set()
    slow.join()
    assert client.post("/v1/webhooks/test", json={"webhook_url": HOOK}).json()["delivered"]
