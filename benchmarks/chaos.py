"""Chaos: kill, stop and starve the processes of a service while jobs run, then check that nothing was lost.

    ./dev chaos [--seconds 180] [--jobs N] [--kills N] [--database sqlite|postgresql] [--cluster] [--seed N]

Starts `alphareel api` and two `alphareel worker` on one database and one storage. While jobs are submitted, a random
fault strikes every second or so: kill -9 of an API, a worker, its supervisor or a job's child process; SIGSTOP for
seconds; a database that is locked (SQLite) or restarted (PostgreSQL); a disk that is full, where a small disk can be
mounted. With --cluster the storage is a bucket, the database PostgreSQL, and Redis counts requests; the connections to
each of the three are cut, silent or slow for seconds, too. With --jobs and --kills this goes on until so many jobs were
accepted and so many processes killed. Then everything is started once more, and must hold:

- every accepted job ended, exactly once, and was completed unless its process was killed six times in a row;
- every output decodes to the right number of frames, with alpha;
- the balance is the start minus what the completed jobs cost, and nothing stays reserved;
- every webhook was delivered;
- after a sweep, the storage has exactly the upload and the outputs;
- every line of the logs is JSON, but for the one with which a command ends that cannot start.

The clocks of the machine are not changed: that would change them for everybody.
"""

import argparse
import contextlib
import functools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import unittest.mock
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx2
import psutil

import alphareel
from alphareel.db.deletion import DeletionStore
from alphareel.db.orphans import OrphanStore
from alphareel.server.installation import SystemClock, open_installation
from alphareel.service.files.orphans import OrphanSweep
from alphareel.service.jobs.deletion import DeletionService
from alphareel.service.settings import DatabaseSettings, Settings, StorageSettings
from alphareel.testing.clips import make_clip
from alphareel.testing.servers import (
    PostgresServer,
    answers,
    free_port,
    postgres_server,
    redis_server,
    server_process,
)
from alphareel.testing.service import wait_for
from benchmarks.faulty_link import FaultyLink, State

KEY, TOKEN = "a key of the chaos", "a token of the chaos"
BALANCE = 100_000.0
FRAMES = 36
SUBMITTERS = 4
MOST_UNFINISHED = 10  # jobs of each of them
HIT_SHARE = 0.7  # of the faults strike while a job runs, if one begins within
PATIENCE = 5.0  # seconds: starting again takes most of the time, so that few faults would meet a job otherwise
ENDED = ("completed", "failed")
CHILD = "alphareel.service.worker.child_main"  # what a child process with a job calls itself
TEMPLATE = "alphareel.service.worker.template_main"
WORKER = "alphareel.server.worker_process"
DISK_BYTES = 192 * 1024**2
BUCKET = "chaos"
OUTAGES: dict[State, float] = {"cut": 4.0, "silent": 15.0, "slow": 8.0}  # seconds


class Receiver:
    """Takes webhooks; every third one is refused, so that deliveries are repeated."""

    def __init__(self) -> None:
        self.events: Counter[tuple[str, str]] = Counter()
        self._answers = 0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200 if receiver.take(body) else 503)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hook"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def take(self, body: dict[str, Any]) -> bool:
        self._answers += 1
        if self._answers % 3 == 0:
            return False
        job = body.get("data", body).get("job", body.get("data", body))
        self.events[job["id"], str(body.get("event", body.get("type")))] += 1
        return True


@dataclass(frozen=True)
class Servers:
    """What the processes of a service share. ``links``: to these servers, by their names; none without a cluster.

    ``postgres``: the database, unless it is SQLite. ``small_disk``: where the storage is, if it can be filled.
    """

    database_url: str
    storage_url: str
    postgres: PostgresServer | None = None
    links: dict[str, FaultyLink] = field(default_factory=dict)
    small_disk: Path | None = None

    @property
    def settings(self) -> dict[str, str]:
        shared = {"DATABASE_URL": self.database_url, "STORAGE_URL": self.storage_url}
        if "Redis" not in self.links:
            return shared
        counted = dict.fromkeys(("READ_PER_MINUTE", "WRITE_PER_MINUTE"), "1000000")
        return shared | counted | {"RATE_LIMIT_URL": f"redis://127.0.0.1:{self.links['Redis'].port}/0"}


@dataclass
class Cluster:
    """One API and two workers. Those that a fault ended are started again by ``keep_alive``."""

    folder: Path
    servers: Servers
    port: int = field(default_factory=free_port)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    NAMES = ("api", "worker-1", "worker-2")

    @property
    def base(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, name: str) -> None:
        settings = {
            "DATA_DIR": str(self.folder / name),
            "PORT": str(self.port),
            "API_KEY": KEY,
            "ADMIN_TOKEN": TOKEN,
            "WEBHOOK_SECRET": "a secret of the chaos",
            "FETCH_ALLOW_CIDRS": "127.0.0.0/8",
            "WRITE_PER_MINUTE": "0",
            "READ_PER_MINUTE": "0",
            "JOB_THREADS": "1",
            "MIN_FREE_BYTES": "0",
            "HANG_SECONDS": "8",
            "STOP_SECONDS": "2",
            **self.servers.settings,
        }
        environment = os.environ | {f"ALPHAREEL_{key}": value for key, value in settings.items()}
        (self.folder / name).mkdir(exist_ok=True)
        command = [str(Path(sys.executable).with_name("alphareel")), name.partition("-")[0]]
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def keep_alive(self) -> None:
        for name in self.NAMES:
            process = self.processes.get(name)
            if process is None or process.poll() is not None:
                self.start(name)

    def family(self, module: str = "") -> list[psutil.Process]:
        """Descendants of our processes whose command names the module."""
        processes = []
        for process in self.processes.values():
            with contextlib.suppress(psutil.Error):
                processes += [
                    c for c in psutil.Process(process.pid).children(recursive=True) if module in command_of(c)
                ]
        return processes

    def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            process.kill()
            process.wait()


def command_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


@dataclass
class Faults:
    """What can happen. ``seen`` counts what did."""

    cluster: Cluster
    random: random.Random
    seen: Counter[str] = field(default_factory=Counter)

    def strike(self) -> None:
        if self.random.random() < HIT_SHARE:
            self._wait_for_a_running_job()
        kinds: dict[str, tuple[int, Callable[[], bool]]] = {
            "kill -9 of a child process": (6, lambda: self._kill_process(self._any(CHILD))),
            "kill -9 of a template process": (1, lambda: self._kill_process(self._any(TEMPLATE))),
            "kill -9 of a worker process": (5, lambda: self._kill_process(self._any(WORKER))),
            "kill -9 of a supervisor": (2, lambda: self._kill("worker-1", "worker-2")),
            "kill -9 of the API": (3, lambda: self._kill("api")),
            "SIGSTOP of a child process": (2, lambda: self._pause(self._any(CHILD), 3.0)),
            "SIGSTOP of a worker process": (1, lambda: self._pause(self._any(WORKER), 12.0)),
            "database away": (2, self._database_away),
            "disk full": (1 if self.cluster.servers.small_disk else 0, self._disk_full),
        }
        for server in self.cluster.servers.links:
            for state in OUTAGES:
                kinds[f"{server} {state}"] = (1, functools.partial(self._fail_link, server, state))
        name = self.random.choices(list(kinds), [weight for weight, _ in kinds.values()])[0]
        if kinds[name][1]():
            self.seen[name] += 1

    @property
    def kills(self) -> int:
        return sum(count for name, count in self.seen.items() if name.startswith("kill -9"))

    def _wait_for_a_running_job(self) -> None:
        with contextlib.suppress(TimeoutError):
            wait_for(lambda: self.cluster.family(CHILD), seconds=PATIENCE)

    def _any(self, module: str) -> psutil.Process | None:
        processes = self.cluster.family(module)
        return self.random.choice(processes) if processes else None

    def _kill_process(self, process: psutil.Process | None) -> bool:
        with contextlib.suppress(psutil.Error):
            if process is not None:
                process.kill()
                return True
        return False

    def _kill(self, *names: str) -> bool:
        if "api" in names and not answers(self.cluster.port):
            return False  # it has not come back from the last time
        process = self.cluster.processes[self.random.choice(names)]
        process.kill()
        process.wait()
        return True

    def _pause(self, victim: psutil.Process | None, seconds: float) -> bool:
        if victim is None:
            return False

        def resume() -> None:
            with contextlib.suppress(psutil.Error):
                victim.resume()

        with contextlib.suppress(psutil.Error):
            victim.suspend()
        threading.Timer(seconds, resume).start()
        return True

    def _database_away(self) -> bool:
        servers = self.cluster.servers
        if servers.postgres is not None:
            servers.postgres.stop()
            time.sleep(2)
            servers.postgres.start()
            return True
        path = servers.database_url.removeprefix("sqlite:///")
        with contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as connection:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return False
            time.sleep(3)
            connection.execute("ROLLBACK")
        return True

    def _fail_link(self, server: str, state: State) -> bool:
        link = self.cluster.servers.links[server]
        link.set(state)
        threading.Timer(OUTAGES[state], link.set, ("open",)).start()
        return True

    def _disk_full(self) -> bool:
        disk = self.cluster.servers.small_disk
        assert disk is not None
        ballast = disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(1024**2))
                file.flush()
        time.sleep(3)
        ballast.unlink()
        return True


@dataclass(frozen=True)
class Report:
    """``violations`` is empty when every promise was kept."""

    accepted: int
    completed: int
    kills: int
    failed: dict[str, int]
    attempts: int
    faults: dict[str, int]
    webhooks: int
    seconds: float
    recovery_seconds: float
    violations: list[str]


class Client:
    """Repeats each request under one idempotency key until it is answered, as a careful integrator does."""

    def __init__(self, base: str) -> None:
        self._client = httpx2.Client(base_url=base, timeout=20, headers={"X-Api-Key": KEY, "X-Admin-Token": TOKEN})

    def call(self, method: str, path: str, *, seconds: float = 600, **more: Any) -> Any:
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                answer = self._client.request(method, path, headers=headers, **more)
                if answer.status_code == httpx2.codes.OK:
                    return answer.json()
                if answer.status_code < 500 and answer.status_code not in (409, 429):
                    raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
            if time.monotonic() > deadline:
                raise TimeoutError(f"{method} {path} was not answered")
            time.sleep(0.3)

    def content(self, url: str) -> bytes:
        return bytes(self._client.get(url).raise_for_status().content)

    def close(self) -> None:
        self._client.close()


def run(
    folder: Path,
    *,
    seconds: float,
    database: str,
    seed: int,
    jobs_per_second: float = 1.5,
    jobs: int = 0,
    kills: int = 0,
    cluster: bool = False,
) -> Report:
    """Jobs and faults until so many seconds, jobs and kills are reached; then the comparison.

    ``folder`` must be empty. ``cluster``: with PostgreSQL, Redis and a bucket. Raises MissingServer without these to
    start.
    """
    with contextlib.ExitStack() as opened:
        services = Cluster(folder, opened.enter_context(serving(folder, database, cluster=cluster)))
        opened.callback(services.stop)
        receiver = Receiver()
        opened.callback(receiver.close)
        services.keep_alive()
        client = Client(services.base)
        opened.callback(client.close)
        client.call("POST", "/v1/admin/credits/set", json={"client_id": "default", "balance": BALANCE})
        clip = make_clip(folder / "in.mp4", width=160, height=120, frames=FRAMES, background="green").path
        upload = client.call("POST", "/v1/uploads", files={"file": (clip.name, clip.read_bytes(), "video/mp4")})
        faults = Faults(services, random.Random(seed))
        order = {"video_url": upload["video_url"], "engine": "chroma", "webhook_url": receiver.url}
        accepted: list[str] = []
        began = time.monotonic()
        with submitting(services, order, accepted, jobs_per_second):
            while time.monotonic() - began < seconds or len(accepted) < jobs or faults.kills < kills:
                time.sleep(faults.random.uniform(0.3, 1.5))
                faults.strike()
                services.keep_alive()
        over = time.monotonic()
        for link in services.servers.links.values():
            link.set("open")
        for process in services.family():
            with contextlib.suppress(psutil.Error):
                process.resume()
        services.keep_alive()
        settle(client, accepted, services)
        return check(folder, client, services, receiver, accepted, faults, over - began, time.monotonic() - over)


@contextlib.contextmanager
def serving(folder: Path, database: str, *, cluster: bool) -> Iterator[Servers]:
    """Raises MissingServer."""
    with contextlib.ExitStack() as opened:
        postgres = None
        if database == "postgresql" or cluster:
            postgres = opened.enter_context(postgres_server(folder / "server"))
        url = postgres.url() if postgres else f"sqlite:///{folder / 'chaos.db'}"
        if postgres and cluster:
            links = opened.enter_context(linked(folder, postgres))
            url = url.replace(f":{postgres.port}/", f":{links['database'].port}/")
            yield Servers(url, f"s3://{BUCKET}/objects", postgres, links)
        else:
            disk = opened.enter_context(mounted(folder / "disk"))
            yield Servers(url, (folder / "disk" / "objects").as_uri(), postgres, small_disk=disk)


@contextlib.contextmanager
def linked(folder: Path, server: PostgresServer) -> Iterator[dict[str, FaultyLink]]:
    """Links to ``server``, to a Redis and to an S3 server with an empty bucket; credentials in the environment."""
    with contextlib.ExitStack() as opened:
        redis, bucket = free_port(), free_port()
        opened.enter_context(redis_server(folder, port=redis))
        moto = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(bucket)]
        opened.enter_context(server_process(moto, bucket, folder / "bucket.log"))
        links = {"database": FaultyLink(server.port), "Redis": FaultyLink(redis), "bucket": FaultyLink(bucket)}
        for link in links.values():
            opened.callback(link.close)
        endpoint = f"http://127.0.0.1:{links['bucket'].port}"
        httpx2.put(f"{endpoint}/{BUCKET}", timeout=60).raise_for_status()
        credentials = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
        opened.enter_context(unittest.mock.patch.dict(os.environ, {**credentials, "AWS_ENDPOINT_URL": endpoint}))
        yield links


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[Path | None]:
    """A disk of its own, small enough to be filled; None where it cannot be mounted."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    with contextlib.suppress(OSError):
        if os.getuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0:
            try:
                yield folder
            finally:
                subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)
            return
    yield None


@contextlib.contextmanager
def submitting(cluster: Cluster, order: dict[str, Any], accepted: list[str], rate: float) -> Iterator[None]:
    """Several clients submit jobs meanwhile, so that one whose request is lost does not delay the others.

    Each waits while it has ten unfinished jobs, so that not much is left to do when the faults end.
    """
    stopping = threading.Event()

    def submit() -> None:
        unfinished: list[str] = []
        with contextlib.closing(Client(cluster.base)) as client:
            while not stopping.wait(SUBMITTERS / rate):
                unfinished = [job for job in unfinished if client.call("GET", f"/v1/jobs/{job}")["status"] not in ENDED]
                if len(unfinished) < MOST_UNFINISHED:
                    unfinished.append(client.call("POST", "/v1/jobs", json=order)["id"])
                    accepted.append(unfinished[-1])

    threads = [threading.Thread(target=submit) for _ in range(SUBMITTERS)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            while thread.is_alive():  # its last request needs an API
                cluster.keep_alive()
                thread.join(1)


def settle(client: Client, accepted: list[str], cluster: Cluster) -> None:
    """Wait until every job ended."""
    remaining = set(accepted)

    def over() -> bool:
        cluster.keep_alive()
        for job in list(remaining):
            if client.call("GET", f"/v1/jobs/{job}")["status"] in ENDED:
                remaining.discard(job)
        return not remaining

    wait_for(over, seconds=max(600, 10 * len(accepted)), pause=1)


def check(  # noqa: PLR0917
    folder: Path,
    client: Client,
    cluster: Cluster,
    receiver: Receiver,
    accepted: list[str],
    faults: Faults,
    seconds: float,
    recovery: float,
) -> Report:
    """Compare everything with what was promised."""
    violations: list[str] = []
    jobs = {job: client.call("GET", f"/v1/jobs/{job}") for job in accepted}
    attempts = 0
    for job in accepted:
        moves = client.call("GET", f"/v1/jobs/{job}/history")["items"]
        attempts += sum(move["reason"] == "attempt began" for move in moves)
        ends = [move["to_status"] for move in moves if move["to_status"] in ENDED]
        if len(ends) != 1:
            violations.append(f"{job} ended {len(ends)} times")
    for job, found in jobs.items():
        if found["status"] == "completed":
            violations += [f"{job}: {fault}" for fault in faults_of_output(client, found, folder)]
        elif found["error_code"] not in ("worker_crashed", "storage_failed", "storage_full"):
            violations.append(f"{job} failed: {found['error_code']} {found['error']}")
    violations += faults_of_ledger(client, list(jobs.values()))
    with contextlib.suppress(TimeoutError):
        wait_for(lambda: all(delivered(receiver, job) for job in accepted), seconds=240, pause=1)
    violations += [f"{job}: its webhook was not delivered" for job in accepted if not delivered(receiver, job)]
    cluster.stop()
    violations += faults_of_logs(folder, cluster)
    violations += orphans(folder, cluster, jobs)
    failed = Counter(found["error_code"] for found in jobs.values() if found["status"] == "failed")
    return Report(
        accepted=len(accepted),
        completed=sum(found["status"] == "completed" for found in jobs.values()),
        kills=faults.kills,
        failed=dict(failed),
        attempts=attempts,
        faults=dict(faults.seen),
        webhooks=sum(receiver.events.values()),
        seconds=round(seconds, 1),
        recovery_seconds=round(recovery, 1),
        violations=violations,
    )


def faults_of_output(client: Client, job: dict[str, Any], folder: Path) -> list[str]:
    path = folder / "result.webm"
    path.write_bytes(client.content(job["output_url"]))
    facts = alphareel.probe(path)
    wrong = [] if facts.has_alpha else ["has no alpha"]
    if job["output"]["frames"] != FRAMES or job["output"]["size"] != path.stat().st_size:
        wrong.append(f"has {job['output']['frames']} frames, {path.stat().st_size} bytes")
    return wrong


def faults_of_ledger(client: Client, jobs: list[dict[str, Any]]) -> list[str]:
    account = client.call("GET", "/v1/admin/credits", params={"client_id": "default"})
    expected = BALANCE - sum(job["credits_used"] for job in jobs)
    wrong = []
    if abs(account["balance"] - expected) > 1e-6 or account["reserved"]:
        wrong.append(f"balance {account['balance']}, reserved {account['reserved']}; expected {expected} and 0")
    wrong += [f"{j['id']} failed and was charged" for j in jobs if j["status"] == "failed" and j["credits_used"]]
    wrong += [f"{j['id']} was not charged" for j in jobs if j["status"] == "completed" and not j["credits_used"]]
    return wrong


def faults_of_logs(folder: Path, cluster: Cluster) -> list[str]:
    wrong = []
    for name in cluster.NAMES:
        lines = (folder / f"{name}.log").read_text().splitlines()
        text = [line for line in lines if not line.startswith(("{", "alphareel: "))]
        wrong += [f"{name}.log has {len(text)} lines that are not JSON: {text[0]}"] if text else []
    return wrong


def delivered(receiver: Receiver, job: str) -> bool:
    return any(name == job for name, _ in receiver.events)


def orphans(folder: Path, cluster: Cluster, jobs: dict[str, dict[str, Any]]) -> list[str]:
    """Files that no record needs, after one sweep of everything, as a worker does once a day."""
    settings = Settings(
        storage=StorageSettings(data_dir=folder / "sweep", url=cluster.servers.storage_url),
        database=DatabaseSettings(url=cluster.servers.database_url),
    )
    with open_installation(settings) as installation:
        records, clock = OrphanStore(installation.database), SystemClock()
        installation.blobs.sweep()
        OrphanSweep(records, installation.blobs, age=timedelta(seconds=1e-6), clock=clock).sweep()
        deletions = DeletionStore(installation.database, clock=clock)
        DeletionService(installation.jobs, deletions, installation.blobs).delete_pending()
        doomed = pending_deletions(installation.database)
        stored = list(installation.blobs.older(clock.now() + timedelta(days=1)))
    completed = {job for job, found in jobs.items() if found["status"] == "completed"}
    kept = [key.split("/") for key in stored if not any(key == name or key.startswith(name) for name in doomed)]
    extra = [
        "/".join(parts)
        for parts in kept
        if parts[0] != "uploads" and not (parts[0] in ("outputs", "mattes") and parts[1] in completed)
    ]
    counts = Counter((parts[0], parts[1]) for parts in kept if parts[0] != "uploads")
    twice = [f"{job} has {count} files in {kind}" for (kind, job), count in counts.items() if count > 1]
    return [f"orphan {key}" for key in extra] + twice


def pending_deletions(database: Any) -> list[str]:
    import sqlalchemy as sa  # noqa: PLC0415

    from alphareel.db.tables import pending_deletions as table  # noqa: PLC0415

    with database.read() as c:
        return list(c.execute(sa.select(table.c.blob)).scalars())


def main() -> None:
    parser = argparse.ArgumentParser(prog="./dev chaos")
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--cluster", action="store_true", help="PostgreSQL, Redis and a bucket, whose links fail")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=0, help="go on until so many jobs were accepted")
    parser.add_argument("--kills", type=int, default=0, help="go on until so many processes were killed")
    parser.add_argument("--rate", type=float, default=1.5, help="jobs submitted per second")
    parser.add_argument("--folder", type=Path, help="a new folder for logs and database, which stay there")
    options = parser.parse_args()
    with contextlib.ExitStack() as opened:
        if folder := options.folder:
            folder.mkdir(parents=True)
        else:
            temporary = tempfile.TemporaryDirectory(prefix="alphareel-chaos-", ignore_cleanup_errors=True)
            folder = Path(opened.enter_context(temporary))
        report = run(
            folder, seconds=options.seconds, database=options.database, seed=options.seed,
            jobs_per_second=options.rate, jobs=options.jobs, kills=options.kills, cluster=options.cluster,
        )  # fmt: skip
    print(json.dumps(report.__dict__, indent=2))
    sys.exit(1 if report.violations else 0)


if __name__ == "__main__":
    main()
