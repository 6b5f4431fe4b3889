"""The examples against a live server: whatever happens, they end with a meaningful exit code."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from alphareel.http.app import create_app
from alphareel.testing.fakes import TINY_MP4, make_settings

EXAMPLES = Path(__file__).parents[2] / "examples"
COMMANDS = {
    "python": [sys.executable, str(EXAMPLES / "remove_background.py")],
    "sh": ["sh", str(EXAMPLES / "remove_background.sh")],
    "node": ["node", str(EXAMPLES / "remove_background.mjs")],
}


@pytest.fixture(params=COMMANDS)
def example(request, harness, key, serve, tmp_path):
    """Run an example in a folder with a video; returns what ended. Settings replace variables."""
    for language, program in (("sh", "curl"), ("node", "node")):
        if request.param == language and shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    (tmp_path / "in.mp4").write_bytes(TINY_MP4)
    with serve(create_app(harness.services, make_settings())) as server:

        def run(*arguments, **settings):
            variables = {"ALPHAREEL_BASE_URL": server.url, "ALPHAREEL_API_KEY": key, "ALPHAREEL_TIMEOUT": "150"}
            return subprocess.run(
                [*COMMANDS[request.param], *arguments],
                env={**os.environ, **variables, **settings},
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=200,
                check=False,
            )

        yield run


@pytest.fixture
def worker(harness):
    """Does something with every unfinished job of this test, in a thread."""
    stopped, threads = threading.Event(), []
    others = {job.id for job in harness.jobs.unfinished()}

    def start(act):
        def work():
            while not stopped.wait(0.05):
                for job in harness.jobs.unfinished():
                    if job.id not in others:
                        act(job.id)

        threads.append(threading.Thread(target=work))
        threads[0].start()

    yield start
    stopped.set()
    for thread in threads:
        thread.join()


@pytest.mark.parametrize(
    ("suffix", "output_format", "background"),
    [(".zip", "png_sequence", "transparent"), (".mkv", "ffv1", "transparent"), (".png", "poster", "transparent"),
     (".mp4", "mp4", "color"), (".webm", "webm", "transparent")],
)  # fmt: skip
def test_the_format_follows_from_the_suffix(
    example, worker, finish_job, client, tmp_path, suffix, output_format, background
):
    worker(finish_job)
    done = example("in.mp4", f"out{suffix}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"out{suffix}").stat().st_size > 0
    (job,) = client.get("/v1/jobs").json()["jobs"]
    assert (job["output_format"], job["background"]["type"]) == (output_format, background)
    assert sorted(p.name for p in tmp_path.iterdir() if "part" in p.name) == []


@pytest.mark.parametrize(
    ("arguments", "settings", "words"),
    [
        (["in.mp4", "out.webm"], {"ALPHAREEL_API_KEY": "a wrong key"}, "Invalid API key"),
        (["in.mp4", "out.webm"], {"ALPHAREEL_API_KEY": ""}, "ALPHAREEL_API_KEY"),
        (["none.mp4", "out.webm"], {}, "none.mp4"),
        (["text.mp4", "out.webm"], {}, "Invalid file type"),
        (["in.mp4", "out.txt"], {}, "out.txt"),
        (["in.mp4", "there.webm"], {}, "there.webm exists"),
        (["in.mp4"], {}, "usage"),
        (["in.mp4", "b.mp4", "c.mp4"], {}, "usage"),
    ],
)
def test_every_failure_of_the_example_is_reported_with_an_exit_code(example, tmp_path, arguments, settings, words):
    (tmp_path / "text.mp4").write_text("no video " * 100)
    (tmp_path / "there.webm").write_text("of the caller's")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    done = example(*arguments, **settings)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_failed_job_ends_the_example(example, worker, client, tmp_path):
    worker(lambda job_id: client.post(f"/v1/jobs/{job_id}/cancel"))
    done = example("in.mp4", "out.webm")
    assert done.returncode == 1
    assert "cancel" in done.stderr
    assert not (tmp_path / "out.webm").exists()


def test_a_job_that_times_out_ends_the_example(example, tmp_path):
    done = example("in.mp4", "out.webm", ALPHAREEL_TIMEOUT="2")
    assert done.returncode == 1
    assert "2 s" in done.stderr
    assert not (tmp_path / "out.webm").exists()


def test_an_unreachable_service_ends_the_example(tmp_path):
    (tmp_path / "in.mp4").write_bytes(TINY_MP4)
    done = subprocess.run(
        [*COMMANDS["sh"], "in.mp4", "out.webm"],
        env={**os.environ, "ALPHAREEL_BASE_URL": "http://127.0.0.1:1", "ALPHAREEL_API_KEY": "any key"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 1
    assert "cannot be reached" in done.stderr
