"""The whole service under load: jobs a minute, how soon a job shows progress, how quickly the API answers meanwhile.

    ./dev bench service [--jobs N] [--frames N]

Starts `alphareel serve` as it comes, with a data folder of its own, uploads one small green-screen clip, submits all
jobs at once and watches every one of them over HTTP until it ends.
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
_LOOK = 0.1  # seconds between two looks at the jobs
_PATIENCE = 600


class Latencies:
    """Lists jobs again and again, as a page that polls; ``seconds`` of every answer."""

    def __init__(self, base: str) -> None:
        self.seconds: list[float] = []
        self._stopped = threading.Event()
        self._client = httpx2.Client(base_url=base, timeout=60)
        self._thread = threading.Thread(target=self._ask, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._client.close()

    def _ask(self) -> None:
        while not self._stopped.wait(_LOOK):
            began = time.perf_counter()
            self._client.get("/v1/jobs", params={"limit": 1}, headers={"X-Api-Key": KEY}).raise_for_status()
            self.seconds.append(time.perf_counter() - began)


def submit(client: httpx2.Client, clip: Path, jobs: int) -> dict[str, float]:
    """{job: when it was submitted}."""
    with clip.open("rb") as file:
        url = client.post("/v1/uploads", files={"file": (clip.name, file, "video/mp4")}).raise_for_status()
    body = {"video_url": url.json()["video_url"], "engine": "chroma"}
    made = {}
    for _ in range(jobs):
        began = time.perf_counter()
        made[client.post("/v1/jobs", json=body).raise_for_status().json()["id"]] = began
    return made


def watch(client: httpx2.Client, submitted: dict[str, float]) -> tuple[list[float], list[float]]:
    """Seconds from the submission to the first progress, and to the end, of each job. Exits when one fails."""
    moved: dict[str, float] = {}
    ended: dict[str, float] = {}
    until = time.perf_counter() + _PATIENCE
    while len(ended) < len(submitted):
        if time.perf_counter() > until:
            sys.exit("the jobs did not end in time")
        for name in submitted.keys() - ended.keys():
            job: dict[str, Any] = client.get(f"/v1/jobs/{name}").raise_for_status().json()
            if job["status"] == "failed":
                sys.exit(f"a job failed: {job['error']}")
            if job["progress"] > 0:
                moved.setdefault(name, time.perf_counter() - submitted[name])
            if job["status"] == "completed":
                ended[name] = time.perf_counter() - submitted[name]
        time.sleep(_LOOK)
    return list(moved.values()), list(ended.values())


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
                moved, ended = watch(client, submitted)
            wall = time.perf_counter() - began
            running.process.terminate()  # in peace: its folder is cleared away at once
            running.wait()
    now = datetime.now(UTC)
    record = {
        "at": now.isoformat(timespec="seconds"),
        "machine": machine(),
        "jobs": arguments.jobs,
        "frames": arguments.frames,
        "jobs_per_minute": round(60 * arguments.jobs / wall, 1),
        "first_progress_s": {"soonest": round(min(moved), 2), "median": round(median(moved), 2)},
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
    print(f"kept in {path.name}")


if __name__ == "__main__":
    main()
