"""The real service on a temporary SQLite, and a client that reaches the application without a network."""

import hashlib
import io
import json
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Self

import pytest
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI
from starlette.testclient import TestClient

from alphareel.db.tables import accounts
from alphareel.domain.clip import EngineFacts
from alphareel.http.app import create_app
from alphareel.service.api_keys.admin import Operator
from alphareel.service.api_keys.service import digest
from alphareel.service.jobs.models import Output, StoredMatte
from alphareel.telemetry.logging import configure_logging
from alphareel.testing.fakes import ServiceHarness, make_settings, open_harness

RESULT = bytes(range(256)) * 20
RESULT_SHA256 = hashlib.sha256(RESULT).hexdigest()

NewKey = Callable[[], str]
MakeClient = Callable[..., TestClient]
FinishJob = Callable[..., None]


@pytest.fixture(autouse=True)
def logs() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged so far, as a collector of log lines would read it."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    configure_logging("info", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = before


@pytest.fixture(scope="session")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceHarness]:
    """One service for all tests; every test has keys of its own, so that none sees another's jobs."""
    opened = open_harness(tmp_path_factory.mktemp("harness"), limits={"max_upload_bytes": 9_000_000})
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def end_credits(harness: ServiceHarness) -> Iterator[None]:
    """Ends all balances after a test: jobs without a key are refused while any client has one."""
    yield
    with harness.database.read() as connection:
        client_ids = connection.scalars(sa.select(accounts.c.client_id).where(accounts.c.balance.is_not(None))).all()
    for client_id in client_ids:
        harness.services.admin.set_balance(Operator("test"), client_id=client_id, balance=None)


class Served:
    """An application on a free port of this machine, until the ``with`` block ends."""

    def __init__(self, app: FastAPI, http: Any = "auto") -> None:
        config = uvicorn.Config(app, host="127.0.0.1", port=0, http=http, log_config=None, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)

    def __enter__(self) -> Self:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.port = self._server.servers[0].sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(timeout=60)


@pytest.fixture(scope="session")
def serve() -> type[Served]:
    return Served


@pytest.fixture
def new_key(harness: ServiceHarness) -> NewKey:
    def make() -> str:
        secret = f"ar_live_{uuid.uuid4().hex}"
        name = uuid.uuid4().hex[:8]
        harness.keys._store.add_key(
            key_id=name, secret_sha256=digest(secret), fingerprint=f"fp_{name}", client_id=name, note=""
        )
        return secret

    return make


@pytest.fixture
def key(new_key: NewKey) -> str:
    return new_key()


@pytest.fixture
def make_client(harness: ServiceHarness, key: str) -> Iterator[MakeClient]:
    """Makes a client with the test's key, another one, or None, for an application with these settings."""
    opened = ExitStack()  # entered, a client keeps one event loop instead of making one for each request

    def make(*, secret: str | None = key, **settings: Any) -> TestClient:
        app = create_app(harness.services, make_settings(**settings), version="1.2.3")
        headers = {"X-Api-Key": secret} if secret else {}
        return opened.enter_context(TestClient(app, headers=headers, raise_server_exceptions=False))

    with opened:
        yield make


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    return make_client()


@pytest.fixture
def anonymous_client(make_client: MakeClient) -> TestClient:
    """A client without a key."""
    return make_client(secret=None)


@pytest.fixture
def finish_job(harness: ServiceHarness, tmp_path) -> FinishJob:
    """Does what a worker does when it delivers ``seconds`` of video; with ``matte``, it keeps one with the job."""

    def finish(job_id: str, *, matte: bool = False, seconds: float = 2.0) -> None:
        job = harness.jobs.job(job_id)
        running = harness.jobs.begin_attempt(job_id, ticket=job.ticket, actor="worker")
        blob = f"outputs/{job_id}/{running.attempt}/result.webm"
        result_path = tmp_path / "result_path-by-worker"
        result_path.write_bytes(RESULT)
        harness.blobs.put_file(blob, result_path)
        output = Output(blob, "webm", "video/webm", len(RESULT), RESULT_SHA256, 640, 360, 60, seconds, True, False)
        kept = None
        if matte:
            kept = StoredMatte(f"mattes/{job_id}/{running.attempt}/m.mkv", 4, "c" * 64, 60, "uploads/source.mp4")
            harness.blobs.put_file(kept.blob, result_path)
        facts = EngineFacts("builtin", "1", "2" * 64, "Apache-2.0")
        assert harness.jobs.complete(
            job_id,
            attempt=running.attempt,
            output=output,
            engine=facts,
            warnings=job.warnings,
            actor="worker",
            matte=kept,
        )

    return finish
