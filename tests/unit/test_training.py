"""The recipe of the builtin network: what it makes of pictures, people and poses."""

import sys
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

TRAINING = Path(__file__).parents[2] / "training"
MODULES = ("augment", "body", "framing", "pack", "poses", "scenery", "schedule", "sources", "wear")


@pytest.fixture(scope="module")
def recipe():
    """Modules of the recipe by name; they know each other by their bare names."""
    before = set(sys.modules)
    sys.path.insert(0, str(TRAINING))
    try:
        yield {name: import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(TRAINING))
        for name in set(sys.modules) - before:
            if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == TRAINING:
                del sys.modules[name]


def somebody(recipe, kind, *, grey=200, clip=-1, size=(160, 96)):
    """A grey block of a person in a picture of stripes."""
    rgb = np.repeat(np.arange(size[1], dtype=np.uint8)[None, :, None], size[0], 0).repeat(3, 2).copy()
    alpha = np.zeros(size, np.uint8)
    alpha[20:140, 36:60] = 255
    rgb[alpha > 0] = grey
    return recipe["pack"].Item(rgb, alpha, kind, clip)


@pytest.fixture
def pack(recipe, tmp_path):
    kind = recipe["sources"].Kind
    writer = recipe["pack"].ShardWriter(tmp_path)
    writer.add([somebody(recipe, kind.BODY), somebody(recipe, kind.PEOPLE), somebody(recipe, kind.BACKGROUND)])
    writer.add([somebody(recipe, kind.CLIP, clip=3) for _ in range(4)])
    writer.flush()
    figures = recipe["pack"].ShardWriter(tmp_path, stem="figures-")
    figures.add([somebody(recipe, kind.FIGURE, grey=10 + n, clip=1000) for n in range(6)])
    figures.flush()
    return recipe["pack"].Pack(tmp_path)


def test_shards_of_several_writers_lie_in_one_pack_and_drawn_clips_apart_from_filmed_ones(pack):
    assert len(pack.items) == 13
    assert [len(frames) for frames in pack.clips] == [4]
    assert [len(frames) for frames in pack.figures] == [6]


def test_a_figure_moves_frame_by_frame(recipe, pack):
    source = recipe["augment"].Augmenter(pack, seed=2)
    items = source._consecutive(pack.figures, 4)
    tones = [int(item.rgb[80, 48, 0]) for item in items]
    assert {abs(b - a) for a, b in pairwise(tones)} == {1}


def test_a_clip_that_is_too_short_rests_on_its_last_frame(recipe, pack):
    items = recipe["augment"].Augmenter(pack, seed=2)._consecutive(pack.clips, 6)
    assert len(items) == 6
    assert len({id(item) for item in items}) == 4
    assert items[3] is items[4] is items[5]


@pytest.mark.parametrize("length", [1, 5])
def test_samples_have_the_size_and_the_length_that_was_asked_for(recipe, pack, length):
    source = recipe["augment"].Augmenter(pack, seed=4)
    for _ in range(12):
        rgb, alpha = source.sample((96, 128), length)
        assert rgb.shape == (length, 96, 128, 3)
        assert alpha.shape == (length, 96, 128)


def test_a_photo_without_its_people_keeps_the_rest_and_asks_for_nothing(recipe):
    item = somebody(recipe, recipe["sources"].Kind.BODY)
    empty = recipe["scenery"].emptied(item.rgb, item.alpha, np.random.default_rng(1))
    assert not empty.alpha.any()
    assert np.abs(empty.rgb[:, :20].astype(int) - item.rgb[:, :20]).max() <= 1
    assert (empty.rgb[30:130, 38:58] < 110).all()  # nothing of the person's 200 is left, only stripes


def test_bones_turn_and_never_stretch(recipe):
    poses, rng = recipe["poses"], np.random.default_rng(3)
    names = [f"{part}arm_{side}" for part in ("upper", "lower") for side in "lr"]
    bones = SimpleNamespace(number={name: n for n, name in enumerate(names)})
    heads, tails = rng.normal(0, 1, (2, len(names), 3))
    for manner in poses.MANNERS:
        first, last = poses.draw_pose(manner, rng), poses.draw_pose(manner, rng)
        for turn in poses.turns(poses.mixed(first, last, 0.4), bones, heads, tails).values():
            assert np.allclose(turn @ turn.T, np.eye(3))
            assert np.linalg.det(turn) == pytest.approx(1)


def test_an_arm_is_raised_on_both_sides_and_a_knee_bends_backwards(recipe):
    poses = recipe["poses"]
    left, right = poses.about("z", 90) @ (1, 0, 0), poses.about("z", -90) @ (-1, 0, 0)
    assert np.allclose(left, (0, 1, 0))
    assert np.allclose(right, (0, 1, 0))
    assert (poses.about("x", 90) @ (0, -1, 0))[2] == pytest.approx(-1)


def test_every_share_of_the_time_has_a_stage(recipe):
    settings = recipe["schedule"].Settings()
    sides = [settings.stage(share).side for share in np.linspace(0, 1, 50)]
    assert sides == sorted(sides)
    assert settings.stage(0).coarse
    assert not settings.stage(1).coarse
