"""A complete service for failure tests: processes are halted, databases locked or stopped."""

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for

KEY = "a key of the tests"
ADMIN = "a token of the tests"
MODELS = os.environ.get("ALPHAREEL_TEST_MODELS_DIR")


class AttackedService(ServiceProcess):
    """A service with its processes, and a client for it."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        defaults = {"API_KEY": KEY, "ADMIN_TOKEN": ADMIN, "MODELS_DIR": MODELS or "", "WRITE_PER_MINUTE": "0"}
        super().__init__(data_dir, **{**defaults, "READ_PER_MINUTE": "0", **settings})

    def find(self, module: str) -> psutil.Process | None:
        """The child process that runs this module; None if there is none."""
        with contextlib.suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if module in " ".join(process.cmdline()):
                        return process
        return None

    def worker(self) -> psutil.Process:
        return wait_for(lambda: self.find("alphareel.server.worker_process"))

    def ask(self, method: str, path: str, **more: Any) -> requests.Response:
        headers = {"X-Api-Key": KEY, "X-Admin-Token": ADMIN, **more.pop("headers", {})}
        return requests.request(method, self.base + path, headers=headers, timeout=60, **more)

    def call(self, method: str, path: str, **more: Any) -> Any:
        response = self.ask(method, path, **more)
        assert response.status_code == 200, response.text
        return response.json()

    def is_ready(self) -> bool:
        return self.ask("GET", "/readyz").status_code == 200

    def workers(self) -> float | None:
        for line in self.ask("GET", "/metrics").text.splitlines():
            if line.startswith("alphareel_workers "):
                return float(line.split()[1])
        return None

    def upload(self, clip: Path) -> str:
        with clip.open("rb") as file:
            return str(self.call("POST", "/v1/uploads", files={"file": file})["video_url"])

    def submit(self, video_url: str) -> str:
        return str(self.call("POST", "/v1/jobs", json={"video_url": video_url})["id"])

    def job(self, job_id: str) -> Any:
        return self.call("GET", f"/v1/jobs/{job_id}")

    def wait_for_end(self, job_id: str, seconds: float = 200) -> Any:
        wait_for(lambda: self.job(job_id)["status"] in ("completed", "failed"), seconds)
        return self.job(job_id)

    def reasons(self, job_id: str) -> list[str]:
        return [item["reason"] for item in self.call("GET", f"/v1/jobs/{job_id}/history")["items"]]

    def halt_while_writing(self) -> psutil.Process:
        """Halt the child process that runs a job while it writes the result."""
        wait_for(lambda: any((self.data_dir / "work").rglob("*.part")), pause=0.01)
        child = wait_for(lambda: self.find("alphareel.service.worker.child_main"), pause=0.01)
        child.suspend()
        return child


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., AttackedService]]:
    started: list[AttackedService] = []

    def start(folder: str = "data", **settings: str) -> AttackedService:
        started.append(AttackedService(tmp_path / folder, **settings))
        victim = started[-1].wait_until_it_listens()
        wait_for(victim.is_ready)
        return victim

    yield start
    for victim in started:
        victim.process.kill()
        victim.wait()


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", width=320, height=240, frames=50).path
