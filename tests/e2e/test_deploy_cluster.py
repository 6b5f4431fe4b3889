"""deploy/compose.cluster.yaml without a container engine: the same processes with the environment that it gives them."""

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from moto.server import ThreadedMotoServer

from alphareel.testing.clips import make_clip
from alphareel.testing.servers import (
    MissingServer,
    find_server,
    free_port,
    postgres_server,
    redis_server,
    seaweed_server,
)
from alphareel.testing.service import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.cluster.yaml").read_text())["services"]
OURS = ("api-1", "api-2", "worker-1", "worker-2")
SECRETS = {
    "POSTGRES_PASSWORD": "pg",
    "S3_ACCESS_KEY": "id",
    "S3_SECRET_KEY": "secret",
    "ALPHAREEL_ADMIN_TOKEN": "a token of the tests",
    "ALPHAREEL_WEBHOOK_SECRET": "a secret of the tests",
}
KEY = "a key of the tests"


@dataclass
class Cluster:
    """The services of the compose file as processes; their names in it lead to ports of this machine."""

    folder: Path
    ports: dict[str, int]
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def public_url(self) -> str:
        return f"http://127.0.0.1:{self.ports['api-1']}"

    def fill(self, text: str) -> str:
        """Interpolate as Compose does, and replace the address of each service."""
        values = {**SECRETS, "ALPHAREEL_PUBLIC_URL": self.public_url}
        text = re.sub(r"\$\{(\w+)(?::\?|:-)?([^}]*)\}", lambda m: values.get(m[1], m[2]), text)
        for name, port in self.ports.items():
            text = re.sub(rf"\b{name}:\d+", f"127.0.0.1:{port}", text)
        return text

    def own_environment(self, name: str) -> dict[str, str]:
        """What differs from the containers: the folder, and ports that are free here."""
        data = str(self.folder / name)
        return {"ALPHAREEL_DATA_DIR": data, "TMPDIR": data, "ALPHAREEL_PORT": str(self.ports.get(name, 1))}

    def start(self, name: str) -> None:
        service = COMPOSE[name]
        (self.folder / name).mkdir(exist_ok=True)
        given = {key: self.fill(value) for key, value in service["environment"].items()}
        tests = {"ALPHAREEL_API_KEY": KEY, "ALPHAREEL_JOB_THREADS": "1"}
        command = [Path(sys.executable).with_name("alphareel"), *service["command"]]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, env=os.environ | given | self.own_environment(name) | tests, stdout=log, stderr=log
            )

    def healthy(self, name: str) -> bool:
        """Its health check, as the compose file or the Dockerfile states it."""
        words = COMPOSE[name].get("healthcheck", {}).get("test", ["CMD", "alphareel", "health"])[1:]
        command = [Path(sys.executable).with_name(words[0]), *words[1:]]
        environment = os.environ | self.own_environment(name)
        return subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0

    def ask(self, api: str, method: str, path: str, **more: Any) -> Any:
        headers = {"X-Api-Key": KEY, "X-Admin-Token": SECRETS["ALPHAREEL_ADMIN_TOKEN"]}
        base = f"http://127.0.0.1:{self.ports[api]}"
        answer = requests.request(method, base + path, headers=headers, timeout=60, **more)
        assert answer.status_code == 200, answer.text
        return answer

    def stop(self) -> None:
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    pytest.importorskip("psycopg")
    with contextlib.ExitStack() as running:
        try:
            find_server("redis-server")
            database = running.enter_context(postgres_server(tmp_path))
        except MissingServer as missing:
            pytest.skip(str(missing))
        ports = {name: free_port() for name in ("redis", "api-1", "api-2")} | {"postgres": database.port}
        words = COMPOSE["redis"]["command"][1:]
        running.enter_context(redis_server(tmp_path, port=ports["redis"], words=words))
        ports["seaweedfs"] = running.enter_context(object_store(tmp_path))
        cluster = Cluster(tmp_path, ports)
        running.callback(cluster.stop)
        for name in OURS:
            cluster.start(name)
        for name in OURS:
            wait_for(partial(cluster.healthy, name), pause=2)
        yield cluster


@contextlib.contextmanager
def object_store(folder: Path) -> Iterator[int]:
    """SeaweedFS as the compose file starts it where ``weed`` is installed; else the S3 server of moto."""
    words = [word for word in COMPOSE["seaweedfs"]["command"] if not word.startswith(("-dir=", "-s3.config="))]
    try:
        find_server("weed")
    except MissingServer:
        server = ThreadedMotoServer("127.0.0.1", 0)
        server.start()
        port = server.get_host_and_port()[1]
        requests.put(f"http://127.0.0.1:{port}/alphareel", timeout=60)
        yield port
        server.stop()
    else:
        with seaweed_server(folder, words, bucket="alphareel") as port:
            yield port


def test_two_apis_and_two_workers_share_everything_and_survive_a_loss(cluster: Cluster, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", width=320, height=240, frames=60, background="green").path
    with clip.open("rb") as file:
        link = cluster.ask("api-1", "POST", "/v1/uploads", files={"file": file}).json()["video_url"]
    order = {"video_url": link, "engine": "chroma"}
    ids = [cluster.ask(f"api-{1 + n % 2}", "POST", "/v1/jobs", json=order).json()["id"] for n in range(6)]

    def statuses() -> set[str]:
        return {cluster.ask("api-2", "GET", f"/v1/jobs/{job}").json()["status"] for job in ids}

    wait_for(lambda: "completed" in statuses(), pause=0.5)
    cluster.processes["worker-1"].kill()
    cluster.processes["api-1"].kill()
    wait_for(lambda: statuses() <= {"completed", "failed"}, pause=0.5)
    assert statuses() == {"completed"}
    done = cluster.ask("api-2", "GET", f"/v1/jobs/{ids[-1]}").json()
    assert done["output_url"].startswith(cluster.public_url)
    result = cluster.ask("api-2", "GET", done["output_url"].removeprefix(cluster.public_url))
    assert result.content[:4] == b"\x1aE\xdf\xa3"
    assert not cluster.healthy("api-1")
    taken = [re.findall(r'"event": "job moved"', (tmp_path / f"worker-{n}.log").read_text()) for n in (1, 2)]
    assert all(taken), "one of the workers did nothing"
