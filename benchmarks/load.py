"""Load: how a service grows with its worker processes, and what one key's flood of jobs does to another key.

    ./dev bench load [--database sqlite|postgresql] [--workers 1 2 3] [--jobs 48]

For each number of workers it starts `alphareel api` and so many `alphareel worker --slots 1` on a new database, all on
this machine, and submits clips of 25 frames (640x360). Prints:

- jobs a minute, from the first POST to the last `completed`; CPU seconds of all processes a job; transactions of the
  database a job (PostgreSQL counts them; with those of pollers and heartbeats);
- waits of a polite key, which sends one job at a time, alone and while another key has a flood of jobs: from POST to
  the start, median and longest.

CPU of the machine is the limit: more workers than cores are not faster.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import httpx2
import psutil
from rich.console import Console
from rich.table import Table

from alphareel.testing.clips import make_clip
from alphareel.testing.servers import PostgresServer, free_port, postgres_server
from alphareel.testing.service import wait_for
from benchmarks.engine import RESULTS, machine

KEY, TOKEN = "a key of the load", "a token of the load"
POLITE_JOBS = 8
_WARM_UP = 4
_PAUSE = 0.05


@dataclass(frozen=True)
class Figures:
    """Of one number of workers. Waits are seconds (median, longest)."""

    workers: int
    jobs_per_minute: float
    cpu_s_per_job: float
    transactions_per_job: float | None
    wait_alone: tuple[float, float]
    wait_beside_flood: tuple[float, float]
    flood: int


@dataclass
class Installation:
    """One API process and its workers."""

    folder: Path
    database_url: str
    port: int = field(default_factory=free_port)
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self, *command: str) -> None:
        settings = {
            "DATA_DIR": str(self.folder / f"data-{len(self.processes)}"),
            "DATABASE_URL": self.database_url,
            "STORAGE_URL": (self.folder / "files").as_uri(),
            "PORT": str(self.port),
            "API_KEY": KEY,
            "ADMIN_TOKEN": TOKEN,
            "WRITE_PER_MINUTE": "0",
            "READ_PER_MINUTE": "0",
            "MIN_FREE_BYTES": "0",
            "JOB_THREADS": "1",
        }
        with (self.folder / "log").open("ab") as log:
            self.processes.append(
                subprocess.Popen(
                    [str(Path(sys.executable).with_name("alphareel")), *command],
                    env=os.environ | {f"ALPHAREEL_{name}": value for name, value in settings.items()},
                    stdout=log,
                    stderr=log,
                )
            )

    def client(self, key: str) -> httpx2.Client:
        return httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", headers={"X-Api-Key": key}, timeout=60)

    def cpu_seconds(self) -> float:
        """User and system time of all processes, with those of their children that have ended."""
        total = 0.0
        for process in self.processes:
            for member in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += sum(member.cpu_times()[:4])
        return total

    def stop(self) -> None:
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(60)
            process.kill()
            process.wait()


@contextlib.contextmanager
def installation(folder: Path, database_url: str, workers: int) -> Iterator[Installation]:
    (folder / "files").mkdir(parents=True)
    running = Installation(folder, database_url)
    try:
        running.start("api")  # it makes the tables
        with running.client(KEY) as client:
            wait_for(lambda: _status(client, "/livez") == 200)
        for _ in range(workers):
            running.start("worker", "--slots", "1")
        with running.client(KEY) as client:
            wait_for(lambda: _status(client, "/readyz") == 200)
        yield running
    finally:
        running.stop()


def measure(folder: Path, workers: int, count: int, server: PostgresServer | None) -> Figures:
    database = f"load{workers}"
    database_url = f"sqlite:///{folder}/load.sqlite" if server is None else _new_database(server, database)
    clip = make_clip(folder / "clip.mp4", frames=25, width=640, height=360, background="green").path
    with (
        installation(folder / "service", database_url, workers) as running,
        running.client(KEY) as flooding,
        running.client(_new_key(running)) as polite,
    ):
        sources = [_upload(client, clip) for client in (flooding, polite)]
        _finish(flooding, [_submit(flooding, sources[0]) for _ in range(_WARM_UP * workers)])
        alone = [_wait(polite, sources[1]) for _ in range(POLITE_JOBS)]
        cpu, transactions, began = running.cpu_seconds(), _transactions(server, database), time.monotonic()
        _finish(flooding, [_submit(flooding, sources[0]) for _ in range(count)])
        seconds = time.monotonic() - began
        cpu, transactions = running.cpu_seconds() - cpu, _transactions(server, database) - transactions
        flood = [_submit(flooding, sources[0]) for _ in range(4 * count)]
        beside = [_wait(polite, sources[1]) for _ in range(POLITE_JOBS)]
        left = sum(_job(flooding, name)["status"] != "completed" for name in flood[-count:])
        if left < count:
            sys.exit("the flood was over before the polite key was done; use more --jobs")
        for name in flood:
            flooding.post(f"/v1/jobs/{name}/cancel")
    return Figures(
        workers,
        round(60 * count / seconds, 1),
        round(cpu / count, 3),
        round(transactions / count, 1) if server else None,
        (round(median(alone), 2), round(max(alone), 2)),
        (round(median(beside), 2), round(max(beside), 2)),
        len(flood),
    )


def _status(client: httpx2.Client, path: str) -> int:
    try:
        return client.get(path).status_code
    except httpx2.HTTPError:
        return 0


def _new_key(running: Installation) -> str:
    with running.client(KEY) as client:
        made = client.post("/v1/admin/keys", json={"client_id": "polite"}, headers={"X-Admin-Token": TOKEN})
        return str(made.raise_for_status().json()["api_key"])


def _upload(client: httpx2.Client, clip: Path) -> str:
    with clip.open("rb") as file:
        answer = client.post("/v1/uploads", files={"file": (clip.name, file, "video/mp4")}).raise_for_status()
    return str(answer.json()["video_url"])


def _submit(client: httpx2.Client, video_url: str) -> str:
    body = {"video_url": video_url, "engine": "chroma", "keep_matte": False}
    return str(client.post("/v1/jobs", json=body).raise_for_status().json()["id"])


def _job(client: httpx2.Client, name: str) -> dict[str, object]:
    return dict(client.get(f"/v1/jobs/{name}").raise_for_status().json())


def _finish(client: httpx2.Client, names: list[str]) -> None:
    for name in names:
        while (status := _job(client, name)["status"]) != "completed":
            if status == "failed":
                sys.exit(f"a job failed: {_job(client, name)['error']}")
            time.sleep(_PAUSE)


def _wait(client: httpx2.Client, video_url: str) -> float:
    """Seconds until a worker begins a job; it is then finished."""
    began, name = time.monotonic(), _submit(client, video_url)
    while _job(client, name)["queue_position"] is not None:
        time.sleep(_PAUSE)
    seconds = time.monotonic() - began
    _finish(client, [name])
    return seconds


def _new_database(server: PostgresServer, name: str) -> str:
    import psycopg  # noqa: PLC0415  # an extra

    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.url(name)


def _transactions(server: PostgresServer | None, database: str) -> int:
    if server is None:
        return 0
    import psycopg  # noqa: PLC0415  # an extra

    with psycopg.connect(server.url("postgres"), autocommit=True) as connection:
        row = connection.execute(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = %s", (database,)
        ).fetchone()
    return int(row[0]) if row else 0


def table(rows: list[Figures]) -> Table:
    shown = Table(
        "workers",
        "jobs a minute",
        "CPU s a job",
        "transactions a job",
        "wait alone, s",
        "wait beside a flood, s",
        "flood",
    )
    for row in rows:
        transactions = "-" if row.transactions_per_job is None else f"{row.transactions_per_job:g}"
        waits = ("{:g} ({:g})".format(*pair) for pair in (row.wait_alone, row.wait_beside_flood))
        shown.add_row(
            str(row.workers), f"{row.jobs_per_minute:g}", f"{row.cpu_s_per_job:g}", transactions, *waits, str(row.flood)
        )
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=48)
    options = parser.parse_args()
    rows = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="load-")))
        server = stack.enter_context(postgres_server(folder / "server")) if options.database == "postgresql" else None
        for workers in options.workers:
            part = folder / str(workers)
            part.mkdir()
            rows.append(measure(part, workers, options.jobs, server))
    Console(width=130).print(table(rows))
    now, here = datetime.now(UTC), machine()
    record = {
        "at": now.isoformat(timespec="seconds"),
        "machine": here,
        "database": options.database,
        "rows": [asdict(row) for row in rows],
    }
    path = RESULTS / f"load-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(f"saved to {path.name}; load of the machine {here['load']}")


if __name__ == "__main__":
    main()
