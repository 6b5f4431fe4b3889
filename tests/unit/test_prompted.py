"""The prompted engine: real transformers classes with tiny random weights, if the pro extra is installed."""

import shutil
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

from alphareel.domain.clip import Clip, Color
from alphareel.domain.errors import InvalidRequest, ModelUnavailable, WeightsInvalid
from alphareel.domain.options import Options
from alphareel.matting import tiers, torch_runtime
from alphareel.matting.models import prompted
from alphareel.matting.runtime import Runtime
from alphareel.matting.subjects import Box
from alphareel.testing.frames import frame_of
from alphareel.testing.prompted_networks import make_prompted

needs_extra = pytest.mark.skipif(not torch_runtime.is_installed(), reason="the pro extra is not installed")

CLIP = Clip(
    width=160, height=90, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    models_dir = tmp_path_factory.mktemp("models")
    make_prompted(models_dir)
    return models_dir


@pytest.fixture
def engine(folder):
    return prompted.load(Runtime(folder, threads=1))


def noise(seed, side=64):
    return np.random.default_rng(seed).random((3, side, side), np.float32)


def test_without_the_pro_extra_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr(prompted, "is_installed", lambda: False)
    assert "alphareel[pro]" in prompted.available(tmp_path)
    with pytest.raises(ModelUnavailable, match=r"alphareel\[pro\]"):
        prompted.load(Runtime(tmp_path))
    with pytest.raises(ModelUnavailable, match="pro"):
        tiers.choose(Options(model="pro", text_prompt="dog"), tmp_path)


def test_an_error_about_missing_files_names_the_pull_command(monkeypatch, tmp_path):
    monkeypatch.setattr(prompted, "is_installed", lambda: True)
    assert "models pull prompted" in prompted.available(tmp_path)
    with pytest.raises(ModelUnavailable, match="8 files") as caught:
        prompted.load(Runtime(tmp_path))
    assert "models pull prompted" in caught.value.hint


def test_the_weights_of_prompted_are_pinned_and_permissive():
    assert prompted.WEIGHTS.permissive
    assert all(f.sha256 and f.size for f in prompted.WEIGHTS.files)
    assert all("/resolve/main/" not in f.url for f in prompted.WEIGHTS.files)


def test_importing_the_prompted_model_file_loads_no_torch():
    program = "import sys, alphareel.matting.models.prompted as m; m.available(None); print([n for n in ('torch', 'transformers') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@needs_extra
def test_a_clip_runs_through_both_networks(engine):
    session = engine.start(CLIP, Options(model="pro", text_prompt="person, red car"))
    assert session.model_input_size == (64, 64)
    rng = np.random.default_rng(3)
    for index in range(4):
        picture = rng.integers(0, 255, (90, 160, 3)).astype(np.uint8)
        matte = session.step([frame_of(picture, session.model_input_size, index=index)])[0]
        assert matte.alpha.shape == (90, 160)
    session.finish()


@needs_extra
def test_the_state_of_a_long_shot_does_not_grow(engine):
    tracker = engine.sam.start()
    sizes = []
    for index in range(40):
        new_subjects = [Box(0.2, 0.2, 0.6, 0.6)] if index == 0 else [Box(0.5, 0.5, 0.9, 0.9)] if index == 5 else []
        alphas = tracker.track(noise(index), new_subjects)
        assert alphas.shape == (2 if index >= 5 else 1, 64, 64)
        assert 0 <= alphas.min() <= alphas.max() <= 1
        outputs = tracker._session.output_dict_per_obj.values()
        sizes.append(sum(len(kind) for kinds in outputs for kind in kinds.values()))
    assert max(sizes) == max(sizes[:30])
    assert not tracker._session.processed_frames


@needs_extra
def test_dropping_old_frames_changes_no_later_matte(engine, monkeypatch):
    def track(tracker):
        return [tracker.track(noise(n), [Box(0.1, 0.1, 0.9, 0.9)] if n == 0 else []) for n in range(24)]

    pruned = track(engine.sam.start())
    whole = engine.sam.start()
    monkeypatch.setattr(whole, "_prune", lambda before: None)
    np.testing.assert_array_equal(pruned, track(whole))


@needs_extra
def test_boxes_are_inside_the_image_at_any_aspect_ratio(engine):
    for aspect in (16 / 9, 9 / 16, 1.0, 8.0):
        for box in engine.grounding.finder(("person",), aspect=aspect).find(noise(1)):
            assert 0 <= box.left <= box.right <= 1
            assert 0 <= box.top <= box.bottom <= 1
            assert box.score >= 0.35


@needs_extra
def test_a_text_with_too_many_words_is_rejected(engine):
    with pytest.raises(InvalidRequest, match="too many words"):
        engine.start(CLIP, Options(model="pro", text_prompt=" ".join(["dog"] * 40)))


@needs_extra
def test_damaged_weights_of_prompted_are_invalid(folder, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "models")
    (broken / "sam2.1-hiera-tiny" / "model.safetensors").write_bytes(b"damaged" * 1000)
    with pytest.raises(WeightsInvalid, match="cannot be loaded"):
        prompted.load(Runtime(broken, threads=1))
    (broken / "grounding-dino-tiny" / "model.safetensors.sha256").write_text("0" * 64)
    with pytest.raises(WeightsInvalid, match="SHA-256"):
        prompted.available(broken)
