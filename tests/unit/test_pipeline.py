"""The pipeline end to end in one process: the output is the input plus alpha."""

import hashlib
import threading
import time
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

import alphareel
from alphareel.domain.clip import Clip, Color, Limits
from alphareel.domain.errors import AlphareelError, BadVideo, InsufficientCredits, InvalidRequest, VerificationFailed
from alphareel.domain.options import Background, Composition, Options, Output
from alphareel.media.format import format_named, format_names
from alphareel.media.reader import open_reader
from alphareel.pipeline import run
from alphareel.testing.clips import make_clip, make_lasting, make_understated

CHROMA = Options(engine="chroma")
WHITE = Background("color", color=(255, 255, 255))


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "in.mp4", frames=10, background="green", audio=True)


def finish(source, target, options=CHROMA, **settings):
    *_, last = alphareel.run(source, target, options, **settings)
    return last


def read_back(path):
    with open_reader(path, Limits()) as reader:
        return reader.clip, [(f.y.copy(), f.alpha.copy() if f.alpha is not None else None, f.pts * reader.clip.time_base)
                             for f in reader.frames(thumbnail=None)]  # fmt: skip


def test_a_green_screen_clip_becomes_a_transparent_webm_close_to_the_true_alpha(clip, tmp_path):
    last = finish(clip.path, tmp_path / "out.webm")
    facts, frames = read_back(tmp_path / "out.webm")
    assert len(frames) == last.result.frames == 10
    assert last.result.has_alpha
    assert facts.has_alpha
    assert facts.audio is not None
    errors = [np.abs(alpha.astype(int) - clip.alpha(n)).mean() / 255 for n, (_, alpha, _) in enumerate(frames)]
    assert max(errors) < 0.02


def test_progress_never_decreases_and_ends_at_one_with_the_result(clip, tmp_path):
    seen = list(alphareel.run(clip.path, tmp_path / "out.webm", CHROMA))
    shares = [p.share for p in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert seen[-1].result is not None
    assert all(p.result is None for p in seen[:-1])
    assert set(seen[-1].stages) == {"read", "matte", "write"}


def test_variable_frame_timing_is_kept(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=12, background="green", vfr=True)
    finish(truth.path, tmp_path / "out.webm")
    _, frames = read_back(tmp_path / "out.webm")
    for (_, _, seconds), expected in zip(frames, truth.times, strict=True):
        assert abs(seconds - expected) <= Fraction(1, 1000)


@pytest.mark.parametrize("last", [Fraction(1, 100), Fraction(5)])
def test_the_last_frame_of_a_recording_may_be_much_shorter_or_longer_than_the_others(tmp_path, last):
    lengths = [Fraction(1, 2), Fraction(3, 5), Fraction(2, 5), Fraction(3, 5), last]
    clip = make_clip(tmp_path / "in.mkv", lengths=lengths, rate=60, codec="libx264", background="green")
    result = finish(clip.path, tmp_path / "out.mp4", replace(CHROMA, output_format="mp4", background=WHITE)).result
    assert result.frames == 5
    assert result.seconds == pytest.approx(sum(lengths), abs=0.002)
    with av.open(str(tmp_path / "out.mp4")) as container:
        assert float(container.duration) / 1_000_000 == pytest.approx(sum(lengths), abs=0.002)


@pytest.mark.parametrize("size", [(20, 4000), (4000, 20)])
@pytest.mark.parametrize("name", ["webm", "webp", "apng", "gif", "matte"])
def test_the_quality_web_scales_long_thin_pictures_down(tmp_path, size, name):
    clip = make_clip(tmp_path / "in.mp4", frames=2, width=size[0], height=size[1], background="green")
    target = tmp_path / f"out{format_named(name).suffix}"
    result = finish(clip.path, target, replace(CHROMA, output_format=name, quality="web")).result
    assert max(result.width, result.height) == format_named(name).max_side["web"]


def test_a_background_makes_every_pixel_opaque(clip, tmp_path):
    options = Options(engine="chroma", output_format="mp4", background=Background("color", (255, 255, 255)))
    result = finish(clip.path, tmp_path / "out.mp4", options).result
    assert not result.has_alpha
    _, frames = read_back(tmp_path / "out.mp4")
    assert frames[0][0][4, 4] > 225


def test_composition_sets_the_size_of_the_result(clip, tmp_path):
    options = Options(engine="chroma", composition=Composition(width=200, height=100))
    result = finish(clip.path, tmp_path / "out.webm", options).result
    assert (result.width, result.height) == (200, 100)


def test_preview_duration_limits_the_length_of_the_result(clip, tmp_path):
    result = finish(clip.path, tmp_path / "out.webm", Options(engine="chroma", preview_duration=0.2)).result
    assert result.frames == 5


def test_the_result_has_the_engine_and_the_hash_of_the_file(clip, tmp_path):
    result = finish(clip.path, tmp_path / "out.webm").result
    assert result.engine.name == "chroma"
    assert result.sha256 == hashlib.sha256((tmp_path / "out.webm").read_bytes()).hexdigest()
    assert result.bytes == (tmp_path / "out.webm").stat().st_size


def test_the_same_run_twice_gives_the_same_alpha(clip, tmp_path):
    alphas = []
    for name in ("a.webm", "b.webm"):
        finish(clip.path, tmp_path / name)
        alphas.append([alpha for _, alpha, _ in read_back(tmp_path / name)[1]])
    assert all(np.array_equal(a, b) for a, b in zip(*alphas, strict=True))


def test_closing_the_generator_cancels_the_run_and_leaves_no_file_or_thread(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=200, background="green")
    before = threading.active_count()
    running = alphareel.run(truth.path, tmp_path / "out.webm", CHROMA)
    next(running)
    running.close()
    assert threading.active_count() == before
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


def test_a_failed_run_keeps_an_existing_target(tmp_path):
    (tmp_path / "out.webm").write_bytes(b"yesterday's result")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"\0" * 5000)
    with pytest.raises(AlphareelError):
        finish(bad, tmp_path / "out.webm")
    assert (tmp_path / "out.webm").read_bytes() == b"yesterday's result"


def test_a_clip_beyond_the_limits_is_rejected_before_processing(clip, tmp_path):
    with pytest.raises(BadVideo) as caught:
        finish(clip.path, tmp_path / "out.webm", limits=Limits(max_side=64))
    assert caught.value.code == "resolution_too_large"
    assert not (tmp_path / "out.webm").exists()


def test_cut_reports_progress_and_returns_the_result(clip, tmp_path):
    seen = []
    result = alphareel.cut(clip.path, tmp_path / "out.mov", engine="chroma", on_progress=seen.append)
    assert result.format == "mov"
    assert seen[-1].result == result


def test_a_run_warns_about_ignored_options(clip, tmp_path):
    result = finish(clip.path, tmp_path / "out.webm", Options(engine="chroma", text_prompt="the cup")).result
    assert any("text_prompt" in warning for warning in result.warnings)


def test_a_result_that_fails_verification_is_never_published(clip, tmp_path, monkeypatch):
    (tmp_path / "out.webm").write_bytes(b"yesterday's result")

    def doubt(path, expectation):
        raise VerificationFailed("The result was written but is not right.")

    monkeypatch.setattr(run, "verify", doubt)
    with pytest.raises(VerificationFailed):
        finish(clip.path, tmp_path / "out.webm", overwrite=True)
    assert (tmp_path / "out.webm").read_bytes() == b"yesterday's result"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.webm"]


def test_the_source_is_never_overwritten(clip, tmp_path):
    before = clip.path.read_bytes()
    (tmp_path / "link.mp4").symlink_to(clip.path)
    options = Options(engine="chroma", output_format="mp4", background=Background("color", (0, 0, 0)))
    for target in (clip.path, tmp_path / "link.mp4"):
        with pytest.raises(InvalidRequest):
            finish(clip.path, target, options)
    assert clip.path.read_bytes() == before


def test_a_background_video_is_looped(clip, tmp_path):
    plate = make_clip(tmp_path / "plate.mp4", frames=3, width=64, height=96, rate=10)
    result = alphareel.cut(clip.path, tmp_path / "out.mp4", engine="chroma", background=plate.path)
    assert result.frames == 10
    assert not result.has_alpha
    _, plates = read_back(plate.path)
    _, frames = read_back(tmp_path / "out.mp4")
    shown = cv2.resize(plates[0][0], (128, 192), interpolation=cv2.INTER_LINEAR)[48:144]
    corner = (slice(0, 96), slice(0, 16))  # the plate's figure does not reach it
    assert np.abs(frames[9][0][corner].astype(int) - shown[corner]).mean() < 4


def test_an_invalid_background_video_is_rejected_and_leaves_no_file(clip, tmp_path):
    (tmp_path / "plate.mp4").write_bytes(b"no video")
    with pytest.raises(AlphareelError, match=r"plate\.mp4"):
        alphareel.cut(clip.path, tmp_path / "out.mp4", engine="chroma", background=tmp_path / "plate.mp4")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "plate.mp4"]


def test_the_background_can_be_the_blurred_original(clip, tmp_path):
    result = alphareel.cut(clip.path, tmp_path / "out.mp4", engine="chroma", background="blur")
    assert not result.has_alpha
    _, frames = read_back(tmp_path / "out.mp4")
    _, originals = read_back(clip.path)
    assert np.abs(frames[0][0][:, :8].astype(int) - originals[0][0][:, :8]).max() < 8  # the flat screen stays


def test_every_format_reports_how_much_of_the_source_was_processed(clip, tmp_path):
    outputs = []
    for name in format_names():
        form = format_named(name)
        if form.missing() is None:
            background = Background() if form.supports_alpha else Background("color", (0, 0, 0))
            options = Options(engine="chroma", output_format=name, background=background)
            outputs.append(Output(tmp_path / f"out-{name}{form.suffix}", options))
    *_, last = run.run(clip.path, outputs)
    seconds = {result.format: result.source_seconds for result in last.results}
    assert len(seconds) == len(outputs) > 10
    assert seconds == {name: pytest.approx(float(clip.seconds)) for name in seconds}


def test_a_preview_processes_no_more_of_the_source_than_its_seconds(clip, tmp_path):
    options = Options(engine="chroma", output_format="poster", preview_duration=0.1)
    assert finish(clip.path, tmp_path / "out.png", options).result.source_seconds == pytest.approx(0.1)


def test_a_run_stops_where_the_source_exceeds_what_is_paid_for(tmp_path):
    truth = make_understated(tmp_path / "in.mkv", frames=50, background="green")
    steps = []
    with pytest.raises(InsufficientCredits, match=r"credits for 0.2 s are reserved"):
        steps.extend(run.run(truth.path, [Output(tmp_path / "out.webm", CHROMA)], paid_seconds=0.2))
    assert list(tmp_path.iterdir()) == [truth.path]
    *_, last = run.run(truth.path, [Output(tmp_path / "out.webm", CHROMA)], paid_seconds=2.0)
    assert last.result.source_seconds == pytest.approx(2.0)


def test_a_run_stops_at_a_last_frame_that_lasts_longer_than_is_paid_for(tmp_path):
    source = make_lasting(tmp_path / "in.mp4", seconds=60)
    with pytest.raises(InsufficientCredits):
        list(run.run(source, [Output(tmp_path / "out.webm", CHROMA)], paid_seconds=0.04))


@pytest.mark.parametrize(
    ("size", "wanted", "depth"),
    [((640, 360), 4, 4), ((1280, 720), 4, 3), ((1920, 1080), 4, 1), ((3840, 2160), 4, 1), ((640, 360), 1, 1)],
)
def test_stages_buffer_fewer_frames_where_they_are_large(size, wanted, depth):
    width, height = size
    clip = Clip(
        width=width, height=height, time_base=Fraction(1, 25), rate=Fraction(25), seconds=1, frames=25, codec="h264",
        container="mp4", pixel_format="yuv420p", color=Color(matrix=1, primaries=1, transfer=1),
    )  # fmt: skip
    assert run.queue_depth(clip, wanted) == depth
    assert depth == 1 or depth * width * height * 5 // 2 <= 8 * 2**20


def test_the_bytes_of_waiting_frames_bound_how_far_reading_runs_ahead(clip, tmp_path, monkeypatch):
    """While a writer stands still, reading stops after the few frames that fit."""
    truth = make_clip(tmp_path / "long.mp4", frames=30, background="green")
    monkeypatch.setattr(run, "_QUEUE_BYTES", 1)
    read, stands, goes = [], threading.Event(), threading.Event()
    original = run._paid_frames

    def counted(*arguments):
        for frame in original(*arguments):
            read.append(frame.index)
            yield frame

    def write(self, mattes, *, start_tick=0):
        next(mattes)
        stands.set()
        goes.wait(100)
        return original_write(self, mattes, start_tick=start_tick)

    original_write = run.PendingOutput.write
    monkeypatch.setattr(run, "_paid_frames", counted)
    monkeypatch.setattr(run.PendingOutput, "write", write)
    steps = run.run(truth.path, [Output(tmp_path / "out.webm", CHROMA)])
    taker = threading.Thread(target=lambda: [None for _ in steps], daemon=True)
    taker.start()
    assert stands.wait(100)
    time.sleep(1)
    ahead = len(read)
    goes.set()
    taker.join(100)
    assert ahead <= 8
    assert len(read) == 30
