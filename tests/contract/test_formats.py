"""Every output format keeps all frames, timestamps, alpha, audio and color, and cleans up after an abort."""

import dataclasses
import json
import resource
import signal
import zipfile
from contextlib import contextmanager
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
from PIL import Image

from alphareel.domain.clip import Color, Limits
from alphareel.domain.errors import InvalidRequest, StorageFailed, VerificationFailed
from alphareel.imaging.color import color_in_yuv, rgb_to_yuv
from alphareel.imaging.frame import Frame
from alphareel.media.format import format_for_suffix, format_named, format_names
from alphareel.media.output_file import Target
from alphareel.media.png import chunk
from alphareel.media.reader import open_reader
from alphareel.media.verify import verify
from alphareel.testing.clips import make_clip

LIMITS = Limits()
CONTRACT = (
    "webm", "mov", "mp4", "gif", "webp", "png_sequence",
    "apng", "stacked_mp4", "matte", "prores_hq", "ffv1", "hevc_mov", "poster", "thumbnail",
)  # fmt: skip
# allowed mean error of alpha, in levels of 255
ALPHA_ERRORS = {
    "webm": 2.0, "mov": 0.5, "png_sequence": 0.0, "webp": 0.0, "gif": 8.0,
    "apng": 0.0, "stacked_mp4": 2.0, "matte": 2.0, "ffv1": 0.0,
    "lossless_matte": 0.0,
}  # fmt: skip
PRORES = ("mov", "prores_hq")
ALL_FORMATS = [name for name in format_names() if not format_named(name).still and not format_named(name).missing()]
WITH_ALPHA = [name for name in ALL_FORMATS if format_named(name).supports_alpha]
ALPHA_ONLY = ("matte", "lossless_matte")
SELECTED_BY_NAME = {"stacked_mp4": "mp4", "matte": "mp4", "prores_hq": "mov", "lossless_matte": "ffv1"}
WITH_AUDIO = [name for name in ALL_FORMATS if format_named(name).audio]


def begin(truth, name, *, seconds=None, sound=True, color=None, quality="balanced"):
    """(reader, output, path) of a run that keeps the exact alpha."""
    form = format_named(name)
    reader = open_reader(truth.path, LIMITS)
    clip = reader.clip if color is None else dataclasses.replace(reader.clip, color=color)
    path = truth.path.with_name("out" + form.suffix)
    source = truth.path if sound else None
    fields = {"seconds": seconds, "quality": quality, "overwrite": True}
    target = Target(path, clip, clip.width, clip.height, form.supports_alpha, source, **fields)
    return reader, form.open(target), path


def finish(output):
    """Finish, verify and publish, like the pipeline."""
    verified = verify(output.path, output.finish())
    output.publish()
    return verified


def matte_of(truth, frame):
    return np.ascontiguousarray(truth.alpha(frame.index)[: frame.height, : frame.width])


def convert(truth, name, *, seconds=None, **options):
    """Write the clip in the format ``name`` and verify it."""
    reader, output, path = begin(truth, name, seconds=seconds, **options)
    with reader:
        for frame in reader.frames(seconds=seconds):
            output.write(frame, matte_of(truth, frame) if format_named(name).supports_alpha else None)
        return finish(output), output, path


@dataclasses.dataclass
class Shown:
    """A frame as an independent reader shows it: RGB, alpha (None when opaque), seconds, length."""

    rgb: np.ndarray
    alpha: np.ndarray | None
    seconds: float
    length: float


def shown(path, name=None):
    """The frames of an output, read with Pillow (pictures) or FFmpeg (videos)."""
    if name == "stacked_mp4" or name in ALPHA_ONLY:
        return [unstacked(frame, name) for frame in shown_video(path)]
    if path.suffix == ".zip":
        return list(shown_zip(path))
    if path.suffix in (".webp", ".gif", ".apng"):
        return list(shown_animation(path))
    return list(shown_video(path))


def unstacked(frame, name):
    """A frame that stores alpha as gray in its lower half, or everywhere, with that alpha applied."""
    if name in ALPHA_ONLY:
        return dataclasses.replace(frame, alpha=frame.rgb[..., 1])
    half = len(frame.rgb) // 2
    return dataclasses.replace(frame, rgb=frame.rgb[:half], alpha=frame.rgb[half:, :, 1])


def shown_zip(path):
    with zipfile.ZipFile(path) as archive:
        for entry in json.loads(archive.read("manifest.json"))["frames"]:
            with archive.open(entry["file"]) as file:
                picture = np.asarray(Image.open(file).convert("RGBA"))
            yield Shown(picture[..., :3], picture[..., 3], entry["seconds"], entry["duration"])


def shown_animation(path):
    with Image.open(path) as animation:
        seconds = 0.0
        for n in range(animation.n_frames):  # type: ignore[attr-defined]
            animation.seek(n)
            picture = np.asarray(animation.convert("RGBA"))
            length = animation.info["duration"] / 1000
            yield Shown(picture[..., :3], picture[..., 3], seconds, length)
            seconds += length


def shown_video(path):
    with open_reader(path, LIMITS) as reader:
        color, base = reader.clip.color, reader.clip.time_base
        matrix, offset = rgb_to_yuv(color.resolved_matrix(reader.clip.height), full_range=color.full_range)
        back = np.linalg.inv(matrix)
        for frame in reader.frames():
            size = (frame.width, frame.height)
            planes = [frame.y, *(cv2.resize(p, size, interpolation=cv2.INTER_LINEAR) for p in (frame.u, frame.v))]
            rgb = (np.dstack(planes).astype(np.float32) - offset) @ back.T
            yield Shown(
                np.clip(rgb, 0, 255).astype(np.uint8),
                frame.alpha,
                float(frame.pts * base),
                float(frame.duration * base),
            )


def test_every_format_of_the_api_contract_exists():
    assert set(CONTRACT) <= set(format_names())


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_a_format_is_found_by_its_name_and_suffix(name):
    form = format_named(name)
    assert form.name == name
    implied = format_for_suffix(form.suffix.upper())
    assert implied is format_named(SELECTED_BY_NAME.get(name, name))


def test_an_unknown_format_is_refused_with_the_known_ones():
    with pytest.raises(InvalidRequest, match="webm"):
        format_named("wmv")
    with pytest.raises(InvalidRequest, match=r"\.webm"):
        format_for_suffix(".wmv")


@pytest.mark.parametrize("name", ALL_FORMATS)
@pytest.mark.parametrize("vfr", [False, True])
def test_every_frame_and_every_timestamp_is_kept(tmp_path, name, vfr):
    truth = make_clip(tmp_path / "in.mp4", frames=24, vfr=vfr)
    verified, _, path = convert(truth, name)
    frames = shown(path, name)
    assert len(frames) == verified.frames == truth.frames
    for frame, time in zip(frames, truth.times, strict=True):
        assert frame.seconds == pytest.approx(float(time), abs=0.0011)
    assert frames[-1].seconds + frames[-1].length == pytest.approx(float(truth.seconds), abs=0.0011)
    assert verified.seconds == pytest.approx(float(truth.seconds), abs=0.0011)


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_a_gap_between_frames_and_a_long_last_frame_are_kept(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=25)
    reader, output, path = begin(truth, name)
    base = reader.clip.time_base
    with reader:
        for frame in reader.frames():
            late = round(3 / base) if frame.index >= 5 else 0
            lasts = round(Fraction(5, 2) / base) if frame.index == 24 else frame.duration
            alpha = matte_of(truth, frame) if format_named(name).supports_alpha else None
            output.write(dataclasses.replace(frame, pts=frame.pts + late, duration=lasts), alpha)
        verified = finish(output)
    frames = shown(path, name)
    times = [float(time) + (3 if n >= 5 else 0) for n, time in enumerate(truth.times)]
    assert [frame.seconds for frame in frames] == pytest.approx(times, abs=0.0011)
    assert verified.seconds == pytest.approx(3 + 0.96 + 2.5, abs=0.0011)


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_irregular_frames_last_as_long_in_every_format(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=25)
    lengths = [Fraction((3, 2, 6, 1, 4)[n % 5], 60) for n in range(25)]
    reader, output, path = begin(truth, name)
    base = reader.clip.time_base
    with reader:
        for frame in reader.frames():
            start = round(sum(lengths[: frame.index], Fraction(0)) / base)
            alpha = matte_of(truth, frame) if format_named(name).supports_alpha else None
            output.write(dataclasses.replace(frame, pts=start, duration=round(lengths[frame.index] / base)), alpha)
        verified = finish(output)
    resolution = 0.01 if name == "gif" else 0.001
    assert verified.seconds == pytest.approx(float(sum(lengths)), abs=resolution / 2 + 0.0006)
    if path.suffix in (".mp4", ".mov", ".webm"):  # what players believe: they cut frames after this
        with av.open(path) as container:
            assert container.duration / av.time_base == pytest.approx(float(sum(lengths)), abs=0.0011)


@pytest.mark.parametrize("name", ALL_FORMATS)
@pytest.mark.parametrize("rate", [120, 240, 1000])
def test_frame_rates_above_a_formats_time_resolution_do_not_fail_it(tmp_path, name, rate):
    truth = make_clip(tmp_path / "in.mp4", frames=49, rate=rate)
    verified, _, _ = convert(truth, name)
    assert verified.seconds == pytest.approx(float(truth.seconds), abs=0.02)


@pytest.mark.parametrize("name", WITH_ALPHA)
def test_alpha_is_kept_within_the_error_of_the_codec(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=20, width=192, height=144)
    verified, _, path = convert(truth, name)
    assert verified.has_alpha
    for n, frame in enumerate(shown(path, name)):
        difference = np.abs(frame.alpha.astype(int) - truth.alpha(n))
        assert difference.mean() <= ALPHA_ERRORS[name]
    if name != "gif":
        opaque, clear = truth.alpha(n) == 255, truth.alpha(n) == 0
        assert frame.alpha[opaque].mean() > 254.5
        assert frame.alpha[clear].mean() < 0.5


@pytest.mark.parametrize("name", [name for name in ALL_FORMATS if name not in ALPHA_ONLY])
@pytest.mark.parametrize("color", [Color(1, 1, 1), Color(6, 6, 6), Color(1, 1, 1, full_range=True), Color(9, 9, 14)],
                         ids=["709", "601", "full", "2020"])  # fmt: skip
def test_visible_colors_are_kept(tmp_path, name, color):
    truth = make_clip(tmp_path / "in.mp4", frames=3, color=color)
    _, _, path = convert(truth, name)
    for n, frame in enumerate(shown(path, name)):
        visible = truth.alpha(n) == 255
        difference = np.abs(frame.rgb.astype(int) - truth.picture(n))[visible]
        assert difference.mean() < (12 if name == "gif" else 6)


@pytest.mark.parametrize("name", ["webm", "mov", "mp4", "stacked_mp4", "prores_hq", "ffv1"])
@pytest.mark.parametrize("color", [Color(1, 1, 1), Color(6, 6, 6), Color(1, 1, 1, full_range=True)])
def test_color_tags_are_kept(tmp_path, name, color):
    truth = make_clip(tmp_path / "in.mp4", frames=3, color=color)
    _, _, path = convert(truth, name)
    with open_reader(path, LIMITS) as reader:
        # ProRes has no full range, and one value for transfer curves that are the same
        expected = dataclasses.replace(color, full_range=False, transfer=1) if name in PRORES else color
        assert reader.clip.color == expected


@pytest.mark.parametrize("name", [n for n in WITH_ALPHA if format_named(n).alpha_kind == "straight" and n != "gif"])
def test_colors_are_not_multiplied_by_alpha(tmp_path, name):
    """Half-transparent orange is orange, not brown."""
    truth = make_clip(tmp_path / "in.mp4", frames=1)
    form, path = format_named(name), tmp_path / "out"
    with open_reader(truth.path, LIMITS) as reader:
        color, (height, width) = Color(1, 1, 1), (96, 128)
        y, u, v = color_in_yuv((230, 120, 20), color, height)
        planes = [np.full((height // n, width // n), level, np.uint8) for n, level in ((1, y), (2, u), (2, v))]
        clip = dataclasses.replace(reader.clip, color=color)
        output = form.open(Target(path.with_suffix(form.suffix), clip, width, height, has_alpha=True))
        output.write(Frame(*planes, pts=0, duration=1), np.full((height, width), 128, np.uint8))  # type: ignore[arg-type, misc]
        finish(output)
    frame = shown(path.with_suffix(form.suffix), name)[0]
    assert np.abs(frame.alpha.astype(int) - 128).max() <= 2
    assert np.abs(frame.rgb.reshape(-1, 3).mean(axis=0) - (230, 120, 20)).max() < 5


@pytest.mark.parametrize("name", ["webm", "mp4", "stacked_mp4", "matte", "webp"])
def test_a_better_quality_is_a_larger_file(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=12, width=192, height=144)
    sizes = [convert(truth, name, quality=quality)[0].bytes for quality in ("web", "balanced", "master")]
    assert sizes == sorted(sizes)
    assert sizes[0] * 1.2 < sizes[-1]


@pytest.mark.parametrize("name", PRORES)
def test_a_prores_master_is_closer_to_the_source(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=2, width=192, height=144)
    with open_reader(truth.path, LIMITS) as reader:
        expected = [frame.y.copy() for frame in reader.frames()]
    errors = []
    for quality in ("balanced", "master"):
        _, _, path = convert(truth, name, quality=quality)
        with open_reader(path, LIMITS) as reader:
            seen = [truth.alpha(n) > 0 if name == "mov" else np.ones((144, 192), bool) for n in range(2)]
            pairs = zip(expected, reader.frames(), seen, strict=True)
            errors.append(np.mean([np.abs(a.astype(int) - b.y)[mask].mean() for a, b, mask in pairs]))
    assert errors[1] < errors[0] < 1


def test_a_web_gif_has_fewer_frames_and_a_master_gif_has_more_palettes(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=50)
    assert convert(truth, "gif", quality="web")[0].frames == 25
    verified, _, path = convert(truth, "gif", quality="master")
    assert verified.frames == 50
    first, tenth = ({tuple(c) for c in shown(path)[n].rgb.reshape(-1, 3)} for n in (0, 9))
    assert first != tenth


def test_ffv1_returns_the_planes_unchanged(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=5, audio=True)
    _, _, path = convert(truth, "ffv1")
    with open_reader(truth.path, LIMITS) as source, open_reader(path, LIMITS) as result:
        for before, after in zip(source.frames(), result.frames(), strict=True):
            visible = cv2.dilate(truth.alpha(after.index), np.ones((5, 5), np.uint8)) > 0
            assert np.array_equal(before.y[visible], after.y[visible])
            assert np.array_equal(before.u[visible[::2, ::2]], after.u[visible[::2, ::2]])
            assert np.array_equal(before.v[visible[::2, ::2]], after.v[visible[::2, ::2]])
            assert np.array_equal(after.alpha, truth.alpha(after.index))


@pytest.mark.parametrize("name", ["ffv1", "apng", "webp", "png_sequence"])
def test_verification_of_a_lossless_format_finds_a_difference_of_one_level_of_alpha(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=3)
    reader, output, _ = begin(truth, name)
    with reader:
        for frame in reader.frames():
            output.write(frame, matte_of(truth, frame))
        expected = output.finish()
    _, alpha = expected.samples[0]
    alpha[0, 0] ^= 1
    with pytest.raises(VerificationFailed, match="alpha"):
        verify(output.path, expected)
    output.abort()


@pytest.mark.parametrize("name", ALL_FORMATS)
@pytest.mark.parametrize("size", [(126, 94), (16, 16), (18, 130)])
def test_sizes_that_are_no_multiple_of_a_block_are_kept(tmp_path, name, size):
    truth = make_clip(tmp_path / "in.webm", frames=3, width=size[0], height=size[1])
    verified, _, path = convert(truth, name)
    assert (verified.width, verified.height) == (size[0], size[1] * (2 if name == "stacked_mp4" else 1))
    assert shown(path, name)[0].rgb.shape[:2] == size[::-1]


@pytest.mark.parametrize("name", [n for n in ALL_FORMATS if n in ("webm", "mp4", "prores_hq", "ffv1")])
def test_an_opaque_result_has_no_alpha(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=3)
    with open_reader(truth.path, LIMITS) as reader:
        path = tmp_path / ("out" + format_named(name).suffix)
        output = format_named(name).open(Target(path, reader.clip, 128, 96, has_alpha=False))
        for frame in reader.frames():
            output.write(frame, None)
        assert not finish(output).has_alpha
    with open_reader(path, LIMITS) as reader:
        assert not reader.clip.has_alpha


@pytest.mark.parametrize("name", [n for n in ALL_FORMATS if n not in WITH_ALPHA])
def test_a_format_without_alpha_refuses_it(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=2)
    with open_reader(truth.path, LIMITS) as reader, pytest.raises(InvalidRequest):
        format_named(name).open(Target(tmp_path / "out", reader.clip, 128, 96, has_alpha=True))
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("name", ["stacked_mp4", "matte"])
def test_a_format_that_requires_alpha_refuses_an_opaque_output(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=2)
    with open_reader(truth.path, LIMITS) as reader, pytest.raises(InvalidRequest):
        format_named(name).open(Target(tmp_path / "out", reader.clip, 128, 96, has_alpha=False))
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("name", WITH_AUDIO)
@pytest.mark.parametrize(
    ("source", "codec", "start"),
    [
        ("in.mp4", "aac", 0),
        ("in.mp4", "mp3", 0),
        ("in.mov", "pcm_s16le", 0),
        ("in.webm", "libopus", 0),
        ("in.ts", "aac", 1.4),
        ("in.mkv", "flac", 0.5),
        ("in.avi", "pcm_s16le", 0),
    ],
)
def test_audio_stays_in_sync_with_the_video(tmp_path, name, source, codec, start):
    truth = make_clip(tmp_path / source, frames=50, audio=codec, start=start)
    verified, output, path = convert(truth, name)
    assert output.warnings == ()
    assert verified.has_audio
    assert onset(path) == pytest.approx(truth.onset, abs=0.02)


@pytest.mark.parametrize("name", WITH_AUDIO)
@pytest.mark.parametrize("codec", ["aac", "flac"])
def test_every_audio_track_is_kept_with_its_name_and_the_default_one_is_first(tmp_path, name, codec):
    truth = make_clip(tmp_path / "in.mkv", frames=50, audio=codec)
    both = tmp_path / "both.mkv"
    early = make_clip(tmp_path / "early.mkv", frames=30, audio=codec)
    with av.open(str(both), "w") as target, av.open(str(early.path)) as first, av.open(str(truth.path)) as second:
        taken = [second.streams.video[0], first.streams.audio[0], second.streams.audio[0]]
        streams = [target.add_stream_from_template(stream) for stream in taken]
        for stream, language, title in zip(streams[1:], ("fra", "eng"), ("Commentary", "Original"), strict=True):
            stream.metadata.update(language=language, title=title)
        streams[1].disposition = av.stream.Disposition(0)
        streams[2].disposition = av.stream.Disposition.default
        for container, source, stream in zip((second, first, second), taken, streams, strict=True):
            container.seek(0)
            for packet in container.demux(source):
                if packet.size:
                    packet.stream = stream
                    target.mux(packet)
    verified, output, path = convert(dataclasses.replace(truth, path=both), name)
    assert output.warnings == ()
    assert verified.has_audio
    with av.open(str(path)) as container:
        tracks = container.streams.audio
        assert [track.language for track in tracks] == ["eng", "fra"]
        assert [bool(t.disposition & av.stream.Disposition.default) for t in tracks] == [True, False]
        titles = [track.metadata.get("title") or track.metadata.get("handler_name") for track in tracks]
        assert titles == ["Original", "Commentary"]
    assert onset(path) == pytest.approx(truth.onset, abs=0.02)
    assert onset(path, track=1) == pytest.approx(early.onset, abs=0.02)


def test_only_the_first_sixteen_audio_tracks_are_kept(tmp_path):
    truth = make_clip(tmp_path / "in.mkv", frames=5, audio="aac")
    with av.open(str(tmp_path / "many.mkv"), "w") as target, av.open(str(truth.path)) as source:
        pictures = target.add_stream_from_template(source.streams.video[0])
        audio_streams = [target.add_stream_from_template(source.streams.audio[0]) for _ in range(20)]
        for packet in source.demux():
            if packet.size:
                for stream in [pictures] if packet.stream.type == "video" else audio_streams:
                    packet.stream = stream
                    target.mux(packet)
    _, output, path = convert(dataclasses.replace(truth, path=tmp_path / "many.mkv"), "mov")
    with av.open(str(path)) as container:
        assert len(container.streams.audio) == 16
    assert output.warnings == ("Of 20 audio tracks the first 16 were kept.",)


def onset(path, track=0):
    """Seconds from the first frame at which the tone starts in a player."""
    with av.open(str(path)) as container:
        picture = next(container.decode(video=0)).time
        container.seek(0)
        resample = av.AudioResampler("flt", "mono", 48000)
        for frame in container.decode(audio=track):
            for piece in resample.resample(frame):
                loud = np.flatnonzero(np.abs(piece.to_ndarray()[0]) > 0.2)
                if len(loud):
                    return piece.pts / 48000 + loud[0] / 48000 - picture
    return None


@pytest.mark.parametrize("name", WITH_AUDIO)
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_audio_ends_with_a_preview(tmp_path, name, codec):
    truth = make_clip(tmp_path / "in.mov", frames=75, audio=codec)
    verified, _, path = convert(truth, name, seconds=1.0)
    assert verified.frames == 25
    with av.open(str(path)) as container:
        last = max((p.pts + p.duration) * p.time_base for p in container.demux(audio=0) if p.size)
    assert float(last) == pytest.approx(1.0, abs=0.06)


@pytest.mark.parametrize("name", WITH_AUDIO)
@pytest.mark.parametrize("codec", ["aac", "pcm_s16le"])
def test_damaged_audio_does_not_fail_the_output(tmp_path, name, codec):
    truth = make_clip(tmp_path / "in.mkv", frames=50, audio=codec)
    data = bytearray(truth.path.read_bytes())
    for at in range(2000, len(data), 700):
        data[at : at + 60] = b"\xff" * 60
    damaged = tmp_path / "damaged.mkv"
    damaged.write_bytes(data)
    form = format_named(name)
    with open_reader(truth.path, LIMITS) as reader:
        path = tmp_path / "out"
        output = form.open(Target(path, reader.clip, 128, 96, has_alpha=form.supports_alpha, source=damaged))
        for frame in reader.frames():
            output.write(frame, matte_of(truth, frame) if form.supports_alpha else None)
        assert finish(output).frames == 50


@pytest.mark.parametrize("name", WITH_AUDIO)
def test_audio_that_cannot_be_opened_causes_a_warning(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=5, audio=True)
    (tmp_path / "broken.mp4").write_bytes(truth.path.read_bytes()[:200])
    with open_reader(truth.path, LIMITS) as reader:
        path = tmp_path / "out"
        form = format_named(name)
        output = form.open(
            Target(path, reader.clip, 128, 96, has_alpha=form.supports_alpha, source=tmp_path / "broken.mp4")
        )
        for frame in reader.frames():
            output.write(frame, matte_of(truth, frame) if form.supports_alpha else None)
        assert not finish(output).has_audio
    assert "audio" in output.warnings[0]


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_an_output_is_invisible_until_published_and_an_abort_leaves_nothing(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=10, audio=True)
    reader, output, path = begin(truth, name)
    with reader:
        for frame in reader.frames(seconds=0.2):
            output.write(frame, matte_of(truth, frame) if format_named(name).supports_alpha else None)
        assert not path.exists()
        output.abort()
        output.abort()
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_an_abort_before_the_first_frame_leaves_nothing(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=2)
    reader, output, _ = begin(truth, name)
    reader.close()
    output.abort()
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_an_abort_after_publishing_keeps_the_output(tmp_path, name):
    _, output, path = convert(make_clip(tmp_path / "in.mp4", frames=3), name)
    output.abort()
    assert path.stat().st_size > 0


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_a_missing_target_folder_raises_storage_failed(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=2)
    form = format_named(name)
    with open_reader(truth.path, LIMITS) as reader, pytest.raises(StorageFailed):
        form.open(Target(tmp_path / "none" / "out", reader.clip, 128, 96, has_alpha=form.supports_alpha))


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_the_same_frames_make_the_same_pixels(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=4)
    _, _, path = convert(truth, name)
    first = [frame.rgb for frame in shown(path)]
    convert(truth, name)
    assert all(np.array_equal(a, b.rgb) for a, b in zip(first, shown(path), strict=True))


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_encoding_does_not_modify_frames_or_alpha(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=4)
    reader, output, _ = begin(truth, name)
    with reader:
        for frame in reader.frames():
            before = [plane.copy() for plane in (frame.y, frame.u, frame.v)]
            alpha = matte_of(truth, frame)
            kept = alpha.copy()
            output.write(frame, alpha if format_named(name).supports_alpha else None)
            assert all(np.array_equal(a, b) for a, b in zip(before, (frame.y, frame.u, frame.v), strict=True))
            assert np.array_equal(kept, alpha)
        output.finish()


@pytest.mark.parametrize("name", ALL_FORMATS)
@pytest.mark.parametrize("harm", ["frames", "seconds", "width", "truncated", "alpha", "audio"])
def test_verification_finds_every_kind_of_damage(tmp_path, name, harm):
    truth = make_clip(tmp_path / "in.mp4", frames=30)
    reader, output, path = begin(truth, name)
    with reader:
        for frame in reader.frames():
            output.write(frame, matte_of(truth, frame) if format_named(name).supports_alpha else None)
        expected = output.finish()
        output.publish()
    if harm == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif harm == "alpha":
        if not expected.samples:
            pytest.skip("an opaque result has no alpha to lose")
        expected = dataclasses.replace(expected, samples=tuple((t, 255 - a) for t, a in expected.samples))
    elif harm == "audio":
        expected = dataclasses.replace(expected, has_audio=True)
    else:
        expected = dataclasses.replace(expected, **{harm: getattr(expected, harm) + 2})
    with pytest.raises(VerificationFailed):
        verify(path, expected)


@contextmanager
def file_size_limit(size):
    """Makes writes past ``size`` bytes fail like on a full disk, with EFBIG instead of ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_gif_has_at_most_fifty_frames_a_second(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=60, rate=100)
    verified, _, path = convert(truth, "gif")
    assert verified.frames == 30
    assert all(frame.length >= 0.02 for frame in shown(path))


def test_an_animated_png_loops_forever_and_keeps_long_frames(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=3, rate=Fraction(1, 100))
    _, _, path = convert(truth, "apng")
    with Image.open(path) as animation:
        assert animation.info["loop"] == 0
    assert [frame.length for frame in shown(path)] == [100, 100, 100]


def test_ffmpeg_reads_an_animated_png(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=5)
    _, _, path = convert(truth, "apng")
    with av.open(str(path), format="apng") as container:
        frames = [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]
    assert len(frames) == 5
    assert all(np.array_equal(f[..., 3], s.alpha) for f, s in zip(frames, shown(path), strict=True))


def test_verification_rejects_an_animated_png_with_a_wrong_frame_count(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=5)
    reader, output, path = begin(truth, "apng")
    with reader:
        for frame in reader.frames():
            output.write(frame, matte_of(truth, frame))
        expected = output.finish()
        output.publish()
    path.write_bytes(
        path.read_bytes().replace(
            chunk(b"acTL", bytes([0, 0, 0, 5] + [0] * 4)), chunk(b"acTL", bytes([0, 0, 0, 6] + [0] * 4))
        )
    )
    with pytest.raises(VerificationFailed, match="announces 6"):
        verify(path, expected)


def test_a_png_sequence_has_a_manifest_with_timestamps(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=5)
    _, _, path = convert(truth, "png_sequence")
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [f"frame_{n:06d}.png" for n in range(1, 6)] + ["manifest.json"]
        manifest = json.loads(archive.read("manifest.json"))
        first = np.asarray(Image.open(archive.open("frame_000001.png")))
    assert (manifest["width"], manifest["height"], manifest["fps"]) == (128, 96, 25)
    assert (first[truth.alpha(0) == 0] == 0).all()


@pytest.mark.parametrize("name", ALL_FORMATS)
def test_a_full_disk_raises_storage_failed_and_leaves_nothing(tmp_path, name):
    truth = make_clip(tmp_path / "in.mp4", frames=60, width=320, height=240, audio=True)
    reader, output, _ = begin(truth, name)

    def run():
        for frame in reader.frames():
            output.write(frame, matte_of(truth, frame) if format_named(name).supports_alpha else None)
        output.finish()

    with reader, file_size_limit(4000), pytest.raises(StorageFailed) as caught:
        run()
    output.abort()
    assert "disk is full" in caught.value.message
    assert [p.name for p in tmp_path.iterdir()] == ["in.mp4"]
