"""Whoever reads the log stops reading: the service answers, runs jobs and stops all the same."""

import signal
import socket
from pathlib import Path

import pytest
import requests

from alphareel.testing.servers import free_port
from alphareel.testing.service import wait_for

from .conftest import AttackedService

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


class UnreadService(AttackedService):
    """A service whose log goes to ``stderr``."""

    def __init__(self, data_dir: Path, stderr: int, **settings: str) -> None:
        self.stderr = stderr
        super().__init__(data_dir, **settings)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_a_log_that_nobody_reads_holds_up_nothing(processes: str, tmp_path: Path, clip: Path) -> None:
    reader, writer = socket.socketpair()  # as journald gives to a unit
    writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    port = str(free_port())
    more = {"PORT": port, "API_PROCESSES": processes, "LOG_LEVEL": "debug"}
    service = UnreadService(tmp_path / "data", writer.fileno(), **more)
    writer.close()
    service.base = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        try:
            return requests.get(f"{service.base}/readyz", timeout=5).ok
        except requests.RequestException:
            return False

    try:
        wait_for(is_ready, seconds=90)
        for _ in range(50):
            assert requests.get(f"{service.base}/no-such-page", timeout=30).status_code == 404
        job_id = service.submit(service.upload(clip))
        assert service.wait_for_end(job_id)["status"] == "completed"
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=60) == 0
    finally:
        service.process.kill()
        service.wait()
        reader.close()
