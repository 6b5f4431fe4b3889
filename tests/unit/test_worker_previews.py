"""Poster and thumbnail: one frame, the best or the one asked for, transparent, from the same run as the video."""

import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image

import alphareel
from alphareel.domain.clip import Limits
from alphareel.domain.errors import StorageFailed, VerificationFailed
from alphareel.media.format import format_for_suffix, format_named
from alphareel.media.output_file import Target
from alphareel.media.poster_file import poster_score
from alphareel.media.reader import open_reader
from alphareel.media.verify import verify
from alphareel.testing.clips import make_clip

STILLS = ["poster", "thumbnail"]


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "in.mp4", frames=20, width=160, height=120, background="green")


def write(truth, name, *, moment=None, alpha_of=None):
    """(verified, path) of a still of the truth."""
    form = format_named(name)
    path = truth.path.with_name("still" + form.suffix)
    with open_reader(truth.path, Limits()) as reader:
        sink = form.open(Target(path, reader.clip, 160, 120, has_alpha=True, moment=moment))
        for frame in reader.frames():
            sink.write(frame, truth.alpha(frame.index) if alpha_of is None else alpha_of(frame.index))
        verified = verify(sink.path, sink.finish())
        sink.publish()
    return verified, path


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGBA"))


@pytest.mark.parametrize("name", STILLS)
def test_a_still_of_a_moment_is_the_frame_that_a_player_shows_then(clip, name):
    verified, path = write(clip, name, moment=0.50)  # frame 12 is shown from 0.48
    shown = pixels(path)
    assert np.array_equal(shown[..., 3], clip.alpha(12))
    opaque = clip.alpha(12) == 255
    assert np.abs(shown[..., :3].astype(int) - clip.picture(12))[opaque].mean() < 8
    assert (verified.frames, verified.seconds, verified.has_alpha) == (1, 0.0, True)


@pytest.mark.parametrize("name", STILLS)
def test_a_moment_after_the_end_is_the_last_frame(clip, name):
    _, path = write(clip, name, moment=99)
    assert np.array_equal(pixels(path)[..., 3], clip.alpha(19))


def test_the_best_frame_is_one_with_a_subject_in_it(clip):
    nothing = np.zeros((120, 160), np.uint8)
    _, path = write(clip, "poster", alpha_of=lambda n: clip.alpha(n) if n == 7 else nothing)
    assert np.array_equal(pixels(path)[..., 3], clip.alpha(7))


@pytest.mark.parametrize("name", STILLS)
@pytest.mark.parametrize("level", [0, 255])
def test_a_clip_without_a_subject_and_one_that_is_all_subject_have_stills_too(clip, name, level):
    _, path = write(clip, name, alpha_of=lambda _: np.full((120, 160), level, np.uint8))
    assert (pixels(path)[..., 3] == level).all()


def test_a_sharp_frame_is_preferred_to_a_blurred_a_dark_and_a_cut_off_one(clip):
    with open_reader(clip.path, Limits()) as reader:
        frame = next(reader.frames())
        frame = dataclasses.replace(frame, y=frame.y.copy())
    alpha = clip.alpha(0)
    best = poster_score(frame, alpha)
    assert poster_score(dataclasses.replace(frame, y=cv2.GaussianBlur(frame.y, (0, 0), 3)), alpha) < best  # type: ignore[arg-type]
    assert poster_score(dataclasses.replace(frame, y=frame.y // 6 + 14), alpha) < best
    assert poster_score(frame, np.full_like(alpha, 255)) < best
    assert poster_score(frame, np.zeros_like(alpha)) == 0


@pytest.mark.parametrize("name", STILLS)
@pytest.mark.parametrize("harm", ["truncated", "emptied", "other"])
def test_a_still_that_was_changed_is_not_believed(clip, name, harm):
    form = format_named(name)
    with open_reader(clip.path, Limits()) as reader:
        sink = form.open(Target(clip.path.with_name("x" + form.suffix), reader.clip, 160, 120, has_alpha=True))
        sink.write(next(reader.frames()), clip.alpha(0))
        meant = sink.finish()
    data = sink.path.read_bytes()
    sink.path.write_bytes({"truncated": data[: len(data) // 2], "emptied": b"", "other": data}[harm])
    if harm == "other":
        meant = dataclasses.replace(meant, samples=((meant.samples[0][0], clip.alpha(9)),))
    with pytest.raises(VerificationFailed):
        verify(sink.path, meant)
    sink.abort()


@pytest.mark.parametrize("name", STILLS)
def test_a_folder_that_is_not_there_is_storage_failed(clip, name):
    with open_reader(clip.path, Limits()) as reader, pytest.raises(StorageFailed):
        format_named(name).open(Target(clip.path.parent / "none" / "x", reader.clip, 160, 120, has_alpha=True))


def test_the_suffix_png_means_a_poster_and_webp_the_animation():
    assert format_for_suffix(".png").name == "poster"
    assert format_for_suffix(".webp").name == "webp"


def test_video_poster_and_thumbnail_come_from_one_run(clip, tmp_path):
    targets = {
        tmp_path / "a.webm": {},
        tmp_path / "poster.png": {"poster_time": 0.2},
        tmp_path / "thumb.webp": {"output_format": "thumbnail"},
        tmp_path / "over.png": {"background": "white"},
    }
    video, poster, thumbnail, opaque = alphareel.cut(clip.path, targets=targets, engine="chroma")  # type: ignore[arg-type]
    assert (video.frames, poster.frames, thumbnail.frames) == (20, 1, 1)
    assert (poster.alpha, thumbnail.alpha, opaque.alpha) == ("straight", "straight", "none")
    assert pixels(tmp_path / "poster.png")[0, 0, 3] == 0
    assert (pixels(tmp_path / "over.png")[2, 2] == (255, 255, 255, 255)).all()


def test_a_thumbnail_is_small(tmp_path):
    large = make_clip(tmp_path / "in.mp4", frames=2, width=1280, height=720, background="green")
    result = alphareel.cut(large.path, tmp_path / "t.webp", output_format="thumbnail", engine="chroma")
    assert (result.width, result.height) == (512, 288)


def test_only_one_frame_is_held(clip):
    with open_reader(clip.path, Limits()) as reader:
        target = Target(clip.path.with_name("x.png"), reader.clip, 160, 120, has_alpha=True, moment=99)
        sink = format_named("poster").open(target)
        for frame in reader.frames():
            sink.write(frame, clip.alpha(frame.index))
            assert sink._best[0] is frame  # type: ignore[attr-defined]
    sink.abort()
