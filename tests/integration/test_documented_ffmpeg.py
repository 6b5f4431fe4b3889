"""The commands of docs/use-results.md run as they are printed, with the program ffmpeg where it is installed."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

import alphareel
from alphareel.testing.clips import make_clip

PAGE = (Path(__file__).parents[2] / "docs/use-results.md").read_text()
COMMANDS = re.findall(r"^ffmpeg (.*)$", PAGE, flags=re.MULTILINE)
FFMPEG = os.environ.get("ALPHAREEL_TEST_FFMPEG") or shutil.which("ffmpeg")


@pytest.mark.skipif(FFMPEG is None, reason="the program ffmpeg is not installed; ALPHAREEL_TEST_FFMPEG names one")
def test_ffmpeg_reads_the_alpha_of_results_as_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "talk.mp4", frames=6, width=160, height=120, background="green", audio=True)
    make_clip(tmp_path / "beach.mp4", frames=10, width=160, height=120)
    targets = {"talk.webm": {}, "matte.mp4": {"output_format": "matte"}, "exact.mkv": {"output_format": "ffv1"}}
    alphareel.cut("talk.mp4", targets=targets, engine="chroma")
    for command in COMMANDS:
        subprocess.run(
            [FFMPEG, "-v", "error", *shlex.split(command)], check=True, timeout=300, stdin=subprocess.DEVNULL
        )
    exact = alphas("exact.mkv")
    pictures = [cv2.imread(f"talk-{n:05}.png", cv2.IMREAD_UNCHANGED) for n in range(1, 7)]
    assert len(COMMANDS) == 4
    assert np.abs(np.stack(pictures)[..., 3].astype(float) - exact).mean() < 2
    assert np.abs(alphas("talk.mov").astype(float) - exact).mean() < 2
    assert exact.min() == 0
    assert exact.max() == 255
    with av.open("over.mp4") as file:
        assert [stream.type for stream in file.streams] == ["video", "audio"]
        assert len(list(file.decode(video=0))) == 6


def alphas(path: str) -> np.ndarray:
    with av.open(path) as file:
        return np.stack([frame.to_ndarray(format="rgba")[..., 3] for frame in file.decode(video=0)])
