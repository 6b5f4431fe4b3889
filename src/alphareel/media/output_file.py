"""An output file while it is written: a temporary file beside its target, published once it is verified."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Protocol, TypeAlias

import av.error
import numpy as np

from alphareel.domain.clip import Clip
from alphareel.domain.errors import InvalidRequest
from alphareel.domain.options import Quality
from alphareel.imaging.frame import Frame, Plane
from alphareel.media.atomic_file import AtomicFile
from alphareel.media.audio import AudioTracks
from alphareel.media.ffmpeg_errors import translating_write_errors
from alphareel.media.verify import LOSSY, ExpectedOutput, Inspection

TIMESTAMP_TOLERANCE = 0.002  # seconds; WebM, WebP and APNG round timestamps to milliseconds
# Encoders write a key frame after so many frames. Verification samples these: a seek reaches them directly.
GOP = 60
OPAQUE_THRESHOLD = 128  # alpha from which a pixel is opaque in formats with one bit of alpha
_FIRST_SAMPLES = (0, 12)  # frame numbers
_MAX_LATER_SAMPLES = 4
_DISTINCT = Fraction(1, 1000)  # seconds between frames whose timestamps differ in every container, Matroska's too


@dataclass(frozen=True)
class Target:
    """What to write, and to which path.

    ``clip``: facts of the source (time base, rate, color). ``width``, ``height``: size of the output frames, even.
    ``source``: the file whose audio to include; None for none. ``seconds``: the audio ends here at the latest; None
    for the whole clip. ``moment``: seconds of the frame that a still format keeps; None for the best frame.
    ``overwrite``: replace an existing file at ``path``; otherwise ``OutputFile.publish`` keeps it. ``metadata``:
    tags of the container, in formats that have them. ``attachments``: files inside of a Matroska file, by name.
    """

    path: Path
    clip: Clip
    width: int
    height: int
    has_alpha: bool
    source: Path | None = None
    seconds: float | None = None
    quality: Quality = "balanced"
    moment: float | None = None
    overwrite: bool = False
    metadata: Mapping[str, str] = field(default_factory=dict)
    attachments: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class VerificationProfile:
    """How strictly a finished file of a format is verified, and how to read it back.

    ``inspect``: reads a file's facts and its alpha at the given moments (seconds). ``frame_tolerance``: frames by
    which its duration may differ. ``min_frame_duration``: seconds; a frame that follows sooner is dropped.
    ``max_frame_duration``: the longest frame that the format can store, in seconds; None for no limit.
    ``alpha_error``: allowed mean error of alpha, in levels of 255. ``one_bit_alpha``: pixels are opaque or transparent.
    ``stacked_rows``: number of pictures stacked vertically in each frame.
    """

    inspect: Callable[[Path, tuple[Fraction, ...]], Inspection]
    frame_tolerance: int = 0
    min_frame_duration: Fraction = Fraction(0)
    max_frame_duration: Fraction | None = None
    alpha_error: float = LOSSY
    one_bit_alpha: bool = False
    stacked_rows: int = 1


class FrameEncoder(Protocol):
    """Encodes frames into one file of one format.

    Methods may raise FFmpeg's and the operating system's errors; ``OutputFile`` translates them.
    """

    @property
    def verification(self) -> VerificationProfile:
        """How to verify the finished file."""

    @property
    def audio(self) -> AudioTracks | None:
        """The source's audio tracks, None when the file has none."""

    def encode(self, frame: Frame, alpha: Plane | None, duration: int) -> None:
        """Encode the next frame, which lasts ``duration`` ticks. The encoder may keep references to its arrays."""

    def finish(self, end: int) -> None:
        """Flush and close the file. ``end``: the tick at which the last frame ends."""

    def abort(self) -> None:
        """Close the file without completing it. May follow ``finish`` or any failure."""


EncoderFactory: TypeAlias = Callable[[Target, Path], FrameEncoder]
"""Opens an encoder that writes the target to a path."""


class OutputFile:
    """An output file in progress. It gets its final name only in ``publish``; until then nothing is visible.

    The constructor raises StorageFailed when the file cannot be created.
    """

    def __init__(self, target: Target, encoder: EncoderFactory) -> None:
        self._target = target
        self._frames = 0
        self._end = 0
        self._last = Fraction(0)
        self._file = AtomicFile(target.path, overwrite=target.overwrite)
        try:
            with translating_write_errors(target.path):
                self._encoder = encoder(target, self._file.path)
        except BaseException:
            self._file.discard()
            raise
        self._samples = AlphaSampler(one_bit=self._encoder.verification.one_bit_alpha)
        clip = target.clip
        if clip.frames and target.seconds is None and target.moment is None:
            try:  # some frame lasts at least as long as the mean
                self._check_duration(Fraction(clip.seconds) / clip.frames)
            except InvalidRequest:
                self.abort()
                raise

    @property
    def path(self) -> Path:
        """The temporary path, until ``publish``."""
        return self._file.path

    def expect(self, *, frames: int, seconds: float, has_audio: bool) -> ExpectedOutput:
        """What ``verify`` should find in a file of this target that was made elsewhere; no samples of its alpha."""
        profile = self._encoder.verification
        return expected_output(self._target, profile, frames=frames, seconds=seconds, has_audio=has_audio, samples=())

    @property
    def verification(self) -> VerificationProfile:
        return self._encoder.verification

    @property
    def warnings(self) -> tuple[str, ...]:
        """What could not be included, such as damaged audio. Complete after ``finish``."""
        return self._encoder.audio.warnings if self._encoder.audio else ()

    def write(self, frame: Frame, alpha: Plane | None) -> None:
        """Encode the next frame. ``alpha``: (H, W), required exactly when the target has alpha.

        The encoder may keep references to the arrays. Raises StorageFailed (disk full), OutOfMemory or InternalError;
        call ``abort`` afterwards.
        """
        target = self._target
        assert (frame.width, frame.height) == (target.width, target.height), "the frame has the target's size"
        assert (alpha is not None) == target.has_alpha, "alpha comes with every frame or with none"
        base, min_duration = target.clip.time_base, self._encoder.verification.min_frame_duration
        length = frame.duration or max(1, round(1 / target.clip.rate / base))
        if self._frames and frame.pts * base - self._last < min_duration:
            self._end = max(self._end, frame.pts + length)
            return
        if self._frames:
            self._check_duration(frame.pts * base - self._last)
        self._check_duration(length * base)
        self._last = frame.pts * base
        duration = max(length, ceil(min_duration / base))
        self._end = frame.pts + duration
        with translating_write_errors(target.path):
            self._encoder.encode(frame, alpha, duration)
        self._samples.add(self._frames, self._last, alpha)
        self._frames += 1

    def _check_duration(self, seconds: Fraction) -> None:
        maximum = self._encoder.verification.max_frame_duration
        if maximum is not None and seconds > maximum:
            raise InvalidRequest(
                f"A frame of the video lasts {float(seconds):.0f} seconds; this format can store {float(maximum):.0f}.",
                hint="Choose another output format, or shorten the still part of the video.",
            )

    def finish(self) -> ExpectedOutput:
        """Flush and close the file. Returns what ``verify`` should find in it. Raises like ``write``."""
        target, profile, audio = self._target, self._encoder.verification, self._encoder.audio
        with translating_write_errors(target.path):
            self._encoder.finish(self._end)
        return expected_output(
            target,
            profile,
            frames=self._frames,
            seconds=float(self._end * target.clip.time_base),
            has_audio=bool(audio and audio.packets),
            samples=self._samples.samples,
        )

    def fsync(self) -> None:
        """Flush the finished file to disk. Raises StorageFailed."""
        self._file.fsync()

    def publish(self) -> None:
        """Flush the verified file to disk and rename it to its target.

        Raises StorageFailed, and TargetExists when another file has the name and ``overwrite`` is not set.
        """
        self._file.publish()

    def abort(self) -> None:
        """Delete the temporary file. Does nothing after ``publish`` or a second time."""
        # closing may write buffered data, which fails again on a full disk
        with suppress(av.error.FFmpegError, OSError):
            self._encoder.abort()
        self._file.discard()


def expected_output(
    target: Target,
    profile: VerificationProfile,
    *,
    frames: int,
    seconds: float,
    has_audio: bool,
    samples: tuple[tuple[Fraction, Plane], ...],
) -> ExpectedOutput:
    """What ``verify`` should find in a finished file of ``target``."""
    return ExpectedOutput(
        frames=frames,
        seconds=seconds,
        tolerance=float(profile.frame_tolerance / target.clip.rate) + TIMESTAMP_TOLERANCE,
        width=target.width,
        height=target.height * profile.stacked_rows,
        has_alpha=target.has_alpha,
        has_audio=has_audio,
        samples=samples,
        inspect=profile.inspect,
        alpha_error=profile.alpha_error,
    )


class AlphaSampler:
    """Copies the alpha of a few frames for verification: frames 0 and 12, and at most four later key frames.

    The later samples are spread over the whole clip, whatever its length. A frame so soon after the one before that
    containers may round their timestamps to the same one is no sample: its moment would not find it again.
    """

    def __init__(self, *, one_bit: bool = False) -> None:
        self._one_bit = one_bit
        self._first: list[tuple[Fraction, Plane]] = []
        self._later: list[tuple[Fraction, Plane]] = []
        self._step = GOP
        self._previous: Fraction | None = None

    @property
    def samples(self) -> tuple[tuple[Fraction, Plane], ...]:
        """(moment in seconds, alpha) in order."""
        return (*self._first, *self._later)

    def add(self, index: int, moment: Fraction, alpha: Plane | None) -> None:
        """Copy the alpha of frame ``index``, shown at ``moment`` seconds, if it is a sample."""
        previous, self._previous = self._previous, moment
        if alpha is None or (previous is not None and moment - previous < _DISTINCT):
            return
        if index in _FIRST_SAMPLES:
            self._first.append((moment, self._copy(alpha)))
        elif index % self._step == 0:
            self._later.append((moment, self._copy(alpha)))
            if len(self._later) > _MAX_LATER_SAMPLES:
                self._later = self._later[1::2]
                self._step *= 2

    def _copy(self, alpha: Plane) -> Plane:
        if not self._one_bit:
            return alpha.copy()
        return np.where(alpha >= OPAQUE_THRESHOLD, np.uint8(255), np.uint8(0))
