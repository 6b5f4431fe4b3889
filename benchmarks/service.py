"""The service under load: jobs per minute, time to first progress, and API latency meanwhile.

    ./dev bench service [--jobs N] [--frames N]

Starts `alphareel serve` with default settings and its own data folder, uploads one small green-screen clip, submits all
jobs at once and polls them over HTTP until they end.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Self

import httpx2

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess
from benchmarks.engine import RESULTS, machine

KEY = "a key of the benchmark"
_POLL_SECONDS = 0.1
_TIMEOUT_SECONDS = 600


class Latencies:
    """Polls the list of jobs, as a web page does, and records the latency of each response in ``seconds``."""

    def __init__(self, base: str) -> None:
        self.seconds: list[float] = []
        self._stopped = threading.Event()
        self._client = httpx2.Client(base_url=base, timeout=60)
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._client.close()

    def _poll(self) -> None:
        while not self._stopped.wait(_POLL_SECONDS):
            began = time.perf_counter()
            self._client.get("/v1/jobs", params={"limit": 1}, headers={"X-Api-Key": KEY}).raise_for_status()
            self.seconds.append(time.perf_counter() - began)


def submit(client: httpx2.Client, clip: Path, jobs: int) -> dict[str, float]:
    """Upload the clip and submit jobs. Returns their IDs and submission times."""
    with clip.open("rb") as file:
        url = client.post("/v1/uploads", files={"file": (clip.name, file, "video/mp4")}).raise_for_status()
    body = {"video_url": url.json()["video_url"], "engine": "chroma"}
    submitted = {}
    for _ in range(jobs):
        began = time.perf_counter()
        submitted[client.post("/v1/jobs", json=body).raise_for_status().json()["id"]] = began
    return submitted


def wait_for(client: httpx2.Client, submitted: dict[str, float]) -> tuple[list[float], list[float]]:
    """Seconds from submission to first progress, and to the end, of each job. Exits when one fails."""
    progressed: dict[str, float] = {}
    ended: dict[str, float] = {}
    deadline = time.perf_counter() + _TIMEOUT_SECONDS
    while len(ended) < len(submitted):
        if time.perf_counter() > deadline:
            sys.exit("the jobs did not end in time")
        for name in submitted.keys() - ended.keys():
            job: dict[str, Any] = client.get(f"/v1/jobs/{name}").raise_for_status().json()
            if job["status"] == "failed":
                sys.exit(f"a job failed: {job['error']}")
            if job["progress"] > 0:
                progressed.setdefault(name, time.perf_counter() - submitted[name])
            if job["status"] == "completed":
                ended[name] = time.perf_counter() - submitted[name]
        time.sleep(_POLL_SECONDS)
    return list(progressed.values()), list(ended.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--frames", type=int, default=50)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip = make_clip(folder / "clip.mp4", frames=arguments.frames, width=640, height=360, background="green").path
        with (
            ServiceProcess(folder / "data", API_KEY=KEY, WRITE_PER_MINUTE=0, READ_PER_MINUTE=0) as running,
            httpx2.Client(base_url=running.base, headers={"X-Api-Key": KEY}, timeout=60) as client,
        ):
            began = time.perf_counter()
            submitted = submit(client, clip, arguments.jobs)
            with Latencies(running.base) as api:
                progressed, ended = wait_for(client, submitted)
            wall = time.perf_counter() - began
            running.process.terminate()  # shut down cleanly before its folder is deleted
            running.wait()
    now = datetime.now(UTC)
    record = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "jobs": arguments.jobs,
        "frames": arguments.frames,
        "jobs_per_minute": round(60 * arguments.jobs / wall, 1),
        "first_progress_s": {"soonest": round(min(progressed), 2), "median": round(median(progressed), 2)},
        "end_s": {"soonest": round(min(ended), 2), "median": round(median(ended), 2)},
        "api_ms": {
            "median": round(1000 * median(api.seconds), 1),
            "p95": round(1000 * quantiles(api.seconds, n=20)[-1], 1),
            "answers": len(api.seconds),
        },
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"service-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))
    print(f"saved to {path.name}")


if __name__ == "__main__":
    main()
