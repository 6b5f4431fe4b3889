"""The command over many videos: what it finds, skips, survives and says."""

import json
import os

import pytest

from alphareel.cli import folders
from alphareel.domain import errors
from alphareel.testing.clips import make_clip


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.mov"):
        make_clip(folder / name, frames=4, background="green")
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("not a video")
    return folder


def test_a_folder_is_cut_and_failures_come_at_the_end(command, clips, tmp_path):
    out = tmp_path / "out"
    code, told, err = command("cut", clips, out, "--engine", "chroma")
    assert code == 1
    assert sorted(p.name for p in out.iterdir()) == ["a.webm", "b.webm"]
    assert told.split() == [str(out / "a.webm"), str(out / "b.webm")]
    assert "2 written, 1 failed" in err
    assert "broken.mp4" in err
    (clips / "broken.mp4").unlink()
    before = (out / "a.webm").stat().st_mtime_ns
    code, told, err = command("cut", clips, out, "--engine", "chroma")
    assert (code, told) == (0, "")
    assert "0 written, 2 were there already, 0 failed" in err
    assert (out / "a.webm").stat().st_mtime_ns == before


def test_the_results_of_a_folder_can_be_read_as_json(command, clips, tmp_path):
    code, told, err = command("cut", clips, tmp_path / "out", "--engine", "chroma", "--json")
    assert (code, "2 written, 1 failed" in err) == (1, True)
    assert [result["path"] for result in json.loads(told)] == [str(tmp_path / f"out/{name}.webm") for name in "ab"]


def test_a_folder_without_a_video_is_told(command, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/a.jpg").write_bytes(b"x")
    code, told, err = command("cut", tmp_path / "photos", tmp_path / "out")
    assert (code, told) == (3, "")
    assert f"There is no video in {tmp_path / 'photos'}. Files with one of .3gp, .avi" in err
    assert not (tmp_path / "out").exists()


def test_a_pattern_selects_videos_and_a_format_names_them(command, clips, tmp_path):
    out = tmp_path / "out"
    assert command("cut", clips / "*.mov", out, "--engine", "chroma", "--format", "gif")[0] == 0
    assert [p.name for p in out.iterdir()] == ["b.gif"]
    code, _, err = command("cut", clips / "*.avi", out)
    assert (code, "No file matches" in err) == (3, True)


def test_recordings_of_the_same_names_are_never_overwritten(command, clips, tmp_path):
    out = tmp_path / "second camera"
    out.mkdir()
    recording = make_clip(out / "b.mov", frames=3).path
    before = recording.read_bytes()
    arguments = ("cut", clips / "*.mov", out, "--engine", "chroma", "--format", "mov")
    for more in ((), ("--overwrite",)):
        command(*arguments, *more)
        assert recording.read_bytes() == before
    code, _, err = command(*arguments, "--overwrite")
    assert (code, "alphareel did not write" in err) == (1, True)
    recording.unlink()
    for more in ((), ("--overwrite",)):
        assert command(*arguments, *more)[0] == 0  # a result of our own may be replaced


def test_two_videos_of_one_name_are_refused(clips, tmp_path):
    (clips / "a.mov").write_bytes(b"")
    with pytest.raises(errors.InvalidRequest, match="would both become"):
        folders.plan(folders.find_videos(clips, tmp_path), tmp_path, ".webm")


def test_results_do_not_go_among_the_sources(clips):
    with pytest.raises(errors.InvalidRequest, match="among the sources"):
        folders.find_videos(clips, clips)


def test_a_watched_folder_is_cut_once_files_have_settled(clips, tmp_path):
    made = []

    def cut_one(video, target, show):
        made.append(video.name)
        if video.name == "broken.mp4":
            raise errors.BadVideo("No.")
        target.write_bytes(b"done")
        return ()

    for video in clips.iterdir():
        os.utime(video, (1, 1))
    (clips / "fresh.mp4").write_bytes(b"still written")
    out = tmp_path / "out"
    out.mkdir()
    folders.watch_forever(clips, out, ".webm", cut_one, seconds=0, passes=3)
    assert made == ["a.mp4", "b.mov", "broken.mp4"]


def test_a_target_with_a_slash_at_its_end_becomes_a_folder(command, clips, tmp_path):
    (source,) = [path for path in clips.iterdir() if path.name == "a.mp4"]
    code, _, _ = command("cut", source, f"{tmp_path}/new/", "--engine", "chroma", "--format", "webm")
    assert code == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.webm"]


@pytest.mark.parametrize("target", ["file", "file/"])
def test_a_folder_for_results_that_is_a_file_is_refused_in_one_line(command, clips, tmp_path, target):
    (tmp_path / "file").touch()
    code, _, said = command("cut", clips, f"{tmp_path}/{target}", "--engine", "chroma")
    assert (code, "it is a file" in said) == (5, True)
