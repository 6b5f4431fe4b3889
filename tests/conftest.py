"""What every test gets: a clean environment, and property tests that a busy machine cannot fail."""

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sa

from alphareel.testing.servers import MissingServer, free_port, redis_server

hypothesis.settings.register_profile(
    "alphareel",
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
hypothesis.settings.load_profile("alphareel")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test reads the settings or writes into the home of whoever runs it."""
    for name in [n for n in os.environ if n.startswith(("ALPHAREEL_", "REMOVEBGVIDEO_"))]:
        if not name.startswith("ALPHAREEL_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    return


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """The URL of a new database on the PostgreSQL server that ALPHAREEL_TEST_POSTGRES_URL names; skips without one."""
    server = os.environ.get("ALPHAREEL_TEST_POSTGRES_URL")
    if server is None:
        pytest.skip("ALPHAREEL_TEST_POSTGRES_URL names no PostgreSQL server")
    name = f"alphareel_test_{uuid.uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with admin.connect() as c:
        c.exec_driver_sql(f"CREATE DATABASE {name}")
    yield sa.make_url(server).set(database=name).render_as_string(hide_password=False)
    with admin.connect() as c:
        c.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new database: a test runs with SQLite, and with PostgreSQL where there is a server."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a Redis: the one that ALPHAREEL_TEST_REDIS_URL names, else a new one where Redis is installed."""
    if url := os.environ.get("ALPHAREEL_TEST_REDIS_URL"):
        yield url
        return
    port = free_port()
    try:
        with redis_server(tmp_path_factory.mktemp("redis"), port=port):
            yield f"redis://127.0.0.1:{port}/0"
    except MissingServer as missing:
        pytest.skip(str(missing))
