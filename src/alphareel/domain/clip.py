"""Clips, their limits, and the progress and results of a run."""

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal, TypeAlias

AlphaKind: TypeAlias = Literal["none", "straight", "white_is_opaque"]


@dataclass(frozen=True)
class Color:
    """Color tags in the numbers of ITU-T H.273, which FFmpeg uses too; 2 means unspecified."""

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False

    def resolved_matrix(self, height: int) -> int:
        """The tagged matrix; for untagged pictures 1 (BT.709) from 720 lines on, else 6 (BT.601)."""
        if self.matrix not in (0, 2):
            return self.matrix
        return 1 if height >= 720 else 6


@dataclass(frozen=True)
class AudioFacts:
    codec: str
    rate: int
    channels: int


@dataclass(frozen=True)
class Clip:
    """Facts of a video. Its frames are upright, even-sized 8-bit 4:2:0 pictures with square pixels.

    ``width``, ``height``: size of the frames, after rotation, cropping of an odd row or column, and scaling to square
    pixels. ``rotation`` (degrees clockwise) and ``sample_aspect`` (pixel width divided by height) describe the stored
    picture. ``time_base``: seconds per tick; timestamps count ticks from zero. ``frames``: an estimate, 0 when unknown.
    ``seconds``: 0 when unknown. ``start``: seconds on the source's clock at which the first frame is shown; video and
    audio timestamps are relative to it. ``audio``: the default track, one of ``audio_tracks``. ``cropped``: an odd row
    or column of the stored picture is missing.
    """

    width: int
    height: int
    time_base: Fraction
    rate: Fraction
    seconds: float
    frames: int
    codec: str
    container: str
    pixel_format: str
    rotation: int = 0
    sample_aspect: Fraction = Fraction(1)
    color: Color = field(default_factory=Color)
    hdr: bool = False
    interlaced: bool = False
    has_alpha: bool = False
    audio: AudioFacts | None = None
    audio_tracks: int = 0
    bytes: int = 0
    start: Fraction = Fraction(0)
    cropped: bool = False


@dataclass(frozen=True)
class Limits:
    """Maximums for a clip; 0 disables a limit. ``max_side``: of width and height, pixels.

    ``max_frames`` applies whatever the header says.
    """

    max_bytes: int = 500 * 1024 * 1024
    max_side: int = 4096
    max_seconds: float = 4 * 3600.0
    max_frames: int = 4 * 3600 * 120


@dataclass(frozen=True)
class Chunk:
    """A part of a clip that is processed separately: from tick ``start``, a key frame, to ``end``.

    ``end``: None for the clip's end. ``frames``: number of frames in it according to the container.
    """

    start: int
    end: int | None
    frames: int


@dataclass(frozen=True)
class EngineFacts:
    """The engine that made a matte, in enough detail to reproduce the result, and the terms that it comes under.

    ``license``: of the weights. ``training_data``: what they were trained on, as far as known. ``author_statement``:
    what the authors say about using them.
    """

    name: str
    version: str
    weights_sha256: str | None = None
    license: str = ""
    code_license: str = ""
    training_data: str | None = None
    author_statement: str | None = None


@dataclass(frozen=True)
class Progress:
    """The progress of a run. ``done`` and ``total`` count frames; ``total`` is 0 while unknown.

    ``share``: from 0 to 1, never decreasing. ``stages``: seconds that each pipeline stage (read, matte, write) was busy
    so far; of several outputs, which are written in parallel, the busiest counts. ``written``: frames written to each
    output, in the order of the outputs. ``results``: the results in the same order, in the last Progress of a run;
    empty before. ``preview``: path of the newest preview picture, if previews were requested.
    """

    done: int
    total: int
    share: float
    seconds: float
    fps: float
    remaining_seconds: float | None
    stages: dict[str, float] = field(default_factory=dict)
    written: tuple[int, ...] = ()
    results: "tuple[Result, ...]" = ()
    preview: str | None = None

    @property
    def result(self) -> "Result | None":
        """The first result; None before the run has finished."""
        return self.results[0] if self.results else None


@dataclass(frozen=True)
class Result:
    """An output file, as verified by opening it again.

    ``alpha``: "straight" (colors are not premultiplied), "white_is_opaque" (a gray picture) or "none".
    ``source_seconds``, ``source_frames``, ``source_pixels``: how much of the source was processed, with the pixels of
    each frame. An output of one frame takes as much as a video: all frames are processed to choose it. ``recipe``: a
    hash of everything but the frames and their mattes that the encoded frames depend on. ``encoded_whole``: why all
    of it was encoded, though the former file of a corrected matte was given; None where groups of that were copied.
    """

    path: str
    format: str
    mime: str
    bytes: int
    sha256: str
    frames: int
    seconds: float
    width: int
    height: int
    has_alpha: bool
    has_audio: bool
    engine: EngineFacts
    alpha: AlphaKind = "none"
    frames_lost: int = 0
    warnings: tuple[str, ...] = ()
    source_seconds: float | None = None
    source_frames: int | None = None
    source_pixels: int | None = None
    recipe: str | None = None
    encoded_whole: str | None = None


@dataclass(frozen=True)
class PreviousOutput:
    """An output of the former revision of a job. ``recipe``, ``frames_lost``: as in its Result."""

    path: Path
    recipe: str | None = None
    frames_lost: int = 0
