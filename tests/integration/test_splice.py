"""Outputs of a correction that are made of the former ones: equal to what encoding all of it anew gives."""

import shutil
import threading
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from zipfile import ZipFile

import av
import numpy as np
import pytest

import alphareel
from alphareel.domain.clip import PreviousOutput
from alphareel.domain.corrections import parse_correction
from alphareel.domain.errors import InvalidRequest
from alphareel.domain.options import Background, Options, Output
from alphareel.matting.correction import FramePatch
from alphareel.media.format import format_named
from alphareel.media.output_file import GOP
from alphareel.media.partial_file import work_folder
from alphareel.media.reader import open_reader
from alphareel.media.verify import UNLIMITED
from alphareel.pipeline import splice
from alphareel.pipeline.corrections import MatteEdits, plan_edits
from alphareel.pipeline.run import run
from alphareel.testing.clips import make_clip

FRAMES = 3 * GOP + 8
TOUCHED = range(GOP + 50, 2 * GOP + 10)  # by the correction: in the second group and the third
GREEN = Background(type="color", color=(26, 153, 51))
OPAQUE = {"mp4", "prores_hq"}  # need a background
GROUPED = ("webm", "mp4", "matte", "stacked_mp4")
SINGLE = ("mov", "prores_hq", "ffv1", "png_sequence", "lossless_matte")
WHOLE = ("gif",)
STAGES = ("read", "matte", "write")  # names of threads


def outputs_in(folder, names):
    folder.mkdir()
    return [
        Output(
            folder / f"{name}{format_named(name).suffix}",
            Options(output_format=name, background=GREEN if name in OPAQUE else Background(), engine="builtin"),
        )
        for name in names
    ]


def finish(steps):
    progress = None
    shares = []
    for progress in steps:
        shares.append(progress.share)
    assert shares == sorted(shares)
    return {result.format: result for result in progress.results}


def former(results):
    return [PreviousOutput(Path(result.path), result.recipe) for result in results.values()]


def plan(source, _matte, corrections, _limits, **_):
    """What a correction touches, whatever it says: a square of the alpha in the frames of TOUCHED."""
    if any(each.selects_subjects for each in corrections):
        return plan_edits(source, _matte, corrections, _limits)
    with open_reader(source, UNLIMITED) as reader:
        ticks = [frame.pts for frame in reader.frames()]
    alpha = np.zeros((96, 128), np.uint8)
    alpha[10:50, 10:50] = 200
    return MatteEdits({ticks[n]: FramePatch(alpha, alpha, alpha) for n in TOUCHED} if corrections else {})


class Revisions:
    """The first outputs of a clip, and those of a correction: spliced, and all encoded anew."""

    def __init__(self, folder):
        self.folder = folder
        self.names = (*GROUPED, *SINGLE, *WHOLE)
        rate = Fraction(30000, 1001)
        self.clip = make_clip(
            folder / "in.mp4", frames=FRAMES, rate=rate, vfr=True, start=0.4, audio=True, options={"g": "30"}
        ).path
        self.first = finish(run(self.clip, outputs_in(folder / "first", self.names)))
        self.matte = Path(self.first["lossless_matte"].path)
        self.corrections = [parse_correction({"frame": TOUCHED[0], "points": [{"x": 1, "y": 1}]}, mask_field="mask")]
        self.whole = finish(
            run(self.clip, outputs_in(folder / "whole", self.names), matte=self.matte, corrections=self.corrections)
        )
        self.spliced = self.splice("spliced", former(self.first), self.corrections)

    def splice(self, name, previous, corrections, names=None):
        outputs = outputs_in(self.folder / name, names or self.names)
        return finish(splice.run(self.clip, outputs, previous=previous, matte=self.matte, corrections=corrections))


@pytest.fixture(scope="module")
def revisions(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for module in ("run", "splice"):
            patch.setattr(f"alphareel.pipeline.{module}.plan_edits", plan)
        yield Revisions(tmp_path_factory.mktemp("revisions"))


def packets(path):
    """(stream, pts, dts, duration, is a key frame, bytes, alpha beside it) of each packet, in the order of the file."""
    if path.endswith(".zip"):
        with ZipFile(path) as archive:
            return [(name, archive.read(name)) for name in archive.namelist()]
    with av.open(path) as container:
        return [
            (p.stream.index, p.pts, p.dts, p.duration, p.is_keyframe, bytes(p), bytes(alpha) if alpha else b"")
            for p in container.demux()
            if p.size
            for alpha in [p.get_sidedata("matroska_block_additional") if p.stream.type == "video" else None]
        ]


def video(path):
    return [packet for packet in packets(path) if path.endswith(".zip") or packet[0] == 0]


def pictures(path):
    with open_reader(Path(path), UNLIMITED) as reader:
        frames = [(f.y, f.u, f.v, f.alpha) for f in reader.frames()]
    return [[np.array(plane, int) for plane in planes if plane is not None] for planes in frames]


def assert_alike(one, other):
    """Encoders of groups depend on the frames before."""
    for planes, others in zip(one, other, strict=True):
        for plane, expected in zip(planes, others, strict=True):
            assert np.abs(plane - expected).mean() < 0.5  # levels; the correction changes the alpha by far more


@pytest.mark.parametrize("name", [*GROUPED, *SINGLE])
def test_packets_outside_of_the_correction_are_those_of_the_former_file(revisions, name):
    before, after = (packets(results[name].path) for results in (revisions.first, revisions.spliced))
    assert len(before) == len(after)
    changed = [n for n, (one, other) in enumerate(zip(before, after, strict=True)) if one != other]
    one, other = (video(results[name].path) for results in (revisions.first, revisions.spliced))
    numbers = [n for n, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    assert len(numbers) == len(changed)  # the audio is as it was
    may_change = range(GOP, 3 * GOP) if name in GROUPED else TOUCHED
    assert numbers
    assert set(numbers) <= set(may_change)


@pytest.mark.parametrize("name", [*GROUPED, *SINGLE])
def test_a_spliced_file_is_what_encoding_all_of_it_gives(revisions, name):
    whole, spliced = revisions.whole[name], revisions.spliced[name]
    facts = {"path": "", "sha256": "", "bytes": 0, "frames_lost": 0}
    assert replace(whole, **facts) == replace(spliced, **facts)
    if name in GROUPED:
        assert [(p[1], p[3]) for p in video(whole.path)] == [(p[1], p[3]) for p in video(spliced.path)]
        assert_alike(pictures(whole.path), pictures(spliced.path))
    else:
        assert packets(whole.path) == packets(spliced.path)


def test_what_cannot_be_spliced_is_encoded_as_a_whole_beside_the_rest(revisions):
    assert revisions.whole["gif"].sha256 == revisions.spliced["gif"].sha256


def test_undoing_the_correction_gives_the_first_files(revisions):
    undone = revisions.splice("undone", former(revisions.spliced), [])
    for name in (*GROUPED, *SINGLE):
        if name in GROUPED:
            assert_alike(pictures(undone[name].path), pictures(revisions.first[name].path))
        else:
            assert video(undone[name].path) == video(revisions.first[name].path), name


def test_a_correction_that_changes_nothing_copies_the_files(revisions):
    again = revisions.splice("again", former(revisions.spliced), revisions.corrections)
    for name in (*GROUPED, "mov", "prores_hq", "ffv1", "png_sequence"):
        assert again[name].sha256 == revisions.spliced[name].sha256, name


@pytest.mark.parametrize("case", ["another recipe", "no file", "damaged", "shorter", "another clip"])
def test_a_former_file_that_does_not_fit_is_not_used(revisions, tmp_path, case):
    webm, matte = (
        PreviousOutput(Path(revisions.first[name].path), revisions.first[name].recipe)
        for name in ("webm", "lossless_matte")
    )
    if case == "another recipe":
        webm = replace(webm, recipe="0" * 64)
    elif case == "no file":
        webm = None
    elif case == "damaged":
        data = bytearray(Path(webm.path).read_bytes())
        data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
        (tmp_path / "damaged.webm").write_bytes(data)
        webm = replace(webm, path=tmp_path / "damaged.webm")
    else:
        frames, width = (FRAMES, 64) if case == "another clip" else (GOP, 128)
        clip = make_clip(tmp_path / "in.mp4", frames=frames, width=width).path
        made = finish(run(clip, outputs_in(tmp_path / "other", ["webm"])))["webm"]
        webm = replace(webm, path=Path(made.path))
    made = revisions.splice(f"unfit {case}", [webm, matte], revisions.corrections, ["webm", "lossless_matte"])
    assert packets(made["webm"].path) == packets(revisions.whole["webm"].path)
    assert packets(made["lossless_matte"].path) == packets(revisions.whole["lossless_matte"].path)
    assert {path.name for path in (revisions.folder / f"unfit {case}").iterdir()} == {"webm.webm", "lossless_matte.mkv"}


def test_without_the_former_matte_all_is_encoded(revisions):
    webm = PreviousOutput(Path(revisions.first["webm"].path), revisions.first["webm"].recipe)
    made = revisions.splice("no matte", [webm, None], revisions.corrections, ["webm", "lossless_matte"])
    assert packets(made["webm"].path) == packets(revisions.whole["webm"].path)


def test_a_choice_of_subjects_is_encoded_as_a_whole(revisions):
    choice = [parse_correction({"drop": ["s9"]}, mask_field="mask")]
    previous = [
        PreviousOutput(Path(revisions.first[n].path), revisions.first[n].recipe) for n in ("webm", "lossless_matte")
    ]
    made = revisions.splice("subjects", previous, choice, ["webm", "lossless_matte"])
    assert packets(made["webm"].path) == packets(revisions.first["webm"].path)


def test_a_correction_that_is_given_up_leaves_nothing(revisions, tmp_path, monkeypatch):
    running = []

    @contextmanager
    def watched_folder(*options):
        with work_folder(*options) as folder:
            try:
                yield folder
            finally:
                running.extend(set(STAGES).intersection(thread.name for thread in threading.enumerate()))

    monkeypatch.setattr(splice, "work_folder", watched_folder)
    outputs = outputs_in(tmp_path / "given up", ["webm", "lossless_matte"])
    previous = [
        PreviousOutput(Path(revisions.first[n].path), revisions.first[n].recipe) for n in ("webm", "lossless_matte")
    ]
    steps = splice.run(
        revisions.clip, outputs, previous=previous, matte=revisions.matte, corrections=revisions.corrections
    )
    next(steps)
    steps.close()
    assert list((tmp_path / "given up").iterdir()) == []
    assert not running, "they may write in the folder while it is removed"


CORRECTION = {"frame": TOUCHED[0], "points": [{"x": 1, "y": 1}]}
KEPT = {"output_format": "lossless_matte"}


def correct(revisions, targets, previous, **options):
    results = alphareel.correct(
        revisions.matte, revisions.clip, [CORRECTION], targets=targets, previous=previous, **options
    )
    assert isinstance(results, tuple)
    return {result.format: result for result in results}


def test_the_library_copies_from_the_results_of_the_run_before(revisions, tmp_path):
    targets = {tmp_path / "out.webm": {}, tmp_path / "out.gif": {}, tmp_path / "fixed.mkv": KEPT}
    made = correct(revisions, targets, tuple(revisions.first.values()))
    for name in ("webm", "lossless_matte"):
        assert video(made[name].path) == video(revisions.spliced[name].path)
        assert made[name].encoded_whole is None
    assert made["gif"].encoded_whole == "gif files cannot be changed in part."


def test_the_files_before_may_be_replaced(revisions, tmp_path):
    former = []
    for name in ("webm", "lossless_matte"):
        result = revisions.first[name]
        path = Path(shutil.copy(result.path, tmp_path / Path(result.path).name))
        former.append(replace(result, path=str(path)))
    targets = {former[0].path: {}, former[1].path: KEPT}
    made = correct(revisions, targets, former, overwrite=True)
    assert packets(made["webm"].path) == packets(revisions.spliced["webm"].path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lossless_matte.mkv", "webm.webm"]


def test_the_library_needs_no_target_for_the_corrected_matte(revisions, tmp_path):
    made = correct(revisions, {tmp_path / "out.webm": {}}, tuple(revisions.first.values()))
    assert list(made) == ["webm"]
    assert packets(made["webm"].path) == packets(revisions.spliced["webm"].path)
    assert [path.name for path in tmp_path.iterdir()] == ["out.webm"]


def test_a_file_that_has_changed_since_its_run_is_not_used(revisions, tmp_path):
    path = tmp_path / "old.webm"
    shutil.copy(revisions.first["webm"].path, path)
    with path.open("ab") as file:
        file.write(bytes(9))
    former = (replace(revisions.first["webm"], path=str(path)), revisions.first["lossless_matte"])
    made = correct(revisions, {tmp_path / "out.webm": {}}, former)["webm"]
    assert made.encoded_whole == "The file of the revision before is not there, or has changed."
    assert packets(made.path) == packets(revisions.whole["webm"].path)


def test_without_the_former_matte_the_library_says_why_all_was_encoded(revisions, tmp_path):
    made = correct(revisions, {tmp_path / "out.webm": {}}, [revisions.first["webm"]])["webm"]
    assert made.encoded_whole == "The matte of the revision before is not there."


@pytest.mark.parametrize("previous", [False, True])
def test_a_target_never_replaces_the_matte_it_is_made_of(revisions, previous):
    former = tuple(revisions.first.values()) if previous else ()
    with pytest.raises(InvalidRequest, match="is the matte itself"):
        correct(revisions, {revisions.matte: KEPT}, former, overwrite=True)
