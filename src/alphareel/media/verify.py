"""Verifies an output file: opens it again and compares what it holds with what was written."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av
import av.error
import cv2
import numpy as np
from av.container import InputContainer

from alphareel.domain.clip import Clip, Limits
from alphareel.domain.errors import AlphareelError, VerificationFailed
from alphareel.imaging.frame import Plane
from alphareel.media.ffmpeg_errors import translating_read_errors
from alphareel.media.frame_converter import FrameConverter
from alphareel.media.probe import Layout, inspect
from alphareel.media.source import Decoder, open_container, packets, video_stream
from alphareel.paths import file_sha256

LOSSY = 6.0  # allowed mean error of alpha after a lossy codec, in levels of 255; lost alpha is far above
UNLIMITED = Limits(max_bytes=0, max_side=0, max_seconds=0, max_frames=0)

Sample = tuple[Fraction, Plane]


@dataclass(frozen=True)
class Inspection:
    """What a file holds. ``alphas``: (H, W) decoded alpha at the requested moments, None where there is none.

    ``is_exact``: the file says when its last frame ends; otherwise ``seconds`` is off by up to a frame.
    """

    frames: int
    seconds: float
    width: int
    height: int
    has_alpha: bool
    has_audio: bool
    alphas: tuple[Plane | None, ...] = ()
    is_exact: bool = True


@dataclass(frozen=True)
class ExpectedOutput:
    """What a finished file should hold.

    ``seconds``: the end of the last frame. ``tolerance``: seconds by which it may differ. ``samples``: (moment in
    seconds, alpha) of a few frames, none for an opaque output. ``inspect``: reads the file, given the moments of the
    samples. ``alpha_error``: allowed mean error of a sample, in levels of 255.
    """

    frames: int
    seconds: float
    tolerance: float
    width: int
    height: int
    has_alpha: bool
    has_audio: bool
    samples: tuple[Sample, ...]
    inspect: Callable[[Path, tuple[Fraction, ...]], Inspection]
    alpha_error: float = LOSSY


@dataclass(frozen=True)
class Verified:
    """What a verified file holds."""

    frames: int
    seconds: float
    width: int
    height: int
    has_alpha: bool
    has_audio: bool
    bytes: int
    sha256: str


def verify(path: Path, expectation: ExpectedOutput) -> Verified:
    """Compare a file with what it should hold, and hash it. Raises VerificationFailed and OSError."""
    try:
        inspection = expectation.inspect(path, tuple(moment for moment, _ in expectation.samples))
    except AlphareelError as error:
        raise _failed(f"it cannot be opened again ({error.message})") from error
    for problem in _problems(inspection, expectation):
        raise _failed(problem)
    return Verified(
        frames=inspection.frames,
        seconds=inspection.seconds if inspection.is_exact else expectation.seconds,
        width=inspection.width,
        height=inspection.height,
        has_alpha=expectation.has_alpha,
        has_audio=inspection.has_audio,
        bytes=path.stat().st_size,
        sha256=file_sha256(path),
    )


def inspect_video(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    """The facts of a video file, and its alpha at ``moments`` (seconds). Raises like ``probe``."""
    return _inspect(path, moments, lambda luma, alpha, layout: alpha)  # noqa: ARG005 - the stream has its own


def inspect_luma(path: Path, moments: tuple[Fraction, ...], to_alpha: "LumaToAlpha") -> Inspection:
    """Like ``inspect_video``, for a video that stores alpha as luma. ``to_alpha`` converts it back."""
    inspection = _inspect(path, moments, lambda luma, _, layout: to_alpha(luma, full_range=layout.color.full_range))
    return replace(inspection, has_alpha=True)


class LumaToAlpha(Protocol):
    def __call__(self, luma: Plane, *, full_range: bool) -> Plane:
        """Alpha (H, W) of a frame's luma."""


_ReadAlpha = Callable[[Plane, Plane | None, Layout], Plane | None]


def _inspect(path: Path, moments: tuple[Fraction, ...], read_alpha: _ReadAlpha) -> Inspection:
    clip, layout = inspect(path, UNLIMITED, min_side=1)  # the quality web scales long, thin pictures down
    with open_container(path, UNLIMITED) as container, translating_read_errors(path):
        summary = _read_packets(container, path)
    return Inspection(
        frames=summary.frames,
        seconds=_seconds(summary, clip),
        width=clip.width,
        height=clip.height,
        has_alpha=clip.has_alpha,
        has_audio=summary.audio_packets > 0,
        alphas=tuple(_alpha_at(path, layout, clip.start + moment, read_alpha) for moment in moments),
        is_exact=not summary.is_reordered,
    )


@dataclass(frozen=True)
class _PacketSummary:
    """The packets of a file that have data.

    ``last``, ``end``: seconds on the file's clock at which the last frame starts and ends; ``end`` is 0 when no packet
    has a duration. ``is_reordered``: frames are not shown in decoding order.
    """

    frames: int
    audio_packets: int
    last: Fraction
    end: Fraction
    is_reordered: bool


def _seconds(summary: _PacketSummary, clip: Clip) -> float:
    """Duration of the video.

    When frames are reordered, packets have durations in decoding order, and so does the container's sum of them, which
    may end before the last frame is shown. Only then is the length of the last frame taken from the frame rate, which
    says little about it where the rate varies.
    """
    if summary.is_reordered:
        shown = float(summary.last - clip.start)
        return clip.seconds if clip.seconds > shown else shown + float(1 / clip.rate)
    return float(summary.end - clip.start) if summary.end else clip.seconds


def _read_packets(container: InputContainer, path: Path) -> _PacketSummary:
    frames, audio_packets, last, end, is_reordered = 0, 0, Fraction(0), Fraction(0), False
    for packet in packets(container, video_stream(container, path), *container.streams.audio):
        if not packet.size:
            continue
        if packet.stream.type == "audio":
            audio_packets += 1
            continue
        frames += 1
        is_reordered = is_reordered or (packet.dts is not None and packet.dts != packet.pts)
        start = (packet.pts or 0) * Fraction(packet.time_base)
        last = max(last, start)
        if packet.duration:
            end = max(end, start + packet.duration * Fraction(packet.time_base))
    return _PacketSummary(frames, audio_packets, last, end, is_reordered)


def _alpha_at(path: Path, layout: Layout, moment: Fraction, read_alpha: _ReadAlpha) -> Plane | None:
    with open_container(path, UNLIMITED) as container, translating_read_errors(path):
        stream = video_stream(container, path)
        tick = Fraction(stream.time_base or 1)
        with suppress(av.error.FFmpegError):  # GIF has no index; it is decoded from the start
            container.seek(int(moment / tick), stream=stream)
        converter = FrameConverter(size=layout.size, color=layout.color, orientation=layout.orientation)
        frame = _nearest(Decoder(container, stream, UNLIMITED).frames(), moment / tick)
        if frame is None:
            return None
        _, (luma, _, _), coded = converter.planes(frame)
        alpha = read_alpha(luma, coded, layout)
        return None if alpha is None else alpha.copy()


def _nearest(frames: Iterator[av.VideoFrame], tick: Fraction) -> av.VideoFrame | None:
    """The frame nearest to ``tick``, of frames in order. Containers round timestamps to their own time base."""
    nearest: av.VideoFrame | None = None
    min_distance = Fraction(0)
    for frame in frames:
        if frame.pts is None:
            continue
        distance = abs(frame.pts - tick)
        if nearest is not None and distance > min_distance:
            break
        if nearest is None or distance < min_distance:  # of frames with the same rounded timestamp the first
            nearest, min_distance = frame, distance
    return nearest


def _problems(actual: Inspection, expected: ExpectedOutput) -> list[str]:
    """What differs, as clauses, the most important first."""
    problems = []
    if actual.frames != expected.frames:
        problems.append(f"it holds {actual.frames} frames instead of {expected.frames}")
    if (actual.width, actual.height) != (expected.width, expected.height):
        problems.append(f"it has {actual.width}x{actual.height} pixels instead of {expected.width}x{expected.height}")
    if abs(actual.seconds - expected.seconds) > expected.tolerance:
        problems.append(f"it lasts {actual.seconds:.3f} s instead of {expected.seconds:.3f} s")
    if expected.has_alpha and not actual.has_alpha:
        problems.append("it carries no alpha")
    if expected.has_audio and not actual.has_audio:
        problems.append("its audio is missing")
    for (moment, sample), alpha in zip(expected.samples, actual.alphas, strict=True):
        error = 255.0 if alpha is None or alpha.shape != sample.shape else _mean_difference(alpha, sample)
        if error > expected.alpha_error:
            problems.append(f"its alpha at {float(moment):.2f} s is off by {error:.2g} of 255 levels")
    return problems


def _mean_difference(a: Plane, b: Plane) -> float:
    return float(np.mean(np.asarray(cv2.absdiff(a, b))))


def _failed(problem: str) -> VerificationFailed:
    return VerificationFailed(f"The written file failed verification: {problem}.", hint="Run it again.")
