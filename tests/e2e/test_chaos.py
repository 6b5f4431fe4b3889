"""The chaos program for a few seconds; ``./dev chaos`` runs it for three minutes, also with PostgreSQL."""

from pathlib import Path

import pytest
from benchmarks import chaos

from alphareel.testing.servers import MissingServer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1200)]


def test_a_service_keeps_its_promises_while_its_processes_are_killed(tmp_path: Path) -> None:
    report = chaos.run(tmp_path, seconds=10, database="sqlite", seed=7)
    assert report.violations == []
    assert report.accepted > 0
    assert report.faults, "nothing happened"


def test_a_cluster_keeps_its_promises_while_its_connections_fail(tmp_path: Path) -> None:
    try:
        report = chaos.run(tmp_path, seconds=20, database="postgresql", seed=5, cluster=True)
    except MissingServer as error:
        pytest.skip(str(error))
    assert report.violations == []
    assert report.accepted > 0
    assert report.faults, "nothing happened"
