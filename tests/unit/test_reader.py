"""The reader returns upright, even-sized 8-bit 4:2:0 frames with correct timestamps, and skips damage."""

import gc
import os
import struct
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from alphareel.domain.clip import Color, Limits
from alphareel.domain.errors import DurationTooLong, ResolutionTooLarge
from alphareel.imaging.color import rgb_to_yuv
from alphareel.media.probe import probe
from alphareel.media.reader import open_reader
from alphareel.media.timestamps import TimestampNormalizer
from alphareel.testing.clips import make_clip, make_lasting

LIMITS = Limits()
BT709 = Color(1, 1, 1)


def frames_of(path, **options):
    with open_reader(path, LIMITS) as reader:
        return list(reader.frames(**options))


def yuv_of(truth, index, color):
    """The exact picture as full-size float (H, W, 3) Y, U, V."""
    matrix, offset = rgb_to_yuv(color.matrix, full_range=color.full_range)
    return truth.picture(index).astype(np.float32) @ matrix.T + offset


def assert_shows(frame, truth, *, color=BT709, error=3.0):
    """The frame's planes match the exact picture within the error of a good codec."""
    expected = yuv_of(truth, frame.index, color)[: frame.height, : frame.width]
    assert np.abs(frame.y - expected[..., 0]).mean() < error
    half = cv2.resize(expected, (frame.width // 2, frame.height // 2), interpolation=cv2.INTER_AREA)
    assert np.abs(frame.u - half[..., 1]).mean() < error
    assert np.abs(frame.v - half[..., 2]).mean() < error


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm", "a.mkv", "a.avi", "a.ts", "a.flv"])
def test_every_frame_comes_once_in_order_from_zero(tmp_path, name):
    truth = make_clip(tmp_path / name, frames=20)
    with open_reader(truth.path, LIMITS) as reader:
        frames = list(reader.frames())
        assert reader.frames_lost == 0
        base = reader.clip.time_base
    assert [frame.index for frame in frames] == list(range(20))
    for frame, time in zip(frames, truth.times, strict=True):
        assert abs(frame.pts * base - time) <= Fraction(1, 1000)


@pytest.mark.parametrize("name", ["a.mp4", "a.webm", "a.mkv"])
def test_variable_frame_rate_is_kept_with_the_duration_of_the_last_frame(tmp_path, name):
    truth = make_clip(tmp_path / name, frames=12, vfr=True)
    with open_reader(truth.path, LIMITS) as reader:
        frames, base = list(reader.frames()), reader.clip.time_base
    assert all(abs(f.pts * base - t) <= Fraction(1, 1000) for f, t in zip(frames, truth.times, strict=True))
    assert abs((frames[-1].pts + frames[-1].duration) * base - truth.seconds) <= Fraction(1, 1000)


def test_timestamps_start_at_zero_for_a_clip_that_starts_late(tmp_path):
    frames = frames_of(make_clip(tmp_path / "a.ts", start=Fraction(7, 2)).path)
    assert frames[0].pts == 0


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_rotation_and_mirroring_are_applied_to_planes_and_thumbnail(tmp_path, rotation, flip):
    truth = make_clip(tmp_path / "a.mp4", frames=3, width=96, height=64, rotation=rotation, flip=flip)
    for frame in frames_of(truth.path, thumbnail=(48, 32)):
        assert (frame.width, frame.height) == (96, 64)
        assert_shows(frame, truth)
        small = cv2.resize(frame.y, (48, 32), interpolation=cv2.INTER_AREA)
        assert np.abs(frame.thumbnail[0].astype(int) - small).mean() < 2


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.webm", {}),
        ("a.mp4", {"pix_fmt": "yuv444p"}),
        ("a.mkv", {"codec": "ffv1", "pix_fmt": "gray"}),
        ("a.mov", {"codec": "qtrle", "pix_fmt": "rgb24"}),
    ],
)
def test_odd_sizes_are_cropped_by_one_pixel(tmp_path, name, settings):
    truth = make_clip(tmp_path / name, frames=2, width=127, height=95, **settings)
    for frame in frames_of(truth.path, thumbnail=(64, 48)):
        assert frame.y.shape == (94, 126)
        assert frame.u.shape == frame.v.shape == (47, 63)
        if settings.get("pix_fmt") != "gray":
            assert_shows(frame, truth)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"pix_fmt": "yuv420p10le"},
        {"codec": "png", "pix_fmt": "rgba"},
        {"codec": "prores_ks", "pix_fmt": "yuva444p10le"},
    ],
)
def test_planes_alpha_and_thumbnail_have_square_pixels(tmp_path, settings):
    truth = make_clip(tmp_path / "a.mov", frames=2, sample_aspect=Fraction(3, 2), **settings)
    for frame in frames_of(truth.path, thumbnail=(96, 48)):
        assert frame.y.shape == (96, 192)
        assert frame.u.shape == (48, 96)
        wide = cv2.resize(yuv_of(truth, frame.index, BT709), (192, 96), interpolation=cv2.INTER_CUBIC)
        assert np.abs(frame.y - wide[..., 0]).mean() < 3
        assert np.abs(frame.thumbnail[0] - cv2.resize(wide, (96, 48), interpolation=cv2.INTER_AREA)[..., 0]).mean() < 3
        if frame.alpha is not None:
            expected = cv2.resize(truth.alpha(frame.index), (192, 96), interpolation=cv2.INTER_CUBIC)
            assert np.abs(frame.alpha.astype(int) - expected).mean() < 1


@pytest.mark.parametrize(
    ("codec", "pix_fmt"),
    [
        ("libx264", "yuv420p"),
        ("libx264", "yuv422p"),
        ("libx264", "yuv444p"),
        ("libx264", "yuv420p10le"),
        ("libx265", "yuv422p10le"),
        ("libx265", "yuv444p12le"),
        ("libx264rgb", "rgb24"),
        ("ffv1", "bgr0"),
        ("mjpeg", "yuvj420p"),
        ("prores_ks", "yuv422p10le"),
    ],
)
def test_every_pixel_format_gives_the_same_planes(tmp_path, codec, pix_fmt):
    full = pix_fmt == "yuvj420p"
    options = {"qmin": "1", "qmax": "3"} if codec == "mjpeg" else None
    truth = make_clip(tmp_path / "a.mkv", frames=3, codec=codec, pix_fmt=pix_fmt, options=options)
    # JPEG has one matrix
    color = Color(6 if full else 1, 1, 1, full)
    for frame in frames_of(truth.path):
        assert frame.y.dtype == frame.u.dtype == np.uint8
        assert_shows(frame, truth, color=color if full else BT709, error=6 if full else 3)


def test_full_range_planes_stay_full_range(tmp_path):
    truth = make_clip(tmp_path / "a.mp4", frames=2, full_range=True)
    with open_reader(truth.path, LIMITS) as reader:
        assert reader.clip.color.full_range
        for frame in reader.frames():
            assert_shows(frame, truth, color=Color(1, 1, 1, full_range=True))


@pytest.mark.parametrize("pix_fmt", ["gray", "gray10le", "gray12le", "gray16le"])
def test_untagged_gray_is_full_range_at_every_depth(tmp_path, pix_fmt):
    path = make_clip(tmp_path / "a.mkv", frames=1, codec="ffv1", pix_fmt=pix_fmt, full_range=True, tagged=False).path
    with open_reader(path, LIMITS) as reader:
        assert reader.clip.color == Color(2, 2, 2, full_range=True)


def test_gray_pictures_have_neutral_chroma(tmp_path):
    truth = make_clip(tmp_path / "a.mkv", frames=2, codec="ffv1", pix_fmt="gray")
    for frame in frames_of(truth.path, thumbnail=(64, 48)):
        assert (frame.u == 128).all()
        assert (frame.v == 128).all()
        assert (
            np.abs(frame.thumbnail[0].astype(int) - cv2.resize(frame.y, (64, 48), interpolation=cv2.INTER_AREA)).max()
            <= 1
        )
        assert np.abs(frame.thumbnail[1:].astype(int) - 128).max() <= 1


def test_hdr_becomes_sdr_and_keeps_its_highlights(tmp_path):
    tags = Color(9, 9, 16)
    truth = make_clip(tmp_path / "a.mkv", frames=1, codec="libx264", pix_fmt="yuv420p10le", color=tags)
    frame = frames_of(truth.path)[0]
    coded = yuv_of(truth, 0, tags)[..., 0]
    bright = coded > np.quantile(coded, 0.9)
    assert 30 < frame.y.mean() < 200
    # order of brightness is kept: nothing clips at white
    assert frame.y[bright].max() < 235
    assert np.corrcoef(frame.y[bright], coded[bright])[0, 1] > 0.8


def test_interlaced_frames_are_deinterlaced_and_none_is_lost(tmp_path):
    truth = make_clip(tmp_path / "a.ts", frames=10, interlaced=True)
    with open_reader(truth.path, LIMITS) as reader:
        frames, base = list(reader.frames()), reader.clip.time_base
    assert [f.pts * base for f in frames] == list(truth.times)
    for frame in frames:
        assert_shows(frame, truth)


def test_a_clip_that_becomes_interlaced_is_deinterlaced_from_there(tmp_path):
    first = make_clip(tmp_path / "a.ts", frames=10, background="green")
    second = make_clip(tmp_path / "b.ts", frames=10, interlaced=True, start=0.4)
    first.path.write_bytes(first.path.read_bytes() + second.path.read_bytes())
    with open_reader(first.path, LIMITS) as reader:
        assert not reader.clip.interlaced
        frames, base = list(reader.frames()), reader.clip.time_base
    assert [f.pts * base for f in frames] == [Fraction(n, 25) for n in range(20)]
    for index, frame in enumerate(frames[10:]):
        expected = yuv_of(second, index, BT709)[..., 0]
        assert np.abs(frame.y - expected).mean() < 3


@pytest.mark.parametrize("order", ["tff", "bff"])
def test_deinterlacing_shows_the_first_field(tmp_path, order):
    """Uses a bar that moves from field to field; the wrong field order would tear or delay it."""
    moments = [np.full((96, 128), 40, np.uint8) for _ in range(16)]
    for n, picture in enumerate(moments):
        picture[:, 4 + 7 * n : 12 + 7 * n] = 220
    order_is = av.filter.Graph()
    source = order_is.add_buffer(width=128, height=96, format="yuv420p", time_base=Fraction(1, 25))  # type: ignore[arg-type]
    order_is.link_nodes(source, order_is.add("setfield", order), order_is.add("buffersink")).configure()
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", 25, {"qp": "0", "flags": "+ildct+ilme"})
        video.width, video.height, video.pix_fmt = 128, 96, "yuv420p"
        for n in range(8):
            woven = moments[2 * n].copy()
            later = slice(1, None, 2) if order == "tff" else slice(0, None, 2)
            woven[later] = moments[2 * n + 1][later]
            planes = np.concatenate([woven, np.full((48, 128), 128, np.uint8)])
            order_is.vpush(av.VideoFrame.from_ndarray(planes, format="yuv420p"))
            container.mux(video.encode(order_is.vpull()))
        container.mux(video.encode(None))
    frames = frames_of(path)
    assert len(frames) == 8
    for n, frame in enumerate(frames):
        assert np.abs(frame.y.astype(int) - moments[2 * n]).mean() < 4


@pytest.mark.parametrize(
    ("entries", "shown"),
    [
        ([(600, 10)], range(10, 25)),  # from a key frame on
        ([(600, 13)], range(13, 28)),  # from between two
        ([(400, 0)], range(10)),
        ([(200, 3), (400, 20)], [*range(3, 8), *range(20, 30)]),  # a cut in the middle
    ],
)
def test_an_edit_list_selects_the_frames(tmp_path, entries, shown):
    truth = make_clip(tmp_path / "a.mp4", frames=30, options={"g": "10"}, start=0.2 if len(entries) == 2 else 0)
    data = bytearray(truth.path.read_bytes())
    at = data.index(b"elst") + 12
    ticks = int.from_bytes(data[data.index(b"mdhd") + 16 : data.index(b"mdhd") + 20], "big")
    for n, (length, first) in enumerate(entries):
        data[at + 12 * n : at + 12 * n + 8] = struct.pack(">Ii", length, first * ticks // 25)
    truth.path.write_bytes(data)
    with open_reader(truth.path, LIMITS) as reader:
        frames, base = list(reader.frames()), reader.clip.time_base
        assert reader.frames_lost == 0
    assert [f.pts * base for f in frames] == [Fraction(n, 25) for n in range(len(shown))]
    for frame, index in zip(frames, shown, strict=True):
        expected = yuv_of(truth, index, BT709)[..., 0]
        assert np.abs(frame.y - expected).mean() < 3


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt", "error"),
    [
        ("a.webm", "libvpx-vp9", "yuva420p", 4),
        ("a.webm", "libvpx", "yuva420p", 4),
        ("a.mov", "prores_ks", "yuva444p10le", 2),
        ("a.mov", "qtrle", "argb", 0),
        ("a.mov", "png", "rgba", 0),
        ("a.mkv", "ffv1", "yuva420p", 1),
        ("a.mkv", "ffv1", "bgra", 0),
    ],
)
def test_alpha_of_the_source_is_read(tmp_path, name, codec, pix_fmt, error):
    truth = make_clip(tmp_path / name, frames=4, codec=codec, pix_fmt=pix_fmt)
    for frame in frames_of(truth.path):
        assert frame.alpha.shape == frame.y.shape
        difference = np.abs(frame.alpha.astype(int) - truth.alpha(frame.index))
        assert difference.mean() <= error if error > 2 else difference.max() <= error


def test_alpha_is_rotated_with_the_picture(tmp_path):
    truth = make_clip(tmp_path / "a.mov", frames=2, codec="png", pix_fmt="rgba", rotation=90)
    for frame in frames_of(truth.path):
        assert np.array_equal(frame.alpha, truth.alpha(frame.index))


def test_frames_of_an_opaque_source_have_no_alpha(tmp_path):
    assert frames_of(make_clip(tmp_path / "a.mp4", frames=2).path)[0].alpha is None


def test_planes_are_read_only_views_that_outlive_the_reader(tmp_path):
    truth = make_clip(tmp_path / "a.mp4", frames=3)
    frames = frames_of(truth.path)
    gc.collect()
    for frame in frames:
        assert not any(plane.flags.writeable or plane.flags.owndata for plane in (frame.y, frame.u, frame.v))
        assert_shows(frame, truth)


@pytest.mark.parametrize("settings", [{}, {"full_range": True}, {"pix_fmt": "yuv420p10le"}, {"pix_fmt": "yuv444p"}])
def test_the_thumbnail_has_the_same_colors_at_the_requested_size(tmp_path, settings):
    truth = make_clip(tmp_path / "a.mp4", frames=2, width=256, height=192, **settings)
    for frame in frames_of(truth.path, thumbnail=(64, 40)):
        assert frame.thumbnail.shape == (3, 40, 64)
        assert frame.thumbnail.flags.c_contiguous
        for small, plane in zip(frame.thumbnail, (frame.y, frame.u, frame.v), strict=True):
            expected = cv2.resize(plane, (64, 40), interpolation=cv2.INTER_AREA)
            assert np.abs(small.astype(int) - expected).mean() < 2
            assert abs(float(small.mean()) - float(plane.mean())) < 0.7


def test_frames_have_no_thumbnail_by_default(tmp_path):
    assert frames_of(make_clip(tmp_path / "a.mp4", frames=2).path)[0].thumbnail is None


def test_reading_stops_before_the_requested_duration(tmp_path):
    frames = frames_of(make_clip(tmp_path / "a.mp4", frames=50).path, seconds=0.2)
    assert len(frames) == 5


def test_frames_can_be_read_twice(tmp_path):
    truth = make_clip(tmp_path / "a.mp4")
    with open_reader(truth.path, LIMITS) as reader:
        first = [frame.y.copy() for frame in reader.frames()]
        second = [frame.y.copy() for frame in reader.frames()]
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_leaving_a_reader_during_the_iteration_closes_the_file(tmp_path):
    truth = make_clip(tmp_path / "a.mp4", frames=50)

    def is_open():
        # a descriptor that was closed in the meantime resolves to its own path
        return [n for n in Path("/proc/self/fd").iterdir() if n.resolve() == truth.path.resolve()]

    with open_reader(truth.path, LIMITS) as reader:
        next(reader.frames())
        assert is_open()
    assert not is_open()


def damage(path, share, length=200):
    data = bytearray(path.read_bytes())
    at = int(len(data) * share)
    data[at : at + length] = os.urandom(length)
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi", "a.ts", "a.webm"])
def test_damage_in_a_clip_loses_few_frames(tmp_path, name):
    truth = make_clip(tmp_path / name, frames=60, options={"g": "10"})
    damage(truth.path, 0.5)
    frames = frames_of(truth.path)
    assert 45 <= len(frames) <= 60
    assert all(a.pts < b.pts for a, b in pairwise(frames))


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.ts"])
def test_a_gap_counts_as_lost_frames_if_the_header_has_no_frame_count(tmp_path, name):
    truth = make_clip(tmp_path / name, frames=100, options={"g": "10"})
    data = truth.path.read_bytes()
    third = len(data) // 3
    truth.path.write_bytes(data[:third] + bytes(third) + data[2 * third :])
    with open_reader(truth.path, LIMITS) as reader:
        decoded = len(list(reader.frames()))
        assert 50 < decoded < 90
        assert reader.frames_lost == pytest.approx(100 - decoded, abs=2)


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_variable_frame_rate_does_not_count_as_lost_frames(tmp_path, name):
    truth = make_clip(tmp_path / name, frames=30, vfr=True)
    with open_reader(truth.path, LIMITS) as reader:
        assert len(list(reader.frames())) == 30
        assert reader.frames_lost == 0


def test_empty_chunks_of_an_avi_do_not_count_as_lost_frames(tmp_path):
    truth = make_clip(tmp_path / "a.avi", frames=20, codec="mjpeg", pix_fmt="yuvj420p")
    with av.open(str(truth.path)) as container:
        assert container.streams.video[0].frames > 100  # the muxer counts in finer ticks and leaves most of them empty
    with open_reader(truth.path, LIMITS) as reader:
        assert len(list(reader.frames())) == 20
        assert reader.frames_lost == 0


def test_hevc_decoding_continues_after_damage(tmp_path):
    """By default its decoder drops all frames until the next key frame. This clip has only one."""
    truth = make_clip(tmp_path / "a.mkv", frames=60, codec="libx265")
    with av.open(str(truth.path)) as container:
        sixth = [packet for packet in container.demux(video=0) if packet.size][6]
        at = truth.path.read_bytes().index(bytes(sixth)[:40])
    data = bytearray(truth.path.read_bytes())
    data[at + 12 : at + sixth.size] = os.urandom(sixth.size - 12)
    truth.path.write_bytes(data)
    assert len(frames_of(truth.path)) >= 55


def test_incomplete_frames_at_the_start_are_omitted(tmp_path):
    """The recording starts between two key frames."""
    truth = make_clip(tmp_path / "a.ts", frames=40, options={"g": "20"})
    data = truth.path.read_bytes()
    tables, later = data[: 188 * 3], data[len(data) // 8 // 188 * 188 :]
    truth.path.write_bytes(tables + later)
    with open_reader(truth.path, LIMITS) as reader:
        frames = list(reader.frames())
    assert 20 <= len(frames) < 40
    assert frames[0].pts == 0
    assert_shows(replace(frames[-20], index=20), truth)


def test_a_late_frame_in_a_file_does_not_shift_later_ones(tmp_path):
    clip = probe(make_clip(tmp_path / "a.mp4").path, LIMITS)
    clock = TimestampNormalizer(replace(clip, time_base=Fraction(1, 25), start=Fraction(0)))
    assert [clock.assign(decoded(n))[0] for n in (0, 1, 80, 30, 81)] == [0, 1, 80, 81, 82]


def test_a_stream_that_restarts_its_clock_continues(tmp_path):
    clip = probe(make_clip(tmp_path / "a.ts").path, LIMITS)
    clock = TimestampNormalizer(replace(clip, time_base=Fraction(1, 25), start=Fraction(0)))
    assert [clock.assign(decoded(n))[0] for n in (50, 51, 0, 1)] == [50, 51, 52, 53]


def decoded(pts):
    frame = av.VideoFrame(16, 16, "yuv420p")
    frame.pts, frame.time_base, frame.duration = pts, Fraction(1, 25), 1
    return frame


def test_lost_frames_are_counted(tmp_path):
    truth = make_clip(tmp_path / "a.mov", frames=60, codec="png", pix_fmt="rgb24")
    for share in (0.3, 0.6):
        damage(truth.path, share, 4000)
    with open_reader(truth.path, LIMITS) as reader:
        decoded = len(list(reader.frames()))
        assert decoded < 60
        assert reader.frames_lost >= 60 - decoded


@pytest.mark.parametrize("name", ["a.mp4", "a.avi", "a.mkv"])
def test_a_truncated_file_gives_the_frames_it_has_and_counts_the_others(tmp_path, name):
    options = {"movflags": "+faststart"} if name.endswith("mp4") else {}
    truth = make_clip(tmp_path / name, frames=60, container_options=options)
    data = truth.path.read_bytes()
    truth.path.write_bytes(data[: len(data) // 2])
    with open_reader(truth.path, LIMITS) as reader:
        decoded = len(list(reader.frames()))
        assert 10 < decoded < 50
        assert reader.frames_lost == pytest.approx(60 - decoded, abs=1)


@pytest.mark.parametrize(("share", "are_lost"), [(1, False), (0.7, True)])
def test_audio_that_is_longer_than_the_video_does_not_count_as_lost_frames(tmp_path, share, are_lost):
    """FLV states one duration, the longest of its tracks."""
    short = make_clip(tmp_path / "short.mp4", frames=12).path
    long = make_clip(tmp_path / "long.mp4", frames=100, audio=True).path
    with (
        av.open(str(short)) as pictures,
        av.open(str(long)) as sound,
        av.open(str(tmp_path / "a.flv"), "w") as container,
    ):
        tracks = [pictures.streams.video[0], sound.streams.audio[0]]
        outs = [container.add_stream_from_template(track) for track in tracks]
        for source, track, out in zip((pictures, sound), tracks, outs, strict=True):
            for packet in source.demux(track):
                if packet.size:
                    packet.stream = out
                    container.mux(packet)
    data = (tmp_path / "a.flv").read_bytes()
    (tmp_path / "a.flv").write_bytes(data[: round(len(data) * share)])
    with open_reader(tmp_path / "a.flv", LIMITS) as reader:
        assert reader.clip.seconds > 3.9
        assert len(list(reader.frames())) == 12
        assert (reader.frames_lost > 0) == are_lost


def test_reading_stops_at_the_frame_limit(tmp_path):
    truth = make_clip(tmp_path / "a.mp4", frames=30)
    with open_reader(truth.path, Limits(max_frames=10)) as reader, pytest.raises(DurationTooLong):
        list(reader.frames())


def test_the_duration_limit_applies_even_if_the_header_is_wrong(tmp_path):
    truth = make_clip(tmp_path / "a.mkv", frames=100)
    data = bytearray(truth.path.read_bytes())
    said = b"00:00:04.000000000"
    assert said in data
    data[data.index(said) : data.index(said) + len(said)] = b"00:00:00.400000000"
    truth.path.write_bytes(data)
    with open_reader(truth.path, Limits(max_seconds=1)) as reader, pytest.raises(DurationTooLong):
        list(reader.frames())


def test_a_last_frame_that_lasts_longer_than_the_limit_is_refused(tmp_path):
    path = make_lasting(tmp_path / "a.mp4", seconds=209_715)
    with open_reader(path, LIMITS) as reader:
        assert reader.clip.seconds < 1, "its header declares a short clip"
        with pytest.raises(DurationTooLong, match="allowed"):
            list(reader.frames())
    with open_reader(path, Limits(max_seconds=0)) as reader:
        assert len(list(reader.frames())) == 1


def test_a_preview_of_a_clip_with_a_long_last_frame_ends_before_it(tmp_path):
    truth = make_clip(tmp_path / "a.mp4", frames=30, rate=10)
    with open_reader(truth.path, Limits(max_seconds=3)) as reader:
        assert len(list(reader.frames(seconds=1))) == 10


def test_a_later_frame_that_is_larger_than_allowed_is_refused(tmp_path):
    path = tmp_path / "grows.ts"
    parts = [make_clip(tmp_path / f"{side}.ts", frames=10, width=side, height=96) for side in (128, 512)]
    path.write_bytes(b"".join(part.path.read_bytes() for part in parts))
    with open_reader(path, LIMITS) as reader:
        assert len(list(reader.frames())) > 15
    with open_reader(path, Limits(max_side=256)) as reader, pytest.raises(ResolutionTooLarge, match="512x96"):
        list(reader.frames())


def test_a_stream_that_the_header_does_not_list_is_ignored(tmp_path):
    truth = make_clip(tmp_path / "a.flv", frames=200, options={"g": "10"})
    data = bytearray(truth.path.read_bytes())
    tags, at = [], 13
    while at + 11 <= len(data):
        tags.append(at)
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
    data[tags[150]] = 8  # a video tag becomes an audio tag, which the header does not announce
    truth.path.write_bytes(data)
    with av.open(str(truth.path)) as container, pytest.raises(IndexError):
        list(container.demux(container.streams.video[0]))
    assert len(frames_of(truth.path)) > 180


def test_a_log_in_python_that_can_hang_a_run_is_switched_off_with_a_warning(tmp_path, caplog):
    """FFmpeg's threads would wait for the interpreter, which waits for them when a damaged file is closed."""
    clip = make_clip(tmp_path / "a.mp4", frames=2)
    av.logging.set_level(av.logging.ERROR)
    try:
        probe(clip.path, LIMITS)
        assert av.logging.get_level() is None
    finally:
        av.logging.set_level(None)
    [record] = [r for r in caplog.records if "PyAV's log" in r.message]
    assert "restore_default_callback" in str(record.__dict__)
    probe(clip.path, LIMITS)
    assert len([r for r in caplog.records if "PyAV's log" in r.message]) == 1
