"""Engines for single images preprocess as in training, use the size their file fixes, and reject other files."""

from fractions import Fraction

import numpy as np
import onnx
import pytest
from onnx import parser

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting.models import birefnet, birefnet_lite, birefnet_portrait, modnet
from alphareel.matting.runtime import Runtime
from alphareel.testing.frames import frame_of
from alphareel.testing.networks import make_birefnet, make_modnet

PATHS = {
    modnet: "modnet.onnx",
    birefnet: "BiRefNet-general-epoch_244.onnx",
    birefnet_lite: "BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
    birefnet_portrait: "BiRefNet-portrait-epoch_150.onnx",
}
CLIP = Clip(
    width=1280, height=720, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip


def load(module, folder):
    return module.load(Runtime(folder, threads=1))


def save(text, path):
    model = parser.parse_model('<ir_version: 8, opset_import: ["" : 17]>' + text)
    model.doc_string = "." * 1024  # a smaller file would be rejected as broken
    onnx.save(model, str(path))


@pytest.mark.parametrize(
    ("module", "size"), [(modnet, (672, 384)), (birefnet, (1376, 768))], ids=["modnet", "birefnet"]
)
def test_a_network_of_any_size_gets_the_aspect_ratio_of_the_clip(tmp_path, module, size):
    make = make_modnet if module is modnet else make_birefnet
    make(tmp_path / PATHS[module], None)
    assert load(module, tmp_path).start(CLIP, Options()).model_input_size == size


@pytest.mark.parametrize("module", PATHS, ids=lambda m: m.INFO.name)
def test_a_network_of_fixed_size_gets_that_size(tmp_path, module):
    make = make_modnet if module is modnet else make_birefnet
    make(tmp_path / PATHS[module], (128, 64))
    assert load(module, tmp_path).start(CLIP, Options()).model_input_size == (128, 64)


@pytest.mark.parametrize("module", PATHS, ids=lambda m: m.INFO.name)
def test_the_image_is_preprocessed_as_in_training(tmp_path, module):
    """The graph returns its input, which shows what the network received."""
    save(
        "echo (float[1,3,4,4] picture) => (float[1,1,4,4] red) "
        "<int64[1] from = {0}, int64[1] to = {1}, int64[1] axis = {1}> { red = Slice (picture, from, to, axis) }",
        tmp_path / PATHS[module],
    )
    engine = load(module, tmp_path)
    network = engine.start(CLIP, Options())._network
    output = network.predict(np.full((3, 4, 4), 0.75, np.float32))
    mean, std = (0.5, 0.5) if module is modnet else (0.485, 0.229)
    expected = (0.75 - mean) / std
    np.testing.assert_allclose(output, expected if module is modnet else 1 / (1 + np.exp(-expected)), rtol=1e-5)


def test_huge_logits_do_not_overflow(tmp_path):
    save(
        "loud (float[1,3,4,4] picture) => (float[1,1,4,4] alpha) "
        "<float[1,3,1,1] loud = {1e30, 0.0, 0.0}> { alpha = Conv (picture, loud) }",
        tmp_path / PATHS[birefnet],
    )
    network = load(birefnet, tmp_path).start(CLIP, Options())._network
    assert network.predict(np.zeros((3, 4, 4), np.float32)).max() < 1e-9
    assert network.predict(np.ones((3, 4, 4), np.float32)).min() > 1 - 1e-6


WRONG = {
    "two inputs": "g (float[1,3,8,8] a, float[1,3,8,8] b) => (float[1,3,8,8] c) { c = Add (a, b) }",
    "a batch of four": "g (float[4,3,8,8] a) => (float[4,3,8,8] c) { c = Relu (a) }",
    "three planes out": "g (float[1,3,8,8] a) => (float[1,3,8,8] c) { c = Relu (a) }",
    "float16": "g (float16[1,3,8,8] a) => (float16[1,3,8,8] c) { c = Relu (a) }",
    "a vector": "g (float[1,10] a) => (float[1,10] c) { c = Relu (a) }",
    "half a size": "g (float[1,1,8,W] a) => (float[1,1,8,W] c) { c = Relu (a) }",
}


@pytest.mark.parametrize("graph", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("module", [modnet, birefnet], ids=lambda m: m.INFO.name)
def test_a_file_with_another_network_is_rejected(tmp_path, module, graph):
    save(graph, tmp_path / PATHS[module])
    with pytest.raises(WeightsInvalid) as caught:
        load(module, tmp_path)
    assert caught.value.hint


def test_a_network_whose_output_has_another_size_is_rejected(tmp_path):
    save(
        "g (float[1,3,H,W] a) => (float[1,1,P,Q] c) "
        "<float[1,3,1,1] k = {1.0, 0.0, 0.0}> { c = Conv <strides = [2, 2]> (a, k) }",
        tmp_path / PATHS[modnet],
    )
    session = load(modnet, tmp_path).start(CLIP, Options())
    picture = np.zeros((720, 1280, 3), np.uint8)
    with pytest.raises(WeightsInvalid, match="not a matte"):
        session.step([frame_of(picture, session.model_input_size)])


@pytest.mark.parametrize("module", PATHS, ids=lambda m: m.INFO.name)
def test_a_damaged_or_missing_weights_file_is_an_error_with_a_hint(tmp_path, module):
    with pytest.raises(ModelUnavailable) as caught:
        load(module, tmp_path)
    assert f"alphareel models pull {module.INFO.name}" in caught.value.hint
    (tmp_path / PATHS[module]).write_bytes(b"damaged" * 1000)
    with pytest.raises(WeightsInvalid, match="cannot be loaded"):
        load(module, tmp_path)


@pytest.mark.parametrize("module", PATHS, ids=lambda m: m.INFO.name)
def test_the_downloaded_file_is_the_one_that_is_opened_and_has_a_permissive_license(module):
    [file] = module.WEIGHTS.files
    assert file.path == PATHS[module]
    assert module.WEIGHTS.permissive
    assert file.sha256
    assert file.size


def test_the_number_of_threads_does_not_change_the_matte(tmp_path):
    make_modnet(tmp_path / "modnet.onnx", (64, 64))
    rng = np.random.default_rng(1)
    picture = rng.integers(0, 255, (90, 160, 3)).astype(np.uint8)
    mattes = []
    for threads in (1, 2):
        session = modnet.load(Runtime(tmp_path, threads=threads)).start(CLIP, Options())
        mattes.append(session.step([frame_of(picture, session.model_input_size)])[0].alpha)
    np.testing.assert_array_equal(*mattes)  # type: ignore[arg-type]
