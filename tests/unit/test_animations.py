"""Animated pictures (GIF, APNG, WebP) are read like videos: complete canvases, exact alpha, exact timestamps."""

import io
import struct
import time
from fractions import Fraction
from itertools import accumulate

import numpy as np
import pytest
from PIL import Image

from alphareel.domain.clip import Limits
from alphareel.domain.errors import BadVideo, InvalidFileType, ResolutionTooLarge
from alphareel.media.probe import probe
from alphareel.media.reader import open_reader
from alphareel.service.uploads.inspect import inspect_media
from alphareel.testing.clips import make_clip

LENGTHS = [50, 200, 100, 100]


@pytest.fixture
def pictures(tmp_path):
    """Four RGBA pictures (96, 128, 4), transparent where the background was, black there."""
    truth = make_clip(tmp_path / "truth.mp4", frames=4, rate=5)
    frames = [np.dstack([truth.picture(n), truth.alpha(n)]) for n in range(4)]
    for picture in frames:
        picture[picture[..., 3] == 0] = 0
    return frames


def save(path, pictures, **settings):
    first, *rest = [Image.fromarray(picture) for picture in pictures]
    first.save(path, save_all=True, append_images=rest, **{"duration": LENGTHS, **settings})
    return path


def read(path):
    with open_reader(path, Limits()) as reader:
        frames = list(reader.frames(thumbnail=(32, 24)))
        return reader.clip, frames, reader.frames_lost


def assert_holds(frames, pictures, *, color_error=2.0):
    assert len(frames) == len(pictures)
    for frame, picture in zip(frames, pictures, strict=True):
        assert np.array_equal(frame.alpha, picture[..., 3])
        red, green, blue = (picture[..., n].astype(np.float32) for n in range(3))
        luma = 16 + 219 / 255 * (0.2126 * red + 0.7152 * green + 0.0722 * blue)
        opaque = frame.alpha == 255
        assert np.abs(frame.y - luma)[opaque].mean() < color_error


KINDS = {
    "replaced.apng": {"format": "PNG", "blend": 0, "disposal": 0},
    "over-a-cleared-canvas.apng": {"format": "PNG", "blend": 1, "disposal": 1},
    "over-the-canvas-before.png": {"format": "PNG", "blend": 0, "disposal": 2},
    "whole.webp": {"lossless": True, "kmin": 0, "kmax": 0},
    "differences.webp": {"lossless": True, "minimize_size": True},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_frame_of_an_animation_is_a_complete_canvas_with_alpha(tmp_path, pictures, name):
    clip, frames, lost = read(save(tmp_path / name, pictures, **KINDS[name]))  # type: ignore[arg-type]
    assert_holds(frames, pictures)
    assert clip.has_alpha
    assert lost == 0
    assert (clip.width, clip.height, clip.frames) == (128, 96, 4)


@pytest.mark.parametrize("name", ["a.gif", "a.apng", "a.webp"])
def test_every_frame_of_an_animation_has_its_timestamp_and_duration(tmp_path, pictures, name):
    opaque = [picture[..., :3] for picture in pictures]
    settings = {"format": "PNG"} if name == "a.apng" else {}
    clip, frames, _ = read(save(tmp_path / name, opaque, **settings))
    begins = [0, *accumulate(LENGTHS)]
    assert [frame.pts * clip.time_base * 1000 for frame in frames] == begins[:-1]
    assert (frames[-1].pts + frames[-1].duration) * clip.time_base * 1000 == begins[-1]
    assert clip.seconds == pytest.approx(0.45)
    assert clip.start == 0


def test_an_opaque_webp_has_no_alpha(tmp_path, pictures):
    opaque = [np.where(picture[..., 3:] > 0, picture, 255)[..., :3] for picture in pictures]
    path = save(tmp_path / "a.webp", opaque, lossless=True)
    data = bytearray(path.read_bytes())
    data[20] &= ~0x10  # the encoder sets the flag for differences of opaque pictures too
    path.write_bytes(data)
    clip, frames, _ = read(path)
    assert not clip.has_alpha
    assert all(frame.alpha is None for frame in frames)


def chunk(name, payload):
    return name + struct.pack("<I", len(payload)) + payload + b"\0" * (len(payload) % 2)


def drawn(tmp_path, picture):
    """An animation's frame of 32x32 pixels for a tenth of a second, drawn over what was there."""
    Image.fromarray(picture).save(tmp_path / "still.webp", lossless=True, exact=True)
    data = (tmp_path / "still.webp").read_bytes()
    head = bytes(6) + bytes([31, 0, 0, 31, 0, 0]) + bytes([100, 0, 0]) + b"\0"
    return chunk(b"ANMF", head + data[data.index(b"VP8L") :])


def test_half_transparent_frames_of_a_webp_are_blended(tmp_path):
    """Red at half strength over green on the left, over nothing on the right."""
    below, above = np.zeros((32, 32, 4), np.uint8), np.zeros((32, 32, 4), np.uint8)
    below[:, :16] = (0, 255, 0, 255)
    above[:] = (255, 0, 0, 128)
    head = chunk(b"VP8X", bytes([0x12, 0, 0, 0, 31, 0, 0, 31, 0, 0])) + chunk(b"ANIM", bytes(6))
    body = b"WEBP" + head + drawn(tmp_path, below) + drawn(tmp_path, above)
    (tmp_path / "a.webp").write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    _, frames, lost = read(tmp_path / "a.webp")
    assert lost == 0
    assert frames[1].alpha[5, 5] == 255
    assert frames[1].alpha[5, 25] == 128
    assert frames[1].y[5, 5] == pytest.approx(16 + 219 / 255 * (0.2126 * 128 + 0.7152 * 127), abs=1.5)
    assert frames[1].y[5, 25] == pytest.approx(16 + 219 * 0.2126, abs=1.5)


def test_the_default_image_of_an_apng_is_omitted(tmp_path, pictures):
    path = save(tmp_path / "a.png", pictures, default_image=True, duration=100)
    clip, frames, lost = read(path)
    assert_holds(frames, pictures[1:])
    assert (clip.frames, lost) == (3, 0)


@pytest.mark.parametrize("name", ["a.png", "a.webp"])
def test_still_pictures_are_refused_as_videos(tmp_path, pictures, name):
    Image.fromarray(pictures[0]).save(tmp_path / name)
    with pytest.raises(InvalidFileType, match="is a picture"):
        probe(tmp_path / name, Limits())


@pytest.mark.parametrize("name", ["a.gif", "a.apng", "a.webp"])
def test_uploaded_animations_are_videos(tmp_path, pictures, name):
    info = inspect_media(save(tmp_path / name, pictures, **({"format": "PNG"} if name == "a.apng" else {})), Limits())
    assert (info.kind, info.content_type, info.extension) == ("video", f"image/{name[2:]}", name[2:])
    assert info.seconds == pytest.approx(0.45)


def test_a_damaged_webp_frame_loses_only_that_frame(tmp_path, pictures):
    path = save(tmp_path / "a.webp", pictures, lossless=True, kmin=0, kmax=0)
    data = bytearray(path.read_bytes())
    third = [n for n in range(len(data)) if data[n : n + 4] == b"ANMF"][2]
    data[third + 32 : third + 40] = bytes(8)
    path.write_bytes(data)
    clip, frames, lost = read(path)
    assert (len(frames), lost) == (3, 1)
    assert [frame.pts * clip.time_base for frame in frames] == [0, Fraction(1, 20), Fraction(7, 20)]


@pytest.mark.parametrize(("name", "settings"), [("a.webp", {"lossless": True}), ("a.apng", {"format": "PNG"})])
def test_a_truncated_animation_gives_the_frames_it_has(tmp_path, pictures, name, settings):
    path = save(tmp_path / name, pictures, **settings)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    _, frames, lost = read(path)
    assert 1 <= len(frames) <= 3
    assert lost >= 1


def test_a_webp_without_a_frame_is_refused(tmp_path, pictures):
    path = save(tmp_path / "a.webp", pictures)
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(BadVideo):
        probe(path, Limits())


def test_a_webp_canvas_of_sixteen_million_pixels_a_side_is_refused_before_decoding(tmp_path, pictures):
    path = save(tmp_path / "a.webp", pictures)
    data = bytearray(path.read_bytes())
    data[24:30] = b"\xff" * 6
    path.write_bytes(data)
    for limits in (Limits(), Limits(max_side=0)):
        with pytest.raises(ResolutionTooLarge):
            probe(path, limits)


def test_a_webp_frame_outside_the_canvas_is_skipped(tmp_path, pictures):
    path = save(tmp_path / "a.webp", pictures, lossless=True, kmin=0, kmax=0)
    data = bytearray(path.read_bytes())
    second = [n for n in range(len(data)) if data[n : n + 4] == b"ANMF"][1]
    data[second + 8] = 200
    path.write_bytes(data)
    _, frames, lost = read(path)
    assert (len(frames), lost) == (3, 1)


def frame_at(left, top, picture, *, clears):
    """A frame that replaces what was there; ``clears``: its place becomes transparent after it."""
    height, width = picture.shape[:2]
    edges = b"".join(n.to_bytes(3, "little") for n in (left // 2, top // 2, width - 1, height - 1, 100))
    still = io.BytesIO()
    Image.fromarray(picture).save(still, "WEBP", lossless=True, exact=True)
    data = still.getvalue()
    return chunk(b"ANMF", edges + bytes([2 + clears]) + data[data.index(b"VP8L") :])


def animation(side, frames):
    edge = (side - 1).to_bytes(3, "little")
    head = chunk(b"VP8X", bytes([0x12, 0, 0, 0]) + edge + edge) + chunk(b"ANIM", bytes(6))
    body = b"WEBP" + head + frames
    return b"RIFF" + struct.pack("<I", len(body)) + body


def test_a_webp_frame_that_clears_its_rectangle_clears_nothing_else(tmp_path):
    solid = np.full((32, 32, 4), 255, np.uint8)
    left, middle = frame_at(0, 0, solid, clears=False), frame_at(16, 16, solid, clears=True)
    last = frame_at(48, 48, solid[:16, :16], clears=True)
    (tmp_path / "a.webp").write_bytes(animation(64, left + middle + last))
    _, frames, lost = read(tmp_path / "a.webp")
    expected = np.zeros((3, 64, 64), np.uint8)
    expected[:, :32, :32] = 255
    expected[1, 16:48, 16:48] = 255
    expected[2, 16:32, 16:32] = 0
    expected[2, 48:, 48:] = 255
    assert lost == 0
    assert [np.array_equal(frame.alpha, wanted) for frame, wanted in zip(frames, expected, strict=True)] == [True] * 3


@pytest.mark.parametrize(
    "payload",
    [
        chunk(b"JUNK", b""),
        chunk(b"VP8 ", bytes([0x10, 0, 0, 0x9D, 1, 0x2A]) + struct.pack("<HH", 4096, 4096)),
        chunk(b"VP8L", b"\x2f" + (4095 | 4095 << 14).to_bytes(4, "little") + b"\0"),
    ],
)
def test_twenty_thousand_empty_webp_frames_that_clear_a_big_canvas_are_refused_quickly(tmp_path, payload):
    edge = (4095).to_bytes(3, "little")
    empty = chunk(b"ANMF", bytes(6) + edge + edge + bytes([40, 0, 0]) + b"\1" + payload)
    (tmp_path / "a.webp").write_bytes(animation(4096, empty * 20_000))
    began = time.monotonic()
    with pytest.raises(BadVideo, match=r"No frame of a\.webp can be decoded"):
        probe(tmp_path / "a.webp", Limits())
    assert time.monotonic() - began < 20, "clearing 64 MB for each of them takes half a minute"
