"""Copied audio stays in sync to the sample, also when the source begins it before the picture."""

from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest

import alphareel
from alphareel.domain.options import Background, Options
from alphareel.testing.clips import make_clip

RATE = 48000
LATE = Fraction("0.513")  # no whole number of packets or frames
OPAQUE = Options(engine="chroma", background=Background(type="color", color=(255, 0, 0)))


def remake(source, target, *, late=Fraction(0), trimmed=Fraction(0), codec="aac", gap=(2, 2)):
    """The pictures of ``source`` ``late`` seconds behind a sweep of audio, ``trimmed`` seconds hidden from the start.

    ``gap``: seconds between which the sweep has no packets.
    """
    with av.open(str(source)) as container, av.open(str(target), "w") as output:
        video = container.streams.video[0]
        out, audio = output.add_stream_from_template(video), output.add_stream(codec, RATE, layout="mono")
        packets = [p for p in container.demux(video) if p.size]
        for packet in packets:
            packet.pts += round((late - trimmed) / packet.time_base)
            packet.dts += round((late - trimmed) / packet.time_base)
            packet.stream = out
        heard = [p for frame in sweep(audio.codec_context.format.name) for p in audio.encode(frame)]
        for packet in (*heard, *audio.encode(None)):
            if gap[0] <= packet.pts * packet.time_base < gap[1]:
                continue
            packet.pts -= round(trimmed / packet.time_base)
            packet.dts = packet.pts
            packets.append(packet)
        for packet in sorted(packets, key=lambda p: p.dts * p.time_base):
            output.mux(packet)
    return target


def sweep(sample_format):
    times = np.arange(2 * RATE) / RATE
    levels = (0.5 * np.sin(2 * np.pi * (300 * times + 500 * times**2))).astype(np.float32)
    if sample_format in ("s16", "s32"):
        integers = np.int16 if sample_format == "s16" else np.int32
        levels = (levels * np.float64(np.iinfo(integers).max)).astype(integers)
    for start in range(0, levels.size, 1024):
        piece = np.ascontiguousarray(levels[None, start : start + 1024])
        frame = av.AudioFrame.from_ndarray(piece, format=sample_format, layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, start, Fraction(1, RATE)
        yield frame


def heard(path, seconds=1):
    """What sounds in the first second from the first picture on; where nothing does, it is not a number."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0))
        zero = picture.pts * picture.time_base
    timeline = np.full(seconds * RATE, np.nan, np.float32)
    with av.open(str(path)) as container:
        for frame in container.decode(audio=0):
            samples = frame.to_ndarray()[0]
            if samples.dtype.kind == "i":
                samples = samples / np.float32(np.iinfo(samples.dtype).max)
            start = round((frame.pts * frame.time_base - zero) * RATE)
            first, last = max(0, start), min(timeline.size, start + samples.size)
            if first < last:
                timeline[first:last] = samples[first - start : last - start]
    return timeline


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_clip(tmp_path_factory.mktemp("pictures") / "in.mp4", frames=25, width=64, height=64, background="green")


@pytest.mark.parametrize(
    ("name", "out", "codec", "how"),
    [
        ("in.mp4", "out.mp4", "aac", {"late": LATE}),
        ("in.mp4", "out.mov", "aac", {"late": LATE}),
        ("in.mov", "out.mov", "pcm_s16le", {"late": LATE}),
        ("in.mp4", "out.mp4", "aac", {"trimmed": Fraction("0.113")}),
        ("in.mp4", "out.mov", "aac", {"trimmed": Fraction("0.05")}),
        ("in.mp4", "out.mp4", "aac", {}),
    ],
)
def test_copied_audio_is_complete_from_the_first_frame_on(pictures, tmp_path, name, out, codec, how):
    source = remake(pictures.path, tmp_path / name, codec=codec, **how)
    list(alphareel.run(source, tmp_path / out, replace(OPAQUE, output_format=out[-3:])))
    before, after = heard(source), heard(tmp_path / out)
    assert not np.isnan(before).any()
    assert not np.isnan(after).any()
    # decoders invent the noise of AAC anew
    np.testing.assert_allclose(after, before, atol=0.02)


@pytest.mark.parametrize(
    ("out", "codec", "settled"),
    [("out.mp4", "aac", 0.03), ("out.webm", "libopus", 0.1)],  # seconds for which an Opus decoder may warm up
)
def test_audio_that_starts_before_the_video_of_an_mkv_is_in_sync_to_the_millisecond(
    pictures, tmp_path, out, codec, settled
):
    source = remake(pictures.path, tmp_path / "in.mkv", codec=codec, late=LATE)
    options = replace(OPAQUE, output_format="mp4") if out.endswith("mp4") else Options(engine="chroma")
    list(alphareel.run(source, tmp_path / out, options))
    before, after = heard(source), heard(tmp_path / out)
    assert np.flatnonzero(~np.isnan(after))[0] < RATE // 500
    assert np.isnan(after).mean() < 0.02
    shift = best_shift(before, after, most=RATE // 500)
    loud = slice(round(settled * RATE), RATE - RATE // 100)
    difference = np.abs(np.roll(after, -shift) - before)[loud]
    assert np.nanpercentile(difference, 95) < 0.05


@pytest.mark.parametrize(("out", "codec"), [("out.mp4", "pcm_s16le"), ("out.mov", "libopus"), ("out.mov", "flac")])
def test_encoded_audio_that_starts_before_the_video_is_in_sync_to_the_millisecond(pictures, tmp_path, out, codec):
    source = remake(pictures.path, tmp_path / "in.mkv", codec=codec, late=LATE)
    list(alphareel.run(source, tmp_path / out, replace(OPAQUE, output_format=out[-3:])))
    shift = best_shift(heard(source), heard(tmp_path / out), most=RATE // 100)
    assert abs(shift) <= RATE // 1000


@pytest.mark.parametrize("codec", ["pcm_s16le", "pcm_s24le", "flac"])
def test_a_gap_in_the_audio_lasts_as_long_in_a_mov(pictures, tmp_path, codec):
    """PCM in MOV has no timestamps."""
    source = remake(pictures.path, tmp_path / "in.mkv", codec=codec, gap=(0.3, 0.6))
    list(alphareel.run(source, tmp_path / "out.mov", Options(engine="chroma", output_format="mov")))
    before, after = (gap_in(heard(path)) for path in (source, tmp_path / "out.mov"))
    assert before[1] - before[0] > RATE // 5
    np.testing.assert_allclose(after, before, atol=RATE // 1000)


def gap_in(sound):
    """The last sample before the longest silence and the first one after it."""
    loud = np.flatnonzero(np.nan_to_num(sound))
    longest = np.argmax(np.diff(loud))
    return loud[longest], loud[longest + 1]


def best_shift(before, after, *, most):
    one, other = np.nan_to_num(before), np.nan_to_num(after)
    middle = slice(RATE // 4, RATE // 2)
    return max(range(-most, most + 1), key=lambda n: float(np.dot(np.roll(other, -n)[middle], one[middle])))


def test_sound_whose_header_tells_neither_rate_nor_channels_costs_the_sound_and_not_the_picture(tmp_path):
    """A single byte of a Matroska header does that, and no muxer takes such a track."""
    clip = tmp_path / "in.mkv"
    make_clip(clip, frames=8, width=64, height=48, background="green", audio=True)
    data = clip.read_bytes()
    assert data.count(b"\xe1\x91\x9f\x81\x01") == 1
    clip.write_bytes(data.replace(b"\xe1\x91\x9f\x81\x01", b"\xe1\xff\x9f\x81\x01"))
    options = replace(OPAQUE, output_format="mov")
    result = list(alphareel.run(clip, tmp_path / "out.mov", options))[-1].results[0]
    assert not result.has_audio
    assert any("audio of the video is damaged" in warning for warning in result.warnings)
