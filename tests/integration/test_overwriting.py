"""No footage is lost: an existing file is replaced only on request, and never if it may be footage."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

import alphareel
from alphareel.cli.contact_sheet import draw_sheet
from alphareel.domain.clip import Limits
from alphareel.domain.errors import InvalidRequest, StorageFailed, TargetExists
from alphareel.domain.options import Options, Output
from alphareel.media.atomic_file import AtomicFile
from alphareel.service.worker import child_main
from alphareel.service.worker.messages import ChildRequest
from alphareel.service.worker.tasks import RunTask
from alphareel.testing.clips import make_clip


@pytest.fixture
def clip(tmp_path):
    make_clip(tmp_path / "in.mp4", frames=4, background="green")
    return tmp_path / "in.mp4"


@pytest.fixture
def footage(clip, tmp_path):
    """A folder with three recordings of the user, in the same format as the source."""
    others = [tmp_path / name for name in ("take2.mp4", "take3.mp4")]
    for other in others:
        make_clip(other, frames=3, width=64, height=48)
    return [clip, *others]


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def in_a_shell(words, folder):
    """The command through a real shell, which expands patterns."""
    line = f'"{sys.executable}" -m alphareel {words}'
    return subprocess.run(["sh", "-c", line], cwd=folder, capture_output=True, text=True, check=False, timeout=100)


@pytest.mark.parametrize("more", ["", "--overwrite", "--overwrite --background white --engine chroma", "new.mp4"])
def test_a_shell_pattern_does_not_make_targets_of_footage(footage, tmp_path, more):
    before = contents(tmp_path)
    done = in_a_shell(f"cut *.mp4 {more}", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "take2.mp4 is an existing video that alphareel did not write" in done.stderr
    assert "alphareel cut '*.mp4' cut/" in done.stderr
    assert contents(tmp_path) == before


def test_a_pattern_over_files_of_several_kinds_does_not_make_targets_of_footage(clip, command, tmp_path):
    for name in ("a.webm", "b.mov"):
        make_clip(tmp_path / f"{name}.mp4", frames=3)
        (tmp_path / f"{name}.mp4").rename(tmp_path / name)
    before = contents(tmp_path)
    code, _, err = command("cut", clip, tmp_path / "a.webm", tmp_path / "b.mov", "--overwrite")
    assert (code, "a.webm is an existing video" in err) == (2, True)
    assert contents(tmp_path) == before


def test_the_command_in_the_error_hint_cuts_all_files(footage, tmp_path):
    shown = in_a_shell("cut *.mp4", tmp_path).stderr
    words = shown[shown.index("alphareel cut '") :].split()[1:4]
    done = in_a_shell(f'{" ".join(words)} --engine chroma --key-color "#00ff00"', tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(contents(tmp_path / "cut")) == {"in.webm", "take2.webm", "take3.webm"}


def test_a_result_is_replaced_only_on_request(clip, command, tmp_path):
    target = tmp_path / "out.mp4"
    arguments = ("cut", clip, target, "--engine", "chroma", "--background", "white")
    assert command(*arguments)[0] == 0
    before = target.read_bytes()
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert f"{target} exists" in err
    assert "--overwrite" in err
    assert target.read_bytes() == before
    assert command(*arguments[:-1], "black", "--overwrite")[0] == 0
    assert target.read_bytes() != before


@pytest.mark.parametrize("name", ["out.webm", "out.mov", "out.mkv"])
def test_one_of_several_results_has_the_tag_that_allows_replacing_it(clip, command, tmp_path, name):
    arguments = ("cut", clip, tmp_path / name, tmp_path / "still.png", "--engine", "chroma")
    for more in ((), ("--overwrite",)):
        assert command(*arguments, *more)[0] == 0


def test_any_file_that_exists_is_refused_before_the_source_is_read(tmp_path):
    (tmp_path / "in.mp4").write_bytes(b"no video, which reading would find out")
    (tmp_path / "out.webm").write_bytes(b"")
    with pytest.raises(TargetExists, match=r"out\.webm exists") as refused:
        alphareel.cut(tmp_path / "in.mp4", tmp_path / "out.webm", engine="chroma")
    assert refused.value.code == "target_exists"


def test_the_library_replaces_a_file_on_request(clip, tmp_path):
    (tmp_path / "out.webm").write_bytes(b"old")
    with pytest.raises(TargetExists):
        list(alphareel.run(clip, tmp_path / "out.webm", alphareel.Options(engine="chroma")))
    alphareel.cut(clip, tmp_path / "out.webm", engine="chroma", overwrite=True)
    assert alphareel.probe(tmp_path / "out.webm").has_alpha


@pytest.mark.parametrize("kind", ["spelling", "symbolic link", "hard link", "linked folder"])
def test_the_source_is_never_overwritten_whatever_path_names_it(clip, command, tmp_path, kind):
    (tmp_path / "sub").mkdir()
    other = {"spelling": tmp_path / "sub/../in.mp4", "linked folder": tmp_path / "there/in.mp4"}.get(
        kind, tmp_path / "other.mp4"
    )
    if kind == "symbolic link":
        other.symlink_to(clip)
    if kind == "hard link":
        other.hardlink_to(clip)
    if kind == "linked folder":
        (tmp_path / "there").symlink_to(tmp_path, target_is_directory=True)
    before = clip.read_bytes()
    code, _, err = command("cut", clip, other, "--background", "white", "--overwrite")
    assert (code, "source itself" in err) == (2, True)
    assert clip.read_bytes() == before


@pytest.mark.parametrize("flag", ["--background", "--plate"])
def test_a_background_or_a_plate_is_never_overwritten(clip, command, tmp_path, flag):
    picture = tmp_path / "plate.png"
    draw_sheet(clip, clip, picture)
    before = picture.read_bytes()
    code, _, err = command("cut", clip, picture, flag, picture, "--overwrite")
    assert (code, "itself" in err) == (2, True)
    assert picture.read_bytes() == before


@pytest.mark.parametrize("linked", [True, False])
def test_a_file_that_appears_during_a_run_is_kept(clip, tmp_path, monkeypatch, linked):
    if not linked:
        monkeypatch.setattr(os, "link", no_hard_links)
    targets = [tmp_path / "a.webm", tmp_path / "b.webm"]

    def appear(_):
        targets[1].write_bytes(b"of another program")

    with pytest.raises(TargetExists):
        alphareel.cut(clip, targets=targets, engine="chroma", on_progress=appear)
    assert targets[1].read_bytes() == b"of another program"
    assert sorted(contents(tmp_path)) == ["b.webm", "in.mp4"]


def no_hard_links(*_):
    raise OSError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("linked", [True, False])
def test_publishing_never_replaces_a_file_that_appears_at_the_last_moment(tmp_path, monkeypatch, linked):
    if not linked:
        monkeypatch.setattr(os, "link", no_hard_links)
    first, second = (unpublished_file(tmp_path / "out.webm", data) for data in (b"first", b"second"))
    first.publish()
    with pytest.raises(TargetExists, match=r"out\.webm exists"):
        second.publish()
    second.discard()
    assert contents(tmp_path) == {"out.webm": b"first"}
    replacing = unpublished_file(tmp_path / "out.webm", b"third", overwrite=True)
    replacing.publish()
    assert contents(tmp_path) == {"out.webm": b"third"}


def unpublished_file(target, data, **options):
    file = AtomicFile(target, **options)
    file.path.write_bytes(data)
    return file


def test_publishing_accepts_its_own_link_when_nfs_retries_the_request(tmp_path, monkeypatch):
    link = os.link

    def twice(*arguments):
        link(*arguments)
        link(*arguments)

    monkeypatch.setattr(os, "link", twice)
    unpublished_file(tmp_path / "out.webm", b"whole").publish()
    assert contents(tmp_path) == {"out.webm": b"whole"}


def test_a_placeholder_is_removed_when_publishing_fails(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", no_hard_links)
    file = unpublished_file(tmp_path / "out.webm", b"whole")
    monkeypatch.setattr(Path, "replace", no_hard_links)
    with pytest.raises(StorageFailed):
        file.publish()
    file.discard()
    assert contents(tmp_path) == {}


def test_a_contact_sheet_replaces_an_image_only_on_request_and_a_video_never(clip, command, tmp_path):
    picture = tmp_path / "sheet.png"
    picture.write_bytes(b"old")
    code, _, err = command("sheet", clip, clip, picture)
    assert (code, f"{picture} exists" in err) == (2, True)
    assert picture.read_bytes() == b"old"
    assert command("sheet", clip, clip, picture, "--overwrite")[0] == 0
    assert picture.read_bytes() != b"old"
    before = clip.read_bytes()
    code, _, err = command("sheet", picture, clip, clip, "--overwrite")
    assert (code, ".png" in err) == (2, True)
    os.link(clip, tmp_path / "clip.png")
    with pytest.raises(InvalidRequest, match="one of the videos"):
        draw_sheet(clip, clip, tmp_path / "clip.png", overwrite=True)
    assert clip.read_bytes() == before


def test_a_folder_a_pattern_or_a_url_as_source_is_refused_with_what_to_do(clip, command, tmp_path):
    for source, code, words in (
        (tmp_path, 2, "is a folder, and cut takes one video"),
        (tmp_path / "*.mov", 3, "not a pattern"),
        ("https://example.com/a.mp4", 2, "curl -fLO 'https://example.com/a.mp4'"),
    ):
        got, out, err = command("cut", source, tmp_path / "out.webm")
        assert (got, out) == (code, "")
        assert words in err
        assert err.count("\n") == 1


def test_a_folder_as_target_takes_the_name_of_the_source_when_the_format_is_named(clip, command, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    code, _, err = command("cut", clip, f"{folder}/", "--engine", "chroma")
    assert (code, f"{folder} is a folder" in err, "--format" in err) == (2, True, True)
    code, out, _ = command("cut", clip, f"{folder}/", "--engine", "chroma", "--format", "mov")
    assert (code, f"{folder / 'in.mov'}: mov" in out) == (0, True)
    code, _, err = command("cut", clip, folder, "--engine", "chroma", "--format", "mov")
    assert (code, f"{folder / 'in.mov'} exists" in err) == (2, True)
    code, _, err = command("cut", clip, tmp_path, "--background", "white", "--format", "mp4", "--overwrite")
    assert (code, "source itself" in err) == (2, True)


def test_a_pipe_with_the_name_of_a_target_does_not_block(clip, command, tmp_path):
    os.mkfifo(tmp_path / "out.mp4")
    code, _, err = command("cut", clip, tmp_path / "out.mp4", "--background", "white", "--overwrite")
    assert (code, "device or a pipe" in err) == (2, True)


def test_a_dangling_link_does_not_count_as_an_existing_file(clip, tmp_path):
    Path(tmp_path / "link.webm").symlink_to(tmp_path / "real.webm")
    alphareel.cut(clip, tmp_path / "link.webm", engine="chroma")
    assert (tmp_path / "real.webm").is_file()


def test_a_job_overwrites_the_leftovers_of_an_earlier_attempt(clip, tmp_path):
    (tmp_path / "job.webm").write_bytes(b"half of a result")
    options = Options(engine="chroma", key_color=(0, 255, 0))
    task = RunTask(clip, (Output(tmp_path / "job.webm", options),), Limits(), threads=1)
    request = ChildRequest.from_json(ChildRequest(task, 0, 0, 0).to_json())  # as the worker sends it
    *_, last = child_main._perform(request.task)
    assert last.results[0].frames == 4  # type: ignore[union-attr]
