"""What every file in ``matting/models`` must do, whatever it runs on. A new model is tested by being there."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from alphareel import plugins
from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import AlphareelError
from alphareel.domain.options import Options
from alphareel.matting import tiers, torch_runtime
from alphareel.matting.engine import RequiresScene
from alphareel.matting.runtime import Runtime
from alphareel.testing.clips import GREEN
from alphareel.testing.frames import frame_of
from alphareel.testing.networks import make_birefnet, make_modnet, make_rvm
from alphareel.testing.prompted_networks import make_prompted

NAMES = tiers.names()
CARDS = Path(__file__).resolve().parents[2] / "docs" / "models"
# Engines whose weights the user brings: a stand-in of the same interface, by file name.
STAND_INS = {
    "rvm": ("rvm_mobilenetv3_fp32.onnx", make_rvm),
    "rvm_resnet50": ("rvm_resnet50_fp32.onnx", make_rvm),
    "modnet": ("modnet.onnx", make_modnet),
    "birefnet": ("BiRefNet-general-epoch_244.onnx", make_birefnet),
    "birefnet_lite": ("BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx", make_birefnet),
    "birefnet_portrait": ("BiRefNet-portrait-epoch_150.onnx", make_birefnet),
}
BLUE = (0, 71, 187)


def file_of(name):
    return plugins.module("alphareel.matting.models", name)


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    for file_name, make in STAND_INS.values():
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
        pytest.skip("the extra pro is not installed")
    assert file_of(name).available(models_dir) is None, "give it weights, or a stand-in above"
    return file_of(name).load(Runtime(models_dir, threads=1))


def clip_of(width, height):
    return Clip(
        width=width, height=height, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
        container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
    )  # fmt: skip


def picture(width, height, shift=0, screen=GREEN):
    """A block of skin with some texture before a screen, moved by ``shift`` pixels."""
    made = np.empty((height, width, 3), np.uint8)
    made[:] = screen
    left, right = width // 4 + shift, max(width // 4 + shift + 1, width * 3 // 4 + shift)
    made[height // 4 :, left:right] = (222, 180, 155)
    grain = np.random.default_rng(abs(shift)).integers(-4, 5, made.shape)
    return np.clip(made.astype(int) + grain, 0, 255).astype(np.uint8)


def shot(memory, count=4, *, width=320, height=180, screen=GREEN, step=3):
    return [frame_of(picture(width, height, step * n, screen), memory.thumbnail, index=n) for n in range(count)]


class Empty:
    """The scene before the block came."""

    def __init__(self, width, height, screen):
        self.picture = np.full((height, width, 3), screen, np.uint8)

    def plate(self, thumbnail):
        return frame_of(self.picture, thumbnail).thumbnail

    def thumbnails(self, thumbnail):
        return iter(())


def start(engine, width=320, height=180, screen=GREEN):
    memory = engine.start(clip_of(width, height), Options())
    if isinstance(memory, RequiresScene):
        memory.prepare(Empty(width, height, screen))
    return memory


def bytes_of(mattes):
    return [(m.alpha.tobytes(), m.frame.y.tobytes(), m.frame.u.tobytes(), m.frame.v.tobytes()) for m in mattes]


def steps(memory, frames):
    return [matte for frame in frames for matte in memory.step([frame])]


def test_the_spec_says_everything(name):
    spec = file_of(name).SPEC
    assert spec.name == name
    empty = [f.name for f in fields(spec) if getattr(spec, f.name) == ""]
    assert not empty
    assert spec.summary.endswith(".")


def test_its_card_names_its_licenses(name):
    spec, card = file_of(name).SPEC, CARDS / f"{name}.md"
    assert card.is_file(), f"write {card.name}"
    text = card.read_text()
    assert spec.code_license in text
    assert spec.weights is None or spec.weights_license in text


def test_an_empty_models_folder_is_answered_with_a_sentence_or_none(name, tmp_path):
    for folder in (None, tmp_path, tmp_path / "absent"):
        answer = file_of(name).available(folder)
        assert answer is None or answer.endswith(".")
        if answer is not None:
            with pytest.raises(AlphareelError) as caught:
                file_of(name).load(Runtime(folder))
            assert caught.value.hint


def test_listing_and_importing_load_no_runtime(name):
    program = (
        f"import sys, alphareel.matting.models.{name} as m; m.available(None); print('onnxruntime' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_facts_name_the_engine_and_its_weights(name, engine):
    facts = engine.facts
    assert facts.name == name
    assert facts.version
    assert facts.license == file_of(name).SPEC.weights_license
    assert (facts.weights_sha256 is not None) == (file_of(name).SPEC.weights is not None)


def test_there_is_one_matte_for_each_frame_in_order(engine):
    memory = start(engine)
    frames = shot(memory)
    mattes = [m for part in (frames[:1], frames[1:3], frames[3:]) for m in memory.step(part)]
    assert [m.frame.index for m in mattes] == [0, 1, 2, 3]
    for frame, matte in zip(frames, mattes, strict=True):
        assert matte.alpha.shape == (180, 320)
        assert matte.alpha.dtype == matte.frame.y.dtype == np.uint8
        assert (matte.frame.pts, matte.frame.duration) == (frame.pts, frame.duration)
        assert [p.shape for p in (matte.frame.y, matte.frame.u, matte.frame.v)] == [(180, 320), (90, 160), (90, 160)]


def test_the_same_clip_gives_the_same_bytes(engine):
    first, second = (steps(memory, shot(memory)) for memory in (start(engine), start(engine)))
    assert bytes_of(first) == bytes_of(second)


def test_clips_that_take_turns_never_see_each_other(engine):
    def frames(memory, screen):
        return shot(memory, screen=screen)

    alone = [
        steps(memory, frames(memory, screen))
        for memory, screen in ((start(engine), GREEN), (start(engine, screen=BLUE), BLUE))
    ]
    one, other = start(engine), start(engine, screen=BLUE)
    turns = [(one.step([a])[0], other.step([b])[0])
             for a, b in zip(frames(one, GREEN), frames(other, BLUE), strict=True)]  # fmt: skip
    together = list(zip(*turns, strict=True))
    assert [bytes_of(t) for t in together] == [bytes_of(a) for a in alone]


def test_two_clips_at_once_give_the_bytes_of_one_after_the_other(engine):
    def cut(screen):
        memory = start(engine, screen=screen)
        return bytes_of(steps(memory, shot(memory, screen=screen)))

    alone = [cut(GREEN), cut(BLUE)]
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(cut, (GREEN, BLUE))) == alone


def test_after_a_cut_nothing_of_the_shot_before_is_left(engine):
    memory, fresh = start(engine), start(engine)
    before, after = shot(memory, 5), shot(memory, screen=BLUE, step=-5)
    mattes = steps(memory, [*before, *after])
    assert bytes_of(mattes[5:]) == bytes_of(steps(fresh, after))


def test_an_engine_that_remembers_says_so(name, engine):
    memory, fresh = start(engine), start(engine)
    frames = shot(memory, 4)
    remembers = bytes_of(steps(memory, frames)[3:]) != bytes_of(steps(fresh, frames[3:]))
    assert file_of(name).SPEC.temporal or not remembers


@pytest.mark.parametrize(
    ("width", "height"), [(16, 16), (2, 2), (2048, 16), (16, 2048), (180, 320), (642, 362), (1280, 544)]
)
def test_any_even_size_is_cut(engine, width, height):
    memory = start(engine, width, height)
    matte = memory.step(shot(memory, 1, width=width, height=height))[0]
    assert matte.alpha.shape == matte.frame.y.shape == (height, width)
    assert matte.frame.u.shape == matte.frame.v.shape == (height // 2, width // 2)


def test_planes_of_the_decoder_are_never_written(engine):
    memory = start(engine)
    frames = shot(memory, 2)
    before = [(f.y.copy(), f.u.copy(), f.v.copy(), f.thumbnail.copy()) for f in frames]
    steps(memory, frames)
    for frame, planes in zip(frames, before, strict=True):
        assert all(
            np.array_equal(a, b) for a, b in zip((frame.y, frame.u, frame.v, frame.thumbnail), planes, strict=True)
        )
