"""Floods of uploads against a live server: other clients are served as usual."""

import asyncio
import itertools
import json
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

from .hostile import Response, ask, empty_frames, request, upload

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY, ADMIN = "a key of the attacker", "a token for operators"
REFUSED = (429, 503)
UPLOADS = 200
QUEUE = 12  # uploads of a caller that wait at a time


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    limits = {
        "WRITE_PER_MINUTE": 0,  # otherwise the rate limit would stop most of the flood
        "READ_PER_MINUTE": 0,
        "PROBE_SECONDS": 5,
        "PROBE_QUEUE_PER_CALLER": QUEUE,  # bounds how long a test takes on a busy machine
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
    created = requests.post(
        f"{service.base}/v1/admin/keys", headers={"X-Admin-Token": ADMIN}, json={"client_id": "other"}, timeout=60
    )
    return str(created.json()["api_key"])


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", width=64, height=48, frames=5).path.read_bytes()


_numbers = itertools.count()


def make_unique(content: bytes) -> bytes:
    """The same video with a different hash, so that the store does not deduplicate it."""
    number = next(_numbers)
    if content.startswith(b"RIFF"):
        return content + b"PAD " + struct.pack("<II", 4, number)
    return content + struct.pack(">I", 12) + b"free" + struct.pack(">I", number)


class Bystander:
    """Another client: sends requests one after the other, and counts the uploads that were probed during each.

    Requests that take turns with the uploads would see at least one end each, however fast the machine is.
    """

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self.probed = 0
        self.waited: dict[str, list[int]] = {}
        self.seconds: dict[str, list[float]] = {}
        draft = json.dumps({"video_url": "https://example.com/a.mp4", "auto_start": False}).encode()
        self._requests = {
            "health": request("GET", "/health"),
            "readyz": request("GET", "/readyz"),
            "livez": request("GET", "/livez"),
            "GET": request("GET", "/v1/jobs", X_Api_Key=key),
            "POST": request("POST", "/v1/jobs", draft, X_Api_Key=key),
        }

    async def ask_once(self) -> None:
        for name, raw in self._requests.items():
            before, began = self.probed, time.monotonic()
            response = await ask(self._port, raw)
            assert response.status == 200, (name, response)
            self.waited.setdefault(name, []).append(self.probed - before)
            self.seconds.setdefault(name, []).append(time.monotonic() - began)

    async def ask_until_cancelled(self) -> None:
        while True:
            await self.ask_once()
            await asyncio.sleep(0.02)


class ResourceMonitor:
    """Measures the peak memory and the peak number of processes of the service."""

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


async def flood(port: int, bystander: Bystander, watch: ResourceMonitor, raws: list[bytes]) -> list[Response]:
    async def send(raw: bytes) -> Response:
        response = await ask(port, raw)
        bystander.probed += response.status not in REFUSED
        return response

    background = [asyncio.create_task(bystander.ask_until_cancelled()), asyncio.create_task(watch.watch())]
    try:
        return await asyncio.gather(*map(send, raws))
    finally:
        for task in background:
            task.cancel()
        results = await asyncio.gather(*background, return_exceptions=True)
        assert all(isinstance(each, asyncio.CancelledError) for each in results), results


@pytest.mark.parametrize("kind", ["small good files", "animations of empty frames"])
@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "with a key"])
def test_a_flood_of_uploads_does_not_slow_down_other_clients(
    kind: str,
    keyed: bool,  # noqa: FBT001 - a parameter
    service: ServiceProcess,
    port: int,
    new_key: str,
    good_file: bytes,
) -> None:
    content = good_file if kind == "small good files" else empty_frames(4800)
    path, headers = ("/v1/uploads", {"X_Api_Key": KEY}) if keyed else ("/api/upload", {})
    raws = [upload(path, make_unique(content), **headers) for _ in range(UPLOADS)]
    bystander, watch = Bystander(port, new_key), ResourceMonitor(service)
    responses = asyncio.run(flood(port, bystander, watch, raws))

    by_status = Counter(response.status for response in responses)
    waited = [*itertools.chain.from_iterable(bystander.waited.values())]
    growth = (watch.memory - watch.before) / 1e6
    shown = " ".join(f"{name} {max(seconds) * 1000:.0f}" for name, seconds in bystander.seconds.items())
    print(f"\n{kind}, {'with' if keyed else 'without'} a key: {dict(by_status)}; slowest answers in ms: {shown}")
    print(f"memory +{growth:.0f} MB, {watch.processes} processes at most; {bystander.probed} probed: {waited}")
    assert waited.count(0) > len(waited) / 3, "it does not take turns with the uploads"
    assert statistics.median(waited) <= 1, "most of its requests wait for none of them"
    assert growth < 100
    assert watch.processes <= 8
    assert set(by_status) <= {200 if content is good_file else 400, 429, 503}
    assert sum(by_status[status] for status in REFUSED) < UPLOADS, "some are served"
    assert not incoming(service)
    refused = [response for response in responses if response.status in REFUSED]
    assert {response.json["error"]["code"] for response in refused} <= {"too_many_uploads", "queue_full"}
    assert all(response.retry_after >= 1 for response in refused)


def test_a_refused_client_that_retries_as_told_is_served(port: int, new_key: str, good_file: bytes) -> None:
    async def attempt() -> list[int]:
        raw = upload("/v1/uploads", make_unique(good_file), X_Api_Key=new_key)
        statuses: list[int] = []
        while len(statuses) < 8:
            response = await ask(port, raw)
            statuses.append(response.status)
            if response.status == 200:
                break
            await asyncio.sleep(response.retry_after)
        return statuses

    async def everybody() -> list[list[int]]:
        return await asyncio.gather(*(attempt() for _ in range(40)))

    told = asyncio.run(everybody())
    print(f"\n{Counter(len(statuses) for statuses in told)} by tries")
    assert sum(len(statuses) > 1 for statuses in told) >= 1
    assert {statuses[-1] for statuses in told} == {200}


def test_slow_files_of_anonymous_clients_are_refused_in_time_and_leave_a_slot_for_keys(
    service: ServiceProcess, port: int, good_file: bytes
) -> None:
    slow = empty_frames(1_500_000, payload=b"x", clears=False)  # reading its index alone takes longer than a probe may
    ended: list[str] = []

    async def send(name: str, raw: bytes) -> Response:
        response = await ask(port, raw)
        ended.append(name)
        return response

    async def everybody() -> tuple[list[Response], Response]:
        strangers = [send("stranger", upload("/api/upload", make_unique(slow))) for _ in range(4)]
        others = asyncio.gather(*strangers)
        while len(incoming(service)) < len(strangers) - len(ended):  # noqa: ASYNC110 - another process's files
            await asyncio.sleep(0.05)
        good = await send("key", upload("/v1/uploads", make_unique(good_file), X_Api_Key=KEY))
        return await others, good

    bad, good = asyncio.run(everybody())
    assert good.status == 200, good
    assert ended.index("key") < 3
    assert {(response.status, response.json["error"]["code"]) for response in bad} <= {
        (400, "invalid_video"),
        (400, "duration_too_long"),  # where the machine is quick
        (503, "unavailable"),  # where the machine gave the probe too little time to blame the file
    }


def test_a_client_that_disconnects_while_its_file_waits_frees_its_slot(
    service: ServiceProcess, port: int, good_file: bytes
) -> None:
    slow = empty_frames(1_500_000, payload=b"x", clears=False)

    async def leave() -> None:
        connections = []
        for number in range(12):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(upload("/api/upload", make_unique(slow if number < 2 else good_file)))
            await writer.drain()
            connections.append(writer)
        async with asyncio.timeout(100):
            while len(incoming(service)) < 12:  # noqa: ASYNC110 - another process's files
                await asyncio.sleep(0.05)
        for writer in connections:
            writer.transport.abort()

    asyncio.run(leave())
    wait_for(lambda: not incoming(service))
    metrics = requests.get(f"{service.base}/metrics", headers={"X-Admin-Token": ADMIN}, timeout=60).text
    assert 'status="499"' in metrics
