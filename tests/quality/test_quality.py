"""The comparison of engines measures correctly, reports what it skips, and the engines keep their quality."""

import json
import math
import re
from contextlib import ExitStack
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from benchmarks import engine as engine_bench
from benchmarks import ground_truth, quality, skin_tones
from benchmarks.ground_truth import GroundTruth
from benchmarks.quality import Candidate, Row, compare
from benchmarks.quality import score as score_engine

from alphareel.domain.clip import Clip, Color, EngineFacts
from alphareel.domain.errors import BadVideo, ModelUnavailable
from alphareel.imaging.frame import Matte
from alphareel.matting import runtime
from alphareel.testing.clips import make_clip
from alphareel.testing.frames import frame_of

WIDTH, HEIGHT = 160, 96
CLIP = Clip(
    width=WIDTH, height=HEIGHT, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=4, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip


def alpha_at(index):
    alpha = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.circle(alpha, (60 + 4 * index, 48), 24, 1.0, -1)
    return alpha


def picture_at(index):
    texture = np.random.default_rng(5).integers(0, 90, (HEIGHT, WIDTH, 3))
    return np.where(alpha_at(index)[..., None] > 0, texture + 150, texture).astype(np.uint8)


def true_clip(count=4, group="made", *, still=False):
    return GroundTruth(
        group, "clip", "people", exact=True, still=still, clip=CLIP,
        frames=lambda size: (frame_of(picture_at(n), size, index=n) for n in range(count)),
        alphas=lambda: (alpha_at(n) for n in range(count)),
    )  # fmt: skip


class TrueMatteEngine:
    """An engine that returns the true matte, ``late`` frames late."""

    facts = EngineFacts("answer", "1")
    model_input_size = (32, 32)

    def __init__(self, late=0):
        self.late = late

    def start(self, clip, options):
        return self

    def step(self, frames):
        return [Matte(f, (alpha_at(max(0, f.index - self.late)) * 255).astype(np.uint8)) for f in frames]


def candidate(engine):
    return Candidate("answer", engine, screens=False, megabytes=0)


def test_the_true_matte_gets_perfect_scores():
    score = score_engine(candidate(TrueMatteEngine()), true_clip(), frames=10)
    assert (score.mad, score.mse, score.grad, score.dtssd, score.iou, score.boundary_f) == (0, 0, 0, 0, 1, 1)
    assert score.ms >= 0


def test_a_delayed_matte_gets_worse_scores_in_every_figure():
    score = score_engine(candidate(TrueMatteEngine(late=2)), true_clip(), frames=10)
    assert min(score.mad, score.mse, score.grad, score.dtssd) > 0
    assert max(score.iou, score.boundary_f) < 1


def test_a_photo_gets_no_figures_that_need_consecutive_frames():
    score = score_engine(candidate(TrueMatteEngine()), true_clip(count=1), frames=10)
    assert math.isnan(score.dtssd)
    assert math.isnan(score.flicker)
    assert score.iou == 1


def test_a_still_is_scored_after_its_warmup_frames():
    late = TrueMatteEngine()
    late.step = lambda frames: [
        Matte(f, np.uint8(255) * (f.index == ground_truth.WARMUP_FRAMES - 1) * (alpha_at(f.index) > 0)) for f in frames
    ]
    assert score_engine(candidate(late), true_clip(count=ground_truth.WARMUP_FRAMES, still=True), frames=1).iou == 1


def test_no_more_frames_than_requested_are_processed():
    seen = []
    answer = TrueMatteEngine()
    answer.step = lambda frames: seen.extend(frames) or TrueMatteEngine.step(answer, frames)
    score_engine(candidate(answer), true_clip(), frames=2)
    assert [f.index for f in seen] == [0, 1]


def test_clips_of_one_group_are_averaged():
    rows = list(compare([candidate(TrueMatteEngine())], [true_clip(), true_clip(), true_clip(group="other")], frames=2))
    assert [(r.group, r.clips) for r in rows] == [("made", 2), ("other", 1)]


def test_each_clip_of_a_group_has_figures_of_its_own():
    (row,) = compare([candidate(TrueMatteEngine(late=2))], [replace(true_clip(), name=n) for n in "ab"], frames=4)
    assert list(row.each) == ["a", "b"]
    assert row.score.iou == pytest.approx((row.each["a"].iou + row.each["b"].iou) / 2)
    lines = quality.table([row], [candidate(TrueMatteEngine())], clips=True)
    assert list(lines.columns[0].cells) == ["made (2)", "  a", "  b"]


def test_a_keyer_is_not_scored_on_clips_of_people():
    keyer = Candidate("keyer", TrueMatteEngine(), screens=True, megabytes=0)
    assert list(compare([keyer], [true_clip()], frames=2)) == []


def test_missing_ground_truth_is_reported_and_a_screen_clip_is_always_generated(tmp_path):
    with ExitStack() as stack:
        ground_truths, reasons = ground_truth.find(tmp_path, stack)
    assert [t.group for t in ground_truths] == ["screen, made"]
    assert [r.split(":")[0] for r in reasons] == ["ccp", "davis", "composite", "far", "greenscreen"]
    assert reasons[0] == "ccp: skipped, ccp/ in the folder --data is missing or incomplete."


def test_stored_reasons_name_no_folder_of_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(quality, "RESULTS", tmp_path / "results")
    with ExitStack() as stack:
        nowhere = tmp_path / "no where"
        _, reasons = ground_truth.find(tmp_path, stack, objects=nowhere, empty=nowhere, skin=nowhere)
    reasons.append("rvm: skipped, Load model from /srv/models/rvm/1.0/rvm.onnx failed: no and/or in a name.")
    stored = json.loads(quality.save([], [], reasons, frames=1).read_text())["skipped"]
    assert len(stored) == len(reasons)
    assert not [reason for reason in stored if str(tmp_path) in reason or " /" in reason]
    assert stored[-1] == "rvm: skipped, Load model from rvm.onnx failed: no and/or in a name."


def test_the_stored_figures_of_the_repository_name_no_folder_of_a_machine():
    results = Path(quality.__file__).parent / "results"
    stored = {path.name: path.read_text() for path in results.glob("*.json")}
    assert stored
    assert not [name for name, text in stored.items() if re.search(r"[\s\"](/work|/root|/home|/tmp)/", text)]


def test_photos_and_sequences_are_found_with_their_masks(tmp_path):
    for folder in (tmp_path / "ccp", tmp_path / "davis" / "breakdance"):
        for part in ("rgb", "mask"):
            (folder / part).mkdir(parents=True)
        cv2.imwrite(str(folder / "rgb" / "1.jpg"), np.full((51, 41, 3), 90, np.uint8))  # odd sides
        cv2.imwrite(str(folder / "mask" / "1.png"), np.full((51, 41), 255, np.uint8))
    with ExitStack() as stack:
        ground_truths, _ = ground_truth.find(tmp_path, stack)
        photo = next(t for t in ground_truths if t.group == "ccp photos")
        (frame, *more), (alpha, *_) = photo.frames((16, 16)), photo.alphas()
    assert {t.group for t in ground_truths} == {"screen, made", "ccp photos", "davis people"}
    assert frame.y.shape == alpha.shape == (50, 40)
    assert alpha.min() == 1
    assert photo.still
    assert len(more) == ground_truth.WARMUP_FRAMES - 1


def test_sequences_of_any_subject_and_empty_scenes_are_found(tmp_path):
    for part in ("rgb", "mask"):
        folder = tmp_path / "objects" / "clip+mask" / "davis16" / "bus" / part
        folder.mkdir(parents=True)
        cv2.imwrite(str(folder / ("1.jpg" if part == "rgb" else "1.png")), np.full((50, 40), 200, np.uint8))
    cv2.imwrite(str(tmp_path / "street.jpg"), np.full((HEIGHT, WIDTH), 90, np.uint8))
    with ExitStack() as stack:
        ground_truths, reasons = ground_truth.find(tmp_path, stack, objects=tmp_path / "objects", empty=tmp_path)
    bus, street = (next(t for t in ground_truths if t.name == name) for name in ("bus", "street"))
    assert (bus.group, bus.subject) == ("any subject, chose", "anything")
    assert (street.group, street.still, next(street.alphas()).max()) == ("empty scenes", True, 0)
    assert any(reason.startswith("any subject, chose: without breakdance, elephant") for reason in reasons)
    row = score_engine(candidate(TrueMatteEngine()), replace(street, still=False, frames=true_clip().frames), frames=1)
    assert row.taken > 5, "the engine finds something where nothing is"


@pytest.fixture
def skin(tmp_path):
    """Two people in two tones: a disc of skin that is half-transparent in its last column."""
    rgba = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    rgba[20:80, 50:110, 3] = 255
    rgba[20:80, 109, 3] = 128
    for person in ("man", "woman"):
        (tmp_path / "skin" / person).mkdir(parents=True)
        for number, tone in enumerate(("f6ede4", "292420"), 1):
            rgba[..., :3] = tuple(bytes.fromhex(tone))[::-1]  # OpenCV's order
            cv2.imwrite(str(tmp_path / "skin" / person / f"{number:02}-{tone}.png"), rgba)
    return tmp_path / "skin"


def rgb_at(frame, row, column):
    """The color that a frame shows at a place in the middle of an area of one color."""
    return tuple(int(channel) for channel in quality._rgb(frame, CLIP)[row, column])


def test_people_in_several_tones_differ_in_their_skin_alone(skin, tmp_path):
    with ExitStack() as stack:
        ground_truths, reasons = ground_truth.find(tmp_path, stack, skin=skin)
    people = [t for t in ground_truths if t.group.startswith("skin tone")]
    assert not any("skin" in reason for reason in reasons)
    assert list(dict.fromkeys(t.group for t in people)) == ["skin tone 01-f6ede4", "skin tone 02-292420"]
    assert [t.name for t in people[:5]] == ["light: man", "wood: man", "dark: man", "own tone: man", "light: woman"]
    for wall in ("light", "wood", "dark"):
        pale, dark = (next(t for t in people if t.group.endswith(tone) and t.name == f"{wall}: man")
                      for tone in ("f6ede4", "292420"))  # fmt: skip
        (first, *_), (second, *more) = pale.frames((16, 16)), dark.frames((16, 16))
        assert len(more) == ground_truth.WARMUP_FRAMES - 1
        assert np.array_equal(first.y[:, :40], second.y[:, :40]), "the wall is the same"
        assert rgb_at(first, 50, 80) == pytest.approx((0xF6, 0xED, 0xE4), abs=3)
        assert rgb_at(second, 50, 80) == pytest.approx((0x29, 0x24, 0x20), abs=3)
        (alpha, *_), (other, *_) = pale.alphas(), dark.alphas()
        assert np.array_equal(alpha, other)
        assert (alpha[50, 80], alpha[50, 10], alpha[50, 109]) == pytest.approx((1, 0, 128 / 255))


@pytest.mark.parametrize(("wall", "color"), [("light", 222), ("dark", 45), ("own tone", 140)])
def test_a_plain_wall_has_its_color_or_that_of_the_skin(wall, color):
    assert skin_tones.draw_wall(wall, 90, 160, tone="8c8c8c").mean() == pytest.approx(0.93 * color, abs=3)


def test_a_wooden_wall_has_planks_and_is_the_same_for_everybody():
    wall = skin_tones.draw_wall("wood", 720, 320, tone="8c8c8c")
    assert np.array_equal(wall, skin_tones.draw_wall("wood", 720, 320, tone="292420"))
    rows = wall[..., 0].mean(1)
    assert rows[90:93].max() < rows[120:170].min(), "a gap between two planks"
    red, green, blue = wall.mean((0, 1))
    assert red > green > blue


def test_each_tone_has_a_row_and_the_spread_is_the_worst_tone_against_the_best(skin, tmp_path):
    class SkinBlindEngine(TrueMatteEngine):
        """Finds half of a dark person, and everything of a light one."""

        def step(self, frames):
            found = np.zeros((HEIGHT, WIDTH), np.uint8)
            found[20 : 80 if frames[0].y[50, 80] > 128 else 50, 50:110] = 255
            return [Matte(frame, found) for frame in frames]

    with ExitStack() as stack:
        ground_truths, _ = ground_truth.find(tmp_path, stack, skin=skin)
    rows = list(compare([candidate(SkinBlindEngine())], ground_truths, frames=9))
    assert [(row.group, row.clips) for row in rows] == [("skin tone 01-f6ede4", 8), ("skin tone 02-292420", 8)]
    assert [row.score.iou for row in rows] == pytest.approx([1, 0.5], abs=0.02)
    spread = quality.skin_spreads(rows)["answer"]
    assert spread.iou == pytest.approx(-0.5, abs=0.02)
    assert spread.mad == pytest.approx(rows[1].score.mad - rows[0].score.mad)
    table = quality.skin_table([Row("ccp photos", "answer", 1, rows[0].score, {}), *rows])
    assert list(table.columns[0].cells) == ["01-f6ede4", "02-292420", "worst - best"]
    pale, dark, *_ = map(str, table.columns[4].cells)
    assert pale > dark, "IoU before the light wall"
    assert len(table.columns) == 4 + len(skin_tones.WALLS)


def test_without_drawn_people_the_reason_says_how_to_draw_them(tmp_path):
    with ExitStack() as stack:
        _, reasons = ground_truth.find(tmp_path, stack, skin=tmp_path / "none")
    assert reasons[-1].startswith("skin tones: skipped, no pictures in")
    assert "training/draw_skin_tones.py" in reasons[-1]
    assert quality.skin_table([]) is None


def test_a_drawn_picture_without_alpha_is_refused(tmp_path):
    path = tmp_path / "01-f6ede4.png"
    cv2.imwrite(str(path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    with pytest.raises(SystemExit, match="not a picture with alpha"):
        next(skin_tones.alphas(path, 1)())


def test_the_command_prints_a_table_of_skin_tones_alone(skin, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quality, "RESULTS", tmp_path / "results")
    arguments = ["--data", tmp_path, "--objects", tmp_path, "--empty", tmp_path, "--skin", skin]
    quality.main([*map(str, arguments), "--engine", "builtin", "--group", "skin tone"])
    printed = capsys.readouterr().out
    assert "worst - best" in printed
    assert "boundary F" not in printed
    (kept,) = (tmp_path / "results").glob("quality-*.json")
    record = json.loads(kept.read_text())
    assert [row["truth"] for row in record["rows"]] == ["skin tone 01-f6ede4", "skin tone 02-292420"]
    assert set(record["skin_spread"]) == {"builtin"}


def test_peers_without_their_files_are_reported(tmp_path):
    candidates, reasons = quality.candidates(tmp_path, ["u2netp"])
    assert (candidates, reasons) == ([], ["u2netp: skipped, no u2netp.onnx in the models folder."])


def test_the_command_prints_a_table_and_saves_figures_and_sheets(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(quality, "RESULTS", tmp_path / "results")
    quality.main(["--data", str(tmp_path), "--engine", "chroma", "--frames", "3", "--sheets", str(tmp_path / "sheets")])
    printed = capsys.readouterr().out
    assert "boundary F" in printed
    assert "composite: skipped" in printed
    (kept,) = (tmp_path / "results").glob("quality-*.json")
    (row,) = json.loads(kept.read_text())["rows"]
    assert (row["truth"], row["engine"]) == ("screen, made", "chroma")
    assert row["iou"] > 0.95
    assert len(list((tmp_path / "sheets").glob("*.png"))) == 1


class RejectingEngine(TrueMatteEngine):
    """An engine that reads the scene first and rejects it."""

    def prepare(self, scene):
        assert next(scene.model_inputs((16, 16))).shape == (3, 16, 16)
        raise BadVideo("The camera moves.", hint="Stand it on something.")


def test_an_engine_that_rejects_a_clip_is_reported_and_the_others_are_scored():
    refused = []
    candidates = [candidate(RejectingEngine()), candidate(TrueMatteEngine())]
    assert len(list(compare(candidates, [true_clip()], frames=2, refused=refused))) == 1
    assert refused == ["answer: not scored on made, The camera moves."]


@pytest.mark.parametrize("stage", engine_bench.STAGES)
@pytest.mark.parametrize("engine", ["builtin", "chroma", "plate"])
def test_every_bundled_engine_can_be_measured_in_every_stage(tmp_path, engine, stage):
    make_clip(tmp_path / "in.mp4", frames=24, background="green")
    measurement = engine_bench.Measurement(str(tmp_path / "in.mp4"), engine, stage, "webm", 24, None)
    figure = engine_bench.measure(measurement)
    assert figure.frames == (23 if stage == "whole" else 24), "the whole run is timed from its second frame on"
    assert figure.cpu_ms > 0


class StubOnnxRuntime:
    """ONNX Runtime as on a machine with CUDA, whose provider is the CPU's."""

    def __init__(self, real):
        self.real, self.providers = real, []

    def __getattr__(self, name):
        return getattr(self.real, name)

    def get_available_providers(self):
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def InferenceSession(self, path, options, providers):
        self.providers.append(providers)
        return self.real.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def test_the_engines_can_be_measured_on_another_device(tmp_path, monkeypatch):
    stub = StubOnnxRuntime(pytest.importorskip("onnxruntime"))
    monkeypatch.setattr(runtime, "_onnxruntime", lambda: stub)
    monkeypatch.setattr(runtime, "_SESSIONS", runtime.SessionCache())
    monkeypatch.setattr(runtime, "open_network", lambda _: None)
    monkeypatch.setattr(runtime, "_NETWORKS", runtime.SessionCache())
    monkeypatch.setattr(engine_bench, "BUFFERED_FRAMES", 3)
    make_clip(tmp_path / "in.mp4", frames=4, background="green")
    measurement = engine_bench.Measurement(str(tmp_path / "in.mp4"), "builtin", "whole", "webm", 4, None, "cuda")
    assert engine_bench.measure(measurement).frames == 3
    assert stub.providers == [["CUDAExecutionProvider"]]
    agreement = engine_bench.agreement(measurement)
    assert (agreement.mean, agreement.iou) == (0, 1)
    assert ["CPUExecutionProvider"] in stub.providers


def test_a_device_that_is_not_there_cannot_be_measured(tmp_path):
    make_clip(tmp_path / "in.mp4", frames=4, background="green")
    measurement = engine_bench.Measurement(str(tmp_path / "in.mp4"), "builtin", "matte", "webm", 4, None, "coreml")
    with pytest.raises(ModelUnavailable, match="does not support coreml"):
        engine_bench.measure(measurement)


# Minimum IoU on real footage. Raise it when an engine improves; never lower it.
MIN_IOU = {
    ("ccp photos", "builtin"): 0.94,
    ("composite", "builtin"): 0.77,
    ("davis people", "subject"): 0.62,  # a break dancer before a crowd, a rider with his scooter
    ("screen, real", "chroma"): 0.95,
}


@pytest.mark.parametrize(("group", "engine"), MIN_IOU)
def test_an_engine_keeps_its_quality_on_real_footage(group, engine):
    with ExitStack() as stack:
        ground_truths = [t for t in ground_truth.find(quality.CLIPS, stack)[0] if t.group == group]
        if not ground_truths:
            pytest.skip(f"no ground truth for {group} in {quality.CLIPS}")
        candidates, reasons = quality.candidates(None, [engine])
        assert not reasons
        (row,) = compare(candidates, ground_truths, frames=12)
    assert row.score.iou >= MIN_IOU[group, engine]
