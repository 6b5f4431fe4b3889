"""What every result shares: a hidden file beside its place, its frames counted, and an end in a name or in nothing."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Protocol

import av.error

from alphareel.imaging.frame import Frame, Plane
from alphareel.media.atomic_file import AtomicFile
from alphareel.media.audio import AudioTracks
from alphareel.media.ffmpeg_errors import translating_write_errors
from alphareel.media.format import Target
from alphareel.media.verification_samples import Samples
from alphareel.media.verify import LOSSY, ExpectedOutput, Inspection

ROUNDING = 0.002  # seconds; WebM, WebP and APNG count in thousandths


class FrameEncoder(Protocol):
    """How frames become the bytes of one format, which is all that differs between results.

    Errors of FFmpeg and of the system may pass: the sink makes them ours.
    """

    @property
    def sound(self) -> AudioTracks | None:
        """The source's sound that goes along, if any does."""

    def add(self, frame: Frame, alpha: Plane | None, duration: int) -> None:
        """Encode the next frame, which lasts ``duration`` ticks. Its arrays may be kept a while."""

    def end(self, tick: int) -> None:
        """Write what is left and close; the last frame ends at ``tick``."""

    def drop(self) -> None:
        """Close a file that nobody wants; safe after ``end``, and after a failure in the middle."""


@dataclass(frozen=True)
class VerificationProfile:
    """What a result can be held to when it is opened again.

    ``inspect``: tells what the finished file holds. ``frame_tolerance``: by how many frames its length may be told
    differently. ``shortest``: seconds that a frame lasts at least; those that come sooner are dropped.
    ``alpha_error``: mean levels of 255 by which alpha may be off. ``one_bit_alpha``: alpha is kept as all or nothing.
    ``stacked_rows``: pictures that stand above each other in each frame.
    """

    inspect: Callable[[Path, tuple[Fraction, ...]], Inspection]
    frame_tolerance: int = 0
    shortest: Fraction = Fraction(0)
    alpha_error: float = LOSSY
    one_bit_alpha: bool = False
    stacked_rows: int = 1


class OutputFile:
    """A Sink over an encoding, which ``begin`` opens for the target at a path."""

    def __init__(
        self, target: Target, begin: Callable[[Target, Path], FrameEncoder], proof: VerificationProfile
    ) -> None:
        self._target = target
        self._proof = proof
        self._samples = Samples(one_bit=proof.one_bit_alpha)
        self._frames = 0
        self._end = 0
        self._last = Fraction(0)
        self._part = AtomicFile(target.path, overwrite=target.overwrite)
        try:
            with translating_write_errors(target.path):
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
        self._last = frame.pts * base
        duration = max(length, ceil(shortest / base))
        self._end = frame.pts + duration
        with translating_write_errors(target.path):
            self._encoding.add(frame, alpha, duration)
        self._samples.offer(self._frames, self._last, alpha)
        self._frames += 1

    def finish(self) -> ExpectedOutput:
        target, proof = self._target, self._proof
        with translating_write_errors(target.path):
            self._encoding.end(self._end)
        sound = self._encoding.sound
        return ExpectedOutput(
            frames=self._frames,
            seconds=float(self._end * target.clip.time_base),
            tick=float(proof.frame_tolerance / target.clip.rate) + ROUNDING,
            width=target.width,
            height=target.height * proof.stacked_rows,
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
