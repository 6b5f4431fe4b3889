"""Estimates a job's cost, duration and output size from the source, the prices and past jobs."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from alphareel.domain.options import Options, Tier
from alphareel.media.format import format_named
from alphareel.service.billing.credits import PriceList, billed_seconds, cost
from alphareel.service.jobs.throughput import FULL_HD, Basis, CompletedRun, Work, fit

MAX_RUNS = 200
"""Number of recent completed jobs that estimates are based on."""

# Measured on two cores; used until this installation has completed jobs. Pixels of all frames.
_TYPICAL_PIXELS_PER_SECOND: dict[Tier, float] = {"original": 15e6, "light": 15e6, "human": 15e6, "pro": 3e6}
_NO_LENGTH = "The length of the video is not known before it is fetched: upload it, or give source.seconds."
_NO_SIZE = "The size of the picture is not known: upload the video, or give source.width and source.height."
_GUESSED_RATE = "The frame rate is not known; 30 frames a second are assumed."
_DEFAULT_RATE = 30.0


@dataclass(frozen=True)
class SourceFacts:
    """Facts of the source; None where unknown. ``rate``: frames per second."""

    seconds: float | None = None
    width: int | None = None
    height: int | None = None
    rate: float | None = None


@dataclass(frozen=True)
class Speed:
    """Pixels per second at 1920x1080, and where the figure comes from."""

    pixels_per_second: float
    basis: Basis


@dataclass(frozen=True)
class Estimate:
    """None for a value that cannot be estimated."""

    #: Hundredths.
    credits: int | None
    pricing_version: str
    #: Length that is processed.
    seconds: float | None
    frames: int | None
    #: Processing time, without the wait in the queue.
    work_seconds: float | None
    output_bytes: int | None
    speed_basis: Basis
    size_basis: Basis
    #: What was assumed, and why values are missing.
    notes: tuple[str, ...]


def estimate(options: Options, facts: SourceFacts, *, prices: PriceList, runs: Sequence[CompletedRun]) -> Estimate:
    """Estimate a job with these options for such a source."""
    seconds = facts.seconds and billed_seconds(options, facts.seconds)
    rate = facts.rate or _DEFAULT_RATE
    frames = None if seconds is None else max(1, round(seconds * rate))
    pixels = facts.width * facts.height if facts.width and facts.height else None
    work = None if frames is None or pixels is None else Work(frames, pixels)
    pace = fit(
        _similar_runs(options.model, options.output_format, runs), _typical_frame_seconds(options.model), near=pixels
    )
    bytes_per_pixel, size_basis = _bytes_per_pixel(options, runs)
    output_pixels = (
        None
        if work is None
        else (1 if format_named(options.output_format).still else work.frames) * _canvas(options, facts)
    )
    return Estimate(
        credits=None if seconds is None else cost(seconds, prices.per_minute[options.model]),
        pricing_version=prices.version,
        seconds=seconds,
        frames=frames,
        work_seconds=None if work is None else round(pace.seconds(work), 1),
        output_bytes=None if output_pixels is None else round(output_pixels * bytes_per_pixel),
        speed_basis=pace.basis,
        size_basis=size_basis,
        notes=_notes(facts),
    )


def _canvas(options: Options, facts: SourceFacts) -> int:
    """Pixels of one frame of the result."""
    canvas = options.composition
    width = (canvas.width if canvas else None) or facts.width or 0
    height = (canvas.height if canvas else None) or facts.height or 0
    return width * height


def speed(tier: Tier, runs: Sequence[CompletedRun]) -> Speed:
    """The speed of a tier, as ``GET /v1/models`` reports it."""
    pace = fit(_similar_runs(tier, "webm", runs), _typical_frame_seconds(tier), near=FULL_HD)
    return Speed(FULL_HD / pace.seconds_per_frame(FULL_HD), pace.basis)


def _similar_runs(tier: Tier, output_format: str, runs: Sequence[CompletedRun]) -> Sequence[CompletedRun]:
    """Runs of the tier, only those in the same format if there are any."""
    same = [run for run in runs if run.model == tier and run.work is not None]
    return [run for run in same if run.output_format == output_format] or same


def _typical_frame_seconds(tier: Tier) -> float:
    """Seconds per frame of 1920x1080."""
    return FULL_HD / _TYPICAL_PIXELS_PER_SECOND[tier]


def _bytes_per_pixel(options: Options, runs: Sequence[CompletedRun]) -> tuple[float, Basis]:
    """Bytes per pixel in this format."""
    ratios = [run.bytes / run.made for run in runs if run.output_format == options.output_format and run.made]
    if not ratios:
        return format_named(options.output_format).bytes_per_pixel, "typical"
    return median(ratios), "measured"


def _notes(facts: SourceFacts) -> tuple[str, ...]:
    notes = []
    if facts.seconds is None:
        notes.append(_NO_LENGTH)
    if not facts.width or not facts.height:
        notes.append(_NO_SIZE)
    if facts.rate is None:
        notes.append(_GUESSED_RATE)
    return tuple(notes)
