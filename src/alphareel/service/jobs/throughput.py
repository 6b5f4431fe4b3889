"""How long a worker takes for a video: time to start, and time for each frame, fitted to completed jobs."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median
from typing import Literal

Basis = Literal["measured", "typical"]

FULL_HD = 1920 * 1080
# A network looks at every frame in one size, so that a small frame takes nearly as long as a large one: a frame costs
# as much as its pixels plus this many more. Measured with the builtin network at 320x240, 1280x720 and 1920x1080.
_PIXELS_OF_ANY_FRAME = 1_500_000
_START_SECONDS = 2.0  # of the process that runs a job, and of its codecs and network
_NEAR = 3.0  # times larger or smaller, a frame tells as much of another as one of the same size
_FAR_WEIGHT = 0.5  # of runs with frames beyond that
_CLASS = 4.0  # runs whose work differs by less are one class, represented by its medians
_MOST_WEIGHT = 3.0  # of a class; that of a single run is 1
_DOUBT = 0.2  # weight of the typical figures, against 1 for a run


@dataclass(frozen=True)
class Work:
    """``pixels``: of each frame."""

    frames: int
    pixels: int

    @property
    def amount(self) -> float:
        return self.frames * float(self.pixels + _PIXELS_OF_ANY_FRAME)


@dataclass(frozen=True)
class CompletedRun:
    """A job that was completed: seconds that a worker had it, bytes and pixels that it made.

    ``work``: None where frames and size of the source are unknown.
    """

    model: str
    output_format: str
    work: Work | None
    seconds: float
    bytes: int
    made: int


@dataclass(frozen=True)
class Throughput:
    """``start``: seconds before the first frame; ``rate``: seconds for each unit of ``Work.amount``."""

    start: float
    rate: float
    basis: Basis

    def seconds(self, work: Work) -> float:
        return self.start + self.rate * work.amount

    def seconds_per_frame(self, pixels: int) -> float:
        return self.rate * Work(1, pixels).amount


@dataclass(frozen=True)
class _RunGroup:
    amount: float
    seconds: float
    weight: float


def fit(runs: Sequence[CompletedRun], typical: float, *, near: int | None) -> Throughput:
    """Fit start and rate to these runs: the sum of ``abs(log(expected / measured))`` is minimal.

    Like a median, that ignores single runs that were held up. Runs with frames about as large as ``near`` (pixels)
    count most. Each order of magnitude of work counts about once, so that many short runs do not outweigh a long one.
    ``typical``: seconds for a frame of 1920x1080, a weak prior: short runs alone do not determine the rate.
    """
    usual = typical / Work(1, FULL_HD).amount
    groups = _group_runs(runs, near)
    if not groups:
        return Throughput(_START_SECONDS, usual, "typical")
    start, rate = min(_candidates(groups, usual), key=lambda line: _error(line, groups, usual))
    tells = any(rate * c.amount >= start for c in groups)
    return Throughput(start, rate, "measured" if tells else "typical")


def _candidates(groups: Sequence[_RunGroup], typical: float) -> Iterator[tuple[float, float]]:
    """(start, rate) of each line through two groups, or through one group with the typical start or rate.

    A sum of absolute values of two unknowns is smallest on such a line. Also the typical line scaled to each group, for
    machines that are faster or slower at everything.
    """
    yield _START_SECONDS, typical
    for one in groups:
        factor = one.seconds / (_START_SECONDS + typical * one.amount)
        yield _START_SECONDS * factor, typical * factor
        if one.seconds > _START_SECONDS:
            yield _START_SECONDS, (one.seconds - _START_SECONDS) / one.amount
        if one.seconds > typical * one.amount:
            yield one.seconds - typical * one.amount, typical
    for one, other in combinations(groups, 2):
        rate = (other.seconds - one.seconds) / (other.amount - one.amount) if other.amount != one.amount else 0.0
        if rate > 0 and one.seconds > rate * one.amount:
            yield one.seconds - rate * one.amount, rate


def _error(line: tuple[float, float], groups: Sequence[_RunGroup], typical: float) -> float:
    start, rate = line
    off = sum(c.weight * abs(math.log(c.seconds / (start + rate * c.amount))) for c in groups)
    return off + _DOUBT * (abs(math.log(start / _START_SECONDS)) + abs(math.log(rate / typical)))


def _is_far(pixels: int, near: int | None) -> bool:
    return near is not None and not 1 / _NEAR <= pixels / near <= _NEAR


def _group_runs(runs: Sequence[CompletedRun], near: int | None) -> list[_RunGroup]:
    sorted_out = defaultdict[tuple[int, bool], list[tuple[float, float]]](list)
    for run in runs:
        if run.work is not None and run.work.frames > 0:
            place = math.floor(math.log(run.work.amount, _CLASS))
            sorted_out[place, _is_far(run.work.pixels, near)].append((run.work.amount, max(0.1, run.seconds)))
    return [
        _RunGroup(
            median(amount for amount, _ in members),
            median(seconds for _, seconds in members),
            min(_MOST_WEIGHT, math.sqrt(len(members))) * (_FAR_WEIGHT if is_far else 1.0),
        )
        for (_, is_far), members in sorted_out.items()
    ]
