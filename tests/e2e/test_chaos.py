"""The chaos program for a few seconds; ``./dev chaos`` runs it for three minutes, also with PostgreSQL."""

from pathlib import Path

import pytest
from benchmarks import chaos

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_a_service_keeps_its_promises_while_its_processes_are_killed(tmp_path: Path) -> None:
    report = chaos.run(tmp_path, seconds=10, database="sqlite", seed=7)
    assert report.violations == []
    assert report.accepted > 0
    assert report.faults, "nothing happened"
