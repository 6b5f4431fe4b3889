"""The commands that the README and the pages print run as they are printed, each block in a folder of its own."""

import itertools
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from alphareel.testing.clips import make_clip

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "docs/quickstart.md", "docs/cli.md", "docs/deploy.md", "docs/formats.md")
PLACEHOLDER = re.compile(r"[\[<]|\b(?:[A-Z]{4,}|job_\w+)\b")  # as in "alphareel sheet SOURCE RESULT PICTURE"
FILES = {name: {name} for name in ("talk.mp4", "stage.mp4", "shop.mp4")} | {
    name: {"clips/", "clips/*.mov"} for name in ("clips/a.mp4", "clips/b.mov")
}
FILES["c.mov"] = {"*.mov"}
OTHERS = ("serve", "setup", "--join", "move")  # run until they are stopped, or need other servers


def blocks(page: str) -> list[list[list[str]]]:
    """The words of each command of each block that has commands."""
    found = []
    for block in re.findall(r"^```(?:sh|text)\n(.*?)^```", (ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL):
        lines = [line for line in block.splitlines() if line.startswith("alphareel ")]
        words = [
            shlex.split(line, comments=True)[1:] for line in lines if not PLACEHOLDER.search(line.partition(" #")[0])
        ]
        found.append([each for each in words if not set(each) & set(OTHERS)])
    return [block for block in found if block]


def test_the_quickstart_runs_from_top_to_bottom_in_one_folder(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_clip(tmp_path / "talk.mp4", audio=True, width=320, height=240, frames=6)
    cv2.imwrite("beach.jpg", np.full((90, 160, 3), 200, np.uint8))
    page = (ROOT / "docs/quickstart.md").read_text()
    ran = 0
    for language, block in re.findall(r"^```(text|python)\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        if language == "python":
            exec(compile(block, "block", "exec"), {})
            ran += 1
        for line in block.splitlines():
            if line.startswith("alphareel ") and line != "alphareel serve":
                assert command(*shlex.split(line)[1:])[0] == 0, line
                ran += 1
    assert ran == 5


BLOCKS = [pytest.param(block, id=f"{page}-{n}") for page in PAGES for n, block in enumerate(blocks(page))]


@pytest.mark.parametrize("block", BLOCKS)
def test_the_commands_of_a_block_run(
    block: list[list[str]],
    command: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALPHAREEL_DATA_DIR", str(tmp_path / "data"))
    words_of_block = set(itertools.chain.from_iterable(block))
    for name, needed in FILES.items():
        if needed & words_of_block:
            Path(name).parent.mkdir(exist_ok=True)
            background = "green" if name == "stage.mp4" else "texture"
            size = {"width": 320, "height": 240, "frames": 6}
            if "correct" in words_of_block:  # at 12 seconds and 320,300
                size = {"width": 480, "height": 360, "frames": 13, "rate": 1}
            make_clip(tmp_path / name, audio=name == "talk.mp4", background=background, **size)  # type: ignore[arg-type]
    if "correct" in words_of_block:
        assert command("cut", "talk.mp4", "talk.mkv", "--format", "lossless_matte")[0] == 0
    if "sheet" in words_of_block and "cut" not in words_of_block:
        assert command("cut", "talk.mp4", "talk.webm")[0] == 0
    if "backup" in words_of_block:
        assert command("keys", "create", "studio-7")[0] == 0
    cv2.imwrite("beach.jpg", np.full((90, 160, 3), 200, np.uint8))
    for words in block:
        code, _, said = command(*(word.replace("/backups", f"{tmp_path}/backups") for word in words))
        assert code == 0, (words, said)
