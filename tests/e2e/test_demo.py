"""The README's first command: the demo drives the real service from upload to contact sheet."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.e2e
@pytest.mark.timeout(600)
def test_the_demo_turns_a_made_clip_into_a_verified_transparent_webm_and_a_sheet(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py")],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=570,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "100 frames" in done.stdout
    assert "engine    chroma" in done.stdout
    folder = tmp_path / "demo-output"
    assert (folder / "green-screen-transparent.webm").stat().st_size > 10_000
    sheet = cv2.imread(str(folder / "green-screen-sheet.png"))
    assert sheet.shape[1] > 1000
