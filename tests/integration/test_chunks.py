"""A clip processed in chunks equals a single pass: the same frames, timepacket_index and audio."""

from collections import Counter
from fractions import Fraction

import av
import numpy as np
import pytest

from alphareel.domain.clip import Limits
from alphareel.domain.errors import BadVideo, InsufficientCredits, InternalError, VerificationFailed
from alphareel.domain.options import Background, Options, Output
from alphareel.media.chunks import PacketIndex, divide, read_packet_index
from alphareel.media.reader import open_reader
from alphareel.media.source import decode_from
from alphareel.pipeline import chunks, run
from alphareel.testing.clips import make_clip
from alphareel.testing.networks import make_rvm

GREEN = Background("color", (0, 255, 0))
KEYS = {"preset": "veryfast", "g": "10", "bf": "2", "sc_threshold": "0"}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A models folder with a tiny recurrent network, because the real one is slow."""
    folder = tmp_path_factory.mktemp("models")
    make_rvm(folder / "rvm_mobilenetv3_fp32.onnx")
    return folder


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "in.mp4", frames=60, rate=Fraction(30000, 1001), audio=True, options=KEYS)


def output_in(folder, output_format, suffix):
    opaque = output_format in {"mp4", "prores_hq"}
    options = Options(engine="rvm", output_format=output_format, background=GREEN if opaque else Background())
    return Output(folder / f"out{suffix}", options)


@pytest.fixture
def run_chunk(models):
    def run_pipeline(source, output, chunk=None):
        *_, last = run.run(source, [output], chunk=chunk, models_dir=models)
        return last.result

    return run_pipeline


def join(*given):
    *before, last = chunks.join(*given)
    assert not any(progress.results for progress in before)
    return last.results


@pytest.fixture
def plan(models):
    def plan_one(source, output, **kwargs):
        return chunks.plan(source, [output], models_dir=models, **kwargs)

    return plan_one


def run_all(run_chunk, source, output, plan):
    results = []
    for n, chunk in enumerate(plan.chunks):
        part = Output(output.path.with_name(f"{n}{output.path.suffix}"), output.options)
        facts = run_chunk(source, part, chunk)
        results.append(chunks.ChunkResult(((part.path, facts.frames),), chunk, facts.frames_lost, facts.warnings))
    return results, facts.engine


def shown(path):
    """Timestamps of all packets in order, the durations of the streams, and that of the file."""
    with av.open(str(path)) as container:
        found = [(p.stream.type, p.pts * p.time_base) for p in container.demux() if p.size]
        lengths = {s.type: float((s.duration or 0) * s.time_base) for s in container.streams}
        return sorted(found), lengths, container.duration


def pictures(path):
    with open_reader(path, Limits()) as reader:
        return [(f.y.copy(), None if f.alpha is None else f.alpha.copy()) for f in reader.frames()]


@pytest.mark.parametrize(
    ("output_format", "suffix"),
    [("webm", ".webm"), ("mov", ".mov"), ("mp4", ".mp4"), ("ffv1", ".mkv"), ("stacked_mp4", ".mp4"),
     ("matte", ".mp4"), ("prores_hq", ".mov")],
)  # fmt: skip
def test_joined_chunks_have_the_timing_and_audio_of_a_single_pass(
    clip, tmp_path, output_format, suffix, run_chunk, plan
):
    whole, joined = (output_in(tmp_path, output_format, f"-{name}{suffix}") for name in ("whole", "joined"))
    expected = run_chunk(clip.path, whole)
    chunk_plan = plan(clip.path, joined, seconds=0.6)
    assert [chunk.frames for chunk in chunk_plan.chunks] == [20, 20, 20]
    results, engine = run_all(run_chunk, clip.path, joined, chunk_plan)
    (result,) = join(clip.path, [joined], results, engine)
    assert shown(joined.path) == shown(whole.path)
    facts = ("frames", "seconds", "width", "height", "has_alpha", "has_audio", "alpha", "engine", "frames_lost")
    assert {f: getattr(result, f) for f in facts} == {f: getattr(expected, f) for f in facts}


def test_joining_tells_its_progress_after_each_chunk_of_each_output(clip, tmp_path, run_chunk, plan):
    outputs = [output_in(tmp_path, name, f"-{name}{suffix}") for name, suffix in (("webm", ".webm"), ("mov", ".mov"))]
    parts = [run_all(run_chunk, clip.path, output, plan(clip.path, output, seconds=0.6)) for output in outputs]
    both = [
        chunks.ChunkResult(one.files + other.files, one.chunk, one.frames_lost)
        for one, other in zip(parts[0][0], parts[1][0], strict=True)
    ]
    steps = list(chunks.join(clip.path, outputs, both, parts[0][1]))
    assert [(step.done, step.total) for step in steps] == [(done, 120) for done in (20, 40, 60, 80, 100, 120, 120)]
    assert [step.share for step in steps] == [step.done / 120 for step in steps]
    assert [result.format for result in steps[-1].results] == ["webm", "mov"]


def test_joined_chunks_have_the_frames_and_mattes_of_a_single_pass(clip, tmp_path, run_chunk, plan):
    whole, joined = (output_in(tmp_path, "ffv1", f"-{name}.mkv") for name in ("whole", "joined"))
    run_chunk(clip.path, whole)
    results, engine = run_all(run_chunk, clip.path, joined, plan(clip.path, joined, seconds=0.6))
    join(clip.path, [joined], results, engine)
    for (y, alpha), (wanted_y, wanted) in zip(pictures(joined.path), pictures(whole.path), strict=True):
        seen = (alpha > 0) & (wanted > 0)
        assert np.array_equal(y[seen], wanted_y[seen])
        assert np.abs(alpha.astype(int) - wanted).mean() < 1


def test_joined_chunks_keep_variable_timing_a_late_start_and_a_long_last_frame(tmp_path, run_chunk, plan):
    truth = make_clip(tmp_path / "in.mkv", frames=60, vfr=True, audio=True, start=1.5, options=KEYS)
    for output_format, suffix in (("webm", ".webm"), ("mp4", ".mp4")):
        whole, joined = (output_in(tmp_path, output_format, f"-{name}{suffix}") for name in ("whole", "joined"))
        run_chunk(truth.path, whole)
        results, engine = run_all(run_chunk, truth.path, joined, plan(truth.path, joined, seconds=1))
        join(truth.path, [joined], results, engine)
        assert shown(joined.path) == shown(whole.path)


def test_a_chunk_starts_with_warmup_frames(clip, tmp_path, monkeypatch, run_chunk, plan):
    output = output_in(tmp_path, "ffv1", ".mkv")
    seen = []
    mattes = run.mattes

    def recorded(session, frames, options, **kwargs):
        def recording():
            for frame in frames:
                seen.append(frame.pts)
                yield frame

        return mattes(session, recording(), options, **kwargs)

    monkeypatch.setattr(run, "mattes", recorded)
    chunk = plan(clip.path, output, seconds=0.6).chunks[2]
    assert run_chunk(clip.path, output, chunk).frames == chunk.frames
    assert sum(pts < chunk.start for pts in seen) == 30


@pytest.mark.parametrize(
    "options",
    [
        {"output_format": "gif"},
        {"output_format": "png_sequence"},
        {"preview_duration": 1.0},
        {"engine": "chroma"},
    ],
)
def test_formats_and_engines_that_cannot_be_chunked_use_a_single_pass(clip, tmp_path, options, plan):
    asked = Options(**{"engine": "rvm", **options})
    assert plan(clip.path, Output(tmp_path / "out", asked), seconds=0.6) is None


def test_a_short_clip_and_one_with_few_key_frames_use_a_single_pass(clip, tmp_path, plan):
    output = output_in(tmp_path, "webm", ".webm")
    assert plan(clip.path, output, seconds=1.5) is None
    rare = make_clip(tmp_path / "rare.mp4", frames=60, options={**KEYS, "g": "250"})
    assert plan(rare.path, output, seconds=0.6) is None


def test_a_stream_without_an_index_uses_a_single_pass(tmp_path, plan):
    truth = make_clip(tmp_path / "in.ts", frames=60, options=KEYS)
    assert plan(truth.path, output_in(tmp_path, "webm", ".webm"), seconds=0.6) is None


def test_a_short_tail_joins_the_last_chunk():
    packet_index, base = PacketIndex(tuple(range(100)), tuple(range(0, 100, 10)), 100), Fraction(1, 10)
    clip = type("Clip", (), {"time_base": base})()
    assert [(c.start, c.end, c.frames) for c in divide(packet_index, clip, 3)] == [
        (0, 30, 30), (30, 60, 30), (60, None, 40),
    ]  # fmt: skip


def test_the_plan_hash_depends_on_everything_that_determines_the_chunks(clip, tmp_path, plan):
    output = output_in(tmp_path, "webm", ".webm")
    plan_hash = plan(clip.path, output, seconds=0.6).plan_hash
    copy = clip.path.rename(tmp_path / "elsewhere.mp4")
    assert plan(copy, output, seconds=0.6).plan_hash == plan_hash
    other = Output(output.path, Options(engine="rvm", feather=1.0))
    assert plan(copy, other, seconds=0.6).plan_hash != plan_hash
    changed = make_clip(tmp_path / "changed.mp4", frames=60, rate=Fraction(30000, 1001), options=KEYS)
    assert plan(changed.path, output, seconds=0.6).plan_hash != plan_hash


def test_the_plan_hash_depends_on_the_content_of_a_background_and_not_on_its_path(clip, tmp_path, plan):
    hashes = []
    for name, level in (("a.mp4", 20), ("b.mp4", 20), ("c.mp4", 21)):
        behind = make_clip(tmp_path / name, frames=level, background="green")
        options = Options(engine="rvm", background=Background("video", video_url=str(behind.path)))
        hashes.append(plan(clip.path, Output(tmp_path / "out.webm", options), seconds=0.6).plan_hash)
    assert Counter(hashes).most_common(1)[0][1] == 2


def test_a_background_video_continues_across_chunks(clip, tmp_path, run_chunk, plan):
    behind = make_clip(tmp_path / "behind.mp4", frames=35, rate=Fraction(30000, 1001))
    options = Options(engine="rvm", output_format="ffv1", background=Background("video", video_url=str(behind.path)))
    whole, joined = (Output(tmp_path / f"{name}.mkv", options) for name in ("whole", "joined"))
    run_chunk(clip.path, whole)
    results, engine = run_all(run_chunk, clip.path, joined, plan(clip.path, joined, seconds=0.6))
    join(clip.path, [joined], results, engine)
    for (y, _), (wanted, _) in zip(pictures(joined.path), pictures(whole.path), strict=True):
        assert np.abs(y.astype(int) - wanted).mean() < 2


def test_chunks_of_different_encodings_are_not_joined(clip, tmp_path, run_chunk, plan):
    output = output_in(tmp_path, "mp4", ".mp4")
    results, engine = run_all(run_chunk, clip.path, output, plan(clip.path, output, seconds=0.6))
    other = make_clip(tmp_path / "other.mp4", frames=20, width=160, options={"preset": "slow"})
    strange = chunks.ChunkResult(((other.path, 20),), results[1].chunk, 0)
    with pytest.raises(InternalError, match="do not belong together"):
        join(clip.path, [output], [results[0], strange, results[2]], engine)
    assert list(tmp_path.glob(".*.part")) == []
    assert not output.path.exists()


def test_a_missing_chunk_fails_verification(clip, tmp_path, run_chunk, plan):
    output = output_in(tmp_path, "webm", ".webm")
    results, engine = run_all(run_chunk, clip.path, output, plan(clip.path, output, seconds=0.6))
    results[1] = chunks.ChunkResult(((results[0].files[0][0], 19),), results[1].chunk, 0)
    with pytest.raises(VerificationFailed, match="60 frames instead of 59"):
        join(clip.path, [output], results, engine)
    assert not output.path.exists()


def test_a_source_that_changed_after_planning_is_rejected(clip, tmp_path, run_chunk):
    output = output_in(tmp_path, "webm", ".webm")
    other = make_clip(tmp_path / "other.ts", frames=20)
    with pytest.raises(BadVideo, match="has changed since"):
        join(other.path, [output], [], run_chunk(clip.path, output).engine)


def test_frames_lost_in_a_chunk_are_counted(clip, tmp_path, plan):
    output = output_in(tmp_path, "webm", ".webm")
    chunk = plan(clip.path, output, seconds=0.6).chunks[1]
    with open_reader(clip.path, Limits()) as reader:
        packet_index = read_packet_index(clip.path, reader.clip, Limits())
        longer = type(chunk)(chunk.start, chunk.end, chunk.frames + 2)
        assert len(list(reader.chunk(longer))) == 20
        assert reader.frames_lost == 2
    assert packet_index.key_frames[:3] == (0, chunk.start // 2, chunk.start)


def test_a_seek_past_the_target_falls_back_to_the_start(clip, monkeypatch):
    moment = Fraction(1)
    with decode_from(clip.path, Limits(), moment) as frames:
        first = next(frames)
    assert 0 < first.pts * first.time_base <= moment
    monkeypatch.setattr("alphareel.media.source._seek", lambda *_: None)
    with decode_from(clip.path, Limits(), moment) as frames:
        assert next(frames).pts == 0


def damaged(path, lost):
    """Damage the frames with these indices, in order of presentation, so that they cannot be decoded."""
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = sorted((p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size)
    for number in lost:
        _, offset, size = packets[number]
        data[offset : offset + size] = bytes(size)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("output_format", "suffix"), [("webm", ".webm"), ("mov", ".mov"), ("mp4", ".mp4")])
def test_frames_after_damage_keep_their_timestamps(tmp_path, output_format, suffix, run_chunk, plan):
    clip = make_clip(tmp_path / "in.mp4", frames=90, rate=Fraction(30000, 1001), options={**KEYS, "g": "12"})
    source = damaged(clip.path, [24])
    whole, joined = (output_in(tmp_path, output_format, f"-{name}{suffix}") for name in ("whole", "joined"))
    run_chunk(source, whole)
    results, engine = run_all(run_chunk, source, joined, plan(source, joined, seconds=0.8))
    join(source, [joined], results, engine)
    assert shown(joined.path) == shown(whole.path)


def test_a_chunk_without_its_first_frame_is_an_error(tmp_path, run_chunk, plan):
    clip = make_clip(tmp_path / "in.mov", frames=60, codec="mjpeg", pix_fmt="yuvj420p")
    output = output_in(tmp_path, "webm", ".webm")
    chunk = plan(clip.path, output, seconds=0.6).chunks[1]
    source = damaged(clip.path, [chunk.frames])
    with pytest.raises(BadVideo, match="first frame of a chunk"):
        run_chunk(source, output, chunk)
    assert not output.path.exists()


def test_a_clip_beyond_the_limits_uses_a_single_pass(clip, tmp_path, plan):
    output = output_in(tmp_path, "webm", ".webm")
    assert plan(clip.path, output, seconds=0.6, limits=Limits(max_frames=60)) is not None
    assert plan(clip.path, output, seconds=0.6, limits=Limits(max_frames=59)) is None


def test_a_clip_that_is_longer_than_was_paid_for_is_refused_before_anything_is_made(clip, tmp_path, plan):
    output = output_in(tmp_path, "webm", ".webm")
    assert plan(clip.path, output, seconds=0.6, paid_seconds=float(clip.seconds)) is not None
    with pytest.raises(InsufficientCredits):
        plan(clip.path, output, seconds=0.6, paid_seconds=0.5)


def test_a_joined_result_reports_all_of_the_source_as_processed(clip, tmp_path, run_chunk, plan):
    output = output_in(tmp_path, "webm", ".webm")
    results, engine = run_all(run_chunk, clip.path, output, plan(clip.path, output, seconds=0.6))
    assert join(clip.path, [output], results, engine)[0].source_seconds == pytest.approx(float(clip.seconds), abs=0.01)


def test_a_chunk_stops_where_the_source_exceeds_what_is_paid_for(clip, tmp_path, models, plan):
    output = output_in(tmp_path, "webm", ".webm")
    last = plan(clip.path, output, seconds=0.6).chunks[-1]
    with pytest.raises(InsufficientCredits):
        list(run.run(clip.path, [output], chunk=last, models_dir=models, paid_seconds=0.5))
