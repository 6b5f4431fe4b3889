"""The comparison of engines measures right, says what it leaves out, and the engines keep what they have reached."""

import json
import math
from contextlib import ExitStack
from fractions import Fraction

import cv2
import numpy as np
import pytest
from benchmarks import engine as engine_bench
from benchmarks import ground_truth, quality
from benchmarks.ground_truth import Truth
from benchmarks.quality import Contender, compare, judge

from alphareel.domain.clip import Clip, Color, EngineFacts
from alphareel.domain.errors import BadVideo
from alphareel.imaging.frame import Matte
from alphareel.testing.clips import make_clip
from alphareel.testing.frames import frame_of

WIDTH, HEIGHT = 160, 96
CLIP = Clip(
    width=WIDTH, height=HEIGHT, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=4, codec="h264",
    container="mp4", pixel_format="yuv420p", color=Color(matrix=1),
)  # fmt: skip


def alpha_at(index):
    made = np.zeros((HEIGHT, WIDTH), np.float32)
    cv2.circle(made, (60 + 4 * index, 48), 24, 1.0, -1)
    return made


def picture_at(index):
    texture = np.random.default_rng(5).integers(0, 90, (HEIGHT, WIDTH, 3))
    return np.where(alpha_at(index)[..., None] > 0, texture + 150, texture).astype(np.uint8)


def truth(count=4, group="made", *, still=False):
    return Truth(
        group, "clip", "people", exact=True, still=still, clip=CLIP,
        frames=lambda size: (frame_of(picture_at(n), size, index=n) for n in range(count)),
        alphas=lambda: (alpha_at(n) for n in range(count)),
    )  # fmt: skip


class Answer:
    """An engine that knows the truth and answers with it, moved by ``late`` frames."""

    facts = EngineFacts("answer", "1")
    thumbnail = (32, 32)

    def __init__(self, late=0):
        self.late = late

    def start(self, clip, options):
        return self

    def step(self, frames):
        return [Matte(f, (alpha_at(max(0, f.index - self.late)) * 255).astype(np.uint8)) for f in frames]


def contender(engine):
    return Contender("answer", engine, screens=False, megabytes=0)


def test_a_matte_that_is_the_truth_scores_perfectly():
    score = judge(contender(Answer()), truth(), frames=10)
    assert (score.mad, score.mse, score.grad, score.dtssd, score.iou, score.boundary_f) == (0, 0, 0, 0, 1, 1)
    assert score.ms >= 0


def test_a_late_matte_scores_worse_in_everything():
    score = judge(contender(Answer(late=2)), truth(), frames=10)
    assert min(score.mad, score.mse, score.grad, score.dtssd) > 0
    assert max(score.iou, score.boundary_f) < 1


def test_a_photo_has_no_figures_that_need_frames_in_a_row():
    score = judge(contender(Answer()), truth(count=1), frames=10)
    assert math.isnan(score.dtssd)
    assert math.isnan(score.flicker)
    assert score.iou == 1


def test_a_still_is_judged_when_the_engine_has_looked_at_it_long_enough():
    late = Answer()
    late.step = lambda frames: [
        Matte(f, np.uint8(255) * (f.index == ground_truth.SETTLE - 1) * (alpha_at(f.index) > 0)) for f in frames
    ]
    assert judge(contender(late), truth(count=ground_truth.SETTLE, still=True), frames=1).iou == 1


def test_no_more_frames_are_looked_at_than_asked():
    seen = []
    answer = Answer()
    answer.step = lambda frames: seen.extend(frames) or Answer.step(answer, frames)
    judge(contender(answer), truth(), frames=2)
    assert [f.index for f in seen] == [0, 1]


def test_clips_of_one_group_are_averaged():
    rows = list(compare([contender(Answer())], [truth(), truth(), truth(group="other")], frames=2))
    assert [(r.group, r.clips) for r in rows] == [("made", 2), ("other", 1)]


def test_an_engine_for_screens_is_not_asked_about_people():
    keyer = Contender("keyer", Answer(), screens=True, megabytes=0)
    assert list(compare([keyer], [truth()], frames=2)) == []


def test_what_is_not_there_is_named_and_a_screen_is_always_made(tmp_path):
    with ExitStack() as stack:
        found, reasons = ground_truth.find(tmp_path, stack)
    assert [t.group for t in found] == ["screen, made"]
    assert [r.split(":")[0] for r in reasons] == ["ccp", "davis", "composite", "far", "greenscreen"]


def test_photos_and_sequences_are_found_with_their_masks(tmp_path):
    for folder in (tmp_path / "ccp", tmp_path / "davis" / "breakdance"):
        for part in ("rgb", "mask"):
            (folder / part).mkdir(parents=True)
        cv2.imwrite(str(folder / "rgb" / "1.jpg"), np.full((51, 41, 3), 90, np.uint8))  # odd sides
        cv2.imwrite(str(folder / "mask" / "1.png"), np.full((51, 41), 255, np.uint8))
    with ExitStack() as stack:
        found, _ = ground_truth.find(tmp_path, stack)
        photo = next(t for t in found if t.group == "ccp photos")
        (frame, *more), (alpha, *_) = photo.frames((16, 16)), photo.alphas()
    assert {t.group for t in found} == {"screen, made", "ccp photos", "davis people"}
    assert frame.y.shape == alpha.shape == (50, 40)
    assert alpha.min() == 1
    assert photo.still
    assert len(more) == ground_truth.SETTLE - 1


def test_the_command_prints_a_table_and_keeps_figures_and_sheets(tmp_path, monkeypatch, capsys):
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


class Refusing(Answer):
    """An engine that has to see the scene first, and does not like this one."""

    def prepare(self, scenery):
        assert next(scenery.thumbnails((16, 16))).shape == (3, 16, 16)
        raise BadVideo("The camera moves.", hint="Stand it on something.")


def test_an_engine_that_refuses_a_clip_is_named_and_the_others_go_on():
    refused = []
    everybody = [contender(Refusing()), contender(Answer())]
    assert len(list(compare(everybody, [truth()], frames=2, refused=refused))) == 1
    assert refused == ["answer: not judged on made, The camera moves."]


@pytest.mark.parametrize("stage", engine_bench.STAGES)
@pytest.mark.parametrize("engine", ["builtin", "chroma", "plate"])
def test_every_engine_of_the_package_can_be_measured_in_every_stage(tmp_path, engine, stage):
    make_clip(tmp_path / "in.mp4", frames=24, background="green")
    order = engine_bench.Order(str(tmp_path / "in.mp4"), engine, stage, "webm", 24, None)
    figure = engine_bench.measure(order)
    assert figure.frames == (23 if stage == "whole" else 24), "the path counts from its first frame on"
    assert figure.cpu_ms > 0


# What the engines have reached on real footage. Raise a floor when an engine improves; never lower one.
FLOORS = {("ccp photos", "builtin"): 0.94, ("composite", "builtin"): 0.77, ("screen, real", "chroma"): 0.95}


@pytest.mark.parametrize(("group", "engine"), FLOORS)
def test_an_engine_keeps_what_it_has_reached_on_real_footage(group, engine):
    with ExitStack() as stack:
        found = [t for t in ground_truth.find(quality.CLIPS, stack)[0] if t.group == group]
        if not found:
            pytest.skip(f"no ground truth for {group} in {quality.CLIPS}")
        everybody, reasons = quality.contenders(None, [engine])
        assert not reasons
        (row,) = compare(everybody, found, frames=12)
    assert row.score.iou >= FLOORS[group, engine]
