"""The service as its clients feel it: how soon jobs begin and end, how fast the API answers, how fast it takes a file.

    ./dev bench service [--rounds N] [--only ROW ...]

Each row is measured on `alphareel serve` with default settings and a data folder of its own. Waiting times are medians
of what a client sees that polls every 50 ms. What the machine itself needs is measured in the same run, in turns: the
pipeline alone in a warm process for the rows of jobs, `cp` and `sync` for the row of uploads. "one core" pins the API
process to one core, while the clients use another. Modules are compiled before anything is measured, as those of an
installation are. Takes less than four minutes.
"""

import argparse
import contextlib
import json
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil

from alphareel.domain.options import Output
from alphareel.media.format import parse_options
from alphareel.pipeline.run import run
from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess
from benchmarks.engine import RESULTS, machine

KEY = "a key of the benchmark"
MIB = 1024 * 1024
_POLL_SECONDS = 0.05
_TIMEOUT_SECONDS = 120
_UPLOAD_BYTES = 480_000_000


@dataclass(frozen=True)
class Row:
    """One line of the table. ``must``, ``goal``: bounds, above or below by the sign in front."""

    name: str
    must: str
    goal: str


ROWS = {
    "overhead": Row("job wall - engine wall, warm, s", "<=.4", "<=.15"),
    "first_progress": Row("POST to first progress, warm, s", "<=.3", "<=.1"),
    "fresh": Row("fresh start to first job completed, s", "<=5", "<=3"),
    "jobs_per_minute": Row("jobs a minute, 25 frames, 2 slots", ">=120", ">=240"),
    "get_per_second": Row("GET /v1/jobs/{id}: requests a second, one core", ">=600", ">=1200"),
    "get_ratio": Row("the same with two request processes, on all cores / with one", ">=1.2", ">=1.6"),
    "get_p99": Row("GET /v1/jobs/{id}: p99 at half that load, ms", "<=15", "<=6"),
    "upload": Row("upload of 480 MB / cp + sync", ">=.6", ">=.8"),
    "post": Row("POST /v1/jobs: committed, p50, ms", "<=10", "<=6"),
}
FIGURES = dict[str, float]


@contextmanager
def service(**settings: object) -> Iterator[tuple[ServiceProcess, httpx2.Client]]:
    """A running service and a client of it, without rate limits."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        process = ServiceProcess(Path(name) / "data", API_KEY=KEY, WRITE_PER_MINUTE=0, READ_PER_MINUTE=0, **settings)
        with process as running, client_of(running) as client:
            yield running, client
            running.process.terminate()  # a clean stop, before its folder is deleted
            running.wait()


def client_of(running: ServiceProcess) -> httpx2.Client:
    return httpx2.Client(base_url=running.base, headers={"X-Api-Key": KEY}, timeout=60)


def upload(client: httpx2.Client, clip: Path) -> str:
    with clip.open("rb") as file:
        answer = client.post("/v1/uploads", files={"file": (clip.name, file, "video/mp4")}).raise_for_status()
    return str(answer.json()["video_url"])


def submit(client: httpx2.Client, video_url: str, engine: str = "chroma", **fields: object) -> str:
    body = {"video_url": video_url, "engine": engine, **fields}
    return str(client.post("/v1/jobs", json=body).raise_for_status().json()["id"])


def watch(client: httpx2.Client, job_id: str, began: float) -> tuple[float, float]:
    """Seconds from ``began`` to the first progress and to the end, as seen by a client that polls."""
    progressed = None
    while time.perf_counter() - began < _TIMEOUT_SECONDS:
        job: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").raise_for_status().json()
        now = time.perf_counter() - began
        if job["status"] == "failed":
            sys.exit(f"a job failed: {job['error']}")
        if progressed is None and job["progress"] > 0:
            progressed = now
        if job["status"] == "completed":
            return progressed or now, now
        time.sleep(_POLL_SECONDS)
    sys.exit("a job did not end in time")


def wait_until_ready(client: httpx2.Client) -> None:
    deadline = time.perf_counter() + _TIMEOUT_SECONDS
    while time.perf_counter() < deadline:
        with contextlib.suppress(httpx2.HTTPError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(_POLL_SECONDS)
    sys.exit("the service is not ready in time")


def engine_wall(clip: Path, engine: str, folder: Path) -> float:
    """Seconds of the pipeline alone, in this process, for the result that the job makes."""
    began = time.perf_counter()
    output = Output(folder / "alone.webm", parse_options({"engine": engine}))
    for _ in run(clip, [output], overwrite=True):
        pass
    return time.perf_counter() - began


def memory(running: ServiceProcess) -> float:
    """MiB of the whole service; pages that processes share count once."""
    family = [psutil.Process(running.process.pid)]
    family += family[0].children(recursive=True)
    total = 0
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_full_info().pss
    return total / MIB


def cpu_seconds(running: ServiceProcess) -> float:
    """Processor seconds that the service and its processes have used, those that ended too."""
    family = [psutil.Process(running.process.pid)]
    family += family[0].children(recursive=True)
    total = 0.0
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


def jobs(clip: Path, folder: Path, rounds: int) -> FIGURES:
    """Waiting times of single jobs on a warm service, and how many it makes in a minute."""
    figures: FIGURES = {}
    with service(WORKERS=2) as (running, client):
        wait_until_ready(client)
        url = upload(client, clip)
        figures["memory_idle_mib"] = round(memory(running))
        for engine in ("chroma", "builtin"):
            engine_wall(clip, engine, folder)
            alone, walls, firsts = [], [], []
            for number in range(rounds + 1):
                alone.append(engine_wall(clip, engine, folder))
                began = time.perf_counter()
                first, wall = watch(client, submit(client, url, engine), began)
                if number:  # the first one of an engine warms it
                    walls.append(wall)
                    firsts.append(first)
                time.sleep(0.3)
            suffix = "" if engine == "chroma" else f"_{engine}"
            figures[f"engine_wall{suffix}"] = round(median(alone[1:]), 3)
            figures[f"job_wall{suffix}"] = round(median(walls), 3)
            figures[f"overhead{suffix}"] = round(median(walls) - median(alone[1:]), 3)
            figures[f"first_progress{suffix}"] = round(median(firsts), 3)
        figures |= throughput(running, client, url)
    return figures


def throughput(running: ServiceProcess, client: httpx2.Client, url: str, count: int = 24) -> FIGURES:
    before, began = cpu_seconds(running), time.perf_counter()
    waiting = {submit(client, url) for _ in range(count)}
    busy = 0.0
    while waiting:
        time.sleep(_POLL_SECONDS)
        busy = max(busy, memory(running))
        for name in list(waiting):
            job = client.get(f"/v1/jobs/{name}").raise_for_status().json()
            if job["status"] == "failed":
                sys.exit(f"a job failed: {job['error']}")
            if job["status"] != "completed":
                break  # jobs of a key end about in their order
            waiting.remove(name)
        if time.perf_counter() - began > _TIMEOUT_SECONDS:
            count -= len(waiting)
            break
    wall = time.perf_counter() - began
    return {
        "jobs_per_minute": round(60 * count / wall, 1),
        "cpu_s_per_job": round((cpu_seconds(running) - before) / max(1, count), 3),
        "memory_busy_mib": round(busy),
    }


def fresh(clip: Path, rounds: int) -> FIGURES:
    """From the start of the command on an empty folder to the first completed job, upload included."""
    totals, ready = [], []
    for number in range(rounds + 1):
        began = time.perf_counter()
        with service() as (_running, client):
            job = submit(client, upload(client, clip))
            _, wall = watch(client, job, began)
            wait_until_ready(client)
            if number:  # the first one may compile modules, once for all
                totals.append(wall)
                ready.append(time.perf_counter() - began)
    return {"fresh": round(median(totals), 2), "fresh_ready": round(median(ready), 2)}


class Load:
    """Clients that send the same kind of request over kept connections, from this process."""

    def __init__(self, base: str, paths: list[str], connections: int) -> None:
        parts = urlsplit(base)
        self._address = (str(parts.hostname), int(parts.port or 80))
        self._requests = [
            f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nX-Api-Key: {KEY}\r\n\r\n".encode() for path in paths
        ]
        self._connections = connections

    def measure(self, seconds: float, rate: float | None = None) -> list[float]:
        """Latencies. ``rate``: requests a second, sent on time whatever the answers; None for as fast as they come.

        With a rate the latency counts from the time at which the request was due.
        """
        idle = [socket.create_connection(self._address) for _ in range(self._connections)]
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as opened:
            for sock in idle:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                opened.enter_context(closing(sock))
                selector.register(sock, selectors.EVENT_READ)
            return self._run(selector, idle, seconds, rate)

    def _run(
        self, selector: selectors.BaseSelector, idle: list[socket.socket], seconds: float, rate: float | None
    ) -> list[float]:
        latencies: list[float] = []
        due_of: dict[socket.socket, float] = {}
        began = time.perf_counter()
        sent = 0
        while (now := time.perf_counter()) < began + seconds or due_of:
            while idle and now < began + seconds:
                due = began + sent / rate if rate else now
                if due > now:
                    break
                sock = idle.pop()
                sock.sendall(self._requests[sent % len(self._requests)])
                due_of[sock] = due
                sent += 1
            pause = max(0.0, began + sent / rate - now) if rate and idle else 0.05
            for key, _ in selector.select(min(pause, 0.05)):
                sock = key.fileobj  # type: ignore[assignment]
                answer = sock.recv(65536)
                head, _, body = answer.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                while len(body) < length:
                    body += sock.recv(65536)
                if not answer.startswith(b"HTTP/1.1 200"):
                    sys.exit(f"an answer is not 200: {answer[:300]!r}")
                latencies.append(time.perf_counter() - due_of.pop(sock))
                idle.append(sock)
        return latencies


def requests(clip: Path, seconds: float = 6.0) -> FIGURES:
    """How many GETs a second one core answers, and how long they and POSTs take."""
    with service(WORKERS=0) as (running, client):
        url = upload(client, clip)
        posts, ids = [], []
        for number in range(160):
            began = time.perf_counter()
            ids.append(submit(client, url, auto_start=True))
            if number >= 10:
                posts.append(1000 * (time.perf_counter() - began))
        with on_cores(running):
            load = Load(running.base, [f"/v1/jobs/{name}" for name in ids[:50]], 8)
            load.measure(1.0)
            before = psutil.Process(running.process.pid).cpu_times()
            most = load.measure(seconds)
            after = psutil.Process(running.process.pid).cpu_times()
            spent = (after.user + after.system - before.user - before.system) / len(most)
            late = sorted(load.measure(seconds, rate=len(most) / seconds / 2))
    return {
        "get_per_second": round(len(most) / seconds, 1),
        "get_p99": round(1000 * late[int(0.99 * len(late))], 1),
        "get_p50": round(1000 * median(late), 1),
        "get_cpu_ms": round(1000 * spent, 2),
        "post": round(median(posts), 1),
    }


def request_processes(clip: Path, seconds: float = 5.0) -> FIGURES:
    """GETs a second with one and with two request processes, where the kernel puts them and their client."""
    figures: FIGURES = {}
    for count in (1, 2):
        with service(WORKERS=0, API_PROCESSES=count) as (running, client):
            url = upload(client, clip)
            load = Load(running.base, [f"/v1/jobs/{submit(client, url)}" for _ in range(50)], 16)
            load.measure(1.0)
            figures[f"get_per_second_{count}"] = round(len(load.measure(seconds)) / seconds, 1)
    return {**figures, "get_ratio": round(figures["get_per_second_2"] / figures["get_per_second_1"], 2)}


@contextmanager
def on_cores(running: ServiceProcess) -> Iterator[None]:
    """The service's first process on one core, this process on another, if there are two."""
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if len(before) < 2:
        yield
        return
    api, own = sorted(before)[:2]
    for task in Path(f"/proc/{running.process.pid}/task").iterdir():
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(int(task.name), {api})
    os.sched_setaffinity(0, {own})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def uploads(clip: Path, folder: Path, rounds: int) -> FIGURES:
    """The time of an upload over loopback beside that of `cp` and `sync` of the same file, in turns."""
    big = folder / "big.mp4"
    size = _UPLOAD_BYTES - clip.stat().st_size
    shutil.copy(clip, big)
    with big.open("ab") as file:  # a box that players skip
        file.write(size.to_bytes(4, "big") + b"free")
        written = 8
        while written < size:
            written += file.write(os.urandom(min(8 * MIB, size - written)))
    ratios, rates = [], []
    with service(WORKERS=0) as (running, client):
        for number in range(rounds):
            with big.open("r+b") as file:  # another file each time: one that is stored already is not stored again
                file.seek(-8, os.SEEK_END)
                file.write(os.urandom(8))
            copied = timed(lambda: copy(big, folder / "copy"))
            began = time.perf_counter()
            upload_id = send(running.base, big)
            sent = time.perf_counter() - began
            # As `cp` replaces its copy: on a virtual machine, memory that was never used costs more than the copying.
            client.delete(f"/v1/uploads/{upload_id}").raise_for_status()
            if number or rounds == 1:
                ratios.append(copied / sent)
                rates.append(_UPLOAD_BYTES / sent / 1e6)
    return {"upload": round(median(ratios), 2), "upload_mb_per_s": round(median(rates))}


def timed(action: Callable[[], object]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def copy(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    subprocess.run(["cp", source, target], check=True)
    subprocess.run(["sync", target], check=True)


def send(base: str, path: Path) -> str:
    """The file as a form, by the kernel's sendfile, so that this process costs the measurement little. Its ID."""
    parts = urlsplit(base)
    edge = "the-boundary-of-the-form"
    before = (
        f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="big.mp4"\r\n'
        "Content-Type: video/mp4\r\n\r\n"
    ).encode()
    behind = f"\r\n--{edge}--\r\n".encode()
    head = (
        f"POST /v1/uploads HTTP/1.1\r\nHost: {parts.netloc}\r\nX-Api-Key: {KEY}\r\nConnection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={edge}\r\n"
        f"Content-Length: {len(before) + path.stat().st_size + len(behind)}\r\n\r\n"
    ).encode()
    with socket.create_connection((str(parts.hostname), int(parts.port or 80))) as sock, path.open("rb") as file:
        sock.sendall(head + before)
        sock.sendfile(file)
        sock.sendall(behind)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    if not answer.startswith(b"HTTP/1.1 200"):
        sys.exit(f"the upload failed: {answer[:500]!r}")
    return str(json.loads(answer.partition(b"\r\n\r\n")[2])["video_id"])


def is_met(value: float, bound: str) -> bool:
    limit = float(bound[2:])
    return value <= limit if bound.startswith("<") else value >= limit


def table(figures: FIGURES) -> str:
    lines = ["| | measured | must | goal | |", "| --- | --- | --- | --- | --- |"]
    for name, row in ROWS.items():
        if name in figures:
            value = figures[name]
            verdict = "goal" if is_met(value, row.goal) else "must" if is_met(value, row.must) else "MISSED"
            lines.append(f"| {row.name} | {value:g} | {row.must} | {row.goal} | {verdict} |")
    rest = ", ".join(f"{name} {value:g}" for name, value in figures.items() if name not in ROWS)
    return "\n".join((*lines, "", rest))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="*", choices=("jobs", "fresh", "requests", "processes", "uploads"))
    arguments = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # else each process compiles every module that it imports
    figures: FIGURES = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        clip = make_clip(folder / "clip.mp4", frames=25, width=640, height=360, background="green").path
        measured: dict[str, Callable[[], FIGURES]] = {
            "jobs": lambda: jobs(clip, folder, arguments.rounds),
            "fresh": lambda: fresh(clip, max(1, arguments.rounds // 2)),
            "requests": lambda: requests(clip),
            "processes": lambda: request_processes(clip),
            "uploads": lambda: uploads(clip, folder, max(2, arguments.rounds - 1)),
        }
        for part, measure in measured.items():
            if not arguments.only or part in arguments.only:
                figures |= measure()
    now = datetime.now(UTC)
    here = machine()
    record = {"at": now.isoformat(timespec="seconds"), "machine": here, **figures}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"service-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(table(figures))
    print(f"saved to {path.name}; load of the machine {here['load']}")


if __name__ == "__main__":
    main()
