"""Outputs that are made of a kept matte are those that the engine would have made."""

import json
from fractions import Fraction
from pathlib import Path

import av
import pytest

import alphareel
from alphareel.domain import errors
from alphareel.domain.clip import Limits
from alphareel.domain.options import Options, Output
from alphareel.media.matte_facts import read_matte_facts
from alphareel.media.reader import open_reader
from alphareel.pipeline import chunks
from alphareel.pipeline.run import run
from alphareel.testing.clips import make_clip


def pictures(path):
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


def planes(path, name):
    with open_reader(path, Limits()) as reader:
        return [getattr(frame, name).copy() for frame in reader.frames()]


def alphas(path):
    return planes(path, "y")


def is_equal(one, other):
    return len(one) == len(other) and all((a == b).all() for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("options", [{"engine": "builtin"}, {"engine": "chroma", "shadows": True}])
def test_an_export_equals_what_the_engine_made(tmp_path, options):
    clip = make_clip(tmp_path / "in.mp4", frames=12, audio=True, background="green").path
    over = {"background": "#aa3300"}
    own = {"a.webm": {}, "a.mp4": over, "a.mkv": {"output_format": "lossless_matte"}}
    alphareel.cut(clip, targets={tmp_path / name: fields for name, fields in own.items()}, **options)
    matte = tmp_path / "a.mkv"
    results = alphareel.export(matte, clip, targets={tmp_path / "b.webm": {}, tmp_path / "b.mp4": over})
    assert [(r.frames, r.has_audio, r.engine.name) for r in results] == [(12, True, options["engine"])] * 2  # type: ignore[union-attr]
    for suffix in ("webm", "mp4"):
        assert is_equal(pictures(tmp_path / f"a.{suffix}"), pictures(tmp_path / f"b.{suffix}"))
    copy = alphareel.export(matte, clip, tmp_path / "c.mkv", output_format="lossless_matte")
    assert is_equal(alphas(matte), alphas(tmp_path / "c.mkv"))
    assert read_matte_facts(tmp_path / "c.mkv") == read_matte_facts(matte)
    assert copy.engine.name == options["engine"]  # type: ignore[union-attr]


def test_frames_that_share_a_millisecond_keep_their_own_alpha(tmp_path):
    tick, frame = Fraction(1, 90_000), Fraction(1, 4)
    lengths = [tick, tick, frame, tick, frame, frame]
    clip = make_clip(tmp_path / "in.mp4", lengths=lengths, background="green").path
    kept = {"a.mkv": {"output_format": "ffv1"}, "kept.mkv": {"output_format": "lossless_matte"}}
    alphareel.cut(clip, targets={tmp_path / name: fields for name, fields in kept.items()}, engine="chroma")
    alphareel.export(tmp_path / "kept.mkv", clip, tmp_path / "b.mkv")
    made = planes(tmp_path / "a.mkv", "alpha")
    assert len(made) == len(lengths)
    assert is_equal(made, planes(tmp_path / "b.mkv", "alpha"))


def test_a_preview_is_exported_to_its_end(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=12).path
    alphareel.cut(clip, tmp_path / "a.mkv", output_format="lossless_matte", engine="builtin", preview_duration=0.2)
    assert alphareel.export(tmp_path / "a.mkv", clip, tmp_path / "b.webm").frames == len(alphas(tmp_path / "a.mkv"))  # type: ignore[union-attr]


def test_a_matte_belongs_to_one_video(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=6, background="green").path
    matte = tmp_path / "a.mkv"
    alphareel.cut(clip, matte, output_format="lossless_matte", engine="chroma")
    longer = make_clip(tmp_path / "longer.mp4", frames=9, background="green").path
    with pytest.raises(errors.BadVideo, match=r"no frame at 0\.2"):
        alphareel.export(matte, longer, tmp_path / "b.webm")
    wider = make_clip(tmp_path / "wider.mp4", frames=6, width=200, background="green").path
    with pytest.raises(errors.BadVideo, match="pixels"):
        alphareel.export(matte, wider, tmp_path / "b.webm")
    with pytest.raises(errors.BadVideo, match="not a matte that alphareel kept"):
        alphareel.export(clip, clip, tmp_path / "b.webm")
    assert not list(tmp_path.glob("b*"))


def test_a_matte_that_was_joined_is_exported_in_chunks(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=60, options={"g": "20", "sc_threshold": "0"}).path
    outputs = [Output(tmp_path / "a.mkv", Options(engine="builtin", output_format="lossless_matte"))]
    matte = in_chunks(clip, outputs, tmp_path)[0].path
    exported = [Output(tmp_path / "b.mkv", Options(output_format="ffv1"))]
    in_chunks(clip, exported, tmp_path, matte=Path(matte))
    alphareel.export(matte, clip, tmp_path / "c.mkv")
    for plane in ("y", "u", "v", "alpha"):
        assert is_equal(planes(tmp_path / "b.mkv", plane), planes(tmp_path / "c.mkv", plane))


def in_chunks(clip, outputs, folder, **given):
    plan = chunks.plan(clip, outputs, seconds=0.6, **given)
    made = []
    for number, chunk in enumerate(plan.chunks):
        parts = [
            Output(folder / f"{number}-{n}{output.path.suffix}", output.options) for n, output in enumerate(outputs)
        ]
        *_, last = run(clip, parts, chunk=chunk, overwrite=True, **given)
        files = tuple((part.path, result.frames) for part, result in zip(parts, last.results, strict=True))
        made.append(chunks.ChunkResult(files, chunk, last.results[0].frames_lost))
    assert len(made) == 3
    *_, last = chunks.join(clip, outputs, made, plan.engine)
    return last.results


def test_what_cannot_be_joined_needs_a_matte_to_be_made_in_chunks(tmp_path):
    clip = make_clip(tmp_path / "in.mp4", frames=60, options={"g": "20", "sc_threshold": "0"}).path
    gif, matte = (
        Output(tmp_path / name, Options(engine="builtin", output_format=form))
        for name, form in (("a.gif", "gif"), ("a.mkv", "lossless_matte"))
    )
    assert chunks.plan(clip, [gif], seconds=0.6) is None
    assert chunks.plan(clip, [gif, matte], seconds=0.6) is not None


def test_the_command_copies_from_the_files_of_the_command_before(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = make_clip(tmp_path / "in.mp4", frames=6, options={"g": "3"}).path
    matte = ("--format", "first.mkv=lossless_matte")
    code, first, _ = command("cut", str(clip), "a.webm", "first.mkv", *matte, "--engine", "builtin", "--json")
    assert code == 0
    Path("first.json").write_text(first)
    click = ("--frame", "2", "--remove", "9,9", "--previous", "first.json", "--json")
    code, fixed, said = command("correct", "first.mkv", str(clip), "b.webm", "b.gif", *click)
    assert code == 0, said
    assert [each["encoded_whole"] for each in json.loads(fixed)] == [None, "gif files cannot be changed in part."]
    assert "b.gif was encoded as a whole" in " ".join(said.split())
    for damaged in ("{}x", "[1]", '[{"path": 3}]'):
        Path("first.json").write_text(damaged)
        code, _, said = command("correct", "first.mkv", str(clip), "c.webm", *click)
        assert code == 2
        assert "does not hold the results of a command" in " ".join(said.split())
