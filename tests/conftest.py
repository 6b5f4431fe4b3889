"""What every test gets: a clean environment, and property tests that a busy machine cannot fail."""

import os
from pathlib import Path

import hypothesis
import pytest

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
