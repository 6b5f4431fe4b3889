"""What an engine can read before the first frame: a plate in the clip's colors, and model inputs of the clip."""

from fractions import Fraction

import cv2
import numpy as np
import pytest

import alphareel
from alphareel.domain.clip import Clip, Color, Limits
from alphareel.domain.errors import InvalidRequest, NotFound
from alphareel.domain.options import Options
from alphareel.media.probe import probe
from alphareel.pipeline.scene import ClipScene
from alphareel.testing.clips import GREEN, make_clip

CLIP = Clip(
    width=320, height=180, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=6, full_range=True),
)  # fmt: skip


def picture_file(folder, width=640, height=360):
    path = folder / "plate.png"
    cv2.imwrite(str(path), np.full((height, width, 3), (40, 90, 200), np.uint8))
    return path


def clip_scene(plate=None, source=None, clip=CLIP):
    return ClipScene(source, clip, Options(plate=plate and str(plate)), Limits())


def test_a_plate_is_converted_to_the_colors_of_the_clip(tmp_path):
    images = clip_scene(picture_file(tmp_path)).plate((64, 36))
    assert images.shape == (3, 36, 64)
    full_range_601 = (117, 84, 187)  # of RGB 200, 90, 40
    assert np.abs(images.mean(axis=(1, 2)) - full_range_601).max() < 2


def test_without_a_plate_option_the_plate_is_none():
    assert clip_scene().plate((64, 36)) is None


def test_a_plate_of_another_aspect_ratio_is_rejected(tmp_path):
    with pytest.raises(InvalidRequest, match="400x400") as caught:
        clip_scene(picture_file(tmp_path, 400, 400)).plate((64, 36))
    assert caught.value.hint


def test_a_missing_plate_file_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        clip_scene(tmp_path / "none.png").plate((64, 36))


def test_model_inputs_are_those_of_the_clip(tmp_path):
    path = tmp_path / "clip.mp4"
    make_clip(path, frames=6, width=320, height=180)
    images = list(clip_scene(source=path, clip=probe(path, Limits())).model_inputs((64, 36)))
    assert len(images) == 6
    assert images[0].shape == (3, 36, 64)


def test_a_plate_option_selects_the_plate_engine(tmp_path):
    source, plate, target = tmp_path / "clip.mp4", tmp_path / "plate.png", tmp_path / "out.webm"
    make_clip(source, frames=6, width=320, height=180, background="green")
    cv2.imwrite(str(plate), np.full((180, 320, 3), GREEN[::-1], np.uint8))
    result = alphareel.cut(source, target, plate=plate)
    assert result.engine.name == "plate"
    assert result.frames == 6
