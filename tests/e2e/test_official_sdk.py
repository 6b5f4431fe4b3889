"""RemoveBGVideo's official clients, replayed byte for byte on a real socket.

The SDKs are not on the package indexes, so what they send and read is played here with ``requests`` (the library
under the Python one): headers, bodies and the way in which answers are read are theirs.
"""

import hashlib
import json
import shutil
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import requests
import uvicorn

from alphareel.domain.clip import EngineFacts
from alphareel.http.app import create_app
from alphareel.http.serializers import JobSerializer
from alphareel.service.api_keys.service import digest
from alphareel.service.jobs.models import Output
from alphareel.service.settings import WebhookSettings
from alphareel.service.webhooks.dispatcher import WebhookDispatcher, WebhookSender
from alphareel.service.webhooks.events import Secrets
from alphareel.testing.clips import make_clip
from alphareel.testing.fakes import TINY_MP4, make_settings, open_harness
from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = pytest.mark.e2e

KEY = "ar_live_official_sdk"
RESULT = b"\x1aE\xdf\xa3" + bytes(10_000)


def deliver(harness, folder, job_id):
    """What a worker does in the end."""
    job = harness.jobs.job(job_id)
    running = harness.jobs.begin_attempt(job_id, ticket=job.ticket, actor="worker")
    blob = f"outputs/{job_id}/{running.attempt}/result.webm"
    made = folder / "result.webm"
    made.write_bytes(RESULT)
    harness.blobs.put_file(blob, made)
    sha256 = hashlib.sha256(RESULT).hexdigest()
    output = Output(blob, "webm", "video/webm", len(RESULT), sha256, 64, 36, 30, 1.0, True, False)
    facts = EngineFacts("builtin", "1", None, "Apache-2.0")
    harness.jobs.complete(job_id, attempt=running.attempt, output=output, engine=facts, warnings=(), actor="worker")


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A served application and a worker that completes whatever is queued."""
    folder = tmp_path_factory.mktemp("place")
    harness = open_harness(folder)
    harness.keys._store.add_key(key_id="sdk", secret_sha256=digest(KEY), fingerprint="fp_sdk", client_id="sdk", note="")
    app = create_app(harness.services, make_settings(limits={"max_upload_bytes": 1_000_000}))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    stopped = threading.Event()

    def work():
        while not stopped.wait(0.05):
            for job in harness.jobs.unfinished():
                deliver(harness, folder, job.id)

    threads = [threading.Thread(target=server.run), threading.Thread(target=work)]
    for thread in threads:
        thread.start()
    while not server.started:
        time.sleep(0.01)
    yield harness, f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    stopped.set()
    for thread in threads:
        thread.join(timeout=100)
    harness.close()


@pytest.fixture
def harness(served):
    return served[0]


@pytest.fixture
def place(served):
    return served[1]


NODE_PROGRAM = """
const [base, key] = process.argv.slice(2);
const call = async (method, path, options = {}) => {
  const answer = await fetch(base + path, { method, signal: AbortSignal.timeout(30000), ...options });
  const data = await answer.json();
  if (!answer.ok) throw new Error(`${answer.status} ${data.error.code} ${data.error.request_id}`);
  return data;
};
const headers = { 'X-Api-Key': key, 'Content-Type': 'application/json' };
const form = new FormData();
form.append('file', new Blob([Buffer.from('0000001866747970' + '69736f6d' + '00'.repeat(64), 'hex')]), 'video.mp4');
const uploaded = await call('POST', '/v1/uploads', { headers: { 'X-Api-Key': key }, body: form });
const body = { video_url: uploaded.video_url, model: 'original', bg_type: 'green', output_format: 'webm', auto_start: false };
const draft = await call('POST', '/v1/jobs', { headers, body: JSON.stringify(body) });
const started = await call('POST', `/v1/jobs/${draft.id}/start`, { headers, body: JSON.stringify({}) });
let job = started;
while (job.status !== 'completed') job = await call('GET', `/v1/jobs/${started.id}`, { headers });
const refused = await call('GET', '/v1/jobs/job_0', { headers }).catch((error) => error.message);
console.log(JSON.stringify({ draft: draft.status, output_url: job.output_url, refused }));
"""


class Refused(Exception):
    """What the Python SDK's ApiError carries."""

    def __init__(self, message, status_code=None, code=None, request_id=None):
        super().__init__(message)
        self.facts = (status_code, code, request_id)


def read(response):
    """How the Python SDK reads an answer: any shape but the contract's would crash it here."""
    data = response.json()
    if response.status_code >= 400:
        error = data.get("error", {})
        raise Refused(
            error.get("message") or data.get("message"),
            response.status_code,
            error.get("code"),
            error.get("request_id"),
        )
    assert response.status_code == 200
    assert isinstance(data, dict)
    return data


class PythonSdk:
    def __init__(self, base_url, key=KEY):
        self.base_url = base_url
        self.plain = {"X-Api-Key": key}
        self.typed = {**self.plain, "Content-Type": "application/json"}

    def upload(self, path):
        with path.open("rb") as file:
            files = {"file": (path.name, file)}
            return read(requests.post(f"{self.base_url}/v1/uploads", headers=self.plain, files=files, timeout=60))

    def create_job(self, video_url, **given):
        body = {
            "video_url": video_url,
            "model": "original",
            "bg_type": "green",
            "output_format": "webm",
            "auto_start": True,
        } | given
        return read(requests.post(f"{self.base_url}/v1/jobs", headers=self.typed, json=body, timeout=60))

    def start_job(self, job_id, **given):
        url = f"{self.base_url}/v1/jobs/{job_id}/start"
        return read(requests.post(url, headers=self.typed, json=given, timeout=60))

    def start_job_without_body(self, job_id):
        """As revisions of April 2026 did: no body and no Content-Type."""
        return read(requests.post(f"{self.base_url}/v1/jobs/{job_id}/start", headers=self.plain, timeout=60))

    def get_job(self, job_id):
        return read(requests.get(f"{self.base_url}/v1/jobs/{job_id}", headers=self.plain, timeout=60))

    def list_jobs(self, **params):
        params = {"limit": 20, "offset": 0} | params
        return read(requests.get(f"{self.base_url}/v1/jobs", headers=self.plain, params=params, timeout=60))

    def wait_for_completion(self, job_id, *, interval=0.05, timeout=200):
        began = time.monotonic()
        while True:
            job = self.get_job(job_id)
            if job.get("status") == "completed":
                return job
            if job.get("status") == "failed":
                raise Refused(job.get("error", "Job failed"))
            assert time.monotonic() - began < timeout
            time.sleep(interval)


@pytest.fixture
def sdk(place):
    return PythonSdk(place)


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "input.mp4"
    path.write_bytes(TINY_MP4)
    return path


def test_upload_then_process(sdk, clip):
    uploaded = sdk.upload(clip)
    job = sdk.create_job(uploaded["video_url"], model="pro", text_prompt="person wearing red jacket")
    done = sdk.wait_for_completion(job["id"])
    assert requests.get(done["output_url"], timeout=60).content == RESULT


def test_plain_call_makes_green(sdk):
    job = sdk.create_job("https://cdn.example.com/input.mp4")
    assert job["status"] in ("processing", "completed")
    background = sdk.get_job(job["id"])["background"]
    assert background == {"type": "color", "color": "#09A246", "image_url": None, "radius": None, "video_url": None}


@pytest.mark.parametrize("start", ["start_job", "start_job_without_body"])
def test_draft_is_started(sdk, start):
    draft = sdk.create_job("https://cdn.example.com/input.mp4", auto_start=False)
    assert draft["status"] == "created"
    started = getattr(sdk, start)(draft["id"])
    assert started["id"] == draft["id"]
    assert sdk.wait_for_completion(started["id"])["status"] == "completed"


def test_draft_is_started_with_every_keyword(sdk):
    draft = sdk.create_job("https://cdn.example.com/input.mp4", auto_start=False)
    started = sdk.start_job(
        draft["id"],
        model="human",
        output_format="mov",
        bg_type="custom",
        text_prompt="dog",
        webhook_url="https://hooks.example.com/x",
        bg_color=[0.5, 0.25, 1],
    )
    assert (started["model"], started["output_format"], started["webhook_url"]) == (
        "human", "mov", "https://hooks.example.com/x",
    )  # fmt: skip
    assert started["background"]["color"] == "#8040FF"


def test_list_with_and_without_a_status(sdk):
    job = sdk.create_job("https://cdn.example.com/input.mp4", auto_start=False, metadata={"order": 1})
    assert job["id"] in [found["id"] for found in sdk.list_jobs(status="created")["items"]]
    assert isinstance(sdk.list_jobs(), dict)


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (lambda sdk, _: PythonSdk(sdk.base_url, "wrong").list_jobs(), (401, "invalid_api_key")),
        (lambda sdk, _: sdk.get_job("job_123"), (404, "not_found")),
        (lambda sdk, _: sdk.create_job("https://a.example/v", bg_type="custom", bg_color=[]), (400, "invalid_request")),
        (lambda sdk, _: sdk.create_job("https://a.example/v", bg_type="nothing"), (400, "invalid_request")),
        (lambda sdk, folder: sdk.upload(no_video(folder)), (400, "invalid_file_type")),
        (lambda sdk, folder: sdk.upload(too_large(folder)), (400, "file_too_large")),
    ],
    ids=["wrong key", "no such job", "empty color", "odd background", "no video", "too large"],
)
def test_refusals_are_read_as_api_errors(sdk, tmp_path, call, expected):
    with pytest.raises(Refused) as caught:
        call(sdk, tmp_path)
    status, code, request_id = caught.value.facts
    assert (status, code) == expected
    assert request_id
    assert str(caught.value)


def no_video(folder):
    path = folder / "notes.mp4"
    path.write_text("not a video")
    return path


def too_large(folder):
    path = folder / "long.mp4"
    path.write_bytes(TINY_MP4 + bytes(5_000_000))
    return path


def test_node_sdk_upload_sends_a_typed_blob_or_an_untyped_one(place):
    for kind, name in (("video/mp4", "input.mp4"), ("application/octet-stream", "video.mp4")):
        files = {"file": (name, TINY_MP4, kind)}
        answer = requests.post(f"{place}/v1/uploads", headers={"x-api-key": KEY}, files=files, timeout=60)
        assert read(answer)["filename"] == name


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_node_s_own_fetch_goes_the_whole_way(place, tmp_path):
    program = tmp_path / "client.mjs"
    program.write_text(NODE_PROGRAM)
    done = subprocess.run(["node", program, place, KEY], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["draft"] == "created"
    assert told["refused"].startswith("404 not_found req_")
    assert requests.get(told["output_url"], timeout=60).content == RESULT


def test_node_sdk_start_passes_any_object_through(place, sdk):
    draft = sdk.create_job("https://cdn.example.com/input.mp4", auto_start=False)
    body = {
        "background": {"type": "transparent"},
        "composition": {"canvas": {"width": 1080, "height": 1920}, "foreground": {"anchor": "bottom-center"}},
        "preview_duration": 2,
        "unknown": True,
    }
    started = sdk.start_job(draft["id"], **body)
    assert started["bg_type"] == "transparent"
    assert started["preview_duration"] == 2
    assert started["composition"]["canvas"] == {"width": 1080, "height": 1920}


def test_n8n_draft_flow_polls_the_id_of_the_start_answer(sdk):
    headers = sdk.typed
    body = {"video_url": "https://cdn.example.com/input.mp4", "model": "pro", "auto_start": False}
    draft = read(requests.post(f"{sdk.base_url}/v1/jobs", headers=headers, data=json.dumps(body), timeout=60))
    started = sdk.start_job(draft["id"], model="pro", text_prompt="person", webhook_url="https://n8n.example.com/hook")
    assert sdk.wait_for_completion(started["id"])["output_url"]


def test_n8n_auto_start_flow_sends_a_background_object(sdk):
    body = {
        "video_url": "https://cdn.example.com/input.mp4",
        "output_format": "webm",
        "background": {"type": "transparent"},
        "auto_start": True,
    }
    job = read(requests.post(f"{sdk.base_url}/v1/jobs", headers=sdk.typed, json=body, timeout=60))  # type: ignore[arg-type]
    assert sdk.wait_for_completion(job["id"])["bg_type"] == "transparent"


def test_n8n_local_upload_flow_hands_the_upload_s_address_on(sdk, clip):
    with clip.open("rb") as file:
        files = {"file": ("input.mp4", file, "video/mp4")}
        uploaded = read(requests.post(f"{sdk.base_url}/v1/uploads", headers=sdk.plain, files=files, timeout=60))
    body = {"video_url": uploaded["video_url"], "model": "original", "output_format": "webm", "auto_start": True}
    job = read(requests.post(f"{sdk.base_url}/v1/jobs", headers=sdk.typed, json=body, timeout=60))
    assert sdk.wait_for_completion(job["id"])["output_url"]


def test_n8n_webhook_flow_receives_the_event_the_job_and_its_link(sdk, harness):
    job = sdk.create_job("https://cdn.example.com/input.mp4", webhook_url="https://n8n.example.com/webhook/done")
    sdk.wait_for_completion(job["id"])
    views = JobSerializer(sdk.base_url, harness.services.files.signer, show_pending=False)
    sender = WebhookSender(harness.poster, Secrets(("a signing secret",)), harness.clock)
    dispatcher = WebhookDispatcher(
        harness.webhooks,
        sender,
        serialize_job=lambda job: views.job(job).model_dump(mode="json"),
        settings=WebhookSettings(poll_seconds=0.05),
    )
    dispatcher.start()
    while len(posts := [json.loads(b) for u, _, b in harness.poster.sent if u.endswith("/webhook/done")]) < 2:
        time.sleep(0.02)
    dispatcher.stop()
    assert [(p["event"], p["data"]["id"], p["data"]["status"]) for p in posts] == [
        ("job.started", job["id"], "processing"),
        ("job.completed", job["id"], "completed"),
    ]
    assert requests.get(posts[1]["data"]["output_url"], timeout=60).content == RESULT


def test_n8n_daily_report_reads_three_numbers_at_the_top(sdk):
    job = sdk.create_job("https://cdn.example.com/input.mp4")
    sdk.wait_for_completion(job["id"])
    url = f"{sdk.base_url}/v1/usage/summary"
    report = read(requests.get(url, headers=sdk.plain, params={"days": 1}, timeout=60))
    assert report["total_jobs"] >= report["completed_jobs"] >= 1
    assert report["credits_used"] == 0


def test_post_is_never_redirected(place):
    answer = requests.post(f"{place}/v1/jobs/", headers={"X-Api-Key": KEY}, json={}, timeout=60, allow_redirects=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


class Elsewhere(SimpleHTTPRequestHandler):
    """Serves the client's video, and is the receiver of its webhooks."""

    received: ClassVar[list[dict]] = []

    def do_POST(self):
        self.received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args): ...


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A service as it is after its installation: no weights were fetched, no extra was installed. And a clip for it."""
    folder = tmp_path_factory.mktemp("fresh")
    clip = make_clip(folder / "input.mp4", frames=8).path
    handler = partial(Elsewhere, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        settings = {"API_KEY": KEY, "FETCH_ALLOW_CIDRS": "127.0.0.0/8", "MODELS_DIR": folder / "no-models"}
        with ServiceProcess(folder / "data", **settings) as running:
            yield PythonSdk(running.base), clip, f"http://127.0.0.1:{elsewhere.server_port}"
        elsewhere.shutdown()


@pytest.fixture
def completed(fresh):
    """Waits for a job, as the SDK does; checks that there is a result and returns the job."""
    sdk, _, _ = fresh

    def wait(job):
        done = sdk.wait_for_completion(job["id"], interval=0.3, timeout=280)
        assert requests.get(done["output_url"], timeout=60).content
        return done

    return wait


@pytest.mark.timeout(900)
class TestOnAFreshInstallation:
    """The five n8n flows, and the examples of the SDKs and of the documentation, with real work."""

    def test_n8n_url_auto_start(self, fresh, completed):
        sdk, _, elsewhere = fresh
        completed(sdk.create_job(f"{elsewhere}/input.mp4", background={"type": "transparent"}))

    def test_n8n_local_upload(self, fresh, completed):
        sdk, clip, _ = fresh
        completed(sdk.create_job(sdk.upload(clip)["video_url"]))

    def test_n8n_draft_that_is_started_as_pro_with_a_webhook(self, fresh, completed):
        sdk, _, elsewhere = fresh
        draft = sdk.create_job(f"{elsewhere}/input.mp4", model="pro", bg_type="transparent", auto_start=False)
        hook = f"{elsewhere}/webhook/done"
        started = sdk.start_job(draft["id"], model="pro", text_prompt="person", webhook_url=hook)
        assert started["id"] == draft["id"]
        done = completed(started)
        assert done["engine"]["name"] == "builtin"
        assert "prompted" in done["warnings"][0]
        told = wait_for(lambda: [p for p in Elsewhere.received if p["event"] == "job.completed"])
        assert [(p["data"]["id"], p["data"]["status"]) for p in told] == [(done["id"], "completed")]
        assert told[0]["data"]["output_url"]

    def test_thirty_jobs_are_waited_for_at_once(self, fresh):
        """More polls than a key may read in a minute; the SDK ends a wait at the first 429."""
        sdk, _, elsewhere = fresh
        body = {"video_urls": [f"{elsewhere}/input.mp4"] * 30, "test": {"outcome": "success", "seconds": 10}}
        batch = read(requests.post(f"{sdk.base_url}/v1/batches", headers=sdk.typed, data=json.dumps(body), timeout=60))
        with ThreadPoolExecutor(30) as pool:
            waits = [
                pool.submit(sdk.wait_for_completion, job["id"], interval=0.25, timeout=280) for job in batch["jobs"]
            ]
        assert [wait.result()["status"] for wait in waits] == ["completed"] * 30

    def test_n8n_daily_report(self, fresh, completed):
        sdk, clip, _ = fresh
        completed(sdk.create_job(sdk.upload(clip)["video_url"], model="light"))
        url = f"{sdk.base_url}/v1/usage/summary"
        report = read(requests.get(url, headers=sdk.plain, params={"days": 1}, timeout=60))
        assert report["total_jobs"] >= report["completed_jobs"] >= 1
        assert report["credits_used"] == 0

    @pytest.mark.parametrize("prompt", ["person wearing red jacket", "person, clothing accessories, glowing ring"])
    def test_upload_then_process_as_pro(self, fresh, completed, prompt):
        sdk, clip, _ = fresh
        done = completed(sdk.create_job(sdk.upload(clip)["video_url"], model="pro", text_prompt=prompt))
        assert any("text_prompt is ignored" in text for text in done["warnings"])

    def test_a_prompt_for_something_else_is_refused_with_what_to_install_except_as_a_draft_or_a_test(self, fresh):
        sdk, clip, _ = fresh
        wish = {"model": "pro", "text_prompt": "golden retriever dog"}
        url = sdk.upload(clip)["video_url"]
        with pytest.raises(Refused, match="models pull prompted") as refusal:
            sdk.create_job(url, **wish)
        assert refusal.value.facts[:2] == (400, "model_unavailable")
        draft = sdk.create_job(url, **wish, auto_start=False)
        assert draft["status"] == "created"
        with pytest.raises(Refused):
            sdk.start_job(draft["id"])
        tested = sdk.create_job(url, **wish, test={"outcome": "success", "seconds": 0})
        assert sdk.wait_for_completion(tested["id"], interval=0.3, timeout=280)["output_url"]
