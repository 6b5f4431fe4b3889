"""Several processes answer the requests of one service: each can die or hang, and together they count as one."""

import itertools
import os
import re
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import requests

from alphareel.testing.service import wait_for

from .conftest import KEY, AttackedService

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]
MODULE = "alphareel.server.request_process"


def processes(service: AttackedService) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(service.process.pid).children():
        try:
            if MODULE in process.cmdline():
                found.append(process)
        except psutil.Error:
            continue
    return found


def begun(service: AttackedService) -> int:
    """How many request processes have begun to answer."""
    return service.log().count("Application startup complete.")


@pytest.fixture
def pair(serve: Callable[..., AttackedService]) -> AttackedService:
    service = serve(API_PROCESSES="2", HANG_SECONDS="5")
    wait_for(lambda: begun(service) >= 2, 200)
    return service


def counted(service: AttackedService, route: str) -> float:
    text = service.ask("GET", "/metrics").text
    found = re.findall(rf'^alphareel_http_requests_total{{method="\w+",route="{route}",.*}} (\S+)$', text, re.MULTILINE)
    return sum(map(float, found))


def test_what_was_accepted_outlives_the_processes_that_accepted_it(pair: AttackedService, clip: Path) -> None:
    url = pair.upload(clip)
    accepted: dict[str, str] = {}  # ID by idempotency key
    refused: list[str] = []
    stopping = threading.Event()

    def submit() -> None:
        while not stopping.is_set():
            key, body = uuid.uuid4().hex, {"video_url": url, "auto_start": False}
            while not stopping.is_set():
                try:
                    answer = pair.ask("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key})
                except requests.ConnectionError:  # its process was killed: the client sends it again
                    continue
                if answer.status_code == 200:
                    accepted[key] = answer.json()["id"]
                elif answer.status_code == 409:  # the process that was killed had begun with it
                    time.sleep(0.5)
                    continue
                else:
                    refused.append(answer.text)
                break

    senders = [threading.Thread(target=submit) for _ in range(4)]
    for sender in senders:
        sender.start()
    for round_number in range(3):
        wait_for(lambda: len(processes(pair)) == 2 and begun(pair) >= 2 + round_number, 200)  # noqa: B023
        time.sleep(1)
        before = len(accepted)
        processes(pair)[round_number % 2].kill()
        wait_for(lambda: len(accepted) > before + 3, 60)  # noqa: B023  # the other one answers
    stopping.set()
    for sender in senders:
        sender.join()
    assert refused == []
    assert len(set(accepted.values())) == len(accepted) > 10
    for job_id in accepted.values():
        assert pair.job(job_id)["id"] == job_id
    done = pair.submit(url)
    assert pair.wait_for_end(done)["status"] == "completed"


def test_a_process_that_hangs_is_replaced_and_nothing_of_it_stays(pair: AttackedService, clip: Path) -> None:
    first = processes(pair)
    incoming = pair.data_dir / "incoming"
    incoming.mkdir(exist_ok=True)
    for name in ("api-0", "api-1"):
        (incoming / name).mkdir(exist_ok=True)
        (incoming / name / "half").write_bytes(b"left behind")
    first[0].send_signal(signal.SIGSTOP)
    wait_for(lambda: not first[0].is_running() or first[0].status() == psutil.STATUS_ZOMBIE, 60)
    wait_for(lambda: begun(pair) >= 3, 200)
    assert sorted(incoming.rglob("half")) != []
    assert len(list(incoming.rglob("half"))) == 1, "only the files of the one that was replaced are gone"
    assert first[1].pid in {process.pid for process in processes(pair)}
    assert pair.wait_for_end(pair.submit(pair.upload(clip)))["status"] == "completed"


def test_limits_links_keys_and_counts_hold_across_processes(serve: Callable[..., AttackedService], clip: Path) -> None:
    service = serve(API_PROCESSES="3", READ_PER_MINUTE="30", GUESSES_PER_MINUTE="10")
    wait_for(lambda: begun(service) >= 3, 200)
    url = service.upload(clip)
    key = uuid.uuid4().hex
    body = {"video_url": url, "auto_start": False}
    answers: list[requests.Response] = []

    def together(ask: Callable[[], requests.Response], count: int) -> list[int]:
        answers.clear()
        threads = [threading.Thread(target=lambda: answers.append(ask())) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return [answer.status_code for answer in answers]

    statuses = together(lambda: service.ask("POST", "/v1/jobs", json=body, headers={"Idempotency-Key": key}), 12)
    assert set(statuses) <= {200, 409}
    assert len({answer.json()["id"] for answer in answers if answer.status_code == 200}) == 1
    statuses = together(lambda: service.ask("GET", "/v1/models"), 45)
    assert 30 <= statuses.count(200) <= 34, "one budget, and what refilled meanwhile"
    assert counted(service, "/v1/models") == 45
    statuses = together(lambda: requests.get(f"{service.base}/v1/jobs", headers={"X-Api-Key": "no"}, timeout=60), 30)
    assert statuses.count(401) <= 12
    assert statuses.count(429) >= 18


def test_a_stop_ends_all_of_them_and_finishes_what_runs(pair: AttackedService, clip: Path) -> None:
    content = clip.read_bytes() + bytes(3_000_000)
    began = threading.Event()

    def slowly() -> "itertools.chain[bytes]":
        head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'

        def pieces() -> Iterator[bytes]:
            for start in range(0, len(content), 500_000):
                yield content[start : start + 500_000]
                began.set()
                time.sleep(0.3)

        return itertools.chain([head], pieces(), [b"\r\n--b--\r\n"])

    answers: list[requests.Response] = []
    headers = {"X-Api-Key": KEY, "Content-Type": "multipart/form-data; boundary=b"}
    sender = threading.Thread(
        target=lambda: answers.append(
            requests.post(f"{pair.base}/v1/uploads", headers=headers, data=slowly(), timeout=60)
        )
    )
    sender.start()
    began.wait(30)
    pids = [process.pid for process in processes(pair)]
    os.kill(pair.process.pid, signal.SIGTERM)
    sender.join()
    assert pair.wait() == 0
    assert [answer.status_code for answer in answers] == [200]
    assert not any(psutil.pid_exists(pid) for pid in pids)
    with pytest.raises(requests.ConnectionError):
        pair.ask("GET", "/livez")


def test_they_end_with_the_process_that_started_them(pair: AttackedService) -> None:
    family = psutil.Process(pair.process.pid).children(recursive=True)
    pair.process.kill()
    pair.wait()
    wait_for(lambda: not any(process.is_running() for process in family), 30)
