"""What shapes a run: how large the views are at which part of the time, and how fast the network learns."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Stage:
    """From this share of the time on: pixels per view (the root of them), frames per step, share of sequences.

    A `coarse` stage learns at 1/8 of the size only.
    """

    start: float
    side: int
    batch: int
    sequences: float = 0.0
    coarse: bool = False


@dataclass(frozen=True)
class Settings:
    """Everything that shapes a run; `batch_factor` multiplies the frames per step, for a GPU."""

    minutes: float = 97.0
    processor_time: bool = False  # minutes of the processor, not of the clock on the wall
    rate: float = 3e-3
    encoder_pace: float = 0.0  # times the rate, for the encoder; 0 leaves it as it is
    encoder_rests: float = 0.0  # share of the time after which the encoder learns too
    decay: float = 0.02
    average: float = 0.998
    clip: float = 1.0
    length: int = 5
    batch_factor: int = 1
    aspects: tuple[float, ...] = (1.0, 4 / 3, 3 / 2, 16 / 9, 16 / 9, 3 / 4, 9 / 16)
    stages: tuple[Stage, ...] = (
        Stage(0, 160, 16, coarse=True),
        Stage(0.12, 192, 14),
        Stage(0.45, 256, 10, 0.3),
        Stage(0.75, 320, 10, 0.45),
    )
    seed: int = 5
    save_every: float = 120.0  # seconds
    log_every: float = 30.0
    check_every: float = 300.0  # seconds of the schedule

    def stage(self, share: float) -> Stage:
        """The stage at this share of the time."""
        return next(s for s in reversed(self.stages) if share >= s.start)


FIRST = Settings()
# On what has learned already: the encoder learns too, slowly, at the sizes that the network sees when it is used.
SECOND = Settings(
    minutes=80.0,
    rate=1e-3,
    encoder_pace=0.1,
    stages=(Stage(0, 256, 10, 0.3), Stage(0.3, 320, 10, 0.45), Stage(0.8, 352, 10, 0.5)),
    seed=6,
)
# Whatever stands in front, from a decoder of chance. The clock is that of the processor: beside other work little is
# learned in a minute. What a thing is takes most pictures to learn, and is learned at 1/8 of the size, where a picture
# costs a quarter; outlines are learned soon. The encoder has no norms that would bound its features: at a tenth of the
# rate they grew until it knew nothing (docs/decisions/0061-encoder-rate.md).
SUBJECT_FIRST = Settings(
    minutes=120.0,
    processor_time=True,
    encoder_pace=0.02,
    encoder_rests=0.12,
    stages=(Stage(0, 160, 20, coarse=True), Stage(0.4, 208, 12, 0.3), Stage(0.7, 288, 10, 0.4)),
    seed=7,
)
# The same, going on from a file that knows people.
SUBJECT = replace(
    SUBJECT_FIRST,
    rate=2e-3,
    encoder_rests=0.0,
    stages=(
        Stage(0, 160, 20, coarse=True),
        Stage(0.25, 224, 12, 0.3),
        Stage(0.5, 320, 10, 0.4),
        Stage(0.75, 448, 10, 0.5),
    ),
)
# A short run that goes on from either file, for a mean with it: slow, and at the sizes that are used.
FORK = replace(
    SUBJECT,
    minutes=14.0,
    rate=1e-3,
    stages=(Stage(0, 224, 12, 0.35), Stage(0.45, 352, 10, 0.45)),
    seed=8,
)


def rate_factor(share: float, warm_up: float = 0.02, least: float = 0.01) -> float:
    """Learning rate over time: a short rise, then half a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return min(1.0, 0.05 + share / warm_up) * (least + (1 - least) * cosine)


def view_size(side: int, aspect: float) -> tuple[int, int]:
    """Height and width, multiples of 32, of about side x side pixels in the aspect (width / height)."""
    height = max(96, round(side / math.sqrt(aspect) / 32) * 32)
    return height, max(96, round(side * side / height / 32) * 32)


def engine_size(width: int, height: int, area: int) -> tuple[int, int]:
    """(width, height) at which the engine shows a clip to the network: `fit_size` of alphareel.matting.model_input."""
    ratio = width / height
    heights = range(32, 32 * (2 * math.ceil(math.sqrt(area / ratio) / 32) + 2), 32)
    sizes = [(32 * max(1, round(h * ratio / 32)), h) for h in heights]
    return min(
        sizes, key=lambda size: 4 * abs(math.log(size[0] / size[1] / ratio)) + abs(math.log(math.prod(size) / area))
    )
