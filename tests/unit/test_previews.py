"""Previews of a run: available from the first frame, transparent, few, and never a reason to fail."""

from pathlib import Path

import cv2
import numpy as np
import pytest

import alphareel
from alphareel.domain.clip import Limits, Progress
from alphareel.domain.options import Options
from alphareel.imaging.frame import Matte
from alphareel.media.reader import open_reader
from alphareel.pipeline.previews import PreviewWriter
from alphareel.testing.clips import make_clip


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "in.mp4", frames=12, width=640, height=360, background="green")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "previews").mkdir()
    return tmp_path / "previews"


def picture(path):
    """The image as BGRA (H, W, 4) uint8, read by OpenCV instead of our decoder."""
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def at(share: float, seconds: float) -> Progress:
    return Progress(done=1, total=100, share=share, seconds=seconds, fps=1.0, remaining_seconds=None)


def test_every_progress_from_the_first_names_the_latest_preview(clip, folder, tmp_path):
    steps = list(alphareel.run(clip.path, tmp_path / "out.webm", Options(engine="chroma"), previews=folder))
    assert steps[0].preview == str(folder / "preview-0.webp")
    assert not [step for step in steps[:-1] if step.preview is None]


def test_a_preview_is_small_and_has_a_transparent_background(clip, folder, tmp_path):
    list(alphareel.run(clip.path, tmp_path / "out.webm", Options(engine="chroma"), previews=folder))
    shown = picture(folder / "preview-0.webp")
    assert shown.shape == (180, 320, 4)
    assert {0, 255} <= set(np.unique(shown[..., 3]))


def test_without_a_preview_folder_no_previews_are_written(clip, tmp_path):
    steps = list(alphareel.run(clip.path, tmp_path / "out.webm", Options(engine="chroma")))
    assert {step.preview for step in steps} == {None}


@pytest.fixture
def matte(clip):
    with open_reader(clip.path, Limits()) as reader:
        frame = next(iter(reader.frames()))
        yield reader.clip, Matte(frame, np.full((360, 640), 255, np.uint8))


def test_previews_are_limited_by_time_and_by_share_of_the_clip(matte, folder):
    facts, frame = matte
    preview_writer = PreviewWriter(folder, facts)
    times = [(0.0, 0.1), (0.5, 0.5), (0.51, 2.2), (0.52, 9.0), (0.56, 9.2), (0.9, 10.0), (0.91, 11.3)]
    named = [Path(preview_writer.update(at(*time), frame).preview or "").name for time in times]
    numbers = [int(name.removeprefix("preview-").removesuffix(".webp")) for name in named]
    assert numbers == [0, 0, 1, 1, 2, 2, 3]


def test_a_preview_that_cannot_be_written_does_not_fail_the_run(matte, tmp_path):
    facts, frame = matte
    assert PreviewWriter(tmp_path / "missing", facts).update(at(0.0, 0.1), frame).preview is None


def test_a_preview_is_not_larger_than_its_clip(folder, tmp_path):
    tiny = make_clip(tmp_path / "tiny.mp4", frames=2, width=16, height=16, background="green")
    list(
        alphareel.run(
            tiny.path, tmp_path / "out.webm", Options(engine="chroma", key_color=(0, 255, 0)), previews=folder
        )
    )
    assert picture(folder / "preview-0.webp").shape == (16, 16, 4)
