"""The start of the service, as an operator meets it."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from alphareel.testing.service import ServiceProcess

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def start(folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """A start that is expected to end by itself."""
    given = {"DATA_DIR": str(folder / "data"), "PORT": "0", **settings}
    return subprocess.run(
        [Path(sys.executable).with_name("alphareel"), "serve"],
        env=os.environ | {f"ALPHAREEL_{name}": value for name, value in given.items()},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_the_first_key_is_shown_by_the_first_start_that_gets_its_port(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        failed = start(tmp_path, PORT=str(taken.getsockname()[1]))
    assert failed.returncode == 6
    assert "cannot be listened on" in failed.stderr
    assert "API key" not in failed.stdout
    with ServiceProcess(tmp_path / "data", WORKERS="0") as running:
        assert "Your API key, shown this once: ar_live_" in running.console_output()


def test_a_variable_that_is_no_setting_is_warned_of_with_the_nearest_setting(tmp_path: Path) -> None:
    with ServiceProcess(tmp_path / "data", WORKERS="0", MAX_UPLOAD_BYTE="500MB") as running:
        (line,) = [line for line in running.log().splitlines() if "unknown setting" in line]
    assert "ALPHAREEL_MAX_UPLOAD_BYTE" in line
    assert "Did you mean ALPHAREEL_MAX_UPLOAD_BYTES?" in line
    assert "500MB" not in line


def test_a_database_that_is_away_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    failed = start(tmp_path, DATABASE_URL="postgresql://me:s3cr3t-word@127.0.0.1:1/reels?connect_timeout=5")
    assert failed.returncode == 6
    assert "The database 127.0.0.1:1, reels cannot be used: connection failed" in failed.stderr
    assert "s3cr3t-word" not in failed.stdout + failed.stderr
