"""Runners as processes of their own: a server that leaves its jobs to them, kill -9 in the middle, a revoked token."""

import contextlib
import hashlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from alphareel import __version__
from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY, ADMIN = "a key of the tests", "a token for operators"


class Running(ServiceProcess):
    def __init__(self, data_dir: Path, **settings: object) -> None:
        super().__init__(data_dir, API_KEY=KEY, ADMIN_TOKEN=ADMIN, **settings)

    def call(self, method: str, path: str, **more: Any) -> Any:
        headers = {"X-Api-Key": KEY, "X-Admin-Token": ADMIN}
        answer = requests.request(method, self.base + path, headers=headers, timeout=60, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def submit(self, clip: Path, **body: Any) -> str:
        with clip.open("rb") as file:
            link = self.call("POST", "/v1/uploads", files={"file": file})["video_url"]
        return str(self.call("POST", "/v1/jobs", json={"video_url": link, "model": "human", **body})["id"])

    def job(self, job_id: str) -> Any:
        return self.call("GET", f"/v1/jobs/{job_id}")

    def wait_for_end(self, job_id: str) -> Any:
        wait_for(lambda: self.job(job_id)["status"] in ("completed", "failed"))
        return self.job(job_id)

    def events(self, event: str) -> int:
        return len(re.findall(rf'"event": "{event}"', self.log()))


class JoinedRunner:
    """``alphareel worker --join`` with a folder and a token of its own."""

    def __init__(self, service: Running, folder: Path, *words: str, token: str | None = None) -> None:
        folder.mkdir(exist_ok=True)
        created = {} if token else service.call("POST", "/v1/admin/runners", json={"name": folder.name})
        self.id = created.get("id")
        self.token = token or str(created["token"])
        self.folder = folder
        self._log = folder / "log"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ALPHAREEL_")}
        environment |= {"ALPHAREEL_DATA_DIR": str(folder / "data"), "ALPHAREEL_RUNNER_TOKEN": self.token}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [Path(sys.executable).with_name("alphareel"), "worker", "--join", service.base, *words],
                stdout=log,
                stderr=log,
                env=environment,
            )

    def log(self) -> str:
        return self._log.read_text()

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def wait_until_it_writes(self) -> None:
        """It has leased a task, and its child process writes the result."""
        wait_for(lambda: any((self.folder / "data/runner").rglob("*.part")) or None, pause=0.01)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def serve(**settings: object) -> Running:
        started.append(Running(tmp_path / "server/data", **settings))
        return started[-1].wait_until_it_listens()

    (tmp_path / "server").mkdir()
    yield serve
    for service in started:
        service.process.kill()
        service.wait()


@pytest.fixture
def join(tmp_path: Path) -> Iterator[Callable[..., JoinedRunner]]:
    joined: list[JoinedRunner] = []

    def join(service: Running, name: str, *words: str, **more: Any) -> JoinedRunner:
        joined.append(JoinedRunner(service, tmp_path / name, *words, **more))
        return joined[-1]

    yield join
    for runner in joined:
        runner.kill()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    return make_clip(folder / "in.mp4", width=320, height=240, frames=200, audio=True).path


def assert_delivered(service: Running, job_id: str, *, frames: int = 200) -> Any:
    done = service.wait_for_end(job_id)
    assert done["status"] == "completed", (done, service.log()[-3000:])
    assert (done["output"]["frames"], done["output"]["has_audio"]) == (frames, True)
    data = requests.get(done["output_url"], timeout=60).content
    assert hashlib.sha256(data).hexdigest() == done["outputs"][0]["sha256"]
    assert not any((service.data_dir / "objects/returned").rglob("*.*"))
    return done


def test_a_server_without_slots_leaves_a_job_to_a_runner(start, join, clip) -> None:
    service = start(RUNNERS_ONLY="true")
    job_id = service.submit(clip)
    runner = join(service, "gpu")
    done = assert_delivered(service, job_id)
    assert service.events("runner made the task") == 1, service.log()[-3000:]
    assert (done["attempts"], done["engine"]["name"]) == (1, "builtin")
    shown = service.call("GET", "/v1/admin/runners")["items"][0]
    assert (shown["name"], shown["slots"], "builtin" in shown["engines"]) == ("gpu", 1, True)
    assert runner.token not in service.log() + runner.log()
    assert not (runner.folder / "data/alphareel.db").exists()
    runner.process.send_signal(signal.SIGTERM)
    assert runner.process.wait(timeout=100) == 0, runner.log()[-3000:]
    assert service.call("GET", "/v1/admin/runners")["items"][0]["slots"] == 0


def test_what_a_killed_runner_had_runs_on_another(start, join, clip) -> None:
    service = start(RUNNERS_ONLY="true")
    killed = join(service, "first")
    job_id = service.submit(clip)
    killed.wait_until_it_writes()
    family = killed.family()
    killed.kill()
    wait_for(lambda: not any(process.is_running() for process in family))
    join(service, "second")
    done = assert_delivered(service, job_id)
    assert done["attempts"] == 1, "the client's job was never at fault"
    assert "its lease was not renewed" in service.log()
    assert service.events("runner made the task") == 1


def test_what_a_killed_runner_had_runs_here(start, join, clip) -> None:
    service = start()
    killed = join(service, "first")
    wait_for(lambda: service.call("GET", "/v1/admin/runners")["items"][0]["slots"])
    job_id = service.submit(clip)
    killed.wait_until_it_writes()
    killed.kill()
    done = assert_delivered(service, job_id)
    assert done["attempts"] == 1
    assert service.events("runner made the task") == 0


def set_credits(service: Running) -> None:
    service.call("POST", "/v1/admin/credits/set", json={"client_id": "default", "balance": 1000})


def assert_made_once(service: Running, runner: JoinedRunner, job_id: str) -> None:
    """Although the job had two attempts, the runner did its task once, and it was charged once."""
    done = assert_delivered(service, job_id)
    assert done["attempts"] == 2
    assert runner.log().count('"event": "task leased"') == 1, runner.log()[-3000:]
    assert (service.events("task adopted"), service.events("runner made the task")) == (1, 1), service.log()[-3000:]
    shown = service.call("GET", "/v1/admin/runners")["items"][0]
    assert (shown["tasks_done"], shown["tasks_failed"]) == (1, 0)
    account = service.call("GET", "/v1/admin/credits?client_id=default")
    assert done["credits_used"] > 0
    assert account["balance"] == pytest.approx(1000 - done["credits_used"])


def test_a_runner_goes_on_while_a_killed_worker_starts_again(start, join, clip) -> None:
    service = start(RUNNERS_ONLY="true")
    set_credits(service)
    runner = join(service, "gpu")
    job_id = service.submit(clip)
    runner.wait_until_it_writes()
    worker = next(
        process
        for process in psutil.Process(service.process.pid).children(recursive=True)
        if "alphareel.server.worker_process" in process.cmdline()
    )
    worker.kill()
    assert_made_once(service, runner, job_id)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_runner_goes_on_while_the_whole_service_starts_again(start, join, clip, number) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    service = start(RUNNERS_ONLY="true", PORT=port)
    set_credits(service)
    runner = join(service, "gpu")
    job_id = service.submit(clip)
    runner.wait_until_it_writes()
    service.process.send_signal(number)
    service.wait()
    assert runner.process.poll() is None
    assert_made_once(start(RUNNERS_ONLY="true", PORT=port), runner, job_id)


def test_chunks_of_a_long_clip_run_on_two_runners(start, join, tmp_path) -> None:
    options = {"g": "25", "sc_threshold": "0"}
    clip = make_clip(tmp_path / "long.mp4", width=320, height=240, frames=300, audio=True, options=options).path
    service = start(RUNNERS_ONLY="true", CHUNK_SECONDS="2")
    runners = [join(service, name) for name in ("first", "second")]
    wait_for(lambda: all(item["slots"] for item in service.call("GET", "/v1/admin/runners")["items"]))
    job_id = service.submit(clip)
    assert_delivered(service, job_id, frames=300)
    made = [runner.log().count('"event": "task leased"') for runner in runners]
    assert sum(made) >= 6, made
    assert all(made), made


def test_a_job_on_a_runner_shows_previews(start, join, tmp_path) -> None:
    clip = make_clip(tmp_path / "long.mp4", width=640, height=480, frames=600).path
    service = start(RUNNERS_ONLY="true")
    join(service, "gpu")
    job_id = service.submit(clip)

    def preview() -> Any:
        job = service.job(job_id)
        assert job["status"] != "completed", "it ended without a preview"
        return job.get("preview_url") and requests.get(job["preview_url"], timeout=60)

    shown = wait_for(preview)
    assert (shown.headers["Content-Type"], shown.content[8:12]) == ("image/webp", b"WEBP")
    assert service.job(job_id)["progress"] > 0


def test_a_revoked_token_ends_the_runner_and_its_lease(start, join, clip) -> None:
    service = start(RUNNERS_ONLY="true")
    runner = join(service, "first")
    job_id = service.submit(clip)
    runner.wait_until_it_writes()
    service.call("POST", f"/v1/admin/runners/{runner.id}/revoke")
    assert runner.process.wait(timeout=100) == 6
    assert "Invalid runner token" in runner.log()
    assert "Traceback" not in runner.log()
    answer = requests.post(f"{service.base}/v1/runners/lease", headers={"X-Runner-Token": runner.token}, timeout=60)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_runner_token")
    join(service, "second")
    assert_delivered(service, job_id)


def test_a_wrong_result_is_refused_and_made_again(start, clip) -> None:
    """A runner that says that it made a file, and sends another."""
    service = start(RUNNERS_ONLY="true")
    token = service.call("POST", "/v1/admin/runners", json={"name": "liar"})["token"]
    session = requests.Session()
    session.headers["X-Runner-Token"] = token
    job_id = service.submit(clip)
    lies = 0
    with contextlib.suppress(StopIteration):
        while service.job(job_id)["status"] not in ("completed", "failed"):
            body: dict[str, Any] = {"version": __version__, "slots": 1, "engines": ["builtin"]}
            task = session.post(
                f"{service.base}/v1/runners/lease", json=body, headers={"Prefer": "wait=2"}, timeout=60
            ).json()["task"]
            if task is None:
                continue
            lies += 1
            _lie(session, service.base, task, clip)
    done = assert_delivered(service, job_id)
    assert lies == 1, "whoever lied gets the task no more"
    assert done["attempts"] == 1
    assert "runner failed" in service.log()


def _lie(session: requests.Session, base: str, task: Any, clip: Path) -> None:
    data = clip.read_bytes()
    where = f"{base}/v1/runners/tasks/{task['id']}"
    results = []
    for name, output in zip(task["outputs"], task["request"]["outputs"], strict=True):
        answer = session.put(f"{where}/files/{name}", params={"lease": task["lease"]}, data=data, timeout=60)
        assert answer.status_code == 200, answer.text
        results.append(
            {
                "path": name,
                "format": output["options"]["output_format"],
                "mime": "video/webm",
                "bytes": len(data),
                "sha256": hashlib.sha256(data).hexdigest(),
                "frames": 200,
                "seconds": 8.0,
                "width": 320,
                "height": 240,
                "has_alpha": True,
                "has_audio": True,
                "engine": {"name": "builtin", "version": "1"},
                "warnings": [],
            }
        )
    event: dict[str, Any] = {"event": "result", "results": results, "stages": {}}
    answer = session.post(f"{where}/complete", json={"lease": task["lease"], "event": event}, timeout=60)
    assert answer.status_code == 200, answer.text
