"""Databases that hang: requests are refused promptly, jobs continue, and the service recovers by itself."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import requests
import sqlalchemy as sa

from alphareel.testing.service import wait_for

from .conftest import AttackedService

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

VIDEO = {"video_url": "https://a.example/v.mp4", "auto_start": False}
CLIENTS = 51
PROMPT = 50.0  # seconds; those who wait for the database one after the other need longer by far


@contextmanager
def locked(data_dir: Path) -> Iterator[None]:
    """Hold the write lock, like another process."""
    connection = sqlite3.connect(data_dir / "alphareel.db", isolation_level=None, timeout=100)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.close()


def postmaster(server: str) -> int:
    """The process id of the PostgreSQL server; skips the test if it is not on this machine."""
    engine = sa.create_engine(server)
    with engine.connect() as c:
        pid = int(c.exec_driver_sql("SELECT pg_read_file('postmaster.pid')").scalar_one().split()[0])
    engine.dispose()
    if not psutil.pid_exists(pid) or "postgres" not in psutil.Process(pid).name():
        pytest.skip("the PostgreSQL server is not on this machine")
    return pid


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop all processes of the server, as with kill -STOP."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children()]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()
    try:
        yield
    finally:
        for process in (psutil.Process(pid), *psutil.Process(pid).children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()


@pytest.fixture
def postgres(postgres_url: str) -> tuple[str, int]:
    """The URL of a new database, and the process id of its server."""
    return postgres_url, postmaster(postgres_url)


def request_at_once(
    service: AttackedService, method: str, path: str, clients: int
) -> list[tuple[float, requests.Response]]:
    """Send requests from many clients at once; return seconds and response of each."""

    def ask(_: int) -> tuple[float, requests.Response]:
        started = time.monotonic()
        response = service.ask(method, path, **({"json": VIDEO} if method == "POST" else {}))
        return time.monotonic() - started, response

    with ThreadPoolExecutor(clients) as pool:
        return list(pool.map(ask, range(clients)))


def assert_refused_promptly(responses: list[tuple[float, requests.Response]]) -> None:
    for seconds, response in responses:
        assert (response.status_code, response.json()["error"]["code"]) == (503, "unavailable")
        assert response.headers["retry-after"]
        assert seconds < PROMPT


def test_a_locked_sqlite_refuses_writers_promptly_and_delays_no_reader(serve: Callable[..., AttackedService]) -> None:
    service = serve()
    known = service.call("POST", "/v1/jobs", json=VIDEO)["id"]
    with locked(service.data_dir):
        reads: list[tuple[float, requests.Response]] = []
        stop = threading.Event()

        def keep_reading() -> None:
            while not stop.is_set():
                reads.extend(request_at_once(service, "GET", f"/v1/jobs/{known}", 1))

        reader = threading.Thread(target=keep_reading)
        reader.start()
        for _ in range(3):
            assert_refused_promptly(request_at_once(service, "POST", "/v1/jobs", CLIENTS))
        stop.set()
        reader.join()
        assert {response.status_code for _, response in reads} == {200}
        assert max(seconds for seconds, _ in reads) < PROMPT
        wait_for(lambda: not service.is_ready())
        assert service.call("GET", "/health")["status"] == "degraded"
    wait_for(service.is_ready)
    responses = request_at_once(service, "POST", "/v1/jobs", CLIENTS)
    assert {response.status_code for _, response in responses} == {200}
    assert service.call("GET", "/v1/jobs")["total"] == 1 + CLIENTS, "what was refused was not made"


def test_a_locked_sqlite_does_not_affect_a_running_job(serve: Callable[..., AttackedService], clip: Path) -> None:
    service = serve()
    job_id = service.submit(service.upload(clip))
    child = service.halt_while_writing()
    worker = service.worker()
    with locked(service.data_dir):
        child.resume()
        time.sleep(20)
    done = service.wait_for_end(job_id)
    assert done["status"] == "completed", done["error"]
    assert service.reasons(job_id).count("attempt began") == 1
    assert service.worker().pid == worker.pid


def test_a_stopped_postgresql_refuses_requests_promptly_and_recovers(
    serve: Callable[..., AttackedService], postgres: tuple[str, int]
) -> None:
    url, pid = postgres
    service = serve(DATABASE_URL=url)
    known = service.call("POST", "/v1/jobs", json=VIDEO)["id"]
    with stopped(pid):
        assert_refused_promptly(request_at_once(service, "POST", "/v1/jobs", CLIENTS))
        assert_refused_promptly(request_at_once(service, "GET", f"/v1/jobs/{known}", CLIENTS))
        wait_for(lambda: not service.is_ready())
        assert service.call("GET", "/health")["status"] == "degraded"
        assert "alphareel_database_up 0.0" in service.ask("GET", "/metrics").text
        assert_refused_promptly(request_at_once(service, "GET", "/v1/jobs", CLIENTS))
    wait_for(service.is_ready)
    responses = request_at_once(service, "POST", "/v1/jobs", CLIENTS)
    assert {response.status_code for _, response in responses} == {200}


def test_a_stopped_postgresql_loses_no_job_and_runs_none_twice(
    serve: Callable[..., AttackedService], postgres: tuple[str, int], clip: Path
) -> None:
    url, pid = postgres
    service = serve(DATABASE_URL=url)
    link = service.upload(clip)
    running, waiting = service.submit(link), service.submit(link)
    child = service.halt_while_writing()
    worker = service.worker()
    with stopped(pid):
        child.resume()
        time.sleep(35)  # longer than the time until eviction
    wait_for(service.is_ready)
    for job_id in (running, waiting):
        done = service.wait_for_end(job_id)
        assert done["status"] == "completed", done["error"]
        assert service.reasons(job_id).count("attempt began") == 1
    assert service.worker().pid == worker.pid


def test_the_service_reconnects_after_postgresql_closed_its_connections(
    serve: Callable[..., AttackedService], postgres: tuple[str, int]
) -> None:
    url, _ = postgres
    service = serve(DATABASE_URL=url)
    service.call("POST", "/v1/jobs", json=VIDEO)
    admin = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as c:
        c.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
    wait_for(lambda: service.ask("POST", "/v1/jobs", json=VIDEO).status_code == 200)
    wait_for(service.is_ready)
