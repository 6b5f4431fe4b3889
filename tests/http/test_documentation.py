"""docs/api.md, docs/errors.md and the examples: complete, and every command in them runs."""

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
            "ALPHAREEL_URL": server.url,
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
