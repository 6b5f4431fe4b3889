"""Still pictures for backgrounds are checked before decoding, and read upright, even-sized and in BT.709."""

import cv2
import numpy as np
import pytest
from PIL import Image

from alphareel.domain.clip import Limits
from alphareel.domain.errors import FileTooLarge, InvalidFileType, NotFound, ResolutionTooLarge
from alphareel.imaging.color import rgb_to_yuv
from alphareel.media.image_reader import image_size, read_image

LIMITS = Limits()
SAVES = {
    "a.png": {},
    "a.jpg": {"quality": 95},
    "progressive.jpg": {"quality": 95, "progressive": True},
    "a.webp": {"quality": 95},
    "lossless.webp": {"lossless": True},
    "alpha.webp": {"quality": 95},
    "grey.png": {},
    "paletted.png": {},
}


def picture(width=64, height=48):
    y, x = np.mgrid[0:height, 0:width]
    return np.dstack([x * 255 // width, y * 255 // height, np.full_like(x, 60)]).astype(np.uint8)


def saved(path, rgb, **options):
    image = Image.fromarray(rgb)
    if path.stem == "alpha":
        image = image.convert("RGBA")
        image.putalpha(200)
    elif path.stem == "grey":
        image = image.convert("L")
    elif path.stem == "paletted":
        image = image.quantize(255)
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", SAVES)
def test_the_header_of_a_picture_gives_its_size(tmp_path, name):
    path = saved(tmp_path / name, picture(70, 48), **SAVES[name])  # type: ignore[arg-type]
    assert image_size(path.read_bytes()) == (70, 48)


@pytest.mark.parametrize("name", SAVES)
def test_every_picture_format_is_read_as_planes(tmp_path, name):
    rgb = picture()
    frame = read_image(saved(tmp_path / name, rgb, **SAVES[name]), LIMITS)  # type: ignore[arg-type]
    assert (frame.width, frame.height) == (64, 48)
    if name != "grey.png":
        matrix, offset = rgb_to_yuv(1, full_range=False)
        expected = rgb.astype(np.float32) @ matrix.T + offset
        assert np.abs(frame.y - expected[..., 0]).mean() < 4
        assert np.abs(frame.u - expected[::2, ::2, 1]).mean() < 5


def test_odd_picture_sizes_become_even(tmp_path):
    frame = read_image(saved(tmp_path / "a.png", picture(65, 49)), LIMITS)
    assert (frame.width, frame.height) == (64, 48)


def test_the_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise
    frame = read_image(saved(tmp_path / "a.jpg", picture(64, 48), exif=exif), LIMITS)
    assert (frame.width, frame.height) == (48, 64)


def test_large_pictures_are_scaled_to_the_limit(tmp_path):
    frame = read_image(saved(tmp_path / "a.png", picture(640, 320)), Limits(max_side=200))
    assert (frame.width, frame.height) == (200, 100)


def test_a_header_of_a_billion_pixels_is_refused_before_decoding(tmp_path):
    data = bytearray(cv2.imencode(".png", picture())[1].tobytes())
    data[16:24] = (40000).to_bytes(4, "big") * 2
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ResolutionTooLarge):
        read_image(tmp_path / "a.png", LIMITS)


@pytest.mark.parametrize(
    "data",
    [b"", b"text", b"GIF89a" + bytes(50), b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff" + bytes(40), b"RIFF\0\0\0\0WEBPVP8 "],
)
def test_a_file_that_is_not_a_picture_is_refused(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(InvalidFileType):
        read_image(tmp_path / "a.png", LIMITS)


def test_a_damaged_picture_is_refused(tmp_path):
    path = saved(tmp_path / "a.png", picture())
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InvalidFileType):
        read_image(path, LIMITS)


def test_a_missing_picture_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        read_image(tmp_path / "none.png", LIMITS)


def test_a_picture_file_that_is_too_large_is_refused(tmp_path):
    path = saved(tmp_path / "a.png", picture())
    with pytest.raises(FileTooLarge):
        read_image(path, Limits(max_bytes=10))
