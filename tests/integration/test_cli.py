"""The command: quiet when piped, one-line errors, exit codes that a script can act on."""

import io
import json
import os
import re
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from rich.console import Console

import alphareel
from alphareel.cli import cut as cut_command
from alphareel.cli import results as results_output
from alphareel.cli.contact_sheet import draw_sheet
from alphareel.cli.signals import Interrupted, interruptible
from alphareel.matting.models import subject
from alphareel.testing.clips import make_clip
from alphareel.testing.servers import free_port


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "in.mp4"
    make_clip(path, frames=6, background="green", audio=True)
    return path


def test_cut_writes_the_target_says_what_it_is_and_draws_no_bar_in_a_pipe(command, clip, tmp_path):
    target = tmp_path / "out.webm"
    code, out, err = command("cut", clip, target, "--engine", "chroma")
    assert (code, err) == (0, "")
    assert target.stat().st_size > 0
    assert "webm, 128x96, 6 frames" in out
    assert "transparent" in out
    assert "chroma" in out


def test_a_background_may_be_a_color_or_an_image_file(command, clip, tmp_path):
    picture = tmp_path / "plate.png"
    draw_sheet(clip, clip, picture)
    for background in ("#09A246", "white", picture):
        arguments = ("--engine", "chroma", "--background", background, "--overwrite")
        code, out, err = command("cut", clip, tmp_path / "out.mp4", *arguments)
        assert (code, err) == (0, "")
        assert "opaque" in out


def test_cut_reports_on_the_matte_if_asked(command, clip, tmp_path):
    report = tmp_path / "report"
    options = ("--engine", "chroma", "--report", report)
    code, out, _ = command("cut", clip, tmp_path / "out.mp4", "--background", "white", *options)
    assert code == 0
    assert "opaque" in out
    assert str(report / "report.json") in out
    found = json.loads((report / "report.json").read_text())
    assert found["quality"]["worst"]
    assert (report / "quality.png").is_file()
    code, out, _ = command("cut", clip, tmp_path / "out.webm", "--json", *options)
    assert (code, [result["format"] for result in json.loads(out)]) == (0, ["webm"])
    code, _, err = command("cut", tmp_path, tmp_path / "many", "--report", report)
    assert (code, "--report is about one video" in err) == (2, True)


def test_a_folder_with_a_slash_is_created_for_a_command_that_can_run_only(command, clip, tmp_path):
    folder = tmp_path / "results"
    for mistake in (["--engin", "chroma"], ["--model", "best", "--key-color", "#00ff00"]):
        assert command("cut", clip, f"{folder}/", *mistake)[0] == 2
    assert command("cut", tmp_path / "missing.mp4", f"{folder}/")[0] == 3
    assert not folder.exists()
    assert command("cut", clip, f"{folder}/", "--engine", "chroma", "--format", "webm")[0] == 0
    assert [path.name for path in folder.iterdir()] == [f"{clip.stem}.webm"]


@pytest.mark.parametrize("source", ["inline", "file"])
def test_a_composition_is_json_or_a_file_with_json(command, clip, tmp_path, source):
    value = json.dumps({"canvas": {"width": 64, "height": 200}, "foreground": {"anchor": "bottom-center"}})
    if source == "file":
        (tmp_path / "place.json").write_text(value)
        value = tmp_path / "place.json"
    target = tmp_path / "out.webm"
    code, out, err = command("cut", clip, target, "--engine", "chroma", "--composition", value)
    assert (code, err) == (0, "")
    assert "64x200" in out


def test_the_command_reads_files_that_the_service_would_refuse_for_their_size(command, clip, tmp_path):
    """500 MiB is a limit for what strangers send, not for one's own files."""
    with clip.open("r+b") as file:
        file.truncate(600 * 2**20)  # a hole, which takes no disk space; players ignore it
    matte, target = tmp_path / "matte.mkv", tmp_path / "out.webm"
    options = ("--engine", "chroma", "--report", tmp_path / "report")
    assert command("probe", clip)[0] == 0
    assert command("cut", clip, target, matte, "--format", f"{matte}=lossless_matte", *options)[0] == 0
    assert command("sheet", clip, target, tmp_path / "sheet.png")[0] == 0
    assert command("export", matte, clip, tmp_path / "out.mov")[0] == 0
    assert command("correct", matte, clip, tmp_path / "fixed.mov", "--frame", "1", "--keep", "40,40")[0] == 0
    assert command("report", matte, clip, tmp_path / "again")[0] == 0
    assert command("proof", clip, tmp_path / "proof.png", "--engine", "chroma")[0] == 0
    assert command("cut", tmp_path / "i*.mp4", tmp_path / "many", "--engine", "chroma")[0] == 0


def test_a_composition_may_be_for_one_target(command, clip, tmp_path):
    wide, tall = tmp_path / "wide.webm", tmp_path / "tall.webm"
    place = f'{tall}={{"canvas": {{"width": 64, "height": 200}}}}'
    code, out, err = command("cut", clip, wide, tall, "--engine", "chroma", "--composition", place)
    assert (code, err) == (0, "")
    assert "128x96" in out.splitlines()[0]
    assert "64x200" in out.splitlines()[1]


def test_probe_prints_json_that_a_script_can_read(command, clip):
    code, out, _ = command("probe", clip, "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["width"], facts["height"], facts["audio"]["codec"]) == (128, 96, "aac")


def test_models_lists_every_engine_with_its_license(command):
    code, out, _ = command("models")
    assert code == 0
    assert {"builtin", "chroma", "rvm"} <= set(out.split())


def test_models_says_in_two_words_that_weights_are_missing(command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = command("models")
    assert re.search(r"birefnet_portrait .* no weights", out)
    assert out.endswith("Download them with: alphareel models pull NAME\n")
    assert re.search(r"rvm_resnet50 +│ unknown", out)


def test_formats_lists_what_can_be_written(command):
    code, out, _ = command("formats")
    assert code == 0
    assert {"webm", "mov", "mp4", "png_sequence"} <= set(out.split())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["cut", "{missing}", "{out}.webm"], 3, "missing.mp4"),
        (["cut", "{text}", "{out}.webm"], 3, "is not a video file"),
        (["probe", "{text}"], 3, "is not a video file"),
        (["cut", "{clip}", "{out}.mp4"], 2, "alpha"),
        (["cut", "{clip}", "{out}.xyz"], 2, ".xyz"),
        (["cut", "{clip}", "{out}.webm", "--model", "best"], 2, "model"),
        (["cut", "{clip}", "{out}.webm", "--engine", "nothing"], 2, "nothing"),
        (["cut", "{clip}", "{out}.webm", "--background", "no-color"], 2, "color"),
        (["cut", "{clip}", "{out}.webm", "--model", "pro", "--prompt", "dog"], 4, "pro"),
        (["cut", "{clip}", "{nowhere}/out.webm", "--engine", "chroma"], 5, "no such file or directory"),
        (["cut", "{clip}", "{nowhere}/out.webm", "--engine", "chroma"], 5, "{nowhere}/out.webm cannot be written"),
        (["cut", "{missing}", "{out}.webm"], 3, "There is no file {missing}."),
        (["probe", "{missing}"], 3, "There is no file {missing}."),
        (["sheet", "{clip}", "{missing}", "{out}.png"], 3, "There is no file {missing}."),
        (["probe", "https://example.com/a.mp4"], 2, "https://example.com/a.mp4 is a URL"),
        (
            ["cut", "{clip}", "{out}.webm", "--format", "gif"],
            2,
            "The format gif does not match the suffix of {out}.webm",
        ),
        (
            ["cut", "{clip}", "{out}.MP4", "--format", "webm"],
            2,
            "The format webm does not match the suffix of {out}.MP4",
        ),
        (["cut", "{clip}", "{out}.webm", "--key-color", "#00ff00"], 2, "--engine chroma"),
        (["cut", "{clip}", "{out}.mp4", "--background", "missing.png"], 3, "no background file missing.png"),
        (["cut", "{clip}", "{out}.webm", "--composition", "missing.json"], 3, "no composition file missing.json"),
        (["cut", "{clip}", "{out}.webm", "--composition", "{{"], 2, "The composition is not valid JSON"),
        (["cut", "{clip}", "{out}.webm", "--composition", "{text}"], 2, "{text} is not valid JSON"),
        (
            ["cut", "{clip}", "{out}.webm", "--composition", '{{"canvas": {{"width": 2}}}}'],
            2,
            "composition.canvas.width",
        ),
        (["cut", "{clip}", "{out}.mp4", "--background", "{nowhere}/plate"], 3, "no background file {nowhere}/plate"),
        (["cut", "{clip}", "{out}.mp4", "--background", "9,162,70"], 2, "Write a hex color (#RRGGBB) or one of green,"),
        (["cut", "{clip}", "{out}.mp4", "--background", "no.mp4=white"], 2, "no.mp4 in no.mp4=white is not one of the"),
        (["cut", "{clip}", "{out}.webm", "--preview", "nan"], 2, "must be a number, not infinite or not a number."),
        (["cut", "s3://bucket/a.mp4", "{out}.webm"], 2, "s3://bucket/a.mp4 is a URL"),
        (["cut", "{clip}", "-"], 2, "not standard input and output"),
        (["cut", "-", "{out}.webm"], 2, "not standard input and output"),
        (["cut", "{clip}", "{text}/out.webm"], 5, "{text} is a file"),
        (["cut", "{clip}", f"{'x' * 300}.webm"], 5, "file name too long"),
        (["cut", f"{'x' * 300}.mp4", "{out}.webm"], 5, "file name too long"),
        (["sheet", "{clip}", "{clip}", "{out}.png", "--columns", "0"], 2, "between 1 and 100 columns"),
        (["watch", "{clip}", "{out}"], 3, "{clip} is not a folder"),
        (["models", "import", "{nowhere}"], 3, "There is no file or folder {nowhere}. Check"),
        (["restore", "{nowhere}"], 3, "has written"),
    ],
)
def test_errors_are_one_line_that_says_what_to_do(command, clip, tmp_path, arguments, code, words):
    text = tmp_path / "text.mp4"
    text.write_text("this is not a video " * 100)
    places = {"clip": clip, "missing": tmp_path / "missing.mp4", "text": text, "out": tmp_path / "out",
              "nowhere": tmp_path / "nowhere"}  # fmt: skip
    got, out, err = command(*[a.format(**places) for a in arguments])
    assert (got, out) == (code, "")
    assert err.startswith("alphareel: ")
    assert err.count("\n") == 1
    assert words.format(**places) in err
    assert "Traceback" not in err
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize("words", [["cut"], ["probe"], ["sheet"], ["models", "import"], ["keys", "create"]])
def test_an_argument_that_is_missing_is_called_by_its_name_and_not_like_a_flag(command, words):
    code, _, err = command(*words)
    assert code != 0
    assert "SOURCE" in err or "CLIENT" in err
    assert "--source" not in err
    assert "--client" not in err


def test_the_help_describes_every_verb_and_every_file(command):
    _, out, _ = command("--help")
    for verb, words in (("keys", "Create, list"), ("models", "List the engines")):
        assert any(verb in line and words in line for line in out.splitlines())
    _, out, _ = command("cut", "--help")
    assert any("OTHERS" in line and "More files to write" in line for line in out.splitlines())


def test_a_warning_is_one_line_however_narrow_the_terminal(command, clip, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    code, out, err = command("cut", clip, tmp_path / "out.png", "--engine", "chroma", "--prompt", "red car")
    assert (code, err.count("\n")) == (0, 1)
    assert err.startswith("warning: text_prompt")
    assert " 1 frame," in out


@pytest.mark.skipif(sys.platform != "linux", reason="names of files are text there")
def test_a_name_that_is_no_text_is_printed_as_it_is(clip, tmp_path):
    target = os.fsencode(tmp_path) + b"/bad\xff.webm"
    ran = subprocess.run(
        [sys.executable, "-m", "alphareel", "cut", clip, target, "--engine", "chroma"],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    assert ran.stdout.startswith(target + b": webm, ")


def test_a_service_that_does_not_run_is_told(command, monkeypatch):
    monkeypatch.setenv("ALPHAREEL_PORT", str(free_port()))
    code, out, err = command("studio")
    assert (code, out.count("#code=")) == (0, 1)
    assert "does not answer" in err
    code, out, err = command("health")
    assert (code, out) == (6, "")
    assert "does not answer: Connection refused. Start it with alphareel serve" in err


def test_a_format_may_name_a_file_whose_suffix_says_nothing_else(command, clip, tmp_path):
    for name, form in (("out", "webm"), ("out.bin", "gif"), ("frames.png", "apng"), ("one.mp4", "stacked_mp4")):
        code, _, err = command("cut", clip, tmp_path / name, "--engine", "chroma", "--format", form)
        dropped = f"warning: {form} holds no audio, so that of the video was dropped.\n"
        assert (code, err) == (0, dropped if form in ("gif", "apng") else "")


@pytest.fixture
def people_only(monkeypatch, tmp_path):
    """An installation that lacks the bundled network for any subject."""
    monkeypatch.setattr(subject, "PATH", tmp_path / "absent.onnx")


@pytest.mark.parametrize(("model", "engine"), [((), "subject"), (("--model", "human"), "builtin")])
def test_each_model_is_served_by_the_bundled_network_for_its_subject(command, clip, tmp_path, model, engine):
    code, out, err = command("cut", clip, tmp_path / "out.webm", *model)
    assert (code, err) == (0, "")
    assert f"engine {engine}" in out


def test_a_stand_in_for_the_default_model_is_no_warning_to_who_asked_for_none(people_only, command, clip, tmp_path):
    code, out, err = command("cut", clip, tmp_path / "out.webm")
    assert (code, err) == (0, "")
    assert "engine builtin" in out
    _, _, err = command("cut", clip, tmp_path / "asked.webm", "--model", "original")
    assert err.startswith("warning: The model original is served by builtin")


def test_on_a_terminal_the_stand_in_for_the_default_model_is_a_note(people_only, command, clip, tmp_path, monkeypatch):
    monkeypatch.setattr(cut_command, "progress_bar", lambda _: nullcontext())
    terminal = Console(force_terminal=True, record=True, file=io.StringIO(), highlight=False, markup=False)
    monkeypatch.setattr(results_output, "stderr", terminal)
    code, _, _ = command("cut", clip, tmp_path / "out.webm")
    assert code == 0
    assert "note: The model original is served by builtin" in terminal.export_text()


def test_brackets_in_names_and_hints_are_shown_as_they_are(command, clip, tmp_path):
    _, _, err = command("cut", tmp_path / "talk [final].mp4", tmp_path / "out.webm")
    assert "talk [final].mp4" in err
    _, _, err = command("cut", clip, tmp_path / "out.webm", "--model", "pro", "--prompt", "dog")
    assert "alphareel[pro]" in err or "models pull" in err
    code, out, _ = command("cut", clip, tmp_path / "out [red].webm", "--engine", "chroma")
    assert (code, "out [red].webm" in out) == (0, True)


@pytest.fixture
def heeded(kind):
    """The signal is not ignored, whatever nohup or a shell in the background told the process of the tests."""
    before = signal.signal(kind, signal.default_int_handler if kind == signal.SIGINT else signal.SIG_DFL)
    yield
    signal.signal(kind, before)


@pytest.mark.usefixtures("heeded")
@pytest.mark.parametrize(("kind", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_cut_with_its_code_and_leaves_no_file(command, clip, tmp_path, monkeypatch, kind, code):
    cut = alphareel.cut
    monkeypatch.setattr(
        alphareel,
        "cut",
        lambda *given, **wishes: cut(*given, **{**wishes, "on_progress": lambda _: os.kill(os.getpid(), kind)}),
    )
    before = signal.getsignal(kind)
    got, out, err = command("cut", clip, tmp_path / "out.webm", "--engine", "chroma")
    assert (got, out) == (code, "")
    assert "interrupted" in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]
    assert signal.getsignal(kind) is before


def test_a_second_signal_does_not_interrupt_the_tidying_up_and_nohup_is_obeyed():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with pytest.raises(Interrupted):
            stop_twice()
    finally:
        signal.signal(signal.SIGHUP, before)


def stop_twice():
    with interruptible():
        os.kill(os.getpid(), signal.SIGHUP)
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        finally:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("arguments", [["formats"], ["probe", "{clip}"], ["probe", "{clip}", "--json"]])
def test_an_output_that_cannot_be_written_is_one_line(clip, arguments):
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "alphareel", *(a.format(clip=clip) for a in arguments)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
        )
    assert ran.returncode == 5
    assert ran.stderr.count("\n") == 1
    assert "no space left" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["remove"], 'Unknown command "remove"'),
        (["cut"], "alphareel cut --help"),
        (["cut", "a.mp4", "a.webm", "--nothing"], "Unknown option: --nothing"),
        (["cut", "a.mp4", "a.webm", "--grow", "wide"], "--grow"),
        (["models", "import"], "alphareel models import --help"),
        (["keys", "limit", "0123456789ab", "--write", "many"], "--write"),
    ],
)
def test_a_wrong_command_line_is_one_line_too(command, monkeypatch, arguments, words):
    monkeypatch.setenv("COLUMNS", "40")
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("alphareel: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_file_that_begins_with_a_dash_is_told_from_an_option(command, clip, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip.rename("-talk.mp4")
    code, _, err = command("probe", "-talk.mp4")
    assert code == 2
    assert "./" in err
    assert command("probe", "./-talk.mp4")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["doctor", "--bundle", "{nowhere}/bundle.zip"],
        ["doctor", "--bundle", "{folder}"],
        ["report", "{clip}", "{clip}", "{text}"],
        ["cut", "{clip}", "{out}.webm", "--engine", "chroma", "--report", "{text}"],
    ],
)
def test_a_path_that_cannot_be_written_is_one_line_before_any_work(command, clip, tmp_path, arguments):
    text, folder = tmp_path / "text.txt", tmp_path / "folder"
    text.write_text("kept")
    folder.mkdir()
    places = {"clip": clip, "text": text, "folder": folder, "out": tmp_path / "out", "nowhere": tmp_path / "nowhere"}
    code, out, err = command(*[argument.format(**places) for argument in arguments])
    assert (code, out) == (5, "")
    assert err.startswith("alphareel: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("out*"))
    assert text.read_text() == "kept"


@pytest.mark.parametrize("seconds", ["-1", "0", "nan", "inf", "86401"])
def test_a_folder_is_not_watched_without_pauses(command, tmp_path, seconds):
    code, _, err = command("watch", tmp_path, tmp_path / "out", "--seconds", seconds)
    assert code == 2
    assert "--seconds" in err
    assert not (tmp_path / "out").exists()


def test_ctrl_c_during_imports_prints_no_traceback(tmp_path):
    """A package that the command imports never finishes its import here."""
    slow = tmp_path / "cyclopts.py"
    slow.write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    start = "import signal, runpy; signal.signal(signal.SIGINT, signal.default_int_handler); "
    start += "runpy.run_module('alphareel', run_name='__main__')"
    running = subprocess.Popen(
        [sys.executable, "-c", start],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert running.stdout is not None
    assert running.stdout.readline() == "importing\n"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=60)
    assert (running.returncode, err) == (-signal.SIGINT, "")


def test_version(command):
    code, out, _ = command("--version")
    assert (code, out.strip()) == (0, "0.1.0")
