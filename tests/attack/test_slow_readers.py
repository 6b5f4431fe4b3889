"""Many clients that request a large file and read it very slowly."""

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

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

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
    files = {"file": clip.read_bytes() + padding}
    uploaded = requests.post(f"{service.base}/v1/uploads", headers={"X-Api-Key": KEY}, files=files, timeout=60).json()
    url = urlsplit(uploaded["video_url"])
    request = f"GET {url.path}?{url.query} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss

    with ExitStack() as stack:
        for _ in range(READERS):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.settimeout(100)
            reader.connect(("127.0.0.1", int(url.port or 0)))
            reader.sendall(request)
            assert reader.recv(15).startswith(b"HTTP/1.1 200")
        time.sleep(3)
        growth = (process.memory_info().rss - before) / 1e6
        assert requests.get(f"{service.base}/health", timeout=60).status_code == 200

    print(f"\n{READERS} slow readers: memory +{growth:.0f} MB")
    assert growth < 200
    assert len(requests.get(uploaded["video_url"], timeout=60).content) == uploaded["size"]
