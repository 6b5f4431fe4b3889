"""Facts about a clip, the limits we put on clips, and how far a run has come."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal, TypeAlias

AlphaKind: TypeAlias = Literal["none", "straight", "white_is_opaque"]


@dataclass(frozen=True)
class Color:
    """Color tags in the numbers of ITU-T H.273, as FFmpeg uses them; 2 means unspecified."""

    matrix: int = 2
    primaries: int = 2
    transfer: int = 2
    full_range: bool = False

    def resolved_matrix(self, height: int) -> int:
        """The matrix to compute with: 1 (BT.709) for untagged pictures of 720 lines and more, else 6 (BT.601)."""
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
    """A video as the pipeline sees it: upright, even-sized, square pixels, 8-bit 4:2:0, in time-base ticks from zero.

    ``width``/``height`` are what frames have after rotation is baked in, odd sizes are cropped by one pixel and pixels
    are made square; ``rotation`` and ``sample_aspect`` (of the stored picture) say what was undone. ``frames`` is an
    estimate (0 when unknown); ``seconds`` is 0 when the container does not say.
    ``start``: the moment of the first frame, in seconds, on the source's own clock; picture and sound are both
    counted from it. ``audio``: the track that a player would play, one of ``audio_tracks``.
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


@dataclass(frozen=True)
class Limits:
    """What a clip may be at most. ``max_frames`` bounds a lying header; 0 switches a limit off."""

    max_bytes: int = 500 * 1024 * 1024
    max_side: int = 4096
    max_seconds: float = 4 * 3600.0
    max_frames: int = 4 * 3600 * 120


@dataclass(frozen=True)
class Chunk:
    """A stretch of a clip that is made for itself: ticks ``start`` (a key frame) to ``end``, None for the clip's end.

    ``frames``: pictures that the container says are in it.
    """

    start: int
    end: int | None
    frames: int


@dataclass(frozen=True)
class EngineFacts:
    """Which engine made a matte, so that a result can be repeated: file name, version, hash of its weights."""

    name: str
    version: str
    weights_sha256: str | None = None
    license: str = ""


@dataclass(frozen=True)
class Progress:
    """How far a run has come. ``done`` and ``total`` count frames; ``total`` is 0 while unknown.

    ``share`` runs from 0 to 1 and never steps back. ``stages`` maps a stage of the pipeline (read, matte, write) to
    seconds it was busy, summed so far; of several outputs, which are written at once, the busiest counts.
    ``written``: frames that each output has taken, in the order in which they were asked for. ``results``: one for
    each output, in the same order, of the last Progress of a run; empty before. ``preview``: path of the newest
    small picture of a frame, where previews were asked for.
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
        """The first result; None until the run has ended."""
        return self.results[0] if self.results else None


@dataclass(frozen=True)
class Result:
    """What a finished run wrote, as verified by opening it again.

    ``alpha``: "straight", beside colors that are not multiplied by it; "white_is_opaque", as a gray picture; "none".
    ``source_seconds``: how much of the source was processed, which a still takes as much of as a video does, in
    ``source_frames`` of ``source_pixels`` each.
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
