"""Stops and starts under bad conditions: one line that tells what is wrong, and no traceback."""

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from alphareel.testing.service import ServiceProcess, wait_for

from .conftest import KEY, AttackedService

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def test_open_event_streams_end_at_a_stop_without_a_traceback(serve: Callable[..., AttackedService]) -> None:
    service = serve(STOP_SECONDS="0")
    job = service.call("POST", "/v1/jobs", json={"video_url": "https://a.example/v.mp4", "auto_start": False})
    url = f"{service.base}/v1/jobs/{job['id']}/events"
    lines: list[bytes] = []

    def listen() -> None:
        with requests.get(url, headers={"X-Api-Key": KEY}, stream=True, timeout=60) as stream:
            for line in stream.iter_lines():
                lines.append(line)  # noqa: PERF402  # as it arrives

    listeners = [threading.Thread(target=listen) for _ in range(3)]
    for listener in listeners:
        listener.start()
    wait_for(lambda: lines.count(b"event: state") == 3)
    service.process.send_signal(signal.SIGTERM)
    for listener in listeners:
        listener.join()
    assert service.wait() == 0
    assert "Traceback" not in service.log(), service.log()


def test_a_download_that_outlasts_the_stop_is_cut_off_without_a_traceback(
    serve: Callable[..., AttackedService], tmp_path: Path, clip: Path
) -> None:
    service = serve(STOP_SECONDS="0")
    link = service.upload(clip)
    stored = next((service.data_dir / "objects/uploads").iterdir())
    stored.write_bytes(os.urandom(64 * 1024 * 1024))  # more than all buffers on the way
    with requests.get(link, stream=True, timeout=60) as download:
        next(download.iter_content(1024))
        service.process.send_signal(signal.SIGTERM)
        assert service.wait() == 0
    assert "Traceback" not in service.log(), service.log()


@pytest.mark.parametrize("what", ["lock", "alphareel.db", "objects"])
def test_a_data_folder_that_cannot_be_written_is_told_in_one_line(tmp_path: Path, what: str) -> None:
    """As on a read-only disk; a folder or file in the wrong place stops even root."""
    data = tmp_path / "data"
    data.mkdir()
    if what == "objects":
        (data / what).write_bytes(b"")
    else:
        (data / what).mkdir()
    service = ServiceProcess(data)
    try:
        assert wait_for(lambda: service.process.poll() is not None)
    finally:
        service.process.kill()
    assert service.wait() != 0
    assert "Traceback" not in service.log(), service.log()
    assert str(data) in service.log()
