"""docs/api.md, docs/errors.md and the examples: complete, and every command in them and in other pages runs."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from alphareel.http.app import create_app
from alphareel.http.errors import STATUS
from alphareel.service.api_keys.admin import Operator
from alphareel.testing.fakes import TINY_MP4, make_settings

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()
ERRORS = (ROOT / "docs" / "errors.md").read_text()
BLOCKS = re.findall(r"```(sh|python)\n(.*?)```", PAGE, flags=re.DOTALL)
VIDEO = "https://cdn.example.com/input.mp4"


def test_every_error_code_is_documented_with_its_status():
    documented = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", ERRORS, flags=re.MULTILINE))
    assert documented == {kind.code: str(status) for kind, status in STATUS.items()}


def test_every_route_is_documented_and_no_other(anonymous_client):
    documented = set(re.findall(r"^\| `([A-Z]+ /\S*)` \|", PAGE, flags=re.MULTILINE))
    paths = anonymous_client.app.openapi()["paths"]
    assert documented == {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}


@pytest.mark.parametrize("schema", ["JobCreate", "Job"])
def test_every_field_of_a_job_is_documented(anonymous_client, schema):
    fields = anonymous_client.app.openapi()["components"]["schemas"][schema]["properties"]
    assert [name for name in fields if f"`{name}`" not in PAGE] == []


def test_all_links_inside_the_api_page_resolve():
    headings = {h.lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", PAGE, flags=re.MULTILINE)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings


@pytest.fixture
def environment(harness, key, client, serve, finish_job, tmp_path):
    """What the commands read: a server whose worker completes everything, jobs in every state, a video."""
    (tmp_path / "input.mp4").write_bytes(TINY_MP4)
    done = client.post("/v1/jobs", json={"video_url": VIDEO}).json()["id"]
    draft = client.post("/v1/jobs", json={"video_url": VIDEO, "auto_start": False}).json()["id"]
    unwanted = client.post("/v1/jobs", json={"video_url": VIDEO, "auto_start": False}).json()["id"]
    finish_job(done, matte=True)
    harness.blobs.signs = True
    stopped = threading.Event()

    def work():
        while not stopped.wait(0.05):
            for job in harness.jobs.unfinished():
                if job.undelivered is None:
                    finish_job(job.id)

    admin_token = "a token for operators"
    spare = harness.services.admin.create_key(Operator("test"), client_id="spare")
    with serve(create_app(harness.services, make_settings(access={"admin_token": admin_token}))) as server:
        worker = threading.Thread(target=work)
        worker.start()
        shown = client.get(f"/v1/jobs/{done}").json()
        yield {
            **os.environ,
            "ALPHAREEL_BASE_URL": server.url,
            "ALPHAREEL_API_KEY": key,
            "ALPHAREEL_ADMIN_TOKEN": admin_token,
            "KEY_FINGERPRINT": spare.key.fingerprint,
            "VIDEO_URL": VIDEO,
            "JOB_ID": done,
            "FINISHED_ID": done,
            "DRAFT_ID": draft,
            "UNWANTED_ID": unwanted,
            "OUTPUT_URL": shown["output_url"].replace("http://testserver", server.url),
        }
        stopped.set()
        worker.join()
        harness.blobs.signs = False


def run(command, environment, folder):
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_every_curl_of_the_page_runs_and_answers_no_error(environment, tmp_path):
    commands = [block for kind, block in BLOCKS if kind == "sh"]
    assert len(commands) >= 10
    for command in commands:
        output = run(["sh", "-eu", "-c", command], environment, tmp_path)
        assert not output or not isinstance(json.loads(output).get("error"), dict), command
    assert (tmp_path / "result.webm").stat().st_size > 0


def test_every_python_block_of_the_page_runs(environment, tmp_path):
    for number, block in enumerate(block for kind, block in BLOCKS if kind == "python"):
        script = tmp_path / f"block{number}.py"
        script.write_text(block)
        run([sys.executable, str(script)], environment, tmp_path)
    assert (tmp_path / "result.webm").stat().st_size > 0


def blocks_of(page, start):
    """The blocks of a page that begin so."""
    text = (ROOT / page).read_text()
    return [
        block for block in re.findall(r"^```\w+\n(.*?)^```", text, re.DOTALL | re.MULTILINE) if block.startswith(start)
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_commands_of_the_readme_make_a_job(environment, tmp_path):
    [block] = blocks_of("README.md", "curl")
    upload, create, show = re.findall(r"curl.*?(?=\ncurl|\Z)", block.replace(" \\\n", " "), flags=re.DOTALL)
    (tmp_path / "talk.mp4").write_bytes(TINY_MP4)
    shell = {**environment, "KEY": environment["ALPHAREEL_API_KEY"]}

    def said(command):
        command = command.replace("http://127.0.0.1:8080", environment["ALPHAREEL_BASE_URL"])
        return json.loads(run(["sh", "-eu", "-c", command], shell, tmp_path))

    link = said(upload)["video_url"]
    job = said(create.replace("<video_url of the upload>", link))
    assert said(show.replace("<id>", job["id"]))["id"] == job["id"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_follows_the_events_of_a_job(environment, tmp_path):
    [block] = blocks_of("docs/api.md", "curl -N")
    assert "event: end" in run(["sh", "-eu", "-c", block], environment, tmp_path)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl_creates_a_test_job_with_a_webhook(environment, tmp_path):
    [block] = blocks_of("docs/webhooks.md", "curl")
    assert json.loads(run(["sh", "-eu", "-c", block], environment, tmp_path))["test"]["outcome"] == "success"


def test_the_client_of_the_readme_runs(environment, tmp_path):
    [block] = blocks_of("README.md", "from alphareel_client")
    (tmp_path / "talk.mp4").write_bytes(TINY_MP4)
    here = {
        '"KEY"': repr(environment["ALPHAREEL_API_KEY"]),
        '"http://127.0.0.1:8080"': repr(environment["ALPHAREEL_BASE_URL"]),
    }
    for printed, real in here.items():
        assert printed in block
        block = block.replace(printed, real)
    run([sys.executable, "-c", block], environment, tmp_path)
    assert (tmp_path / "talk.webm").stat().st_size > 0


def test_the_first_request_of_the_quickstart_runs(environment, tmp_path):
    [block] = blocks_of("docs/quickstart.md", "export ALPHAREEL_BASE_URL")
    (tmp_path / "talk.mp4").write_bytes(TINY_MP4)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for name in ("ALPHAREEL_BASE_URL", "ALPHAREEL_API_KEY"):
        block = re.sub(rf"{name}=\S+", f"{name}={environment[name]}", block)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/activate").write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    run(["sh", "-eu", "-c", block], environment, tmp_path)
    assert (tmp_path / "talk-cut.webm").stat().st_size > 0


# As tus-js-client uses them, where that is not installed.
TUS = """
class Upload {
  constructor(file, options) { Object.assign(this, { file, options }); }
  async start() {
    const { endpoint, headers, metadata, onSuccess } = this.options;
    const encoded = Object.entries(metadata).map(([name, value]) => `${name} ${btoa(value)}`).join();
    const common = { ...headers, "Tus-Resumable": "1.0.0" };
    const made = await fetch(endpoint, { method: "POST", headers: { ...common, "Upload-Length": `${this.file.size}`, "Upload-Metadata": encoded } });
    const type = { "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream" };
    const sent = await fetch(made.headers.get("Location"), { method: "PATCH", headers: { ...common, ...type }, body: this.file });
    if (sent.status !== 204) throw new Error(`${sent.status} ${await sent.text()}`);
    onSuccess({ lastResponse: { getHeader: (name) => sent.headers.get(name) } });
  }
}
const tus = { Upload };
const file = new File([await readFile("input.mp4")], "input.mp4", { type: "video/mp4" });
"""
TUS_OF_NODE = """
import * as tus from "tus-js-client";
const file = Object.assign(await readFile("input.mp4"), { type: "video/mp4" });
Object.defineProperty(file, "name", { value: "input.mp4" });
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
def test_the_tus_upload_of_the_page_runs(environment, tmp_path):
    """With tus-js-client if ALPHAREEL_TEST_NODE_MODULES names a folder that has it."""
    [block] = blocks_of("docs/api.md", "new tus.Upload")
    script = 'import { readFile } from "node:fs/promises";\n'
    if modules := os.environ.get("ALPHAREEL_TEST_NODE_MODULES"):
        (tmp_path / "node_modules").symlink_to(modules)
        script += TUS_OF_NODE
    else:
        script += TUS
    values = {"url": environment["ALPHAREEL_BASE_URL"], "key": environment["ALPHAREEL_API_KEY"]}
    script += "".join(f"const {name} = {json.dumps(value)};\n" for name, value in values.items())
    script += f"const start = (link) => console.log(link);\n{block}"
    (tmp_path / "block.mjs").write_text(script)
    link = run(["node", "block.mjs"], environment, tmp_path).strip()
    assert re.search(r"/files/|/uploads/", link), link


def test_python_example_runs(environment, tmp_path):
    run(
        [sys.executable, str(ROOT / "examples" / "remove_background.py"), "input.mp4", "out.webm"],
        environment,
        tmp_path,
    )
    assert (tmp_path / "out.webm").stat().st_size > 0


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_shell_example_runs(environment, tmp_path):
    run(["sh", str(ROOT / "examples" / "remove_background.sh"), "input.mp4", "out.webm"], environment, tmp_path)
    assert (tmp_path / "out.webm").stat().st_size > 0
