"""What several tests share: the command, and the services of one installation with a client."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphareel.cli import main
from alphareel.service.api_keys.admin import Operator
from alphareel.service.principal import Principal
from alphareel.testing.fakes import ServiceHarness, open_harness


@pytest.fixture
def harness(tmp_path: Path) -> Iterator[ServiceHarness]:
    harness = open_harness(tmp_path)
    yield harness
    harness.close()


@pytest.fixture
def caller(harness: ServiceHarness) -> Principal:
    """The client acme, with a key."""
    made = harness.services.admin.create_key(Operator("tests", "req_0"), client_id="acme")
    return Principal(made.key, "req_1")


@pytest.fixture
def command(monkeypatch, capsys):
    """Run ``alphareel`` with arguments; returns (exit code, standard output, standard error)."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["alphareel", *map(str, arguments)])
        code = 0
        try:
            main.main()
        except SystemExit as leaving:
            code = leaving.code or 0  # type: ignore[assignment]
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run
