"""Reopens what was written and compares it with what was meant: a result is believed only after that."""

import hashlib
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
from alphareel.media.frame_converter import Pictures
from alphareel.media.probe import Layout, inspect
from alphareel.media.source import Decoder, opened, packets, video_stream

LOSSY = 6.0  # mean error in levels (of 255) that a lossy codec may leave in alpha; a lost one is far above
UNLIMITED = Limits(max_bytes=0, max_side=0, max_seconds=0, max_frames=0)

Sample = tuple[Fraction, Plane]


@dataclass(frozen=True)
class Inspection:
    """What a file holds, as its format's inspector saw it. ``alphas``: decoded alpha at the moments asked for."""

    frames: int
    seconds: float
    width: int
    height: int
    has_alpha: bool
    has_audio: bool
    alphas: tuple[Plane | None, ...] = ()


@dataclass(frozen=True)
class ExpectedOutput:
    """What a finished sink claims to have written.

    ``seconds``: where the last frame ends; ``tick``: how far off that may be. ``samples``: (moment in seconds, alpha)
    of a few frames; empty when the result is opaque. ``inspect``: opens the file and says what is in it, given the
    moments of the samples. ``alpha_error``: mean levels of 255 by which each may be off.
    """

    frames: int
    seconds: float
    tick: float
    width: int
    height: int
    has_alpha: bool
    has_audio: bool
    samples: tuple[Sample, ...]
    inspect: Callable[[Path, tuple[Fraction, ...]], Inspection]
    alpha_error: float = LOSSY


@dataclass(frozen=True)
class Verified:
    """What the file really holds, found by opening it again."""

    frames: int
    seconds: float
    width: int
    height: int
    has_alpha: bool
    has_audio: bool
    bytes: int
    sha256: str


def verify(path: Path, expectation: ExpectedOutput) -> Verified:
    """Check the written file against what was meant; hashes it on the way. Raises VerificationFailed."""
    try:
        found = expectation.inspect(path, tuple(moment for moment, _ in expectation.samples))
    except AlphareelError as error:
        raise _failed(f"the result cannot be opened again ({error.message})") from error
    for problem in _problems(found, expectation):
        raise _failed(problem)
    return Verified(
        frames=found.frames,
        seconds=found.seconds,
        width=found.width,
        height=found.height,
        has_alpha=expectation.has_alpha,
        has_audio=found.has_audio,
        bytes=path.stat().st_size,
        sha256=sha256_of(path),
    )


def inspect_video(path: Path, moments: tuple[Fraction, ...]) -> Inspection:
    """What a video container holds; decodes only the frames at ``moments`` (seconds). Raises BadVideo and its kin."""
    return _inspect(path, moments, lambda luma, alpha, layout: alpha)  # noqa: ARG005 - the stream has its own


def inspect_luma(path: Path, moments: tuple[Fraction, ...], alpha_of: "LumaReader") -> Inspection:
    """Like ``inspect_video`` for an opaque container whose luma holds the alpha, which ``alpha_of`` takes out."""
    found = _inspect(path, moments, lambda luma, _, layout: alpha_of(luma, full_range=layout.color.full_range))
    return replace(found, has_alpha=True)


class LumaReader(Protocol):
    """Takes alpha out of a picture's luma."""

    def __call__(self, luma: Plane, *, full_range: bool) -> Plane: ...


_AlphaReader = Callable[[Plane, Plane | None, Layout], Plane | None]


def _inspect(path: Path, moments: tuple[Fraction, ...], alpha_of: _AlphaReader) -> Inspection:
    clip, layout = inspect(path, UNLIMITED)
    with opened(path, UNLIMITED) as container, translating_read_errors(path):
        held = _packets(container, path)
    return Inspection(
        frames=held.frames,
        seconds=_seconds(held, clip),
        width=clip.width,
        height=clip.height,
        has_alpha=clip.has_alpha,
        has_audio=held.sounds > 0,
        alphas=tuple(_alpha_at(path, layout, clip.start + moment, alpha_of) for moment in moments),
    )


@dataclass(frozen=True)
class _Packets:
    """Packets with data in them; ``end``: seconds on the file's clock at which the last picture ends, 0 if unsaid.

    ``last``: when it begins. ``is_reordered``: pictures are not shown as they are decoded.
    """

    frames: int
    sounds: int
    last: Fraction
    end: Fraction
    is_reordered: bool


def _seconds(held: _Packets, clip: Clip) -> float:
    """How long the pictures last.

    Where they are reordered, packets tell the lengths of decoding, and so does the container's sum of them: it may
    end before the last picture has been shown.
    """
    if held.is_reordered:
        return max(clip.seconds, float(held.last - clip.start + 1 / clip.rate))
    return float(held.end - clip.start) if held.end else clip.seconds


def _packets(container: InputContainer, path: Path) -> _Packets:
    frames, sounds, last, end, is_reordered = 0, 0, Fraction(0), Fraction(0), False
    for packet in packets(container, video_stream(container, path), *container.streams.audio):
        if not packet.size:
            continue
        if packet.stream.type == "audio":
            sounds += 1
            continue
        frames += 1
        is_reordered = is_reordered or (packet.dts is not None and packet.dts != packet.pts)
        shown = (packet.pts or 0) * Fraction(packet.time_base)
        last = max(last, shown)
        if packet.duration:
            end = max(end, shown + packet.duration * Fraction(packet.time_base))
    return _Packets(frames, sounds, last, end, is_reordered)


def _alpha_at(path: Path, layout: Layout, moment: Fraction, alpha_of: _AlphaReader) -> Plane | None:
    with opened(path, UNLIMITED) as container, translating_read_errors(path):
        stream = video_stream(container, path)
        tick = Fraction(stream.time_base or 1)
        with suppress(av.error.FFmpegError):  # a GIF has no index: it is decoded from its start
            container.seek(int(moment / tick), stream=stream)
        pictures = Pictures(size=layout.size, color=layout.color, turn=layout.turn)
        frame = _nearest(Decoder(container, stream, UNLIMITED).frames(), moment / tick)
        if frame is None:
            return None
        _, (luma, _, _), coded = pictures.planes(frame)
        alpha = alpha_of(luma, coded, layout)
        return None if alpha is None else alpha.copy()


def _nearest(frames: Iterator[av.VideoFrame], tick: Fraction) -> av.VideoFrame | None:
    """The frame whose time is nearest to ``tick``, of frames in order; containers round times to ticks of their own."""
    found: av.VideoFrame | None = None
    least = Fraction(0)
    for frame in frames:
        if frame.pts is None:
            continue
        distance = abs(frame.pts - tick)
        if found is not None and distance >= least:
            break
        found, least = frame, distance
    return found


def _problems(found: Inspection, meant: ExpectedOutput) -> list[str]:
    """Sentences on what differs, the worst first."""
    problems = []
    if found.frames != meant.frames:
        problems.append(f"it holds {found.frames} frames instead of {meant.frames}")
    if (found.width, found.height) != (meant.width, meant.height):
        problems.append(f"it has {found.width}x{found.height} pixels instead of {meant.width}x{meant.height}")
    if abs(found.seconds - meant.seconds) > meant.tick:
        problems.append(f"it lasts {found.seconds:.3f} s instead of {meant.seconds:.3f} s")
    if meant.has_alpha and not found.has_alpha:
        problems.append("it carries no alpha")
    if meant.has_audio and not found.has_audio:
        problems.append("its sound is missing")
    for (moment, wanted), got in zip(meant.samples, found.alphas, strict=True):
        error = 255.0 if got is None or got.shape != wanted.shape else _difference(got, wanted)
        if error > meant.alpha_error:
            problems.append(f"its alpha at {float(moment):.2f} s is off by {error:.2g} of 255 levels")
    return problems


def _difference(got: Plane, wanted: Plane) -> float:
    return float(np.mean(np.asarray(cv2.absdiff(got, wanted))))


def _failed(problem: str) -> VerificationFailed:
    return VerificationFailed(f"The result was written but is not right: {problem}.", hint="Run it again.")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
