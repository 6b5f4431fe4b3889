"""One trace from the client's request over the queue to the stages of its job; nothing of it while traces are off."""

import json
import sys
import time
from pathlib import Path

import pytest

from alphareel.domain.clip import Limits
from alphareel.domain.errors import InvalidRequest
from alphareel.service.webhooks.dispatcher import DispatchLimits, WebhookDispatcher, WebhookSender
from alphareel.service.webhooks.events import Secrets
from alphareel.service.worker.child_process import ResourceLimits
from alphareel.service.worker.runner import Worker, WorkerConfig
from alphareel.telemetry.tracing import configure_tracing, shutdown_tracing, tracing_enabled
from alphareel.testing.fakes import CannedFetcher, work_off

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
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "unit"))

    def work(job_id, words):
        config = WorkerConfig(
            tmp_path, Limits(), ResourceLimits(wall_seconds=60), pipeline="fake_pipeline", max_tries=1
        )
        stores = {"jobs": harness.jobs, "blobs": harness.blobs, "uploads": harness.sources}
        worker = Worker("w", **stores, fetcher=CannedFetcher({URL: words}), config=config)
        worker.drain()
        work_off(harness, worker, job_id)

    return work


def test_a_job_is_one_trace_from_the_client_to_the_stages(client, spans, work, harness):
    made = client.post("/v1/jobs", json={"video_url": URL}, headers=FROM_CLIENT).json()
    harness.clock.advance(seconds=7)
    work(made["id"], b"ok")
    found = spans()
    inner = {"queue", "obtain", "child", "read", "matte", "write", "publish"}
    assert set(found) == {"POST /v1/jobs", "fetch", "attempt", *inner}
    assert {f"{span.context.trace_id:032x}" for span in found.values()} == {TRACE}
    above = {name: span.parent.span_id for name, span in found.items()}
    assert above["POST /v1/jobs"] == int(SPAN, 16)
    assert above["fetch"] == above["attempt"] == found["POST /v1/jobs"].context.span_id
    assert {above[n] for n in ("queue", "obtain", "child", "publish")} == {found["attempt"].context.span_id}
    assert {above[n] for n in ("read", "matte", "write")} == {found["child"].context.span_id}
    assert (found["queue"].end_time - found["queue"].start_time) / 1e9 == pytest.approx(7)
    assert (found["matte"].end_time - found["matte"].start_time) / 1e9 == pytest.approx(0.3)
    assert found["attempt"].attributes["alphareel.job_id"] == made["id"]
    assert found["POST /v1/jobs"].attributes["http.response.status_code"] == 200


def test_a_job_that_fails_is_a_span_that_failed_with_its_code(client, spans, work):
    made = client.post("/v1/jobs", json={"video_url": URL}).json()
    work(made["id"], b"refuse")
    assert client.get(f"/v1/jobs/{made['id']}").json()["status"] == "failed"
    attempt = spans()["attempt"]
    assert (attempt.status.status_code.name, attempt.attributes["error.type"]) == ("ERROR", "invalid_video")


def test_no_address_is_in_a_span(client, spans, work):
    made = client.post("/v1/jobs", json={"video_url": URL}).json()
    work(made["id"], b"ok")
    told = json.dumps([json.loads(span.to_json()) for span in spans().values()])
    assert "X-Amz-Signature" not in told
    assert "a.example" not in told


def test_log_lines_name_the_trace(client, spans, logs):
    client.get("/v1/jobs", headers=FROM_CLIENT)
    assert [line["trace_id"] for line in logs() if line["event"] == "request"] == [TRACE]


@pytest.mark.parametrize("sent", ["", "nonsense", f"00-{'0' * 32}-{SPAN}-01", "00-" + "f" * 500])
def test_a_header_that_makes_no_sense_begins_a_trace_of_its_own(client, spans, sent):
    assert client.get("/v1/jobs", headers={"traceparent": sent}).status_code == 200
    assert spans()["GET /v1/jobs"].parent is None


def test_machines_that_ask_whether_it_is_well_leave_no_spans(client, spans):
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        client.get(path)
    assert spans() == {}


def test_without_configured_tracing_a_job_stores_no_trace_context(client, harness):
    made = client.post("/v1/jobs", json={"video_url": URL}, headers=FROM_CLIENT).json()
    assert harness.jobs.job(made["id"]).traceparent is None
    assert not tracing_enabled()


def test_traces_without_the_extra_say_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(InvalidRequest, match="telemetry"):
        configure_tracing("test")


def deliver(harness):
    sender = WebhookSender(harness.poster, Secrets(("secret",)), harness.clock)
    postman = WebhookDispatcher(
        harness.webhooks, sender, serialize_job=lambda job: {"id": job.id}, limits=DispatchLimits(pause=0.02)
    )
    postman.start()
    deadline = time.monotonic() + 30
    while harness.webhooks.due(limit=1):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    postman.stop()


def test_a_webhook_is_a_span_in_the_trace_of_its_job_and_its_receiver_may_go_on_with_it(client, spans, harness):
    deliver(harness)  # the database is one for all tests
    harness.poster.sent.clear()
    harness.poster.answers[:] = [500]
    made = client.post("/v1/jobs", json={"video_url": URL, "webhook_url": HOOK}, headers=FROM_CLIENT).json()
    harness.jobs.begin_attempt(made["id"], ticket=1, actor="w")
    deliver(harness)
    found = spans()
    webhook = found["webhook"]
    assert f"{webhook.context.trace_id:032x}" == TRACE
    assert webhook.parent.span_id == found["POST /v1/jobs"].context.span_id
    assert webhook.attributes["alphareel.event"] == "job.started"
    assert webhook.attributes["alphareel.job_id"] == made["id"]
    assert webhook.attributes["http.response.status_code"] == 500
    assert (webhook.kind.name, webhook.status.status_code.name) == ("CLIENT", "ERROR")
    assert "hook.example" not in webhook.to_json()
    ((_, headers, _),) = harness.poster.sent
    assert headers["traceparent"] == f"00-{TRACE}-{webhook.context.span_id:016x}-01"
    harness.poster.answers[:] = [200]


def test_a_webhook_whose_receiver_accepts_it_is_a_span_without_fault(client, spans, harness):
    harness.poster.answers[:] = [200]
    made = client.post("/v1/jobs", json={"video_url": URL, "webhook_url": HOOK}).json()
    harness.jobs.begin_attempt(made["id"], ticket=1, actor="w")
    deliver(harness)
    assert spans()["webhook"].status.status_code.name == "UNSET"
