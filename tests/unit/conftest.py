"""What several tests of the command share."""

import sys

import pytest

from alphareel.cli import main


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
