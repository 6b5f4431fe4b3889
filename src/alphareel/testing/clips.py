"""Makes small clips with exactly known alpha: a swaying figure in front of a flat or textured background."""

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Literal, cast

import av
import numpy as np
from av.audio.stream import AudioStream
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from alphareel.domain.clip import Color

Background = Literal["green", "texture"]
Picture = NDArray[np.uint8]
Floats = NDArray[np.float32]

GREEN = (0, 177, 64)
AUDIO_RATE = 48000
_TICKS = 90000
_AUDIO_CODECS = {".webm": "libopus", ".avi": "pcm_s16le", ".gif": ""}
_VIDEO_CODECS = {".webm": "libvpx-vp9", ".gif": "gif", ".avi": "mpeg4"}
_FAST_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "16"},
    "libx265": {"preset": "ultrafast", "crf": "16", "x265-params": "log-level=none"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "20", "b": "0", "auto-alt-ref": "0"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8", "crf": "8", "b": "4M", "auto-alt-ref": "0"},
    "mpeg4": {"qmin": "2", "qmax": "4"},
}
_COLORSPACES = {1: "ITU709", 5: "ITU601", 6: "ITU601", 9: "BT2020"}
_MATRICES = {
    0: (1, 0, 0, 1),
    90: (0, 1, -1, 0),
    180: (-1, 0, 0, -1),
    270: (0, -1, 1, 0),
}


@dataclass(frozen=True)
class GroundTruth:
    """The exact content of a generated clip, upright as a player shows it.

    ``times``: seconds of each frame, from zero. ``seconds``: duration, including the last frame. ``onset``: seconds at
    which the silent audio track changes to a 1 kHz tone; None without audio.
    """

    path: Path
    width: int
    height: int
    rate: Fraction
    background: Background
    times: tuple[Fraction, ...]
    seconds: Fraction
    onset: float | None = None

    @property
    def frames(self) -> int:
        return len(self.times)

    def alpha(self, index: int) -> Picture:
        """Exact alpha of frame ``index``: uint8 (H, W)."""
        return np.rint(self._cover(index) * 255).astype(np.uint8)

    def picture(self, index: int) -> Picture:
        """The frame before encoding: uint8 RGB (H, W, 3)."""
        cover = self._cover(index)[..., None]
        return np.rint(self._subject * cover + self._behind * (1 - cover)).astype(np.uint8)

    def _cover(self, index: int) -> Floats:
        return _figure(self.width, self.height, float(self.times[index]))

    @cached_property
    def _behind(self) -> Floats:
        if self.background == "green":
            return np.full((self.height, self.width, 3), GREEN, np.float32)
        return _texture(self.width, self.height, seed=7)

    @cached_property
    def _subject(self) -> Floats:
        rows = np.linspace(0, 1, self.height, dtype=np.float32)[:, None, None]
        skin, cloth = (np.asarray(rgb, np.float32) for rgb in ((222, 180, 155), (70, 60, 120)))
        weave = _texture(self.width, self.height, seed=3) * np.float32(0.15) - np.float32(18)
        return cast(Floats, np.clip(np.where(rows < 0.42, skin, cloth) + weave, 0, 255))


@dataclass(frozen=True)
class _ClipSpec:
    truth: GroundTruth
    codec: str
    pix_fmt: str
    color: Color
    tagged: bool
    options: Mapping[str, str]
    start: Fraction
    sample_aspect: Fraction
    rotation: int
    flip: bool
    audio_codec: str
    container_options: Mapping[str, str]


def make_clip(
    path: Path,
    *,
    frames: int = 12,
    width: int = 128,
    height: int = 96,
    rate: Fraction | int = 25,
    background: Background = "texture",
    audio: bool | str = False,
    codec: str | None = None,
    pix_fmt: str = "yuv420p",
    rotation: int = 0,
    flip: bool = False,
    vfr: bool = False,
    lengths: Sequence[Fraction] | None = None,
    full_range: bool = False,
    color: Color | None = None,
    tagged: bool = True,
    sample_aspect: Fraction | int = 1,
    start: Fraction | float = 0,
    interlaced: bool = False,
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
) -> GroundTruth:
    """Write a clip to ``path``, whose suffix selects the container, and return its exact content.

    ``width``, ``height``: the upright size. ``audio``: True for the container's default codec, or the name of a codec.
    ``rotation`` (0, 90, 180 or 270 degrees clockwise, applied by players) and ``flip`` (horizontal mirror image)
    require .mp4 or .mov. ``vfr``: every third frame lasts three times as long. ``lengths``: seconds that each frame
    lasts, in place of ``frames``. A ``pix_fmt`` with alpha stores the exact alpha. ``color``: replaces the tags, which
    are BT.709 and ``full_range``; ``tagged``: the file has them. ``start``: seconds added to all timestamps.
    ``options``, ``container_options``: FFmpeg's, for the encoder and the muxer.
    """
    suffix = path.suffix.lower()
    times, seconds = _timing(lengths or _lengths(frames, Fraction(rate), vfr=vfr))
    audio_codec = audio if isinstance(audio, str) else _AUDIO_CODECS.get(suffix, "aac") if audio else ""
    onset = round(float(seconds) / 2, 3) if audio_codec else None
    truth = GroundTruth(path, width, height, Fraction(rate), background, times, seconds, onset)
    video_codec = codec or _VIDEO_CODECS.get(suffix, "libx264")
    spec = _ClipSpec(
        truth=truth,
        codec=video_codec,
        pix_fmt=pix_fmt,
        color=color or _default_color(pix_fmt, full_range=full_range),
        tagged=tagged,
        options={
            **_FAST_OPTIONS.get(video_codec, {}),
            **({"flags": "+ildct+ilme"} if interlaced else {}),
            **(options or {}),
        },
        start=Fraction(start),
        sample_aspect=Fraction(sample_aspect),
        rotation=rotation,
        flip=flip,
        audio_codec=audio_codec,
        container_options=container_options or {},
    )
    _write(spec)
    if rotation or flip:
        _patch_matrix(path, rotation, flip=flip)
    return truth


def make_lasting(path: Path, *, seconds: int) -> Path:
    """Make an MP4 of one frame that lasts ``seconds``, while all headers of the file declare 0.04 s."""
    make_clip(path, frames=1, background="green")
    data = bytearray(path.read_bytes())
    mdhd, stts = data.index(b"mdhd"), data.index(b"stts")
    ticks = 10_000  # a second
    data[mdhd + 16 : mdhd + 24] = struct.pack(">II", ticks, ticks // 25)
    data[stts + 16 : stts + 20] = struct.pack(">I", seconds * ticks)
    path.write_bytes(data)
    return path


def make_understated(path: Path, *, frames: int, background: Background = "texture") -> GroundTruth:
    """Make an MKV at 25 frames a second whose header declares a tenth of its real duration."""
    truth = make_clip(path, frames=frames, codec="libx264", background=background)
    data = path.read_bytes()
    actual, declared = (f"00:00:{float(seconds):012.9f}".encode() for seconds in (truth.seconds, truth.seconds / 10))
    assert data.count(actual) == 1
    path.write_bytes(data.replace(actual, declared))
    return truth


def _default_color(pix_fmt: str, *, full_range: bool) -> Color:
    if not pix_fmt.startswith(("yuv", "gray")):
        return Color(0, 1, 1, full_range=True)  # RGB has no matrix and no headroom
    return Color(1, 1, 1, full_range or pix_fmt.startswith("yuvj"))


def _lengths(frames: int, rate: Fraction, *, vfr: bool) -> list[Fraction]:
    return [(3 if vfr and i % 3 == 2 else 1) / rate for i in range(frames)]


def _timing(lengths: Sequence[Fraction]) -> tuple[tuple[Fraction, ...], Fraction]:
    times = [sum(lengths[:i], Fraction(0)) for i in range(len(lengths))]
    return tuple(times), sum(lengths, Fraction(0))


def _write(spec: _ClipSpec) -> None:
    with av.open(str(spec.truth.path), "w", container_options=dict(spec.container_options)) as container:
        video = cast(VideoStream, container.add_stream(spec.codec, spec.truth.rate, dict(spec.options)))
        _describe(video, spec)
        audio_stream = None
        if spec.audio_codec:
            audio_stream = cast(AudioStream, container.add_stream(spec.audio_codec, AUDIO_RATE, layout="mono"))
        for frame in _frames(spec):
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if audio_stream is not None:
            for samples in _samples(spec):
                container.mux(audio_stream.encode(samples))
            container.mux(audio_stream.encode(None))


def _describe(video: VideoStream, spec: _ClipSpec) -> None:
    sideways = spec.rotation in (90, 270)
    width, height = spec.truth.width, spec.truth.height
    context = video.codec_context
    context.width, context.height = (height, width) if sideways else (width, height)
    context.pix_fmt = spec.pix_fmt
    context.time_base = 1 / spec.truth.rate if spec.codec == "mpeg4" else Fraction(1, _TICKS)
    context.sample_aspect_ratio = spec.sample_aspect
    context.thread_count = 1
    context.flags |= av.codec.context.Flags.frame_duration  # without it the last frame's duration is lost
    if spec.codec != "gif" and spec.tagged:
        context.color_range = 2 if spec.color.full_range else 1
        context.colorspace = spec.color.matrix
        context.color_primaries, context.color_trc = spec.color.primaries, spec.color.transfer


def _frames(spec: _ClipSpec) -> Iterator[av.VideoFrame]:
    truth = spec.truth
    base = 1 / truth.rate if spec.codec == "mpeg4" else Fraction(1, _TICKS)
    reformatter = VideoReformatter()
    ends = (*truth.times[1:], truth.seconds)
    for index, (time, end) in enumerate(zip(truth.times, ends, strict=True)):
        frame = _encodable(_stored(spec, index), spec, reformatter)
        frame.pts, frame.time_base = round((time + spec.start) / base), base
        frame.duration = round((end - time) / base)
        yield frame


def _stored(spec: _ClipSpec, index: int) -> Picture:
    """The picture as stored in the file, RGB or RGBA, before a player rotates or mirrors it."""
    truth = spec.truth
    picture = truth.picture(index)
    if spec.pix_fmt.startswith(("yuva", "rgba", "argb", "bgra", "gbrap", "rgb32", "ya")):
        picture = np.dstack([picture, truth.alpha(index)])
    if spec.flip:
        picture = picture[:, ::-1]
    return np.ascontiguousarray(np.rot90(picture, spec.rotation // 90))


def _encodable(picture: Picture, spec: _ClipSpec, reformatter: VideoReformatter) -> av.VideoFrame:
    frame = av.VideoFrame.from_ndarray(picture, format="rgba" if picture.shape[2] == 4 else "rgb24")
    if not spec.pix_fmt.startswith(("yuv", "gray")):
        return reformatter.reformat(frame, format=spec.pix_fmt)
    result = reformatter.reformat(
        frame,
        format=spec.pix_fmt,
        dst_colorspace=_colorspace(spec.color.matrix),
        dst_color_range=2 if spec.color.full_range else 1,
    )
    result.colorspace, result.color_primaries = spec.color.matrix, spec.color.primaries
    result.color_trc, result.color_range = spec.color.transfer, 2 if spec.color.full_range else 1
    if not spec.tagged:
        result.colorspace = result.color_primaries = result.color_trc = 2
        result.color_range = 0
    return result


def _colorspace(matrix: int) -> int:
    return int(av.video.reformatter.Colorspace[_COLORSPACES.get(matrix, "ITU601")])


def _samples(spec: _ClipSpec) -> Iterator[av.AudioFrame]:
    """Silence, then a 1 kHz tone from the onset to the end of the picture, in frames of 20 ms."""
    onset, seconds = spec.truth.onset or 0.0, float(spec.truth.seconds)
    frame_size = AUDIO_RATE // 50
    for first in range(0, math.floor(seconds * AUDIO_RATE), frame_size):
        time = (first + np.arange(frame_size)) / AUDIO_RATE
        wave = np.where(time >= onset, 0.5 * np.sin(2 * np.pi * 1000 * time), 0)
        frame = av.AudioFrame.from_ndarray((wave * 32767).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.time_base = AUDIO_RATE, Fraction(1, AUDIO_RATE)
        frame.pts = first + round(spec.start * AUDIO_RATE)
        yield frame


def _patch_matrix(path: Path, rotation: int, *, flip: bool) -> None:
    """Set the display matrix of the first track header (ISO/IEC 14496-12, 8.3.2); PyAV cannot."""
    data = bytearray(path.read_bytes())
    offset = data.index(b"tkhd") + 4 + 40
    a, b, c, d = _MATRICES[rotation]
    if flip:
        a, c = -a, -c  # the player rotates first, then mirrors
    values = (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    data[offset : offset + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in values)
    path.write_bytes(data)


def _texture(width: int, height: int, *, seed: int) -> Floats:
    """Smooth color clouds with fine grain, deterministic: float32 (H, W, 3), 0 to 255."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / height
    waves = [
        np.sin(x * fx + y * fy + phase)
        for fx, fy, phase in random.uniform((-18, -18, 0), (18, 18, 6.3), (9, 3)).astype(np.float32)
    ]
    clouds = np.stack([waves[i] + waves[i + 3] + waves[i + 6] for i in range(3)], axis=-1) * 22 + 110
    return np.clip(clouds + random.normal(0, 4, clouds.shape), 0, 255).astype(np.float32)


def _figure(width: int, height: int, time: float) -> Floats:
    """Coverage, 0 to 1 (H, W), of head, neck, shoulders and an arm, with a soft edge 1/40 of the height wide."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = (y + np.float32(0.5)) / height, (x + np.float32(0.5) - width / 2) / height
    sway = 0.12 * math.sin(2.1 * time)
    hand = (0.30 + sway + 0.1 * math.sin(5 * time), 0.28 + 0.1 * math.cos(5 * time))
    distance = np.minimum.reduce(
        [
            np.hypot(x - sway, (y - 0.27) / 1.2) - 0.12,
            _segment(x, y, (sway, 0.3), (sway, 0.5)) - 0.06,
            np.hypot((x - sway) / 1.25, np.maximum(0.62 - y, 0)) - 0.18,
            _segment(x, y, (sway + 0.15, 0.55), hand) - 0.04,
        ]
    )
    return cast(Floats, np.clip(0.5 - distance * 40, 0, 1).astype(np.float32))


def _segment(x: Floats, y: Floats, start: tuple[float, float], end: tuple[float, float]) -> Floats:
    """Distance of every pixel to the line from ``start`` to ``end``."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    return cast(Floats, np.hypot(x - start[0] - along * dx, y - start[1] - along * dy))
