"""The recipe of the builtin network: what it makes of pictures, people and poses."""

import json
import struct
import sys
from importlib import import_module
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from alphareel.matting.model_input import fit_size

TRAINING = Path(__file__).parents[2] / "training"
BUILTIN = Path(__file__).parents[2] / "src" / "alphareel" / "matting" / "models" / "builtin.onnx"
MODULES = (
    "augment",
    "backgrounds",
    "body",
    "crops",
    "datasets",
    "degradation",
    "gltf",
    "labels",
    "onnx_weights",
    "poses",
    "schedule",
    "shapes",
    "shards",
    "subject_datasets",
)


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


def somebody(recipe, kind, *, gray=200, clip=-1, size=(160, 96)):
    """A gray block of a person in a picture of stripes."""
    rgb = np.repeat(np.arange(size[1], dtype=np.uint8)[None, :, None], size[0], 0).repeat(3, 2).copy()
    alpha = np.zeros(size, np.uint8)
    alpha[20:140, 36:60] = 255
    rgb[alpha > 0] = gray
    return recipe["shards"].Sample(rgb, alpha, kind, clip)


@pytest.fixture
def pack(recipe, tmp_path):
    kind = recipe["datasets"].Kind
    writer = recipe["shards"].ShardWriter(tmp_path)
    writer.add([somebody(recipe, kind.BODY), somebody(recipe, kind.PEOPLE), somebody(recipe, kind.BACKGROUND)])
    writer.add([somebody(recipe, kind.CLIP, clip=3) for _ in range(4)])
    writer.flush()
    figures = recipe["shards"].ShardWriter(tmp_path, stem="figures-")
    figures.add([somebody(recipe, kind.SYNTHETIC, gray=10 + n, clip=1000) for n in range(6)])
    figures.flush()
    return recipe["shards"].ShardDataset(tmp_path)


def test_shards_of_several_writers_lie_in_one_pack_and_drawn_clips_apart_from_filmed_ones(pack):
    assert len(pack.items) == 13
    assert [len(frames) for frames in pack.clips] == [4]
    assert [len(frames) for frames in pack.synthetic_clips] == [6]


def test_a_figure_moves_frame_by_frame(recipe, pack):
    source = recipe["augment"].Augmenter(pack, seed=2)
    items = source._consecutive(pack.synthetic_clips, 4)
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
    item = somebody(recipe, recipe["datasets"].Kind.BODY)
    empty = recipe["backgrounds"].remove_people(item.rgb, item.alpha, np.random.default_rng(1))
    assert not empty.alpha.any()
    assert np.abs(empty.rgb[:, :20].astype(int) - item.rgb[:, :20]).max() <= 1
    assert (empty.rgb[30:130, 38:58] < 110).all()  # nothing of the person's 200 is left, only stripes


def test_what_stands_behind_a_person_touches_them_and_is_not_the_whole_place(recipe):
    item = somebody(recipe, recipe["datasets"].Kind.BODY)
    for seed in range(8):
        here = recipe["backgrounds"].island(item.alpha, np.random.default_rng(seed))
        assert here.shape == item.alpha.shape
        assert here[item.alpha > 0].max() > 0.9
        assert 0.01 < here.mean() < 0.9


def test_what_stands_behind_moves_with_the_place_and_not_with_the_view(recipe):
    right = [np.array([[1.0, 0, 4 * n], [0, 1, 0]]) for n in range(3)]
    paths = recipe["crops"].onwards(right)
    assert np.allclose(paths[0], np.eye(2, 3))
    here = np.zeros((40, 60), np.float32)
    here[10:20, 10:20] = 1
    dark, bright = ([np.full((40, 60, 3), gray, np.uint8)] * 3 for gray in (10, 200))
    for n, picture in enumerate(recipe["backgrounds"].blended(dark, bright, here, paths)):
        assert (picture[10:20, 10 + 4 * n : 20 + 4 * n] == 200).all()
        assert (picture[:, : 4 * n + 9] == 10).all()


def test_a_place_takes_on_the_colors_of_the_person(recipe):
    item = somebody(recipe, recipe["datasets"].Kind.BODY, gray=180)
    place = np.random.default_rng(3).integers(0, 60, (160, 96, 3)).astype(np.uint8)
    table = recipe["backgrounds"].likeness(place, item.rgb, item.alpha, np.random.default_rng(4))
    assert np.abs(table[0][place[..., 0], 0].mean() - 180) < 3
    assert recipe["backgrounds"].likeness(place, item.rgb, 0 * item.alpha, np.random.default_rng(4)) is None


def test_bones_turn_and_never_stretch(recipe):
    poses, rng = recipe["poses"], np.random.default_rng(3)
    names = [f"{part}arm_{side}" for part in ("upper", "lower") for side in "lr"]
    bones = SimpleNamespace(number={name: n for n, name in enumerate(names)})
    heads, tails = rng.normal(0, 1, (2, len(names), 3))
    for manner in poses.MANNERS:
        first, last = poses.draw_pose(manner, rng), poses.draw_pose(manner, rng)
        for turn in poses.joint_rotations(poses.mixed(first, last, 0.4), bones, heads, tails).values():
            assert np.allclose(turn @ turn.T, np.eye(3))
            assert np.linalg.det(turn) == pytest.approx(1)


def test_an_arm_is_raised_on_both_sides_and_a_knee_bends_backwards(recipe):
    poses = recipe["poses"]
    left, right = poses.about("z", 90) @ (1, 0, 0), poses.about("z", -90) @ (-1, 0, 0)
    assert np.allclose(left, (0, 1, 0))
    assert np.allclose(right, (0, 1, 0))
    assert (poses.about("x", 90) @ (0, -1, 0))[2] == pytest.approx(-1)


@pytest.mark.parametrize("run", ["FIRST", "SECOND", "SUBJECT_FIRST", "SUBJECT"])
def test_every_share_of_the_time_has_a_stage(recipe, run):
    settings = getattr(recipe["schedule"], run)
    sides = [settings.stage(share).side for share in np.linspace(0, 1, 50)]
    assert sides == sorted(sides)
    assert settings.stage(0).coarse == (run != "SECOND")
    assert not settings.stage(1).coarse


def exported(arrays):
    """A graph that holds nothing but arrays."""
    held = [onnx.numpy_helper.from_array(values, name) for name, values in arrays.items()]
    return onnx.helper.make_model(onnx.helper.make_graph([], "held", [], [], held))


def test_weights_come_back_from_steps_and_from_half_precision(recipe):
    steps = np.array([[1, -127], [64, 3]], np.int8)
    scale, half = np.array([[0.5], [2.0]], np.float32), np.array([0.25, -3], np.float16)
    held = {"matte.a.steps": steps, "matte.a.scale": scale, "onnx::Conv_8.half": half, "shape": np.array([3])}
    found = dict(recipe["onnx_weights"].widened(exported(held)))
    assert set(found) == {"matte.a", "onnx::Conv_8"}
    assert found["matte.a"].tolist() == [[0.5, -63.5], [128, 6]]
    assert found["onnx::Conv_8"].tolist() == [0.25, -3]
    assert {values.dtype for values in found.values()} == {np.dtype(np.float32)}


def test_nameless_convolutions_come_in_the_order_of_their_use_and_whole(recipe):
    far = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
    arrays = {
        "matte.named": np.zeros(1, np.float32),
        "onnx::Conv_100.features": np.full((2, 5, 1, 1), 7, np.float32),
        "onnx::Conv_100.picture": far,
        "onnx::Conv_101": np.array([1, 2], np.float32),
        "onnx::Conv_98": np.zeros((4, 1, 3, 3), np.float32),
        "onnx::Conv_99": np.full(4, 9, np.float32),
    }
    (look, nine), (mix, bias) = recipe["onnx_weights"].folded(arrays)
    assert look.shape == (4, 1, 3, 3)
    assert nine.tolist() == [9] * 4
    assert mix.shape == (2, 17, 1, 1)
    assert mix[:, 5:].ravel().tolist() == far.ravel().tolist()
    assert bias.tolist() == [1, 2]


def test_every_weight_of_the_shipped_file_can_be_learned_on_from(recipe):
    arrays = dict(recipe["onnx_weights"].widened(onnx.load(BUILTIN)))
    pairs = list(recipe["onnx_weights"].folded(arrays))
    assert all(weight.ndim == 4 and bias.shape == weight.shape[:1] for weight, bias in pairs)
    named = sum(values.size for name, values in arrays.items() if name.startswith(recipe["onnx_weights"].PREFIX))
    assert named + sum(weight.size for weight, _ in pairs) > 4_000_000


def test_a_norm_amplifies_no_channel_that_hardly_ever_changes(recipe):
    module = recipe["onnx_weights"]
    scale = np.array([300, -300, 300, 0.001], np.float32)
    variance = np.array([0, 1e-6, 0.5, 0], np.float32)
    bounded = module.bounded_scale(scale, variance)
    deviation = np.sqrt(variance + np.float32(module.EPSILON))
    assert np.abs(scale / deviation).max() > np.finfo(np.float16).max
    folded = bounded / deviation
    assert np.abs(folded).max() < np.finfo(np.float16).max
    assert folded[:2].tolist() == pytest.approx([1, -1])
    assert bounded[2:].tolist() == scale[2:].tolist(), "loud channels and small scales stay"


def test_a_sequence_that_chooses_or_reports_never_teaches(recipe):
    lists = [getattr(recipe["subject_datasets"], name) for name in ("TEACH", "CHOOSE", "REPORT")]
    names = [name for part in lists for name in part]
    assert len(set(names)) == len(names) == 25
    scored = recipe["subject_datasets"].MASKED_PEOPLE.without
    assert scored == recipe["datasets"].SCORED_PHOTOS


def test_two_looks_at_a_picture_that_differ_make_no_label(recipe):
    rgb = np.random.default_rng(5).integers(0, 256, (120, 160, 3)).astype(np.uint8)
    found = np.zeros((120, 160), np.float32)
    found[30:90, 50:110] = 1

    def teacher(answers):
        looks = iter(answers)
        return lambda pictures: [np.asarray(next(looks), np.float32)[: p.shape[0], : p.shape[1]] for p in pictures]

    labels = recipe["labels"]
    part = labels.second_look(found)
    same = np.ascontiguousarray(found[part][:, ::-1])
    (label,) = labels.agreed(teacher([found, same]), [rgb])
    assert label.shape == found.shape
    assert np.abs(label - found).mean() < 0.02
    assert labels.agreed(teacher([found, 1 - same]), [rgb]) == [None]
    (again, nothing) = labels.agreed(teacher([found, 0 * found, same]), [rgb, rgb])
    assert (again == label).all()
    assert nothing is None  # and no second look was asked for


def test_plentiful_photos_are_labeled_in_parts_that_share_no_photo(recipe):
    lists = recipe["subject_datasets"]
    assert not {source.folder for source in lists.PLENTY} & {s.folder for s in (*lists.OBJECTS, *lists.PEOPLE)}
    numbers = [n for part in range(lists.PARTS) for n in range(100)[part :: lists.PARTS]]
    assert sorted(numbers) == list(range(100))


def test_a_fast_path_goes_further_than_a_slow_one(recipe):
    crops, far = recipe["crops"], {}
    for pace in (1.0, 3.0):
        rng = np.random.default_rng(3)
        paths = [crops.wander(np.eye(2, 3), (96, 128), 5, rng, pace=pace) for _ in range(40)]
        far[pace] = np.mean([np.abs(path[-1][:, 2] - path[0][:, 2]).max() for path in paths])
    assert far[3.0] > 2 * far[1.0]


def test_a_human_mask_becomes_soft_only_along_its_outline(recipe):
    rgb = np.full((100, 100, 3), 30, np.uint8)
    rgb[20:80, 20:80] = 220
    mask = np.zeros((100, 100), np.uint8)
    mask[20:80, 20:80] = 255
    alpha = recipe["labels"].from_mask(rgb, mask)
    assert (alpha[28:72, 28:72] == 1).all()
    assert (alpha[:12] == 0).all()
    assert np.abs(alpha - mask / 255).max() < 0.5


def test_what_the_sides_of_a_picture_cut_off_is_not_pasted_elsewhere(recipe):
    alpha = np.zeros((60, 80), np.uint8)
    alpha[20:60, 20:60] = 255  # the lower edge cuts it: it may stand at the lower edge of another picture
    assert not recipe["crops"].touches_sides(alpha)
    alpha[20:60, :60] = 255
    assert recipe["crops"].touches_sides(alpha)


@pytest.mark.parametrize("length", [1, 5])
def test_samples_of_any_subject_show_things_and_people(recipe, pack, tmp_path, length):
    kind = recipe["datasets"].Kind
    writer = recipe["shards"].ShardWriter(tmp_path, stem="things-")
    writer.add([somebody(recipe, kind.THING, gray=90)])
    writer.flush()
    pack.refresh()
    source = recipe["augment"].Augmenter(pack, seed=4, mix=recipe["augment"].ANY_SUBJECT)
    shown = [source.sample((96, 128), length)[1] for _ in range(30)]
    assert all(alpha.shape == (length, 96, 128) for alpha in shown)
    assert np.mean([alpha.max() > 200 for alpha in shown]) > 0.6


@pytest.mark.parametrize("length", [1, 5])
def test_flat_shapes_can_be_told_from_a_ground_that_is_plain_around_them(recipe, length):
    for seed in range(12):
        frames = recipe["shapes"].flat_shapes((96, 128), length, np.random.default_rng(seed))
        assert len(frames) == length
        rgb, alpha = frames[0]
        inside, around = alpha == 255, alpha == 0
        assert 0.005 < inside.mean() < 0.8
        assert around.mean() > 0.1
        wall = rgb[around].astype(float)
        apart = [np.linalg.norm(wall - color, axis=1).min() for color in np.unique(rgb[inside], axis=0)]
        assert max(apart) > 30, "nothing could find this shape"


def test_a_ground_has_nothing_but_ramps_and_one_edge_across(recipe):
    for seed in range(12):
        rgb = recipe["shapes"].ground((96, 128), np.random.default_rng(seed))
        assert rgb.shape == (96, 128, 3)
        assert (rgb == rgb[:, :1]).all()


def test_what_stands_in_streets_reaches_beyond_the_view(recipe):
    for seed in range(24):
        rgb, cover = recipe["shapes"].street((96, 128), np.random.default_rng(seed))
        assert rgb.shape == (96, 128, 3)
        assert 0 < cover.mean() < 255
        edges = [cover[0], cover[-1], cover[:, 0], cover[:, -1]]
        assert max(edge.max() for edge in edges) > 100, "it would stand alone in the picture, as a subject does"


@pytest.mark.parametrize("length", [1, 5])
def test_a_crowd_behind_somebody_belongs_to_the_place(recipe, pack, length):
    drift = [np.array([[1.0, 0, 2 * n], [0, 1, 0]]) for n in range(length)]
    place = [(np.full((96, 128, 3), 40, np.uint8), np.zeros((96, 128), np.uint8)) for _ in range(length)]
    source = recipe["augment"].Augmenter(pack, seed=4, mix=recipe["augment"].ANY_SUBJECT)
    behind = source._before_crowd(place, drift, 0.6)
    assert len(behind) == length
    assert not any(alpha.any() for _, alpha in behind)
    assert np.abs(behind[0][0].astype(int) - 40).max() > 60, "somebody stands there"


def test_somebody_who_stands_is_as_high_as_asked_for_and_has_the_feet_there(recipe):
    item = somebody(recipe, recipe["datasets"].Kind.BODY)
    for seed in range(4):
        matrix = recipe["crops"].standing(item, 64, 80, 50, np.random.default_rng(seed))
        _, alpha = recipe["augment"].warp(item, matrix, (96, 128), inside=False)
        rows, columns = np.flatnonzero((alpha > 128).any(1)), np.flatnonzero((alpha > 128).any(0))
        assert abs(rows[0] - 30) <= 2
        assert abs(rows[-1] - 80) <= 2
        assert abs(columns.mean() - 64) <= 2


def test_other_shares_of_the_mix_are_named_or_refused(recipe):
    mix = recipe["augment"].ANY_SUBJECT.changed(["crowd=0.3", "flat=0"])
    assert (mix.crowd, mix.flat, mix.thing) == (0.3, 0, recipe["augment"].ANY_SUBJECT.thing)
    for wrong in ("crowds=0.3", "kinds=1"):
        with pytest.raises(SystemExit, match="no single share"):
            mix.changed([wrong])


def glb(path, *, animated):
    """A file with one triangle on a node, which an animation lifts by one in a second."""
    parts = [
        np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]], np.float32),
        np.array([0, 1, 2], np.uint16),
        np.array([0, 1], np.float32),
        np.array([[0, 0, 0], [0, 1, 0]], np.float32),
    ]
    views, blob = [], b""
    for part in parts:
        views.append({"buffer": 0, "byteOffset": len(blob), "byteLength": part.nbytes})  # type: ignore[attr-defined]
        blob += part.tobytes() + b"\0" * (-part.nbytes % 4)  # type: ignore[attr-defined]
    kinds = ((5126, "VEC3", 3), (5123, "SCALAR", 3), (5126, "SCALAR", 2), (5126, "VEC3", 2))
    accessors = [
        {"bufferView": n, "componentType": kind, "type": shape, "count": count, "max": [1.0]}
        for n, (kind, shape, count) in enumerate(kinds)
    ]
    channel = {"sampler": 0, "target": {"node": 0, "path": "translation"}}
    facts = {
        "nodes": [{"mesh": 0, "scale": [2, 2, 2]}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0}, "indices": 1}]}],
        "accessors": accessors,
        "bufferViews": views,
        "animations": [{"channels": [channel], "samplers": [{"input": 2, "output": 3}]}] if animated else [],
    }
    text = json.dumps(facts).encode()
    text += b" " * (-len(text) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(blob), 0x004E4942) + blob
    path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks)
    return path


def test_a_model_file_is_posed_by_its_nodes_and_its_animation(recipe, tmp_path):
    model = recipe["gltf"].Model(glb(tmp_path / "one.glb", animated=True))
    assert model.duration(0) == 1
    (rest,), (lifted,) = model.at(None, 0), model.at(0, 0.5)
    assert np.allclose(rest, [[0, 0, 0], [2, 0, 0], [0, 2, 0]])
    assert np.allclose(lifted - rest, [0, 0.5, 0])
    assert recipe["gltf"].Model(glb(tmp_path / "other.glb", animated=False)).animations == []


@pytest.fixture
def tones(recipe, monkeypatch):
    """The module that draws skin tones; where numba is not installed, its loops stay Python."""
    if find_spec("numba") is None:
        monkeypatch.setitem(sys.modules, "numba", SimpleNamespace(njit=lambda **_: lambda function: function))
    monkeypatch.syspath_prepend(str(TRAINING))
    for name in ("noise", "rasterizer", "mesh", "shading", "clothing", "synthetic_people", "draw_skin_tones"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return import_module("draw_skin_tones")


def test_another_tone_changes_nothing_but_the_color_of_the_skin(tones):
    paint, mesh = (sys.modules[name] for name in ("shading", "mesh"))
    skin, cloth = paint.Paint(np.full(3, 0.2), grain=0.1, brows=np.zeros(3)), paint.Paint(np.full(3, 0.7))
    points = np.zeros((3, 3))
    person = mesh.Mesh(np.arange(3), np.zeros(3), points, np.array([[0, 1, 2]]), np.zeros(1, int), [skin, cloth])
    pale = tones.in_tone(person, "f6ede4")
    assert np.round(255 * pale.paints[0].color ** (1 / paint.GAMMA)).tolist() == [0xF6, 0xED, 0xE4]
    assert (pale.paints[0].grain, pale.paints[0].brows) == (skin.grain, skin.brows)
    assert pale.paints[1] is cloth
    assert pale.place is points
    assert person.paints[0] is skin, "the next tone starts from the same person"


def test_tones_go_from_light_to_dark(tones):
    brightness = [sum(bytes.fromhex(tone)) for tone in tones.TONES]
    assert len(brightness) == 10
    assert brightness[2:] == sorted(brightness[2:], reverse=True)  # the first three differ in hue
    assert min(brightness[:3]) > brightness[3]


@pytest.mark.parametrize(("shown", "bottom"), [(1.0, "feet"), (0.5, "hips")])
def test_a_drawn_person_reaches_from_the_headroom_to_the_lower_edge(tones, shown, bottom):
    rgb, alpha = np.full((200, 100, 3), 90, np.uint8), np.zeros((200, 100), np.uint8)
    alpha[20:120, 30:70] = 255
    rgb[70:, :] = 10  # below the hips
    picture = tones.framed(rgb, alpha, shown)
    assert picture.shape == (tones.HEIGHT, tones.WIDTH, 4)
    rows, columns = np.nonzero(picture[..., 3])
    assert (rows.min(), rows.max()) == (tones.HEADROOM, tones.HEIGHT - 1)
    assert columns.min() + columns.max() == pytest.approx(tones.WIDTH - 1, abs=1)
    assert picture[-1, tones.WIDTH // 2, 0] == (10 if bottom == "feet" else 90)


def test_arms_that_reach_out_of_the_picture_are_cut_off_on_both_sides(tones):
    alpha = np.full((20, 80), 255, np.uint8)
    picture = tones.framed(np.full((20, 80, 3), 90, np.uint8), alpha, 1.0)
    assert picture.shape == (tones.HEIGHT, tones.WIDTH, 4)
    assert picture[tones.HEADROOM :, :, 3].min() == 255


def test_a_picture_is_seen_from_where_the_eye_is(tones):
    direction = tones.Eye(turn=np.pi / 2, rise=0.0, distance=1).direction
    assert direction == pytest.approx((1, 0, 0), abs=1e-9), "from the left of the person"
    assert tones.EYE.direction[2] > 0.9, "from the front"
    assert np.linalg.norm(tones.EYE.direction) == pytest.approx(1)


@pytest.mark.parametrize(
    "size", [(1920, 1080), (854, 480), (640, 360), (360, 640), (640, 480), (500, 500), (1280, 544)]
)
@pytest.mark.parametrize("area", [2**17, 2**18])
def test_the_check_shows_clips_at_the_size_of_the_engine(recipe, size, area):
    assert recipe["schedule"].engine_size(*size, area) == fit_size(*size, area=area, multiple=32)
