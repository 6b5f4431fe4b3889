"""The whole service under kill -9: nothing accepted is lost, nothing is delivered twice, nobody survives its parent."""

import contextlib
import hashlib
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import psutil
import pytest
import requests

from alphareel.matting import tiers
from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY = "a key of the tests"
MODELS = os.environ.get("ALPHAREEL_TEST_MODELS_DIR")


class Running(ServiceProcess):
    """A service, what it consists of, and how a client uses it."""

    def __init__(self, data_dir: Path, **settings: str) -> None:
        super().__init__(data_dir, **{"API_KEY": KEY, "MODELS_DIR": MODELS or "", **settings})

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def one(self, module: str) -> psutil.Process:
        """The process of the family that runs this module, as soon as there is one."""
        return wait_for(lambda: next((p for p in self.family() if module in command(p)), None))

    def kill(self) -> list[psutil.Process]:
        """kill -9; returns what were its children, which nobody has told to end."""
        family = self.family() if self.process.poll() is None else []
        self.process.kill()
        self.wait()
        return family

    def call(self, method: str, path: str, **more: Any) -> Any:
        answer = requests.request(method, self.base + path, headers={"X-Api-Key": KEY}, timeout=60, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, clip: Path) -> str:
        with clip.open("rb") as file:
            return str(self.call("POST", "/v1/uploads", files={"file": file})["video_url"])

    def submit(self, video_url: str) -> str:
        return str(self.call("POST", "/v1/jobs", json={"video_url": video_url})["id"])

    def job(self, job_id: str) -> Any:
        return self.call("GET", f"/v1/jobs/{job_id}")

    def packets(self, output: Any, folder: Path) -> list[bytes]:
        """What an output has for each frame, with its alpha."""
        folder.mkdir(exist_ok=True)
        path = folder / output["name"]
        path.write_bytes(requests.get(output["url"], timeout=60).content)
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
            return [bytes(p) + bytes(p.get_sidedata("matroska_block_additional") or b"") for p in packets]

    def freeze(self) -> psutil.Process:
        """The child that runs a job, halted once it writes its result, so that no job is too quick for a test."""
        wait_for(lambda: any((self.data_dir / "work").rglob("*.part")), pause=0.01)
        child = self.one("alphareel.service.worker.child_main")
        child.suspend()
        return child

    def wait_for_end(self, job_id: str) -> Any:
        wait_for(lambda: self.job(job_id)["status"] in ("completed", "failed"))
        return self.job(job_id)

    def history(self, job_id: str) -> list[tuple[str, str]]:
        items = self.call("GET", f"/v1/jobs/{job_id}/history")["items"]
        return [(item["to_status"], item["reason"]) for item in items]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(folder: str = "data", *, listens: bool = True, **settings: str) -> Running:
        started.append(Running(tmp_path / folder, **settings))
        return started[-1].wait_until_it_listens() if listens else started[-1]

    yield start
    for running in started:
        running.kill()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if tiers.serving("original", Path(MODELS) if MODELS else None) is None:
        pytest.skip("no engine serves the tier original here (ALPHAREEL_TEST_MODELS_DIR may name a folder with one)")
    return make_clip(tmp_path_factory.mktemp("clip") / "in.mp4", width=320, height=240, frames=250).path


def left_behind(folder):
    """Work folders but those of the spare processes that wait; a spare of a dead worker counts."""
    executors = [
        path.name.partition(".")[0] for path in sorted(folder.glob("*"), key=lambda path: path.stat().st_mtime)
    ]
    return [path for path in folder.glob("*") if not path.name.startswith(f"{executors[-1]}.spare.")]


def test_a_killed_worker_costs_time_and_nothing_else(serve: Callable[..., Running], clip: Path) -> None:
    service = serve()
    job_id = service.submit(service.upload(clip))
    child = service.freeze()
    service.one("alphareel.server.worker_process").kill()
    assert_gone([child])
    done = service.wait_for_end(job_id)
    assert_delivered_once(service, job_id, done, attempt=2)


def test_an_export_survives_the_death_of_everything(serve: Callable[..., Running], clip: Path) -> None:
    service = serve()
    requested = {"video_url": service.upload(clip), "outputs": [{"format": "webm"}, {"format": "gif"}]}
    job_id = str(service.call("POST", "/v1/jobs", json=requested)["id"])
    before = service.wait_for_end(job_id)["outputs"]
    export_id = service.call("POST", f"/v1/jobs/{job_id}/exports", json={"format": "mov"})["id"]
    child = service.freeze()
    assert_gone([child, *service.kill()])
    service = serve()
    done = service.wait_for_end(export_id)
    assert (done["status"], done["attempts"]) == ("completed", 2)
    outputs = service.job(job_id)["outputs"]
    assert [output["format"] for output in outputs] == ["webm", "gif", "mov"]
    assert [output["sha256"] for output in outputs[:2]] == [output["sha256"] for output in before]
    assert {output["frames"] for output in outputs} == {250}


def test_a_killed_correction_leaves_the_former_files_and_then_copies_what_it_does_not_touch(
    serve: Callable[..., Running], clip: Path, tmp_path: Path
) -> None:
    service = serve()
    requested = {"video_url": service.upload(clip), "outputs": [{"format": "webm"}, {"format": "mov"}]}
    job_id = str(service.call("POST", "/v1/jobs", json=requested)["id"])
    before = service.wait_for_end(job_id)
    files = [service.packets(output, tmp_path / "before") for output in before["outputs"]]
    mask = np.zeros((240, 320, 4), np.uint8)
    mask[60:120, 100:160] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    correction = {"frame": 240, "mask_url": service.upload(tmp_path / "mask.png")}
    service.call("POST", f"/v1/jobs/{job_id}/corrections", json=correction)
    child = service.freeze()
    assert any((service.data_dir / "work").rglob(".splice-*"))  # where parts of the files are made
    now = service.job(job_id)
    assert (now["revision"], [each["sha256"] for each in now["outputs"]]) == (
        1,
        [each["sha256"] for each in before["outputs"]],
    )
    assert_gone([child, *service.kill()])
    service = serve()
    wait_for(lambda: service.job(job_id)["revision"] == 2)
    for output, former in zip(service.job(job_id)["outputs"], files, strict=True):
        packets = service.packets(output, tmp_path / "after")
        changed = [n for n, (one, other) in enumerate(zip(packets, former, strict=True)) if one != other]
        assert changed
        assert min(changed) >= 60  # the first group of frames at least is as it was
        assert 240 in changed
    assert left_behind(service.data_dir / "work") == []


def test_a_long_clip_goes_on_with_the_chunk_that_is_missing(serve: Callable[..., Running], tmp_path: Path) -> None:
    options = {"g": "25", "sc_threshold": "0"}
    clip = make_clip(tmp_path / "long.mp4", width=320, height=240, frames=150, audio=True, options=options).path
    service = serve(CHUNK_SECONDS="2")
    job_id = service.submit(service.upload(clip))
    wait_for(lambda: made_chunks(service))
    service.kill()
    service = serve(CHUNK_SECONDS="2")
    done = service.wait_for_end(job_id)
    assert made_chunks(service) == ["0", "1", "2"], "each once, by one or the other"
    assert_delivered_once(service, job_id, done, attempt=2)
    assert (done["output"]["frames"], done["output"]["has_audio"]) == (150, True)
    wait_for(lambda: not any((tmp_path / "data/objects/chunks").rglob("*.*")))


def test_an_idle_worker_helps_with_a_long_clip(serve: Callable[..., Running], tmp_path: Path) -> None:
    options = {"g": "25", "sc_threshold": "0"}
    clip = make_clip(tmp_path / "long.mp4", width=320, height=240, frames=200, audio=True, options=options).path
    service = serve(CHUNK_SECONDS="1", WORKERS="2")
    job_id = service.submit(service.upload(clip))
    done = service.wait_for_end(job_id)
    made = made_chunks(service)
    assert set(made) == set("01234567")
    assert made != sorted(made), "nobody came from the other end"
    assert_delivered_once(service, job_id, done, attempt=1)
    assert (done["output"]["frames"], done["output"]["has_audio"]) == (200, True)
    wait_for(lambda: left_behind(tmp_path / "data/work") == [])


def made_chunks(service: Running) -> list[str]:
    """The chunks that were made, in order, as the log tells."""
    return re.findall(r'"chunk": (\d+)', service.log())


def test_a_killed_service_goes_on_where_it_was(serve: Callable[..., Running], clip: Path, tmp_path: Path) -> None:
    service = serve()
    link = service.upload(clip)
    running, waiting = service.submit(link), service.submit(link)
    service.freeze()
    with half_an_upload(service):
        assert_gone(service.kill())
    service = serve()
    wait_for(lambda: service.history(running)[-1][1] == "attempt began" and len(service.history(running)) == 3)
    assert "executor declared dead" not in service.log(), "the job waited for a dead worker to be noticed"
    for job_id, attempt in ((running, 2), (waiting, 1)):
        assert_delivered_once(service, job_id, service.wait_for_end(job_id), attempt=attempt)
    wait_for(lambda: not any((tmp_path / "data/incoming").glob("*")))
    wait_for(lambda: left_behind(tmp_path / "data/work") == [])


def test_a_service_that_is_asked_to_stop_hands_its_job_on(serve: Callable[..., Running], clip: Path) -> None:
    service = serve(STOP_SECONDS="0")
    job_id = service.submit(service.upload(clip))
    service.freeze()
    family = service.family()
    service.process.send_signal(signal.SIGTERM)
    assert service.wait() == 0, service.log()
    assert_gone(family)
    service = serve()
    done = service.wait_for_end(job_id)
    assert_delivered_once(service, job_id, done, attempt=2)
    assert ("processing", "the worker stopped") in service.history(job_id)


def test_a_killed_child_costs_its_job_an_attempt_and_nobody_else_anything(
    serve: Callable[..., Running], clip: Path
) -> None:
    service = serve()
    job_id = service.submit(service.upload(clip))
    child = service.freeze()
    worker = service.one("alphareel.server.worker_process").pid
    child.kill()
    done = service.wait_for_end(job_id)
    assert_delivered_once(service, job_id, done, attempt=2)
    assert ("processing", "its process was killed") in service.history(job_id)
    assert service.one("alphareel.server.worker_process").pid == worker


def test_one_folder_has_one_service(serve: Callable[..., Running]) -> None:
    serve(WORKERS="0")
    second = serve(listens=False, WORKERS="0")
    assert second.wait() != 0
    assert "Another alphareel service uses the data folder" in second.log()


def test_a_taken_port_is_told(serve: Callable[..., Running]) -> None:
    port = serve(WORKERS="0").base.rpartition(":")[2]
    second = serve("other", listens=False, PORT=port, WORKERS="0")
    assert second.wait() != 0
    assert f"port {port} cannot be listened on" in second.log()


def test_the_first_key_is_shown_once_and_logged_never(serve: Callable[..., Running]) -> None:
    first = serve(API_KEY="", WORKERS="0")
    key = re.search(r"ar_live_\w+", first.console_output())
    assert key is not None
    answer = requests.get(f"{first.base}/v1/jobs", headers={"X-Api-Key": key.group()}, timeout=60)
    assert answer.status_code == 200
    first.process.terminate()
    first.wait()
    second = serve(API_KEY="", WORKERS="0")
    assert "ar_live_" not in second.console_output()
    assert "ar_live_" not in second.log()


def assert_delivered_once(service: Running, job_id: str, done: Any, *, attempt: int) -> None:
    assert done["status"] == "completed", (done["error"], service.log())
    history = service.history(job_id)
    assert [to for to, _ in history].count("completed") == 1
    assert history.count(("processing", "attempt began")) == attempt
    delivered = requests.get(done["output_url"], timeout=60)
    assert delivered.status_code == 200
    folder = service.data_dir / "objects/outputs" / job_id
    (kept,) = [path for path in folder.rglob("*") if path.is_file()]
    assert kept.parent.name == str(attempt)
    assert hashlib.sha256(delivered.content).digest() == hashlib.sha256(kept.read_bytes()).digest()


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=100)
    assert [command(process) for process in alive] == []


def command(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""


@contextlib.contextmanager
def half_an_upload(service: Running) -> Iterator[None]:
    """A client in the middle of sending a file."""
    host, port = service.base.removeprefix("http://").split(":")
    head = (
        f"POST /v1/uploads HTTP/1.1\r\nHost: {host}\r\nX-Api-Key: {KEY}\r\nContent-Length: 5000000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + bytes(2_000_000))
        wait_for(lambda: any((service.data_dir / "incoming").glob("*")))
        yield
