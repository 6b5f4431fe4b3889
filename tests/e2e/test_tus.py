"""Resumable uploads against a real service: killed at any moment, behind a proxy that cuts connections, two processes."""

import asyncio
import contextlib
import random
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import pytest
import requests

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for
from alphareel_client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY = "a key of the tests"
HEADERS = {"X-Api-Key": KEY, "Tus-Resumable": "1.0.0"}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip of 60 MiB, most of which says nothing."""
    path = make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", width=64, height=48, frames=5).path
    filler = random.Random(7).randbytes(60 * MIB)
    with path.open("ab") as file:
        file.write(struct.pack(">I", len(filler) + 8) + b"free" + filler)
    return path


def create(base: str, film: Path) -> str:
    response = requests.post(
        f"{base}/v1/uploads/tus", headers={**HEADERS, "Upload-Length": str(film.stat().st_size)}, timeout=60
    )
    assert response.status_code == 201, response.text
    return urlsplit(response.headers["Location"]).path


def offset_of(address: str) -> int:
    response = requests.head(address, headers=HEADERS, timeout=60)
    assert response.status_code == 200
    return int(response.headers["Upload-Offset"])


def send(address: str, film: Path, offset: int, pause: float = 0.0) -> requests.Response:
    def pieces() -> Iterator[bytes]:
        with film.open("rb") as file:
            file.seek(offset)
            while data := file.read(MIB):
                yield data
                time.sleep(pause)

    headers = {**HEADERS, "Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return requests.patch(address, headers=headers, data=pieces(), timeout=120)


def assert_is_stored(address: str, film: Path) -> None:
    state = requests.get(address, headers=HEADERS, timeout=60).json()
    assert state["status"] == "completed", state
    base = address.partition("/v1/")[0]
    stored = requests.get(base + state["upload"]["video_url"].partition(urlsplit(base).netloc)[2], timeout=60)
    assert stored.content == film.read_bytes()
    job = {"video_url": state["upload"]["video_url"], "auto_start": False}
    assert requests.post(f"{base}/v1/jobs", headers=HEADERS, json=job, timeout=60).status_code == 200


def stored_bytes(data_dir: Path, path: str) -> int:
    parts = data_dir / "objects" / "parts" / path.rpartition("/")[2]
    return sum(part.stat().st_size for part in parts.glob("*"))


def test_a_service_that_is_killed_at_any_moment_loses_no_stored_byte(film: Path, tmp_path: Path) -> None:
    moments = random.Random(11)
    path = ""
    offsets = [0]
    for _ in range(6):
        with ServiceProcess(tmp_path / "data", API_KEY=KEY, WORKERS=0) as service:
            path = path or create(service.base, film)
            offset = offset_of(service.base + path)
            if offset == film.stat().st_size:
                break
            assert offset <= stored_bytes(tmp_path / "data", path)
            assert offset >= offsets[-1]
            offsets.append(offset)

            def send_until_it_dies(address: str = service.base + path, offset: int = offset) -> None:
                with contextlib.suppress(requests.RequestException):
                    send(address, film, offset, pause=0.08)

            sender = threading.Thread(target=send_until_it_dies)
            sender.start()
            wait_for(lambda: stored_bytes(tmp_path / "data", path) > offset or not sender.is_alive())  # noqa: B023
            time.sleep(moments.uniform(0.3, 1.3))
            service.process.kill()
            sender.join()
    assert offsets[-1] > 0
    with ServiceProcess(tmp_path / "data", API_KEY=KEY, WORKERS=0) as service:
        address = service.base + path

        def finished() -> bool:
            if (offset := offset_of(address)) == film.stat().st_size:
                return True
            response = send(address, film, offset)
            assert response.status_code in (204, 423), response.text  # 423: the lock of the killed one
            return False

        wait_for(finished, pause=1)
        assert_is_stored(address, film)
        assert stored_bytes(tmp_path / "data", path) == 0


class FaultyProxy:
    """Passes connections on to ``port``, and cuts many of them after a random number of bytes."""

    def __init__(self, port: int, *, seed: int) -> None:
        self._target = port
        self._random = random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.cuts = 0
        self.base = ""

    def __enter__(self) -> Self:
        self._thread.start()
        opened = asyncio.run_coroutine_threadsafe(asyncio.start_server(self._serve, "127.0.0.1", 0), self._loop)
        self._server = opened.result(100)
        self.base = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._server.close)
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(100)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(100)
        self._loop.close()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection("127.0.0.1", self._target)
        left = [self._random.randrange(200, 16 * MIB)]
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pass_on(client, to_server, left))
                both.create_task(self._pass_on(server, to_client, left))
        except* (ConnectionError, OSError):
            self.cuts += left[0] <= 0
        finally:
            to_client.transport.abort()
            to_server.transport.abort()

    async def _pass_on(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, left: list[int]) -> None:
        while data := await source.read(64 * 1024):
            left[0] -= len(data)
            if left[0] <= 0:
                raise ConnectionError
            target.write(data)
            await target.drain()
        raise ConnectionError


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    folder = tmp_path_factory.mktemp("service") / "data"
    with ServiceProcess(folder, API_KEY=KEY, WORKERS=0, CONNECTIONS_PER_ADDRESS=0) as running:
        yield running


@pytest.mark.parametrize("seed", [1, 2])
def test_the_sdk_gets_a_file_through_a_proxy_that_cuts_connections(
    seed: int, service: ServiceProcess, film: Path, tmp_path: Path
) -> None:
    copy = unlike_others(film, tmp_path)
    with FaultyProxy(int(urlsplit(service.base).port or 0), seed=seed) as proxy:
        with Client(KEY, base_url=proxy.base, retries=20) as client:
            uploaded = client.upload(copy, resumable=True)
        assert proxy.cuts > 2
    stored = requests.get(service.base + uploaded["video_url"].partition(proxy.base)[2], timeout=60)
    assert stored.content == copy.read_bytes()


def test_tuspy_gets_a_file_through_a_proxy_that_cuts_connections(
    service: ServiceProcess, film: Path, tmp_path: Path
) -> None:
    tusclient = pytest.importorskip("tusclient.client", reason="tuspy is not installed")
    from tusclient.exceptions import TusCommunicationError  # noqa: PLC0415  # skipped without it

    copy = unlike_others(film, tmp_path)
    with FaultyProxy(int(urlsplit(service.base).port or 0), seed=3) as proxy, copy.open("rb") as file:
        tus = tusclient.TusClient(f"{proxy.base}/v1/uploads/tus", headers={"X-Api-Key": KEY})
        uploader = None
        for _ in range(60):
            try:
                if uploader is None:
                    name = {"filename": "film.mp4"}
                    uploader = tus.uploader(file_stream=file, chunk_size=5 * MIB, metadata=name, upload_checksum=True)
                else:
                    uploader.offset = uploader.get_offset()
                uploader.upload()
            except (requests.RequestException, OSError, TusCommunicationError):
                time.sleep(0.3)
            else:
                break
        assert proxy.cuts > 2
        address = service.base + uploader.url.partition(proxy.base)[2]
    assert_is_stored(address, copy)


def unlike_others(film: Path, folder: Path) -> Path:
    """A copy with other content, so that the service cannot know it."""
    copy = folder / "film.mp4"
    copy.write_bytes(film.read_bytes() + struct.pack(">I", 16) + b"free" + random.randbytes(8))
    return copy
