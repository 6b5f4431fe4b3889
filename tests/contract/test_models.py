"""The contract of every model file. A new model is tested without further registration."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import AlphareelError
from alphareel.domain.options import Options
from alphareel.matting import priorities, tiers, torch_runtime
from alphareel.matting.engine import RequiresScene
from alphareel.matting.runtime import Runtime
from alphareel.testing.clips import GREEN
from alphareel.testing.frames import frame_of
from alphareel.testing.networks import make_birefnet, make_modnet, make_rvm
from alphareel.testing.prompted_networks import make_prompted

NAMES = priorities.names()
CARDS = Path(__file__).resolve().parents[2] / "docs" / "models"
# Tiny networks with the interface of the real weights, by file name.
TINY_NETWORKS = {
    "rvm": ("rvm_mobilenetv3_fp32.onnx", make_rvm),
    "rvm_resnet50": ("rvm_resnet50_fp32.onnx", make_rvm),
    "modnet": ("modnet.onnx", make_modnet),
    "birefnet": ("BiRefNet-general-epoch_244.onnx", make_birefnet),
    "birefnet_lite": ("BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx", make_birefnet),
    "birefnet_portrait": ("BiRefNet-portrait-epoch_150.onnx", make_birefnet),
}
BLUE = (0, 71, 187)


def model(name):
    return tiers.load_module(name)


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for file_name, make in TINY_NETWORKS.values():
        make(folder / file_name)
    if torch_runtime.is_installed():
        make_prompted(folder)
    return folder


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture
def engine(name, models_dir):
    if name == "prompted" and not torch_runtime.is_installed():
        pytest.skip("the pro extra is not installed")
    assert model(name).available(models_dir) is None, "add a tiny network for it above"
    return model(name).load(Runtime(models_dir, threads=1))


def clip_of(width, height):
    return Clip(
        width=width, height=height, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
        container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
    )  # fmt: skip


def picture(width, height, shift=0, screen=GREEN):
    """A textured block of skin color in front of a screen, moved by ``shift`` pixels."""
    image = np.empty((height, width, 3), np.uint8)
    image[:] = screen
    left, right = width // 4 + shift, max(width // 4 + shift + 1, width * 3 // 4 + shift)
    image[height // 4 :, left:right] = (222, 180, 155)
    grain = np.random.default_rng(abs(shift)).integers(-4, 5, image.shape)
    return np.clip(image.astype(int) + grain, 0, 255).astype(np.uint8)


def shot(session, count=4, *, width=320, height=180, screen=GREEN, step=3):
    return [frame_of(picture(width, height, step * n, screen), session.model_input_size, index=n) for n in range(count)]


class EmptyScene:
    """The scene without the block."""

    def __init__(self, width, height, screen):
        self.picture = np.full((height, width, 3), screen, np.uint8)

    def plate(self, size):
        return frame_of(self.picture, size).thumbnail

    def model_inputs(self, size):
        return iter(())


def start(engine, width=320, height=180, screen=GREEN):
    session = engine.start(clip_of(width, height), Options())
    if isinstance(session, RequiresScene):
        session.prepare(EmptyScene(width, height, screen))
    return session


def bytes_of(mattes):
    return [(m.alpha.tobytes(), m.frame.y.tobytes(), m.frame.u.tobytes(), m.frame.v.tobytes()) for m in mattes]


def steps(session, frames):
    return [matte for frame in frames for matte in session.step([frame])]


def test_the_info_of_a_model_is_complete(name):
    info = model(name).INFO
    assert info.name == name
    empty = [f.name for f in fields(info) if getattr(info, f.name) == ""]
    assert not empty
    assert info.summary.endswith(".")


def test_the_card_of_a_model_names_its_licenses(name):
    info, card = model(name).INFO, CARDS / f"{name}.md"
    assert card.is_file(), f"write {card.name}"
    text = card.read_text()
    assert info.code_license in text
    assert info.weights is None or info.weights_license in text


def test_without_weights_a_model_is_available_or_says_why_not(name, tmp_path):
    for folder in (None, tmp_path, tmp_path / "absent"):
        answer = model(name).available(folder)
        assert answer is None or answer.endswith(".")
        if answer is not None:
            with pytest.raises(AlphareelError) as caught:
                model(name).load(Runtime(folder))
            assert caught.value.hint


def test_importing_a_model_loads_no_inference_runtime(name):
    program = (
        f"import sys, alphareel.matting.models.{name} as m; m.available(None); print('onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_facts_of_an_engine_name_it_and_its_weights(name, engine):
    facts = engine.facts
    assert facts.name == name
    assert facts.version
    assert facts.license == model(name).INFO.weights_license
    assert (facts.weights_sha256 is not None) == (model(name).INFO.weights is not None)


def test_an_engine_returns_one_matte_for_each_frame_in_order(engine):
    session = start(engine)
    frames = shot(session)
    mattes = [m for part in (frames[:1], frames[1:3], frames[3:]) for m in session.step(part)]
    assert [m.frame.index for m in mattes] == [0, 1, 2, 3]
    for frame, matte in zip(frames, mattes, strict=True):
        assert matte.alpha.shape == (180, 320)
        assert matte.alpha.dtype == matte.frame.y.dtype == np.uint8
        assert (matte.frame.pts, matte.frame.duration) == (frame.pts, frame.duration)
        assert [p.shape for p in (matte.frame.y, matte.frame.u, matte.frame.v)] == [(180, 320), (90, 160), (90, 160)]


def test_the_same_clip_gives_identical_mattes(engine):
    first, second = (steps(session, shot(session)) for session in (start(engine), start(engine)))
    assert bytes_of(first) == bytes_of(second)


def test_clips_processed_alternately_do_not_influence_each_other(engine):
    def frames(session, screen):
        return shot(session, screen=screen)

    alone = [
        steps(session, frames(session, screen))
        for session, screen in ((start(engine), GREEN), (start(engine, screen=BLUE), BLUE))
    ]
    one, other = start(engine), start(engine, screen=BLUE)
    turns = [(one.step([a])[0], other.step([b])[0])
             for a, b in zip(frames(one, GREEN), frames(other, BLUE), strict=True)]  # fmt: skip
    together = list(zip(*turns, strict=True))
    assert [bytes_of(t) for t in together] == [bytes_of(a) for a in alone]


def test_clips_processed_concurrently_give_the_same_mattes_as_in_sequence(engine):
    def cut(screen):
        session = start(engine, screen=screen)
        return bytes_of(steps(session, shot(session, screen=screen)))

    alone = [cut(GREEN), cut(BLUE)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(cut, (GREEN, BLUE))) == alone


def test_a_cut_resets_the_temporal_state(engine):
    session, fresh = start(engine), start(engine)
    before, after = shot(session, 5), shot(session, screen=BLUE, step=-5)
    mattes = steps(session, [*before, *after])
    assert bytes_of(mattes[5:]) == bytes_of(steps(fresh, after))


def test_an_engine_with_temporal_state_declares_it(name, engine):
    session, fresh = start(engine), start(engine)
    frames = shot(session, 4)
    remembers = bytes_of(steps(session, frames)[3:]) != bytes_of(steps(fresh, frames[3:]))
    assert model(name).INFO.temporal or not remembers


@pytest.mark.parametrize(
    ("width", "height"), [(16, 16), (2, 2), (2048, 16), (16, 2048), (180, 320), (642, 362), (1280, 544)]
)
def test_an_engine_accepts_any_even_frame_size(engine, width, height):
    session = start(engine, width, height)
    matte = session.step(shot(session, 1, width=width, height=height))[0]
    assert matte.alpha.shape == matte.frame.y.shape == (height, width)
    assert matte.frame.u.shape == matte.frame.v.shape == (height // 2, width // 2)


def test_an_engine_never_writes_to_the_planes_of_the_decoder(engine):
    session = start(engine)
    frames = shot(session, 2)
    before = [(f.y.copy(), f.u.copy(), f.v.copy(), f.thumbnail.copy()) for f in frames]
    steps(session, frames)
    for frame, planes in zip(frames, before, strict=True):
        assert all(
            np.array_equal(a, b) for a, b in zip((frame.y, frame.u, frame.v, frame.thumbnail), planes, strict=True)
        )
