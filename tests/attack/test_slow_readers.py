"""Clients that ask for a lot and take little of it."""

import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest
import requests

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(110)]

KEY = "a key of the tests"
READERS = 300
SIZE = 20_000_000


@pytest.fixture
def service(tmp_path: Path) -> Iterator[ServiceProcess]:
    with ServiceProcess(tmp_path / "data", API_KEY=KEY, WORKERS=0) as running:
        yield running


def test_three_hundred_slow_readers_cost_little_memory(service: ServiceProcess, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", width=64, height=48, frames=5).path
    padding = struct.pack(">I", 8 + SIZE) + b"free" + bytes(SIZE)
    sent = {"file": clip.read_bytes() + padding}
    answer = requests.post(f"{service.base}/v1/uploads", headers={"X-Api-Key": KEY}, files=sent, timeout=60).json()
    url = urlsplit(answer["video_url"])
    ask = f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss

    with ExitStack() as stack:
        for _ in range(READERS):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(30)
            reader.connect(("127.0.0.1", int(url.port or 0)))
            reader.sendall(ask)
            assert reader.recv(15).startswith(b"HTTP/1.1 200")
        time.sleep(3)
        grown = (process.memory_info().rss - before) / 1e6
        began = time.monotonic()
        assert requests.get(f"{service.base}/health", timeout=10).status_code == 200
        took = time.monotonic() - began

    print(f"\n{READERS} slow readers: memory +{grown:.0f} MB, health in {took * 1000:.0f} ms")
    assert grown < 200
    assert len(requests.get(answer["video_url"], timeout=60).content) == answer["size"]
