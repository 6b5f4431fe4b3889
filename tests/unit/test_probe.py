"""Probe reads the facts of valid videos and refuses all other files."""

import os
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from alphareel.domain.clip import Color, Limits
from alphareel.domain.errors import (
    AlphareelError,
    BadVideo,
    DurationTooLong,
    FileTooLarge,
    InvalidFileType,
    NotFound,
    ResolutionTooLarge,
)
from alphareel.media.probe import probe
from alphareel.media.signature import is_animated, sniff
from alphareel.testing.clips import make_clip

LIMITS = Limits()


def refuse(path, limits=LIMITS):
    with pytest.raises(AlphareelError) as caught:
        probe(path, limits)
    assert caught.value.hint, "a refusal says what to do"
    return caught.type


def write(path, data):
    path.write_bytes(data)
    return path


def patch_size(path, side):
    """Write ``side`` as width and height into the sample entry of a QuickTime or MP4 file."""
    data = bytearray(path.read_bytes())
    entry = data.index(b"stsd") + 12
    data[entry + 32 : entry + 36] = side.to_bytes(2, "big") * 2
    path.write_bytes(data)
    return path


PNG = b"\x89PNG\r\n\x1a\n"
PNG_HEAD = b"\0\0\0\x0dIHDR" + bytes(17)


def audio_only(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", 48000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_cover_art(path):
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", 48000, layout="mono")
        cover = container.add_stream("mjpeg", 1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame(64, 64, "yuvj420p")
        for plane in picture.planes:
            plane.update(bytes(plane.buffer_size))
        container.mux(cover.encode(picture))
        container.mux(cover.encode(None))
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 9600), np.int16), format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48000, 0
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "settings", "container", "codec"),
    [
        ("a.mp4", {}, "mp4", "h264"),
        ("a.mov", {}, "mov", "h264"),
        ("a.webm", {}, "webm", "vp9"),
        ("a.mkv", {}, "mkv", "h264"),
        ("a.avi", {}, "avi", "mpeg4"),
        ("a.ts", {}, "mpegts", "h264"),
        ("a.gif", {"pix_fmt": "rgb8"}, "gif", "gif"),
        ("b.webm", {"codec": "libvpx"}, "webm", "vp8"),
        ("b.mp4", {"codec": "libx265"}, "mp4", "hevc"),
    ],
)
def test_containers_and_codecs_have_their_common_names(tmp_path, name, settings, container, codec):
    truth = make_clip(tmp_path / name, **settings)
    clip = probe(truth.path, LIMITS)
    assert (clip.container, clip.codec) == (container, codec)
    assert (clip.width, clip.height, clip.rate) == (128, 96, 25)  # type: ignore[comparison-overlap]
    assert clip.seconds == pytest.approx(float(truth.seconds), abs=0.05)
    assert clip.frames == pytest.approx(truth.frames, abs=1)
    assert clip.bytes == truth.path.stat().st_size


def test_the_default_audio_track_is_described(tmp_path):
    clip = probe(make_clip(tmp_path / "a.mp4", audio=True).path, LIMITS)
    assert clip.audio is not None
    assert (clip.audio.codec, clip.audio.rate, clip.audio.channels) == ("aac", 48000, 1)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_the_size_is_that_of_the_upright_picture(tmp_path, rotation):
    truth = make_clip(tmp_path / "a.mp4", width=160, height=96, rotation=rotation)
    clip = probe(truth.path, LIMITS)
    assert (clip.width, clip.height, clip.rotation) == (160, 96, rotation)


@pytest.mark.parametrize(
    ("aspect", "rotation", "size"),
    [
        (Fraction(3, 2), 0, (240, 96)),
        (Fraction(2, 3), 0, (160, 144)),
        (Fraction(3, 2), 90, (160, 144)),
        (Fraction(1, 90), 0, (160, 96)),
    ],
)
def test_the_size_is_given_in_square_pixels(tmp_path, aspect, rotation, size):
    truth = make_clip(tmp_path / "a.mp4", width=160, height=96, rotation=rotation, sample_aspect=aspect)
    clip = probe(truth.path, LIMITS)
    assert (clip.width, clip.height) == size


def test_odd_sizes_are_reported_as_even(tmp_path):
    clip = probe(make_clip(tmp_path / "a.webm", width=127, height=95).path, LIMITS)
    assert (clip.width, clip.height) == (126, 94)


def test_color_tags_are_reported(tmp_path):
    clip = probe(make_clip(tmp_path / "a.mp4", color=Color(6, 6, 6, full_range=True)).path, LIMITS)
    assert clip.color == Color(6, 6, 6, full_range=True)


def test_color_tags_of_webm_with_alpha_come_from_its_header(tmp_path):
    clip = probe(make_clip(tmp_path / "a.webm", pix_fmt="yuva420p").path, LIMITS)
    assert clip.color == Color(1, 1, 1, full_range=False)
    assert clip.has_alpha


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_is_reported_and_read_as_sdr(tmp_path, transfer):
    tags = Color(9, 9, transfer)
    clip = probe(make_clip(tmp_path / "a.mp4", codec="libx264", pix_fmt="yuv420p10le", color=tags).path, LIMITS)
    assert clip.hdr
    assert clip.color == Color(1, 1, 1, full_range=False)


def test_interlacing_is_reported(tmp_path):
    assert probe(make_clip(tmp_path / "a.ts", interlaced=True).path, LIMITS).interlaced
    assert not probe(make_clip(tmp_path / "b.ts").path, LIMITS).interlaced


def test_a_start_other_than_zero_is_reported(tmp_path):
    clip = probe(make_clip(tmp_path / "a.mkv", start=Fraction(3, 2)).path, LIMITS)
    assert clip.start == Fraction(3, 2)
    assert clip.seconds == pytest.approx(0.48, abs=0.02)


def test_a_path_that_looks_like_a_protocol_is_opened_as_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    truth = make_clip(tmp_path / "in.mp4")
    odd = truth.path.rename(tmp_path / "concat:a|b.mp4").relative_to(tmp_path)
    assert probe(odd, LIMITS).width == 128


def test_a_missing_file_is_not_found(tmp_path):
    assert refuse(tmp_path / "none.mp4") is NotFound


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"just some text, long enough to look at\n" * 40,
        b"<!doctype html><html><body>Not found</body></html>" * 20,
        b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1/secret.ts\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"%PDF-1.7\n" + bytes(500),
        b"PK\x03\x04" + bytes(500),
        bytes(range(256)) * 20,
    ],
    ids=["empty", "one byte", "text", "html", "hls playlist", "ffconcat", "pdf", "zip", "noise"],
)
def test_a_file_that_is_not_a_video_is_refused_whatever_its_name(tmp_path, data):
    assert refuse(write(tmp_path / "a.mp4", data)) is InvalidFileType


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tiff"])
def test_a_picture_is_refused_and_its_type_named(tmp_path, suffix):
    data = cv2.imencode(suffix, np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    assert refuse(write(tmp_path / "a.mp4", data)) is InvalidFileType


def test_an_audio_file_is_refused(tmp_path):
    assert refuse(audio_only(tmp_path / "a.mp4")) is InvalidFileType


def test_cover_art_does_not_count_as_video(tmp_path):
    assert refuse(with_cover_art(tmp_path / "a.mp4")) is InvalidFileType


def test_a_playlist_with_a_video_signature_is_refused(tmp_path):
    playlist = write(tmp_path / "a.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isommp41" + b"#EXTM3U\nfile:///etc/passwd\n")
    assert refuse(playlist) is BadVideo


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.webm", "a.avi", "a.mkv"])
def test_a_file_with_only_a_header_is_refused(tmp_path, name):
    truth = make_clip(tmp_path / name)
    kept = {"a.avi": 300, "a.webm": 250, "a.mkv": 600}.get(name, 48)
    write(truth.path, truth.path.read_bytes()[:kept])
    assert issubclass(refuse(truth.path), BadVideo | InvalidFileType)


def test_a_container_without_frames_is_refused(tmp_path):
    path = make_clip(tmp_path / "a.mkv").path
    data = path.read_bytes()
    first_cluster = data.index(b"\x1f\x43\xb6\x75")
    assert refuse(write(path, data[:first_cluster])) is BadVideo


def test_a_damaged_header_is_refused(tmp_path):
    path = make_clip(tmp_path / "a.mp4").path
    data = bytearray(path.read_bytes())
    at = data.index(b"stbl")
    data[at : at + 400] = bytes(400)
    assert issubclass(refuse(write(path, bytes(data))), BadVideo | InvalidFileType)


def test_a_header_of_sixty_thousand_pixels_is_refused_before_it_is_decoded(tmp_path):
    path = make_clip(tmp_path / "a.mov", codec="qtrle", pix_fmt="argb").path
    assert issubclass(refuse(patch_size(path, 60000)), BadVideo)


def test_a_video_with_too_many_pixels_is_refused(tmp_path):
    path = make_clip(tmp_path / "a.mp4", width=256, height=64, frames=2).path
    assert refuse(path, Limits(max_side=200)) is ResolutionTooLarge
    assert probe(path, Limits(max_side=256)).width == 256
    assert probe(path, Limits(max_side=0)).width == 256


def test_a_video_with_too_few_pixels_is_refused(tmp_path):
    assert refuse(make_clip(tmp_path / "a.webm", width=8, height=8, frames=2).path) is BadVideo


def test_a_video_that_is_too_long_is_refused(tmp_path):
    path = make_clip(tmp_path / "a.mp4", frames=50).path
    assert refuse(path, Limits(max_seconds=1.9)) is DurationTooLong
    assert probe(path, Limits(max_seconds=0)).frames == 50


@pytest.mark.parametrize("codec", ["libx264", "libvpx-vp9"])
def test_the_clock_of_a_recording_does_not_count_as_its_duration(tmp_path, codec):
    path = make_clip(tmp_path / "a.mkv", frames=5, codec=codec, start=360_000).path
    clip = probe(path, Limits(max_seconds=1))
    assert clip.start == 360_000
    assert clip.seconds == pytest.approx(0.2, abs=0.002)


def test_a_file_that_is_too_large_is_refused(tmp_path):
    path = make_clip(tmp_path / "a.mp4").path
    assert refuse(path, Limits(max_bytes=1000)) is FileTooLarge


@pytest.mark.parametrize(
    ("head", "mime"),
    [
        (b"\0\0\0\x20ftypisom", "video/mp4"),
        (b"\0\0\0\x20ftypqt  ", "video/quicktime"),
        (b"\0\0\x10\0moov", "video/quicktime"),
        (b"\0\0\0\x20ftypM4A ", None),
        (b"\0\0\0\x20ftypavif", "image/avif"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01B\x82\x84webm", "video/webm"),
        (b"\x1aE\xdf\xa3\x01\0\0\0\0\0\0\x1fB\x86\x81\x01B\x82\x88matroska", "video/x-matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
        (b"RIFF\0\0\0\0WAVEfmt ", None),
        (b"RIFF\0\0\0\0WEBPVP8X", "image/webp"),
        (PNG, "image/png"),
        (PNG + PNG_HEAD + b"\0\0\0\x08acTL", "image/apng"),
        (PNG + PNG_HEAD + b"\0\0\0\x08IDAT....\0\0\0\0\0\0\0\x08acTL", "image/png"),
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        ((b"\x47" + bytes(187)) * 3, "video/mp2t"),
        (b"ID3\x04", None),
        (b"", None),
    ],
)
def test_the_first_bytes_determine_the_type(head, mime):
    assert sniff(head) == mime


@pytest.mark.parametrize(
    ("head", "moving"),
    [
        (b"\0\0\0\x20ftypisom", True),
        (b"GIF89a", True),
        (PNG + PNG_HEAD + b"\0\0\0\x08acTL", True),
        (PNG, False),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x12", True),
        (b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x10", False),
        (b"RIFF\0\0\0\0WEBPVP8X", False),
        (b"RIFF\0\0\0\0WEBPVP8 \x0a\0\0\0\x12", False),
        (b"\xff\xd8\xff\xe0", False),
        (b"text", False),
    ],
)
def test_the_first_bytes_determine_whether_a_picture_is_animated(head, moving):
    assert is_animated(head) == moving


def test_a_folder_and_a_pipe_are_refused_with_their_own_messages(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InvalidFileType, match="is a folder"):
        probe(tmp_path, LIMITS)
    with pytest.raises(InvalidFileType, match="is a device or a pipe"):
        probe(tmp_path / "pipe.mp4", LIMITS)
    with pytest.raises(NotFound, match="There is no file"):
        probe(tmp_path / "nothing.mp4", LIMITS)
