"""What a start may import: the service waits for every module."""

import subprocess
import sys

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from alphareel.db.migrate import newest_revision


@pytest.mark.parametrize(
    ("module", "left_out"),
    [
        # It starts the worker, so that both load the rest at the same time.
        ("alphareel.server.api_process", {"cv2", "numpy", "sqlalchemy", "fastapi", "dbos"}),
        ("alphareel.server.worker_process", {"fastapi", "starlette", "alembic", "onnxruntime"}),
        ("alphareel.server.request_supervisor", {"fastapi", "starlette", "uvicorn", "alembic", "onnxruntime"}),
        ("alphareel.server.api_server", {"alembic", "markdown_it", "onnxruntime"}),
    ],
)
def test_a_process_does_not_wait_for_modules_of_others(module: str, left_out: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert left_out & set(done.stdout.split()) == set()


def test_the_newest_revision_is_known_without_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", "alphareel.db:migrations")
    config.set_main_option("path_separator", "os")
    assert newest_revision() == ScriptDirectory.from_config(config).get_current_head()
