"""What one correction of the worst frame does to the frames around it, on all sequences with ground truth.

    ./dev bench corrections [--data DIR] [--objects DIR] [--frames N] [--engine NAME] [--form mask|brush|clicks|box]
                            [--half chosen|held] [--clip NAME ...] [--cache DIR] [--fit]

A simulated user looks at the worst frame of those with a whole second after them (by MAD, at about 320x180) and

    mask    gives the exact alpha of the frame,
    brush   paints over the largest wrong region,
    clicks  clicks into the middle of up to three wrong regions, the largest first,
    box     draws a box around the subject.

``second``: MAD of the 24 frames after it, with the correction as a share of that without. ``elsewhere``: the same for
all other frames. ``largest``: the largest share in any frame, of frames with an error of at least 1 in 1000. Every
other sequence, in the order of their names, is in the half on which weights and constants were chosen; the other half
is for figures alone. ``--fit`` fits the weights of ``matting.spread`` on the first half and prints them. ``--cache``
keeps the mattes of the engine.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from alphareel.domain.options import Options
from alphareel.imaging.frame import Plane
from alphareel.matting import spread, tiers
from alphareel.matting.correction import (
    Click,
    FramePatch,
    SmallFrame,
    correct_by_box,
    correct_by_clicks,
)
from alphareel.matting.features import load_features
from alphareel.matting.runtime import Array, Runtime, limit_opencv_threads
from alphareel.pipeline.corrections import small_frame
from alphareel.pipeline.run import engine_mattes
from benchmarks import ground_truth
from benchmarks.ground_truth import GroundTruth
from benchmarks.quality import CLIPS, DATA

FORMS = ("mask", "brush", "clicks", "box")
SECOND = 24  # frames
SAMPLES = 1500  # pixels of a frame where the kinds of evidence differ, from which weights are fitted
ROUNDS = 2  # of fitting: the second sees what the weights of the first lead to
MIN_MAD = 1e-3
_ARRAYS = ("pictures", "alphas", "truths", "y", "u", "v")


@dataclass(frozen=True)
class Views:
    """Small pictures uint8 (n, h, w, 3), the engine's alphas and the true ones, float32 (n, h, w) in 0..1.

    ``details``: Y (n, 2h, 2w) and U, V (n, h, w) of the pictures at twice the size.
    """

    name: str
    pictures: NDArray[np.uint8]
    alphas: Array
    truths: Array
    details: tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

    @property
    def worst(self) -> int:
        """The worst of the frames that have a second after them."""
        errors = mad(self.alphas, self.truths)
        return int(errors[: max(1, len(errors) - SECOND)].argmax())

    def frame(self, index: int) -> SmallFrame:
        y, u, v = (planes[index] for planes in self.details)
        return SmallFrame(index, self.pictures[index], self.alphas[index], (y, u, v))


def mad(alphas: Array, truths: Array) -> NDArray[np.float64]:
    """The mean absolute difference of each frame."""
    return np.asarray(np.abs(alphas - truths).mean(axis=(1, 2)), np.float64)


def find(data: Path, objects: Path) -> list[GroundTruth]:
    """All sequences with ground truth, by name."""
    folders = [*(data / "davis").glob("*"), *(objects / "clip+mask" / "davis16").glob("*")]
    truths = [t for folder in folders for t in ground_truth.sequence(folder, "sequences", "anything")]
    generated = [*ground_truth.composite(data), *ground_truth.far(data)]
    return sorted([*truths, *(replace(t, name=t.group) for t in generated)], key=lambda t: t.name)


def load(truth: GroundTruth, engine: str, frames: int, cache: Path | None) -> Views:
    """The small views of a sequence, with the engine's mattes as a job makes them."""
    kept = None if cache is None else cache / f"{engine}-{frames}-{truth.name}.npz".replace(" ", "_")
    if kept is not None and kept.is_file():
        with np.load(kept) as views:
            return _views(truth.name, *(views[name] for name in _ARRAYS))
    options = Options(engine=engine)
    session = tiers.choose(options, None, threads=1).engine.start(truth.clip, options)
    rows = []
    mattes = engine_mattes(session, islice(truth.frames(session.model_input_size), frames))
    for matte, true in zip(mattes, truth.alphas(), strict=False):
        frame = small_frame(matte.frame, matte.alpha)
        size = (frame.alpha.shape[1], frame.alpha.shape[0])
        small_true = np.asarray(cv2.resize(true, size, interpolation=cv2.INTER_AREA), np.float32)
        assert frame.detail is not None
        rows.append((frame.picture, _levels(frame.alpha), _levels(small_true), *frame.detail))
    arrays = [np.stack(column) for column in zip(*rows, strict=True)]
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        pictures, alphas, truths, y, u, v = arrays
        np.savez(kept, pictures=pictures, alphas=alphas, truths=truths, y=y, u=u, v=v)
    return _views(truth.name, *arrays)


def _views(name: str, *arrays: NDArray[np.uint8]) -> Views:
    """From the arrays in the order of ``_ARRAYS``."""
    pictures, alphas, truths, y, u, v = arrays
    return Views(name, pictures, _shares(alphas), _shares(truths), (y, u, v))


def _shares(levels: NDArray[np.uint8]) -> Array:
    return np.asarray(levels / np.float32(255), np.float32)


def correct(sequence: Views, form: str) -> Array:
    """The corrected alpha of the worst frame, by the simulated user."""
    frame = sequence.frame(sequence.worst)
    true = np.asarray(sequence.truths[sequence.worst], np.float32)
    if form == "mask":
        return true
    if form == "box":
        left, top, width, height = cv2.boundingRect((true > 0.5).astype(np.uint8))
        return correct_by_box(frame.picture, frame.alpha, (left, top, width, height))
    regions = _wrong_regions(frame.alpha, true)
    if form == "brush":
        painted = cv2.dilate((next(regions)).astype(np.float32), np.ones((7, 7), np.uint8))
        return np.asarray(frame.alpha + painted * (true - frame.alpha), np.float32)
    clicks = []
    for region in islice(regions, 3):
        depth = cv2.distanceTransform(region, cv2.DIST_L2, 3)
        y, x = (int(n) for n in np.unravel_index(int(depth.argmax()), depth.shape))
        clicks.append(Click(float(x), float(y), bool(true[y, x] > 0.5)))
    return correct_by_clicks(frame.picture, frame.alpha, clicks, None)


def _wrong_regions(alpha: Array, true: Array) -> Iterator[Plane]:
    """1 in each connected region where the alpha is on the wrong side, the largest first."""
    wrong = (np.abs(alpha - true) > 0.5).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(wrong)
    order = 1 + np.argsort(-stats[1:, cv2.CC_STAT_AREA], kind="stable")
    yield from ((labels == label).astype(np.uint8) for label in order)


def corrected(sequence: Views, alpha: Array, extract: spread.Extract) -> Array:
    """All alphas, after this corrected alpha of the worst frame was spread in both directions."""
    worst, result = sequence.worst, sequence.alphas.copy()
    result[worst] = alpha
    for following in (range(worst + 1, len(result)), range(worst - 1, -1, -1)):
        frames = (sequence.frame(n) for n in following)
        for pts, patch in spread.spread(sequence.frame(worst), alpha, frames, extract):
            result[pts] = _apply(sequence.alphas[pts], patch)
    return result


def _apply(alpha: Array, patch: FramePatch) -> Array:
    share = patch.weight.astype(np.float32) / 255
    return np.asarray(alpha + (patch.alpha / np.float32(255) - alpha) * share, np.float32)


def _levels(alpha: Array) -> Plane:
    return np.asarray(alpha * 255 + 0.5, np.uint8)


@dataclass(frozen=True)
class Figures:
    """``before``, ``after``: MAD (x1000) of the second. ``raised``: frames whose MAD rose by more than 2 %."""

    name: str
    before: float
    after: float
    elsewhere: float
    largest: float
    raised: int
    frames: int

    @property
    def second(self) -> float:
        return self.after / self.before

    def __str__(self) -> str:
        return (
            f"{self.name:<26} {self.before:6.1f} {self.after:6.1f} {self.second:5.2f} {self.elsewhere:9.2f}"
            f" {self.largest:7.2f} {self.raised:4d} of {self.frames}"
        )


def measure(sequence: Views, form: str, extract: spread.Extract) -> Figures:
    """Correct the worst frame and compare all others with the truth."""
    worst = sequence.worst
    before = mad(sequence.alphas, sequence.truths)
    after = mad(corrected(sequence, correct(sequence, form), extract), sequence.truths)
    others = np.arange(len(before)) != worst
    second = np.zeros(len(before), np.bool_)
    second[worst + 1 : worst + 1 + SECOND] = True
    ratio = after / np.maximum(before, MIN_MAD)
    rest = others & ~second
    return Figures(
        sequence.name,
        before=1e3 * float(before[second].mean()),
        after=1e3 * float(after[second].mean()),
        elsewhere=float(after[rest].mean() / before[rest].mean()) if rest.any() else 1.0,
        largest=float(ratio[others].max()),
        raised=int((ratio[others] > 1.02).sum()),
        frames=int(others.sum()),
    )


def fit(sequences: Sequence[Views], extract: spread.Extract) -> tuple[float, ...]:
    """Weights of the evidence, by logistic regression on pixels of the second after an exact mask."""
    weights: tuple[float, ...] = spread.WEIGHTS
    samples: list[tuple[Array, Array, Array]] = []
    for round_ in range(ROUNDS):
        for sequence in sequences:
            truth_share = 0.3 if round_ == 0 else 0.05  # of frames that build on the truth
            samples += list(_samples(sequence, extract, weights, truth_share))
        weights = _regress(*(np.concatenate(part) for part in zip(*samples, strict=True)))
        print("round", round_ + 1, weights, flush=True)
    return weights


def _samples(
    sequence: Views, extract: spread.Extract, weights: tuple[float, ...], truth_share: float
) -> Iterator[tuple[Array, Array, Array]]:
    """(evidence, truth, weight) of pixels of each frame. All sequences weigh alike, whatever their error."""
    random, worst = np.random.default_rng(0), sequence.worst
    error = float(mad(sequence.alphas, sequence.truths).mean()) + 0.003
    following = (sequence.frame(n) for n in range(worst + 1, min(len(sequence.alphas), worst + 1 + SECOND)))
    for evidence in spread.gather(sequence.frame(worst), sequence.truths[worst], following, extract):
        true = sequence.truths[evidence.pts]
        evidence.judge(weights)
        signs = evidence.signs.reshape(-1, len(weights))
        sides = np.stack([signs[:, 0] > 0, signs[:, 1:4].sum(axis=1) > 0, signs[:, 4] > 0])
        differ = sides.any(axis=0) & ~sides.all(axis=0)
        for pixels, most in ((np.flatnonzero(differ), SAMPLES), (np.flatnonzero(~differ), SAMPLES // 3)):
            if len(pixels):
                sample = random.choice(pixels, min(most, len(pixels)), replace=False)
                weight = np.full(len(sample), len(pixels) / len(sample) / error, np.float32)
                yield signs[sample], true.ravel()[sample], weight
        if random.random() < truth_share:
            evidence.result = true


def _regress(signs: Array, true: Array, weight: Array) -> tuple[float, ...]:
    """Logistic regression by Newton's method, slightly regularized."""
    weight = weight / weight.mean()
    weights = np.zeros(signs.shape[1])
    for _ in range(15):
        likely = 1 / (1 + np.exp(-signs @ weights))
        gradient = signs.T @ (weight * (likely - true)) / len(true) + 1e-3 * weights
        curvature = (signs * (weight * likely * (1 - likely))[:, None]).T @ signs / len(true)
        weights -= np.linalg.solve(curvature + 1e-3 * np.eye(len(weights)), gradient)
    return tuple(round(float(value), 2) for value in weights)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=CLIPS, help=f"folder with ground truth (else {CLIPS})")
    parser.add_argument("--objects", type=Path, default=DATA / "objects", help="folder of masked sequences of things")
    parser.add_argument("--frames", type=int, default=60, help="frames of each sequence, from its start")
    parser.add_argument("--engine", default="subject", help="whose mattes are corrected")
    parser.add_argument("--form", choices=FORMS, action="append", default=[], help="of the correction; repeatable")
    parser.add_argument("--half", choices=("chosen", "held"), help="only this half of the sequences")
    parser.add_argument("--clip", action="append", default=[], help="only this sequence; repeatable")
    parser.add_argument("--cache", type=Path, help="folder that keeps the engine's mattes")
    parser.add_argument("--fit", action="store_true", help="fit the weights on the chosen half and print them")
    parsed = parser.parse_args(arguments)
    limit_opencv_threads()
    truths = find(parsed.data, parsed.objects)
    halves = {"chosen": truths[::2], "held": truths[1::2]}
    extract = load_features(Runtime(threads=1), matrix=1, full_range=False).extract
    if parsed.fit:
        fit([load(t, parsed.engine, parsed.frames, parsed.cache) for t in halves["chosen"]], extract)
        return
    for form in parsed.form or FORMS[:1]:
        for half in [parsed.half] if parsed.half else halves:
            print(f"{form}, {half} half{'':<{11 - len(form)}} before  after second elsewhere largest raised")
            rows = []
            for truth in halves[half]:
                if not parsed.clip or truth.name in parsed.clip:
                    rows.append(measure(load(truth, parsed.engine, parsed.frames, parsed.cache), form, extract))
                    print(rows[-1], flush=True)
            halved = sum(row.second <= 0.5 for row in rows)
            worse = sum(row.second > 1 or row.elsewhere > 1 for row in rows)
            print(f"halved {halved} of {len(rows)}, worse {worse}, frames raised {sum(row.raised for row in rows)}\n")


if __name__ == "__main__":
    main()
