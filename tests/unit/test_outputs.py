"""Several outputs of one matte: each the same as if made alone, and either all of them or none."""

import json
import os
import sys
import threading
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import alphareel
from alphareel.cli import main
from alphareel.cli.targets import value_for
from alphareel.domain.clip import Clip, Limits
from alphareel.domain.errors import AlphareelError, BadVideo, InvalidRequest, StorageFailed, VerificationFailed
from alphareel.domain.options import Background, Composition, Options, Output
from alphareel.imaging.frame import Frame
from alphareel.media import reader
from alphareel.media.atomic_file import AtomicFile
from alphareel.media.format import Target, format_named  # type: ignore[attr-defined]
from alphareel.media.probe import _is_cropped
from alphareel.media.reader import open_reader
from alphareel.pipeline import run
from alphareel.testing.clips import make_clip

THREE = {"a.webm": {}, "b.mov": {}, "over.mp4": {"background": "white"}}


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "in.mp4", frames=10, background="green", audio=True)


def cut(clip, targets, **options):
    """Cut into targets in the clip's folder."""
    folder = clip.path.parent
    paths_with_options = {folder / name: own for name, own in targets.items()}
    return alphareel.cut(clip.path, targets=paths_with_options, engine="chroma", **options)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def alphas(path):
    with open_reader(path, Limits()) as reader:
        return [frame.alpha.copy() for frame in reader.frames()]


def test_every_target_is_written_and_results_come_in_the_order_of_targets(clip, tmp_path):
    results = cut(clip, THREE)
    assert [r.path for r in results] == [str(tmp_path / name) for name in THREE]
    assert [r.format for r in results] == ["webm", "mov", "mp4"]
    assert [r.has_alpha for r in results] == [True, True, False]
    assert all(r.frames == 10 and r.has_audio for r in results)
    assert names(tmp_path) == ["a.webm", "b.mov", "in.mp4", "over.mp4"]


def test_a_device_or_a_pipe_as_target_is_refused_and_unchanged(clip, tmp_path):
    pipe = tmp_path / "pipe.webm"
    os.mkfifo(pipe)
    (tmp_path / "link.webm").symlink_to(pipe)
    for name in ("pipe.webm", "link.webm"):
        with pytest.raises(InvalidRequest, match="device or a pipe"):
            cut(clip, {name: {}})
    assert pipe.is_fifo()


def test_a_symbolic_link_as_target_stays_and_the_file_it_points_to_is_replaced(clip, tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link.webm").symlink_to(tmp_path / "there" / "real.webm")
    cut(clip, {"link.webm": {}})
    assert (tmp_path / "link.webm").is_symlink()
    assert alphareel.probe(tmp_path / "there" / "real.webm").frames
    (tmp_path / "there" / "real.webm").write_bytes(b"old")
    cut(clip, {"link.webm": {}}, overwrite=True)
    assert (tmp_path / "link.webm").is_symlink()
    assert alphareel.probe(tmp_path / "there" / "real.webm").frames
    with pytest.raises(InvalidRequest, match="same file"):
        cut(clip, {"link.webm": {}, "there/real.webm": {}})


@pytest.mark.parametrize("letter", ["a", "é", "漢"])
def test_a_target_name_may_be_as_long_as_the_file_system_allows(clip, tmp_path, letter):
    name = letter * (250 // len(letter.encode())) + ".webm"
    cut(clip, {name: {}})
    assert names(tmp_path) == sorted([name, "in.mp4"])


def test_an_error_in_the_callback_ends_the_run_before_it_reaches_the_caller(clip, tmp_path):
    def complain(_):
        raise ZeroDivisionError

    try:
        cut(clip, THREE, on_progress=complain)
    except ZeroDivisionError:
        assert names(tmp_path) == ["in.mp4"]
        assert not [t for t in threading.enumerate() if t.name in ("read", "matte", "write")]
    else:
        pytest.fail("the error was lost")


def test_a_file_is_the_same_whether_it_is_made_alone_or_with_others(clip, tmp_path):
    cut(clip, THREE)
    alphareel.cut(clip.path, tmp_path / "alone.webm", engine="chroma")
    pairs = zip(alphas(tmp_path / "alone.webm"), alphas(tmp_path / "a.webm"), strict=True)
    assert all(np.array_equal(alone, together) for alone, together in pairs)


def test_the_clip_is_decoded_and_its_matte_is_made_once(clip, monkeypatch):
    counts = {"opened": 0, "mattes": 0}
    open_reader, mattes = run.open_reader, run.mattes  # type: ignore[attr-defined]

    def opening(*arguments):
        counts["opened"] += 1
        return open_reader(*arguments)

    def matting(*arguments):
        for matte in mattes(*arguments):
            counts["mattes"] += 1
            yield matte

    monkeypatch.setattr(run, "open_reader", opening)
    monkeypatch.setattr(run, "mattes", matting)
    cut(clip, THREE)
    assert counts == {"opened": 1, "mattes": 10}


def test_progress_reports_the_frames_written_to_each_output(clip):
    seen = []
    cut(clip, THREE, on_progress=seen.append)
    assert all(len(progress.written) == 3 for progress in seen)
    assert seen[-1].written == (10, 10, 10)
    assert [r.format for r in seen[-1].results] == ["webm", "mov", "mp4"]
    assert seen[-1].result == seen[-1].results[0]


def test_no_output_is_published_if_one_fails_verification(clip, tmp_path, monkeypatch):
    (tmp_path / "a.webm").write_bytes(b"yesterday's result")
    verify = run.verify  # type: ignore[attr-defined]

    def doubt(path, expectation):
        if ".mp4" in path.name:
            raise VerificationFailed("The result was written but is not right.")
        return verify(path, expectation)

    monkeypatch.setattr(run, "verify", doubt)
    with pytest.raises(VerificationFailed):
        cut(clip, THREE, overwrite=True)
    assert (tmp_path / "a.webm").read_bytes() == b"yesterday's result"
    assert names(tmp_path) == ["a.webm", "in.mp4"]


def test_no_output_is_published_before_all_are_flushed_to_disk(clip, tmp_path, monkeypatch):
    order = []
    fsync, publish = AtomicFile.fsync, AtomicFile.publish
    monkeypatch.setattr(AtomicFile, "fsync", lambda file: order.append("fsync") or fsync(file))
    monkeypatch.setattr(AtomicFile, "publish", lambda file: order.append("publish") or publish(file))
    cut(clip, THREE)
    assert order[:3] == ["fsync"] * 3
    assert order.count("publish") == 3


def test_a_disk_that_fills_up_leaves_no_output(clip, tmp_path, monkeypatch):
    def full(part):
        if part.target.suffix == ".mov":
            raise StorageFailed("The disk is full.")

    monkeypatch.setattr(AtomicFile, "fsync", full)
    with pytest.raises(StorageFailed):
        cut(clip, THREE)
    assert names(tmp_path) == ["in.mp4"]


def test_a_target_that_cannot_be_opened_leaves_no_output(clip, tmp_path):
    with pytest.raises(StorageFailed):
        cut(clip, {"a.webm": {}, "none/b.mov": {}})
    assert names(tmp_path) == ["in.mp4"]


def test_closing_the_generator_stops_every_writer_and_leaves_nothing(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=200, background="green")
    options = Options(engine="chroma")
    outputs = [Output(tmp_path / "a.webm", options), Output(tmp_path / "b.webm", options)]
    before = threading.active_count()
    running = alphareel.run(truth.path, outputs)
    next(running)
    running.close()
    assert threading.active_count() == before
    assert names(tmp_path) == ["in.mp4"]


def test_a_clip_without_frames_gives_no_output(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(reader.Reader, "_frames", lambda *_: iter(()))
    monkeypatch.setattr(reader.Reader, "frames", lambda *_, **__: (n for n in ()))
    with pytest.raises(BadVideo):
        cut(clip, THREE)
    assert names(tmp_path) == ["in.mp4"]


def test_two_outputs_can_have_different_background_videos(clip, tmp_path):
    first = make_clip(tmp_path / "one.mp4", frames=3)
    second = make_clip(tmp_path / "two.mp4", frames=30, rate=50)
    results = cut(clip, {"a.mp4": {"background": first.path}, "b.mp4": {"background": second.path}})
    assert [r.frames for r in results] == [10, 10]


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ({}, "no target"),
        ({"in.mp4": {"background": "white"}}, "source itself"),
        ({"a.webm": {}, "folder": {"output_format": "mov"}}, "folder is a folder"),
        ({"a.webm": {}, "./a.webm": {}}, "same file"),
        ({"a.webm": {}, "b.mp4": {}}, "carries no alpha"),
        ({"a.webm": {"engine": "builtin"}}, "cannot have engine for itself"),
    ],
)
def test_invalid_targets_are_refused_before_any_work(clip, tmp_path, targets, words):
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidRequest, match=words):
        alphareel.cut(clip.path, targets={f"{tmp_path}/{name}": own for name, own in targets.items()}, engine="chroma")
    assert names(tmp_path) == ["folder", "in.mp4"]


def test_two_targets_that_are_the_same_file_through_a_link_are_refused(clip, tmp_path):
    (tmp_path / "elsewhere").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(InvalidRequest, match="same file"):
        cut(clip, {"a.webm": {}, "elsewhere/a.webm": {}})


def test_outputs_that_need_different_mattes_are_refused(clip, tmp_path):
    one, other = Options(engine="chroma"), Options(engine="builtin")
    with pytest.raises(InvalidRequest, match="different mattes"):
        next(alphareel.run(clip.path, [Output(tmp_path / "a.webm", one), Output(tmp_path / "b.webm", other)]))


def test_a_target_and_targets_together_are_refused(clip, tmp_path):
    with pytest.raises(InvalidRequest, match="Both target and targets"):
        alphareel.cut(clip.path, tmp_path / "a.webm", targets=[tmp_path / "b.webm"])  # type: ignore[call-overload]


def test_a_background_does_not_change_the_matte_and_an_engine_does():
    white = Options(output_format="mp4", background=Background("color", (255, 255, 255)))
    assert Options().matting_options == white.matting_options
    assert Options().matting_options != Options(engine="chroma").matting_options


def test_the_command_writes_several_files_with_options_for_one_of_them(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    arguments = [
        "cut",
        "in.mp4",
        "a.webm",
        "over.mp4",
        "--engine",
        "chroma",
        "--background",
        "over.mp4=white",
        "--json",
    ]
    monkeypatch.setattr(sys, "argv", ["alphareel", *arguments])
    with pytest.raises(SystemExit) as left:
        main.main()
    assert not left.value.code
    first, second = json.loads(capsys.readouterr().out)
    assert (first["path"], first["has_alpha"]) == ("a.webm", True)
    assert (second["path"], second["has_alpha"]) == ("over.mp4", False)
    assert second["bytes"] == (tmp_path / "over.mp4").stat().st_size


def test_the_command_refuses_a_target_that_is_named_twice(clip, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["alphareel", "cut", str(clip.path), "a.webm", "a.webm"])
    with pytest.raises(SystemExit) as left:
        main.main()
    assert left.value.code == 2
    assert "same file" in capsys.readouterr().err


def test_the_last_value_for_a_target_overrides_the_values_for_all():
    paths = [Path("a.webm"), Path("b.mp4")]
    values = ["white", "b.mp4=#000000", "x=y"]
    assert [value_for(path, paths, values) for path in paths] == ["x=y", "#000000"]


def test_a_value_can_be_for_a_target_whose_name_has_an_equals_sign():
    paths = [Path("take=1.mp4"), Path("take")]
    values = ["take=1.mp4=white", "take=blur"]
    assert [value_for(path, paths, values) for path in paths] == ["white", "blur"]
    assert value_for(paths[0], [paths[0]], ["./take=1.mp4=red=x"]) == "red=x"


def test_alphareel_errors_of_other_threads_reach_the_caller(clip, tmp_path):
    with pytest.raises(AlphareelError):
        cut(clip, {"a.webm": {}, "b.mp4": {"background": str(tmp_path / "in.mp4")}}, limits=Limits(max_side=64))


@pytest.mark.parametrize(
    ("size", "format_name", "expected"),
    [
        ((1920, 1080), "webm", (1280, 720)),
        ((1080, 1920), "gif", (270, 480)),
        ((1280, 720), "webm", None),
        ((1920, 1080), "mov", None),
        ((1918, 800), "mp4", (1280, 534)),
    ],
)
def test_the_quality_web_limits_the_longer_side(clip, size, format_name, expected):
    with open_reader(clip.path, Limits()) as reader:
        large = replace(reader.clip, width=size[0], height=size[1])
    background = Background("color", (0, 0, 0)) if format_name == "mp4" else Background()
    options = Options(output_format=format_name, quality="web", background=background)
    canvas = run.fit_canvas(options, large, format_named(format_name)).composition
    assert (canvas and (canvas.width, canvas.height)) == expected
    assert run.fit_canvas(replace(options, quality="master"), large, format_named(format_name)).composition is None


def test_the_quality_web_does_not_change_a_requested_canvas(clip):
    options = Options(quality="web", composition=Composition(3000, 2000))
    with open_reader(clip.path, Limits()) as reader:
        assert run.fit_canvas(options, replace(reader.clip, width=4000), format_named("webm")) == options


def test_a_result_states_its_kind_of_alpha(clip, tmp_path):
    targets = {
        "a.webm": {},
        "m.mp4": {"output_format": "matte"},
        "s.mp4": {"output_format": "stacked_mp4"},
        "b.mp4": {"background": "white"},
        "hq.mov": {"output_format": "prores_hq", "background": "white", "quality": "master"},
    }
    kinds = [result.alpha for result in cut(clip, targets)]
    assert kinds == ["straight", "white_is_opaque", "white_is_opaque", "none", "none"]


@pytest.mark.parametrize(("form", "seconds"), [("gif", 700), ("webp", 17_000)])
def test_a_frame_that_lasts_longer_than_the_format_can_say_is_refused_before_the_work(
    form, seconds, tmp_path, monkeypatch
):
    clip = make_clip(tmp_path / "in.mp4", width=32, height=32, frames=3, rate=Fraction(1, seconds)).path
    monkeypatch.setattr("alphareel.pipeline.run.mattes", None)  # nothing is matted
    output = Output(tmp_path / f"out.{form}", Options(output_format=form, engine="chroma"))
    with pytest.raises(InvalidRequest, match=f"lasts {seconds} seconds"):
        list(run.run(clip, [output], limits=Limits(max_seconds=0)))
    assert names(tmp_path) == ["in.mp4"]


def test_a_single_frame_among_short_ones_that_lasts_too_long_is_refused(clip, tmp_path):
    facts = replace(open_reader(clip.path, Limits()).clip, time_base=Fraction(1, 1000))
    sink = format_named("gif").open(Target(tmp_path / "out.gif", facts, 32, 32, has_alpha=False))
    flat, chroma = np.zeros((32, 32), np.uint8), np.full((16, 16), 128, np.uint8)
    sink.write(Frame(flat, chroma, chroma, 0, 40, 0), None)
    with pytest.raises(InvalidRequest, match="lasts 656 seconds"):
        sink.write(Frame(flat, chroma, chroma, 656_000, 40, 1), None)
    sink.abort()
    assert names(tmp_path) == ["in.mp4"]


def test_audio_that_a_format_cannot_hold_is_warned_about(tmp_path):
    clip = tmp_path / "in.mp4"
    make_clip(clip, frames=3, background="green", audio=True)
    formats = {"out.gif": "gif", "out.webm": "webm", "out.png": "poster", "kept.mkv": "lossless_matte"}
    targets = {tmp_path / name: {"output_format": form} for name, form in formats.items()}
    gif, *others = alphareel.cut(clip, targets=targets, engine="chroma")
    assert gif.warnings == ("gif holds no audio, so that of the video was dropped.",)
    assert [other.warnings for other in others] == [(), (), ()]


def test_an_odd_row_that_is_cropped_is_warned_about(tmp_path):
    clip = replace(Clip(64, 48, Fraction(1, 25), Fraction(25), 1.0, 25, "", "", ""), cropped=True)
    assert run.losses(format_named("png_sequence"), clip) == (
        "The sides of the video are odd, so it was cropped to 64x48.",
    )
    assert run.losses(format_named("png_sequence"), replace(clip, cropped=False)) == ()
    assert _is_cropped(65, 48, Fraction(1))
    assert not _is_cropped(65, 48, Fraction(4, 3))  # scaled to square pixels
