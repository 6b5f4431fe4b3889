"""The real service on a temporary SQLite, and a client that reaches the application without a network."""

import io
import json
import logging
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from starlette.testclient import TestClient

from alphareel import observe
from alphareel.domain.clip import EngineFacts
from alphareel.http.app import create_app
from alphareel.http.config import HttpConfig
from alphareel.jobs.job import Output
from alphareel.jobs.keys import digest
from alphareel.testing.fakes import Desk, open_desk

RESULT = bytes(range(256)) * 20

NewKey = Callable[[], str]
MakeClient = Callable[..., TestClient]
FinishJob = Callable[[str], None]


@pytest.fixture(autouse=True)
def logs() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What was logged so far, as a collector of log lines would read it."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stream = io.StringIO()
    observe.configure("info", stream=stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:], root.level = before


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """One service for all tests; every test has keys of its own, so that none sees another's jobs."""
    opened = open_desk(tmp_path_factory.mktemp("desk"), max_bytes=9_000_000)
    yield opened
    opened.close()


@pytest.fixture
def new_key(desk: Desk) -> NewKey:
    def make() -> str:
        secret = f"ar_live_{uuid.uuid4().hex}"
        name = uuid.uuid4().hex[:8]
        desk.keys._store.add_key(
            key_id=name, secret_sha256=digest(secret), fingerprint=f"fp_{name}", client_id=name, note=""
        )
        return secret

    return make


@pytest.fixture
def key(new_key: NewKey) -> str:
    return new_key()


@pytest.fixture
def make_client(desk: Desk, key: str) -> Iterator[MakeClient]:
    """Makes a client with the test's key, another one, or None, for an application with these settings."""
    opened = ExitStack()  # entered, a client keeps one event loop instead of making one for each request

    def make(*, secret: str | None = key, **settings: Any) -> TestClient:
        app = create_app(desk.service, HttpConfig(version="1.2.3", **settings))
        headers = {"X-Api-Key": secret} if secret else {}
        return opened.enter_context(TestClient(app, headers=headers, raise_server_exceptions=False))

    with opened:
        yield make


@pytest.fixture
def client(make_client: MakeClient) -> TestClient:
    return make_client()


@pytest.fixture
def nobody(make_client: MakeClient) -> TestClient:
    """A client without a key."""
    return make_client(secret=None)


@pytest.fixture
def finish_job(desk: Desk, tmp_path) -> FinishJob:
    """Does what a worker does when it delivers."""

    def finish(job_id: str) -> None:
        job = desk.jobs.job(job_id)
        running = desk.jobs.begin_attempt(job_id, ticket=job.ticket, actor="worker")
        blob = f"outputs/{job_id}/{running.attempt}/result.webm"
        made = tmp_path / "result.webm"
        made.write_bytes(RESULT)
        desk.blobs.put_file(blob, made)
        output = Output(blob, "webm", "video/webm", len(RESULT), "1" * 64, 640, 360, 60, 2.0, True, False)
        facts = EngineFacts("builtin", "1", "2" * 64, "Apache-2.0")
        assert desk.jobs.complete(
            job_id, attempt=running.attempt, output=output, engine=facts, warnings=job.warnings, actor="worker"
        )

    return finish
