"""Bundled recurrent networks: what a broken file says, and what the shipped one for any subject does to things."""

from dataclasses import replace
from fractions import Fraction

import cv2
import numpy as np
import onnx
import pytest

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting.models import builtin, subject
from alphareel.matting.recurrent_model import RecurrentModelEngine, _RecurrentModel, load_recurrent_model, stretch
from alphareel.matting.runtime import Runtime
from alphareel.testing.frames import frame_of
from alphareel.testing.networks import make_builtin

SIZE = (320, 180)
CLIP = Clip(
    width=320, height=180, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=8, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip


def mattes(session, pictures):
    size = session.model_input_size
    frames = [frame_of(picture, size, index=n) for n, picture in enumerate(pictures)]
    return [session.step([frame])[0].alpha / 255 for frame in frames]


def colored(*rgb):
    return np.full((180, 320, 3), rgb, np.uint8)


def test_a_missing_file_says_to_reinstall(tmp_path):
    with pytest.raises(ModelUnavailable, match=r"lacks the bundled network subject\.onnx") as caught:
        load_recurrent_model(subject.INFO, Runtime(threads=1), tmp_path / "subject.onnx")
    assert "Reinstall" in caught.value.hint


@pytest.mark.parametrize("name", ["area", "memory_stride"])
def test_metadata_that_is_not_a_number_is_refused(tmp_path, name):
    path = make_builtin(tmp_path / "net.onnx", {name: "large", "padding": "." * 1024})
    with pytest.raises(WeightsInvalid, match=name):
        load_recurrent_model(subject.INFO, Runtime(threads=1), path)


def test_the_first_frame_of_a_shot_has_the_matte_it_has_alone(tmp_path):
    engine = load_recurrent_model(subject.INFO, Runtime(threads=1), make_builtin(tmp_path / "net.onnx"))
    red, blue = colored(230, 20, 20), colored(20, 20, 230)
    (alone,) = mattes(engine.start(CLIP, Options()), [red])
    *_, after_a_cut = mattes(engine.start(CLIP, Options()), [blue, blue, blue, red])
    np.testing.assert_allclose(after_a_cut, alone, atol=1 / 255)


def test_the_memory_outlives_a_change_of_the_input_size(tmp_path):
    engine = load_recurrent_model(subject.INFO, Runtime(threads=1), make_builtin(tmp_path / "net.onnx"))
    network = _RecurrentModel(engine.runtime.open(engine.path), engine.channels, engine.stride)
    small, large = (np.full((3, *size), 0.7, np.float32) for size in ((64, 96), (128, 192)))
    network.reset(small)
    fresh = network.predict(small)
    settled = [network.predict(small) for _ in range(4)][-1]
    np.testing.assert_allclose(
        network.predict(large).mean(), settled.mean(), atol=abs(settled - fresh).mean() / 2 + 1e-6
    )
    network.reset(small)
    np.testing.assert_allclose(network.predict(small), fresh, atol=1e-6)


@pytest.mark.parametrize("module", [builtin, subject])
@pytest.mark.parametrize(("size", "larger"), [((1920, 1080), (672, 384)), ((640, 360), (640, 352)), ((320, 180), None)])
def test_only_clips_with_more_pixels_have_a_larger_input(module, size, larger):
    width, height = size
    engine = module.load(Runtime(threads=1))
    assert isinstance(engine, RecurrentModelEngine)
    assert engine._larger_input_size(replace(CLIP, width=width, height=height)) == larger


@pytest.mark.parametrize("module", [builtin, subject])
def test_a_bundled_network_ships_with_its_name_and_license(module):
    path = module.__file__.replace(".py", ".onnx")
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert facts["name"] == module.INFO.name
    assert facts["license"] == module.INFO.weights_license
    assert module.available(None) is None


def test_what_a_network_is_sure_of_is_opaque_or_transparent():
    answer = np.array([[0, 0.06, 0.28, 0.5, 0.72, 0.94, 1]], np.float32)
    np.testing.assert_allclose(stretch(answer), [[0, 0, 0.25, 0.5, 0.75, 1, 1]], atol=1e-6)
    assert stretch(answer).dtype == np.float32


def test_a_plain_room_has_no_haze():
    engine = builtin.load(Runtime(threads=1))
    assert isinstance(engine, RecurrentModelEngine)
    network = _RecurrentModel(engine.runtime.open_own(engine.path), engine.channels, engine.stride)
    room = np.asarray(thing((-100, -100))[:160].transpose(2, 0, 1) / 255, np.float32)
    network.reset(room)
    assert not network.predict(room).any()


def thing(center):
    """A striped box with a shadow on a plain table before a plain wall."""
    picture = np.full((180, 320, 3), (205, 200, 190), np.uint8)
    picture[120:] = (150, 135, 120)
    x, y = center
    cv2.rectangle(picture, (x - 30, y - 40), (x + 30, y + 40), (190, 30, 40), -1)
    for line in range(y - 30, y + 40, 14):
        cv2.line(picture, (x - 30, line), (x + 30, line), (240, 220, 60), 3)
    return cv2.GaussianBlur(picture, (0, 0), 0.8)


def test_the_network_for_any_subject_finds_a_thing_from_the_first_frame_on_and_follows_it():
    session = subject.load(Runtime(threads=1)).start(CLIP, Options())
    for n, alpha in enumerate(mattes(session, [thing((120 + 8 * n, 100)) for n in range(6)])):
        x = 120 + 8 * n
        assert alpha[70:130, x - 20 : x + 20].mean() > 0.8
        assert alpha[:40].mean() < 0.05
        assert alpha[60:, :60].mean() < 0.1


def test_the_network_for_any_subject_finds_nothing_in_a_plain_room():
    room = thing((-100, -100))
    (*_, alpha) = mattes(subject.load(Runtime(threads=1)).start(CLIP, Options()), [room] * 3)
    assert alpha.mean() < 0.02
