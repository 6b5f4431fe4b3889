"""Floods of uploads against a live server: everybody else is served as if nothing happened."""

import asyncio
import itertools
import json
import os
import statistics
import struct
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for

from .hostile import Answer, ask, empty_frames, request, upload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]

KEY, ADMIN = "a key of the attacker", "a token for operators"
SLOWEST = float(os.environ.get("ALPHAREEL_TEST_SLOWEST_P99", "1.0"))  # seconds; 0.25 on a machine that is not shared
UPLOADS = 200


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    limits = {
        "WRITE_PER_MINUTE": 0,  # or the rate limit would keep most of the flood away
        "READ_PER_MINUTE": 0,
        "PROBE_QUEUE_PER_CALLER": 12,  # bounds how long a test takes on a busy machine
    }
    with ServiceProcess(
        tmp_path_factory.mktemp("service") / "data", API_KEY=KEY, ADMIN_TOKEN=ADMIN, WORKERS=0, **limits
    ) as running:
        yield running


@pytest.fixture
def port(service: ServiceProcess) -> int:
    return int(urlsplit(service.base).port or 0)


@pytest.fixture
def new_key(service: ServiceProcess) -> str:
    made = requests.post(
        f"{service.base}/v1/admin/keys", headers={"X-Admin-Token": ADMIN}, json={"client_id": "other"}, timeout=10
    )
    return str(made.json()["api_key"])


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", width=64, height=48, frames=5).path.read_bytes()


_numbers = itertools.count()


def made_unique(content: bytes) -> bytes:
    """The same file for a player; another one for the store."""
    number = next(_numbers)
    if content.startswith(b"RIFF"):
        return content + b"PAD " + struct.pack("<II", 4, number)
    return content + struct.pack(">I", 12) + b"free" + struct.pack(">I", number)


class Bystander:
    """Another client, who asks one thing after the other and notes how long each took."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        draft = json.dumps({"video_url": "https://example.com/a.mp4", "auto_start": False}).encode()
        self._asked = {
            "health": request("GET", "/health"),
            "readyz": request("GET", "/readyz"),
            "livez": request("GET", "/livez"),
            "GET": request("GET", "/v1/jobs", X_Api_Key=key),
            "POST": request("POST", "/v1/jobs", draft, X_Api_Key=key),
        }
        self.seconds: dict[str, list[float]] = {name: [] for name in self._asked}

    async def ask_once(self) -> None:
        for name, raw in self._asked.items():
            answer = await ask(self._port, raw)
            assert answer.status == 200, (name, answer)
            self.seconds[name].append(answer.seconds)

    async def ask_for(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await self.ask_once()

    async def ask_until_cancelled(self) -> None:
        while True:
            await self.ask_once()
            await asyncio.sleep(0.02)

    def told(self) -> dict[str, float]:
        return {name: statistics.quantiles(seconds, n=100)[98] for name, seconds in self.seconds.items()}


class Watch:
    """The most memory and the most processes that the service had."""

    def __init__(self, service: ServiceProcess) -> None:
        self._service = psutil.Process(service.process.pid)
        self.before = self._service.memory_info().rss
        self.memory = self.processes = 0

    async def watch(self) -> None:
        while True:
            self.memory = max(self.memory, self._service.memory_info().rss)
            self.processes = max(self.processes, len(self._service.children()))
            await asyncio.sleep(0.1)


def incoming(service: ServiceProcess) -> list[Path]:
    return list((service.data_dir / "incoming").glob("*"))


async def flood(port: int, bystander: Bystander, watch: Watch, raws: list[bytes]) -> list[Answer]:
    beside = [asyncio.create_task(bystander.ask_until_cancelled()), asyncio.create_task(watch.watch())]
    try:
        return await asyncio.wait_for(asyncio.gather(*(ask(port, raw) for raw in raws)), 55)
    finally:
        for task in beside:
            task.cancel()
        found = await asyncio.gather(*beside, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in found), found


@pytest.mark.parametrize("kind", ["small good files", "animations of empty frames"])
@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])
def test_a_flood_of_uploads_slows_nobody_else_down(
    kind: str,
    keyed: bool,  # noqa: FBT001 - a parameter
    service: ServiceProcess,
    port: int,
    new_key: str,
    good_file: bytes,
) -> None:
    content = good_file if kind == "small good files" else empty_frames(4800)
    path, headers = ("/v1/uploads", {"X_Api_Key": KEY}) if keyed else ("/api/upload", {})
    raws = [upload(path, made_unique(content), **headers) for _ in range(UPLOADS)]
    alone, bystander, watch = Bystander(port, new_key), Bystander(port, new_key), Watch(service)
    asyncio.run(alone.ask_for(2.0))

    began = time.monotonic()
    answers = asyncio.run(flood(port, bystander, watch, raws))
    took = time.monotonic() - began

    before, p99, counted = alone.told(), bystander.told(), Counter(answer.status for answer in answers)
    grown = (watch.memory - watch.before) / 1e6
    shown = " ".join(f"{name} {seconds * 1000:.0f}" for name, seconds in p99.items())
    print(
        f"\n{kind}, {'with' if keyed else 'without'} a key: {dict(counted)} in {took:.1f} s; p99 in ms: {shown}"
        f" (alone: {max(before.values()) * 1000:.0f})"
    )
    print(f"memory +{grown:.0f} MB, {watch.processes} processes at most")
    assert max(p99.values()) < SLOWEST + 4 * max(before.values()), f"alone: {before}"
    assert grown < 100
    assert watch.processes <= 8
    assert set(counted) <= {200 if content is good_file else 400, 429, 503}
    assert counted[429] + counted[503] < UPLOADS, "some are served"
    assert not incoming(service)
    refused = [answer for answer in answers if answer.status in (429, 503)]
    assert {answer.json["error"]["code"] for answer in refused} <= {"too_many_uploads", "queue_full"}
    assert all(answer.retry_after >= 1 for answer in refused)


def test_whoever_is_refused_and_comes_back_when_told_is_served(port: int, new_key: str, good_file: bytes) -> None:
    async def attempt() -> tuple[Answer, Answer | None]:
        raw = upload("/v1/uploads", made_unique(good_file), X_Api_Key=new_key)
        first = await ask(port, raw)
        if first.status == 200 or first.retry_after > 25:
            return first, None
        await asyncio.sleep(first.retry_after)
        return first, await ask(port, raw)

    async def everybody() -> list[tuple[Answer, Answer | None]]:
        return await asyncio.gather(*(attempt() for _ in range(60)))

    told = asyncio.run(everybody())
    again = [second.status for _, second in told if second is not None]
    assert len(again) >= 5
    assert set(again) == {200}


def test_slow_files_of_strangers_are_refused_in_time_and_leave_a_slot_to_keys(
    service: ServiceProcess, port: int, good_file: bytes
) -> None:
    slow = empty_frames(1_500_000, payload=b"x", clears=False)  # reading its index alone takes longer than a probe may
    ended: list[str] = []

    async def send(name: str, raw: bytes) -> Answer:
        answer = await ask(port, raw)
        ended.append(name)
        return answer

    async def everybody() -> tuple[list[Answer], Answer]:
        strangers = [send("stranger", upload("/api/upload", made_unique(slow))) for _ in range(4)]
        others = asyncio.gather(*strangers)
        await asyncio.sleep(2)
        good = await send("key", upload("/v1/uploads", made_unique(good_file), X_Api_Key=KEY))
        return await others, good

    bad, good = asyncio.run(everybody())
    assert good.status == 200, good
    assert ended.index("key") < 3
    assert {(answer.status, answer.json["error"]["code"]) for answer in bad} <= {
        (400, "invalid_video"),
        (400, "duration_too_long"),  # where the machine is quick
        (503, "unavailable"),  # where the machine gave the probe too little time to blame the file
    }
    assert max(answer.seconds for answer in bad) < 40


def test_a_client_that_leaves_while_its_file_waits_gives_its_place_back(
    service: ServiceProcess, port: int, good_file: bytes
) -> None:
    slow = empty_frames(1_500_000, payload=b"x", clears=False)

    async def leave() -> None:
        connections = []
        for number in range(12):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(upload("/api/upload", made_unique(slow if number < 2 else good_file)))
            await writer.drain()
            connections.append(writer)
        async with asyncio.timeout(30):
            while len(incoming(service)) < 12:  # noqa: ASYNC110 - another process's files
                await asyncio.sleep(0.05)
        for writer in connections:
            writer.transport.abort()

    asyncio.run(leave())
    wait_for(lambda: not incoming(service), seconds=3, pause=0.05)
    told = requests.get(f"{service.base}/metrics", headers={"X-Admin-Token": ADMIN}, timeout=10).text
    assert 'status="499"' in told
