"""One trace from the client's request to the stages of its job; none while tracing is off."""

import json
import sys
import time
from pathlib import Path

import pytest

from alphareel.domain.errors import InvalidRequest
from alphareel.service.settings import WebhookSettings
from alphareel.service.webhooks.dispatcher import WebhookDispatcher, WebhookSender
from alphareel.service.webhooks.events import Secrets
from alphareel.service.worker.runner import Worker
from alphareel.telemetry.tracing import configure_tracing, shutdown_tracing, tracing_enabled
from alphareel.testing.fakes import CannedFetcher, make_settings, run_queued_steps

sdk = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason="the extra telemetry")

URL = "https://a.example/v.mp4?X-Amz-Signature=secret"
HOOK = "https://hook.example.com/?token=secret"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
FROM_CLIENT = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


@pytest.fixture
def spans():
    """What was exported so far, by name."""
    exporter = sdk.InMemorySpanExporter()
    configure_tracing("test", exporter=exporter)
    yield lambda: {span.name: span for span in exporter.get_finished_spans()}
    shutdown_tracing()


@pytest.fixture
def work(harness, tmp_path, monkeypatch):
    """Does the job of this id as a worker process does, over a source of these words."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "integration"))

    def work(job_id, words):
        settings = make_settings(
            storage={"data_dir": tmp_path},
            worker={"wall_seconds": 600, "pipeline": "fake_pipeline", "max_tries": 1, "chunk_seconds": 0},
        )
        stores = {"jobs": harness.jobs, "blobs": harness.blobs, "uploads": harness.resolver}
        worker = Worker("w", **stores, fetcher=CannedFetcher({URL: words}), settings=settings)
        worker.drain()
        run_queued_steps(harness, worker, job_id)

    return work


def test_a_job_is_one_trace_from_the_client_to_its_stages(client, spans, work, harness):
    job = client.post("/v1/jobs", json={"video_url": URL}, headers=FROM_CLIENT).json()
    harness.clock.advance(seconds=7)
    work(job["id"], b"ok")
    by_name = spans()
    inner = {"queue", "obtain", "child", "read", "matte", "write", "publish"}
    assert set(by_name) == {"POST /v1/jobs", "fetch", "attempt", *inner}
    assert {f"{span.context.trace_id:032x}" for span in by_name.values()} == {TRACE}
    parents = {name: span.parent.span_id for name, span in by_name.items()}
    assert parents["POST /v1/jobs"] == int(SPAN, 16)
    assert parents["fetch"] == parents["attempt"] == by_name["POST /v1/jobs"].context.span_id
    assert {parents[n] for n in ("queue", "obtain", "child", "publish")} == {by_name["attempt"].context.span_id}
    assert {parents[n] for n in ("read", "matte", "write")} == {by_name["child"].context.span_id}
    assert (by_name["queue"].end_time - by_name["queue"].start_time) / 1e9 == pytest.approx(7)
    assert (by_name["matte"].end_time - by_name["matte"].start_time) / 1e9 == pytest.approx(0.3)
    assert by_name["attempt"].attributes["alphareel.job_id"] == job["id"]
    assert by_name["POST /v1/jobs"].attributes["http.response.status_code"] == 200


def test_a_failed_job_is_a_failed_span_with_its_error_code(client, spans, work):
    job = client.post("/v1/jobs", json={"video_url": URL}).json()
    work(job["id"], b"refuse")
    assert client.get(f"/v1/jobs/{job['id']}").json()["status"] == "failed"
    attempt = spans()["attempt"]
    assert (attempt.status.status_code.name, attempt.attributes["error.type"]) == ("ERROR", "invalid_video")


def test_no_address_is_in_a_span(client, spans, work):
    job = client.post("/v1/jobs", json={"video_url": URL}).json()
    work(job["id"], b"ok")
    exported = json.dumps([json.loads(span.to_json()) for span in spans().values()])
    assert "X-Amz-Signature" not in exported
    assert "a.example" not in exported


def test_log_lines_name_the_trace(client, spans, logs):
    client.get("/v1/jobs", headers=FROM_CLIENT)
    assert [line["trace_id"] for line in logs() if line["event"] == "request"] == [TRACE]


@pytest.mark.parametrize("sent", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", "00-" + "f" * 500])
def test_an_invalid_traceparent_starts_a_new_trace(client, spans, sent):
    assert client.get("/v1/jobs", headers={"traceparent": sent}).status_code == 200
    assert spans()["GET /v1/jobs"].parent is None


def test_health_checks_are_not_traced(client, spans):
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        client.get(path)
    assert spans() == {}


def test_without_configured_tracing_a_job_stores_no_trace_context(client, harness):
    made = client.post("/v1/jobs", json={"video_url": URL}, headers=FROM_CLIENT).json()
    assert harness.jobs.job(made["id"]).traceparent is None
    assert not tracing_enabled()


def test_tracing_without_the_extra_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InvalidRequest, match="telemetry"):
        configure_tracing("test")


def deliver(harness):
    sender = WebhookSender(harness.poster, Secrets(("secret",)), harness.clock)
    dispatcher = WebhookDispatcher(
        harness.webhooks, sender, serialize_job=lambda job: {"id": job.id}, settings=WebhookSettings(poll_seconds=0.02)
    )
    dispatcher.start()
    deadline = time.monotonic() + 60
    while harness.webhooks.due(limit=1):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    dispatcher.stop()


def test_a_webhook_is_a_span_in_the_trace_of_its_job_and_propagates_it_to_the_receiver(client, spans, harness):
    deliver(harness)  # the database is one for all tests
    harness.poster.sent.clear()
    harness.poster.answers[:] = [500]
    job = client.post("/v1/jobs", json={"video_url": URL, "webhook_url": HOOK}, headers=FROM_CLIENT).json()
    harness.jobs.begin_attempt(job["id"], ticket=1, actor="w")
    deliver(harness)
    by_name = spans()
    webhook = by_name["webhook"]
    assert f"{webhook.context.trace_id:032x}" == TRACE
    assert webhook.parent.span_id == by_name["POST /v1/jobs"].context.span_id
    assert webhook.attributes["alphareel.event"] == "job.started"
    assert webhook.attributes["alphareel.job_id"] == job["id"]
    assert webhook.attributes["http.response.status_code"] == 500
    assert (webhook.kind.name, webhook.status.status_code.name) == ("CLIENT", "ERROR")
    assert "hook.example" not in webhook.to_json()
    ((_, headers, _),) = harness.poster.sent
    assert headers["traceparent"] == f"00-{TRACE}-{webhook.context.span_id:016x}-01"
    harness.poster.answers[:] = [200]


def test_a_delivered_webhook_is_a_successful_span(client, spans, harness):
    harness.poster.answers[:] = [200]
    job = client.post("/v1/jobs", json={"video_url": URL, "webhook_url": HOOK}).json()
    harness.jobs.begin_attempt(job["id"], ticket=1, actor="w")
    deliver(harness)
    assert spans()["webhook"].status.status_code.name == "UNSET"
