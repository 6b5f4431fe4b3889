"""Schemathesis: the service accepts what its OpenAPI document allows, refuses the rest, and responds as documented.

ALPHAREEL_TEST_EXAMPLES=200 runs more examples for each operation and each chain of operations.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from alphareel.http.app import create_app
from alphareel.service.api_keys.admin import Operator
from alphareel.testing.fakes import make_settings

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = os.environ.get("ALPHAREEL_TEST_EXAMPLES", "4")
TOKEN = "a token for operators"
PATIENCE = 3600


@pytest.mark.timeout(PATIENCE)
def test_the_service_conforms_to_its_openapi_document(harness, key, serve, tmp_path):
    settings = make_settings(access={"admin_token": TOKEN}, rate_limits={"write": 0, "read": 0, "auth_failures": 0})
    runner = harness.services.runner_admin.create(Operator("test"), name="schemathesis")
    environment = {
        **os.environ,
        "ALPHAREEL_API_KEY": key,
        "ALPHAREEL_ADMIN_TOKEN": TOKEN,
        "ALPHAREEL_RUNNER_TOKEN": runner.token,
        "NO_COLOR": "1",
    }
    app = create_app(harness.services, settings)
    app.openapi()  # on a busy machine, building it takes longer than schemathesis waits
    with serve(app) as server:
        command: list[Any] = [
            Path(sys.executable).with_name("st"),
            "--config-file",
            ROOT / "tests/http/schemathesis.toml",
        ]
        command += ["run", f"{server.url}/openapi.json", "--max-examples", EXAMPLES, "--no-color"]
        command += ["--seed", "1"] if os.environ.get("CI") else []
        result = subprocess.run(
            command,
            check=False,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
    shutil.rmtree(ROOT / ".schemathesis", ignore_errors=True)
    assert result.returncode == 0, result.stdout + result.stderr
