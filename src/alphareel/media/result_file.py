"""What every result shares: a hidden file beside its place, its frames counted, and an end in a name or in nothing."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Protocol

import av.error

from alphareel.domain.errors import InvalidRequest
from alphareel.frame import Frame, Plane
from alphareel.media.ffmpeg_errors import writing
from alphareel.media.part import Part
from alphareel.media.samples import Samples
from alphareel.media.sound import Sounds
from alphareel.media.verify import LOSSY, Expectation, Found
from alphareel.media.write import Target

ROUNDING = 0.002  # seconds; WebM, WebP and APNG count in thousandths


class Encoding(Protocol):
    """How frames become the bytes of one format, which is all that differs between results.

    Errors of FFmpeg and of the system may pass: the sink makes them ours.
    """

    @property
    def sound(self) -> Sounds | None:
        """The source's sound that goes along, if any does."""

    def add(self, frame: Frame, alpha: Plane | None, duration: int) -> None:
        """Encode the next frame, which lasts ``duration`` ticks. Its arrays may be kept a while."""

    def end(self, tick: int) -> None:
        """Write what is left and close; the last frame ends at ``tick``."""

    def drop(self) -> None:
        """Close a file that nobody wants; safe after ``end``, and after a failure in the middle."""


@dataclass(frozen=True)
class Proof:
    """What a result can be held to when it is opened again.

    ``inspect``: tells what the finished file holds. ``loose_frames``: by how many frames its length may be told
    differently. ``shortest``: seconds that a frame lasts at least; those that come sooner are dropped.
    ``longest``: seconds that a frame can last at most in this format, None for any number.
    ``alpha_error``: mean levels of 255 by which alpha may be off. ``one_bit_alpha``: alpha is kept as all or nothing.
    ``storeys``: pictures that stand above each other in each frame.
    """

    inspect: Callable[[Path, tuple[Fraction, ...]], Found]
    loose_frames: int = 0
    shortest: Fraction = Fraction(0)
    longest: Fraction | None = None
    alpha_error: float = LOSSY
    one_bit_alpha: bool = False
    storeys: int = 1


class ResultFile:
    """A Sink over an encoding, which ``begin`` opens for the target at a path."""

    def __init__(self, target: Target, begin: Callable[[Target, Path], Encoding], proof: Proof) -> None:
        self._target = target
        self._proof = proof
        self._samples = Samples(one_bit=proof.one_bit_alpha)
        self._frames = 0
        self._end = 0
        self._last = Fraction(0)
        clip = target.clip
        if clip.frames and target.seconds is None and target.moment is None:
            self._check_length(Fraction(clip.seconds) / clip.frames)  # one of them lasts as long as the mean
        self._part = Part(target.path, overwrite=target.overwrite)
        try:
            with writing(target.path):
                self._encoding = begin(target, self._part.path)
        except BaseException:
            self._part.discard()
            raise

    @property
    def path(self) -> Path:
        return self._part.path

    @property
    def warnings(self) -> tuple[str, ...]:
        return self._encoding.sound.warnings if self._encoding.sound else ()

    def write(self, frame: Frame, alpha: Plane | None) -> None:
        target = self._target
        assert (frame.width, frame.height) == (target.width, target.height), "frames fit the target"
        assert (alpha is not None) == target.has_alpha, "alpha comes with every frame or with none"
        base, shortest = target.clip.time_base, self._proof.shortest
        length = frame.duration or max(1, round(1 / target.clip.rate / base))
        if self._frames and frame.pts * base - self._last < shortest:
            self._end = max(self._end, frame.pts + length)
            return
        if self._frames:
            self._check_length(frame.pts * base - self._last)
        self._check_length(length * base)
        self._last = frame.pts * base
        duration = max(length, ceil(shortest / base))
        self._end = frame.pts + duration
        with writing(target.path):
            self._encoding.add(frame, alpha, duration)
        self._samples.offer(self._frames, self._last, alpha)
        self._frames += 1

    def _check_length(self, seconds: Fraction) -> None:
        longest = self._proof.longest
        if longest is not None and seconds > longest:
            raise InvalidRequest(
                f"A frame of the video lasts {float(seconds):.0f} seconds; this format can hold {float(longest):.0f}.",
                hint="Choose another output format, or shorten the still part of the video.",
            )

    def finish(self) -> Expectation:
        target, proof = self._target, self._proof
        with writing(target.path):
            self._encoding.end(self._end)
        sound = self._encoding.sound
        return Expectation(
            frames=self._frames,
            seconds=float(self._end * target.clip.time_base),
            tick=float(proof.loose_frames / target.clip.rate) + ROUNDING,
            width=target.width,
            height=target.height * proof.storeys,
            has_alpha=target.has_alpha,
            has_audio=bool(sound and sound.packets),
            samples=self._samples.kept,
            inspect=proof.inspect,
            alpha_error=proof.alpha_error,
        )

    def secure(self) -> None:
        self._part.secure()

    def publish(self) -> None:
        self._part.publish()

    def abort(self) -> None:
        # a full disk refuses what is still in a buffer
        with suppress(av.error.FFmpegError, OSError):
            self._encoding.drop()
        self._part.discard()
