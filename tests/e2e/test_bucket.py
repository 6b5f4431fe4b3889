"""Services and request processes of one installation with nothing in common but a database and a bucket."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from moto.server import ThreadedMotoServer

from alphareel.testing.clips import make_clip
from alphareel.testing.service import ServiceProcess, wait_for
from alphareel_client import Client

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

KEY = {"X-Api-Key": "a key of the tests"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    requests.put(f"{endpoint}/footage", timeout=60)
    credentials = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}
    for name, value in {**credentials, "AWS_ENDPOINT_URL": endpoint}.items():
        monkeypatch.setenv(name, value)
    yield endpoint
    server.stop()


def keys(bucket: str) -> list[str]:
    listing = requests.get(f"{bucket}/footage?list-type=2", timeout=60).text
    return [part.partition("<")[0] for part in listing.split("<Key>")[1:]]


def upload(base: str, path: Path) -> str:
    with path.open("rb") as file:
        answer = requests.post(f"{base}/v1/uploads", headers=KEY, files={"file": file}, timeout=60)
    return str(answer.json()["video_url"])


def look(base: str, job: str) -> dict[str, Any]:
    found: dict[str, Any] = requests.get(f"{base}/v1/jobs/{job}", headers=KEY, timeout=60).json()
    return found


def test_one_machine_takes_a_job_and_another_does_it(bucket: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=5, background="green")
    shared = {
        "API_KEY": KEY["X-Api-Key"],
        "STORAGE_URL": "s3://footage/ours",
        "DATABASE_URL": f"sqlite:///{tmp_path}/shared.db",
    }
    for name in ("front", "back"):
        (tmp_path / name).mkdir()
    with ServiceProcess(tmp_path / "front" / "data", WORKERS=0, **shared) as front:
        order = {"video_url": upload(front.base, clip.path), "engine": "chroma"}
        job = requests.post(f"{front.base}/v1/jobs", headers=KEY, json=order, timeout=60).json()["id"]
        assert [key.rpartition(".")[2] for key in keys(bucket)] == ["mp4"]
        assert look(front.base, job)["started_at"] is None, "nobody works here"
        with ServiceProcess(tmp_path / "back" / "data", **shared):
            wait_for(lambda: look(front.base, job)["status"] in ("completed", "failed"))
        done = look(front.base, job)
        assert done["status"] == "completed", done
        result = requests.get(done["output_url"], timeout=60)
        assert (result.status_code, result.content[:4]) == (200, b"\x1aE\xdf\xa3")
        part = requests.get(done["output_url"], headers={"Range": "bytes=4-9"}, timeout=60)
        assert (part.status_code, part.content) == (206, result.content[4:10])
        requests.delete(f"{front.base}/v1/jobs/{job}", headers=KEY, timeout=60)
        wait_for(lambda: not keys(bucket))


def request_processes(service: ServiceProcess) -> list[psutil.Process]:
    found = []
    for process in psutil.Process(service.process.pid).children():
        with contextlib.suppress(psutil.Error):
            if "alphareel.server.request_process" in process.cmdline():
                found.append(process)
    return found


def patiently(ask: Callable[[], requests.Response]) -> requests.Response:
    """Again as long as the process that answers dies meanwhile, or one that died had begun with the request."""

    def answer() -> requests.Response | None:
        with contextlib.suppress(requests.ConnectionError):
            found = ask()
            return None if found.status_code in (409, 503) else found
        return None

    return wait_for(answer)


def test_several_request_processes_share_a_database_and_a_bucket(
    bucket: str, database_url: str, tmp_path: Path
) -> None:
    """A job whose requests are answered by different ones, of which one is killed, is made once."""
    clips = [make_clip(tmp_path / f"{n}.mp4", frames=5 + n, background="green").path for n in range(3)]
    settings = {"API_KEY": KEY["X-Api-Key"], "STORAGE_URL": "s3://footage/ours", "DATABASE_URL": database_url}
    with ServiceProcess(tmp_path / "data", API_PROCESSES=3, **settings) as service:
        jobs = f"{service.base}/v1/jobs"
        wait_for(lambda: service.log().count("Application startup complete.") >= 3)
        with ThreadPoolExecutor(12) as pool:  # each call has a connection of its own
            urls = list(pool.map(lambda path: upload(service.base, path), clips))
            orders = [(url, {**KEY, "Idempotency-Key": uuid.uuid4().hex}) for url in urls for _ in range(2)]

            def order(each: tuple[str, dict[str, str]]) -> str:
                url, headers = each
                body = {"video_url": url, "engine": "chroma"}
                answer = patiently(lambda: requests.post(jobs, headers=headers, json=body, timeout=60))
                assert answer.status_code == 200, answer.text
                return str(answer.json()["id"])

            twice = pool.map(order, [*orders, *orders])
            killed = request_processes(service)[0]
            killed.kill()
            made = list(twice)
            assert made[:6] == made[6:]
            assert len(set(made)) == 6

            def end(job: str) -> Any:
                return wait_for(lambda: next((j for j in [state(job)] if j["status"] in ("completed", "failed")), None))

            def state(job: str) -> Any:
                return patiently(lambda: requests.get(f"{jobs}/{job}", headers=KEY, timeout=60)).json()

            done = list(pool.map(end, made[:6]))
            assert [job["status"] for job in done] == ["completed"] * 6, done
            assert sorted(job["output"]["frames"] for job in done) == [5, 5, 6, 6, 7, 7]
            heads = list(
                pool.map(
                    lambda job: (
                        patiently(
                            lambda: requests.get(job["output_url"], headers={"Range": "bytes=0-3"}, timeout=60)
                        ).content
                    ),
                    done * 2,
                )
            )
            assert heads == [b"\x1aE\xdf\xa3"] * 12
            events = list(
                pool.map(
                    lambda job: patiently(lambda: requests.get(f"{jobs}/{job}/events", headers=KEY, timeout=60)).text,
                    made[:6],
                )
            )
            assert all("event: end" in text for text in events)
            wait_for(lambda: len(request_processes(service)) == 3)
            list(pool.map(lambda job: requests.delete(f"{jobs}/{job}", headers=KEY, timeout=60), made[:6]))
        wait_for(lambda: not [key for key in keys(bucket) if not key.startswith("ours/uploads/")])


def test_parts_go_straight_to_the_bucket(bucket: str, tmp_path: Path) -> None:
    clip = make_clip(tmp_path / "in.mp4", frames=5, background="green").path
    data = clip.read_bytes()
    settings = {
        "API_KEY": KEY["X-Api-Key"],
        "STORAGE_URL": "s3://footage/ours",
        "DATABASE_URL": f"sqlite:///{tmp_path}/shared.db",
    }
    for name in ("front", "back"):
        (tmp_path / name).mkdir()
    with ServiceProcess(tmp_path / "front" / "data", WORKERS=0, **settings) as service:
        address = f"{service.base}/v1/uploads/multipart"
        order: dict[str, Any] = {"filename": "in.mp4", "bytes": len(data)}
        begun = requests.post(address, headers=KEY, json=order, timeout=60).json()
        assert all(part["url"].startswith(f"{bucket}/footage/ours/parts/") for part in begun["parts"])
        receipts = []
        for part in begun["parts"]:
            piece = data[(part["number"] - 1) * begun["part_size"] :][: part["bytes"]]
            answer = requests.put(part["url"], data=piece, timeout=60)
            assert answer.status_code == 200, answer.text
            receipts.append({"number": part["number"], "etag": answer.headers["ETag"]})
        made = requests.post(begun["complete_url"], headers=KEY, json={"parts": receipts}, timeout=60)
        assert made.status_code == 200, made.text
        with Client(KEY["X-Api-Key"], base_url=service.base) as client:
            assert client.upload(clip, multipart=True)["size"] == len(data)
        # A worker deletes the parts when it starts, and then once a minute.
        with ServiceProcess(tmp_path / "back" / "data", **settings):
            wait_for(lambda: [key.split("/")[1] for key in keys(bucket)] == ["uploads"])
            job = {"video_url": made.json()["video_url"], "engine": "chroma"}
            job_id = requests.post(f"{service.base}/v1/jobs", headers=KEY, json=job, timeout=60).json()["id"]
            wait_for(lambda: look(service.base, job_id)["status"] in ("completed", "failed"))
            assert look(service.base, job_id)["status"] == "completed"
