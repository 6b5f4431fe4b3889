"""Parts of writing an output: flattening, zero-copy frames, samples, atomic files, palettes, and translated errors."""

import builtins
import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import av
import av.error
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphareel.domain.errors import AlphareelError, BadVideo, InternalError, NotFound, OutOfMemory, StorageFailed
from alphareel.media import partial_file
from alphareel.media.atomic_file import AtomicFile
from alphareel.media.encoder_input import flatten, to_av_frame
from alphareel.media.ffmpeg_errors import read_error, translating_read_errors, translating_write_errors, write_error
from alphareel.media.formats.gif import COLORS, make_palette
from alphareel.media.output_file import GOP, AlphaSampler
from alphareel.media.partial_file import work_folder
from alphareel.media.png import encode_with_ffmpeg, png_encoder
from alphareel.media.verify import _nearest

BLACK = (16, 128, 128)
needs_boot_id = pytest.mark.skipif(not partial_file._boot(), reason="the system does not name its boots")
ALL_FFMPEG_ERRORS = [
    kind
    for kind in vars(av.error).values()
    if isinstance(kind, type) and issubclass(kind, av.error.FFmpegError) and kind is not av.error.FFmpegError
]


def noise(shape, seed=0):
    return np.random.default_rng(seed).integers(20, 235, shape, dtype=np.uint8)


def planes(height, width):
    half = (height // 2, width // 2)
    return noise((height, width)), noise(half, 1), noise(half, 2)


@given(
    height=st.integers(8, 40).map(lambda n: 2 * n),
    width=st.integers(8, 40).map(lambda n: 2 * n),
    spots=st.lists(st.tuples(st.integers(0, 79), st.integers(0, 79), st.integers(1, 255)), max_size=6),
)
def test_flattening_never_changes_visible_pixels_or_their_neighbors(height, width, spots):
    alpha = np.zeros((height, width), np.uint8)
    for y, x, value in spots:
        alpha[y % height, x % width] = value
    source = planes(height, width)
    flat = flatten(source, alpha, color=BLACK)
    near = cv2.dilate(alpha, np.ones((9, 9), np.uint8)) > 0
    assert (flat[0][near] == source[0][near]).all()
    near = cv2.dilate(alpha, np.ones((9, 9), np.uint8))[::2, ::2] > 0
    for flat_plane, plane in zip(flat[1:], source[1:], strict=True):
        assert (flat_plane[near] == plane[near]).all()


def test_flattening_fills_hidden_areas_with_one_color():
    alpha = np.zeros((64, 96), np.uint8)
    alpha[24:40, 40:56] = 200
    flat = flatten(planes(64, 96), alpha, color=BLACK)
    far = cv2.dilate(alpha, np.ones((49, 49), np.uint8)) == 0
    assert far.any()
    assert (flat[0][far] == 16).all()
    assert all((plane[far[::2, ::2]] == 128).all() for plane in flat[1:])


def test_flattening_does_not_modify_its_arguments():
    source = planes(32, 32)
    before = [plane.copy() for plane in source]
    flatten(source, np.zeros((32, 32), np.uint8), color=BLACK)
    assert all(np.array_equal(a, b) for a, b in zip(source, before, strict=True))


@pytest.mark.parametrize("kind", ["contiguous", "read-only", "strided", "reversed", "bytes"])
def test_an_av_frame_is_made_of_planes_with_any_memory_layout(kind):
    plane = noise((32, 48))
    if kind == "read-only":
        plane.flags.writeable = False
    elif kind == "strided":
        plane = noise((32, 64))[:, :48]
    elif kind == "reversed":
        plane = plane[::-1, ::-1]
    elif kind == "bytes":
        plane = np.frombuffer(plane.tobytes(), np.uint8).reshape(32, 48)
    chroma = noise((16, 24))
    frame = to_av_frame((plane, chroma, chroma), plane)
    assert frame.format.name == "yuva420p"
    rows = np.frombuffer(frame.planes[0], np.uint8).reshape(32, -1)[:, :48]  # type: ignore[call-overload]
    assert np.array_equal(rows, plane)
    assert plane.flags.writeable == (kind not in ("read-only", "bytes"))


def test_alpha_samples_are_few_and_spread_over_a_clip_of_any_length():
    sampler = AlphaSampler()
    alpha = np.zeros((2, 2), np.uint8)
    for index in range(100 * GOP):
        sampler.add(index, Fraction(index, 25), alpha)
    moments = [int(moment * 25) for moment, _ in sampler.samples]
    assert moments[:2] == [0, 12]
    assert 2 <= len(moments) - 2 <= 4
    assert all(moment % GOP == 0 for moment in moments[2:])
    assert moments[-1] > 50 * GOP


def test_frames_that_share_a_rounded_timestamp_are_no_alpha_samples():
    sampler = AlphaSampler()
    alpha = np.zeros((2, 2), np.uint8)
    for index in range(GOP + 1):
        sampler.add(index, Fraction(index, 1001 if index > 12 else 5000), alpha)
    assert [moment for moment, _ in sampler.samples] == [0]
    sampler.add(2 * GOP, Fraction(1), alpha)
    assert [moment for moment, _ in sampler.samples] == [0, 1]


def test_alpha_samples_are_copies():
    sampler, alpha = AlphaSampler(), np.full((2, 2), 7, np.uint8)
    sampler.add(0, Fraction(0), alpha)
    alpha[:] = 0
    assert (sampler.samples[0][1] == 7).all()


def test_an_atomic_file_becomes_visible_in_one_step(tmp_path):
    target = tmp_path / "out.webm"
    target.write_bytes(b"before")
    file = AtomicFile(target, overwrite=True)
    file.path.write_bytes(b"after")
    assert target.read_bytes() == b"before"
    file.publish()
    file.discard()
    assert target.read_bytes() == b"after"
    assert [p.name for p in tmp_path.iterdir()] == ["out.webm"]


def test_a_discarded_atomic_file_leaves_the_previous_file(tmp_path):
    target = tmp_path / "out.webm"
    target.write_bytes(b"before")
    file = AtomicFile(target)
    file.discard()
    file.discard()
    assert target.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.webm"]


KILLED = """
import os, pathlib, signal, sys
from alphareel.media.partial_file import work_folder
from alphareel.media.atomic_file import AtomicFile
target = pathlib.Path(sys.argv[1])
file = AtomicFile(target)
with work_folder(target, "splice") as folder:
    (folder / "part").touch()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def leave(target):
    """A temporary file and a folder of a process that was killed. Returns their names."""
    before = set(target.parent.iterdir())
    assert subprocess.run([sys.executable, "-c", KILLED, target], check=False).returncode == -signal.SIGKILL
    left = set(target.parent.iterdir()) - before
    assert sorted(path.is_dir() for path in left) == [False, True]
    return left


@needs_boot_id
def test_what_a_killed_process_left_is_removed_by_the_next_file_of_the_target_only(tmp_path):
    left, others = leave(tmp_path / "out.webm"), leave(tmp_path / "out.webm2")
    file = AtomicFile(tmp_path / "out.webm")
    assert set(tmp_path.iterdir()) == {*others, file.path}
    assert not any(path.exists() for path in left)
    file.discard()


@needs_boot_id
def test_what_a_living_process_needs_is_not_removed(tmp_path):
    target = tmp_path / "out.webm"
    first = AtomicFile(target)
    with work_folder(target, "splice") as folder:
        AtomicFile(target).discard()
        with work_folder(target, "splice"):
            assert first.path.exists()
            assert folder.exists()
    first.publish()
    AtomicFile(target).discard()
    assert [path.name for path in tmp_path.iterdir()] == ["out.webm"]


def test_files_of_another_machine_or_without_a_lock_are_not_removed(tmp_path, monkeypatch):
    left = leave(tmp_path / "out.webm")
    for boot in ("", "0123abcd"):
        monkeypatch.setattr(partial_file, "_boot", lambda boot=boot: boot)
        AtomicFile(tmp_path / "out.webm").discard()
        assert set(tmp_path.iterdir()) == left

    def refuse(*_):
        raise OSError(errno.ENOTSUP, "no locks here")

    monkeypatch.undo()
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "flock", refuse)
        file = AtomicFile(tmp_path / "out.webm")
    AtomicFile(tmp_path / "out.webm").discard()
    assert file.path.exists()


def test_an_atomic_file_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    file = AtomicFile(tmp_path / "out")
    file.publish()
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "out")}
    assert len(modes) == 1


@pytest.mark.parametrize("kind", ALL_FFMPEG_ERRORS, ids=lambda kind: kind.__name__)
def test_every_ffmpeg_error_is_translated_and_has_a_hint(kind, tmp_path):
    for translate in (read_error, write_error):
        result = translate(kind(errno.EIO, "Some reason", "clip.mp4"), tmp_path / "clip.mp4")
        assert isinstance(result, AlphareelError)
        assert type(result) is not AlphareelError
        assert result.hint
        assert str(tmp_path) not in result.message


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (av.error.FileNotFoundError(errno.ENOENT, "No such file"), NotFound),
        (av.error.PermissionError(errno.EACCES, "Permission denied"), StorageFailed),
        (av.error.InvalidDataError(0, "Invalid data"), BadVideo),
        (av.error.DecoderNotFoundError(0, "Decoder not found"), BadVideo),
        (av.error.EOFError(0, "End of file"), BadVideo),
        (av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"), OutOfMemory),
        (builtins.MemoryError(), OutOfMemory),
        (builtins.OSError(errno.EIO, "Input/output error"), StorageFailed),
    ],
)
def test_read_errors_are_translated_by_cause(error, ours, tmp_path):
    def fail():
        raise error

    with pytest.raises(ours) as caught, translating_read_errors(tmp_path / "clip.mp4"):
        fail()
    assert type(caught.value) is ours
    assert caught.value.__cause__ is error


@pytest.mark.parametrize(
    "error",
    [
        av.error.PermissionError(errno.EPERM, "Operation not permitted"),  # WMV: a packet whose fields contradict
        av.error.FileNotFoundError(errno.ENOENT, "No such file"),
    ],
)
def test_what_a_demuxer_says_of_a_file_that_can_be_opened_is_about_its_content(error, tmp_path):
    clip = tmp_path / "clip.wmv"
    clip.write_bytes(b"damaged")
    with pytest.raises(BadVideo) as caught, translating_read_errors(clip):
        raise error
    assert type(caught.value) is BadVideo


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (av.error.OSError(errno.ENOSPC, "No space left"), StorageFailed),
        (builtins.OSError(errno.ENOSPC, "No space left"), StorageFailed),
        (builtins.OSError(errno.EDQUOT, "Quota exceeded"), StorageFailed),
        (av.error.PermissionError(errno.EACCES, "Permission denied"), StorageFailed),
        (av.error.MemoryError(errno.ENOMEM, "Cannot allocate memory"), OutOfMemory),
        (av.error.ExternalError(0, "Generic error"), InternalError),
    ],
)
def test_write_errors_are_translated_by_cause(error, ours, tmp_path):
    def fail():
        raise error

    with pytest.raises(ours) as caught, translating_write_errors(tmp_path / "clip.mp4"):
        fail()
    if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
        assert "full" in caught.value.message


def test_a_gif_palette_has_few_colors_exactly():
    pixels = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]] * 500, np.uint8)
    palette = make_palette(pixels)
    colors = {tuple(color) for color in palette.colors.tolist()}
    assert {(255, 0, 0), (0, 255, 0), (0, 0, 255), (9, 9, 9)} <= colors


def test_a_gif_palette_approximates_many_colors():
    rgb = noise((64, 64, 3))
    palette = make_palette(rgb.reshape(-1, 3))
    indices = palette.indices(rgb)
    assert indices.shape == (64, 64)
    assert indices.max() < COLORS
    assert np.abs(palette.colors[indices].astype(int) - rgb).mean() < 20


def test_a_gif_palette_of_no_pixels_is_gray():
    assert make_palette(np.zeros((0, 3), np.uint8)).colors[0].tolist() == [128, 128, 128]


@pytest.mark.parametrize("depth", [3, 4])
@pytest.mark.parametrize("encode", [png_encoder(), encode_with_ffmpeg], ids=["quick", "ffmpeg"])
def test_both_png_encoders_are_lossless(encode, depth):
    pixels = noise((33, 47, depth))
    read = cv2.imdecode(np.frombuffer(encode(pixels), np.uint8), cv2.IMREAD_UNCHANGED)
    order = [2, 1, 0, 3][:depth]
    assert np.array_equal(read[..., order], pixels)


def test_importing_alphareel_does_not_change_the_log_level_of_ffmpeg():
    # any other value deadlocks multithreaded decoders on damaged files
    assert av.logging.get_level() is None
    assert "AV_LOG_FORCE_NOCOLOR" not in os.environ


def test_a_sample_is_found_behind_frames_with_the_same_rounded_timestamp():
    frames: list[Any] = [SimpleNamespace(pts=pts) for pts in (0, 33, 33, 66, 100, 133)]
    assert _nearest(iter(frames), Fraction(1001, 10)).pts == 100
    assert _nearest(iter(frames), Fraction(33)) is frames[1]
