"""Score exported networks beside others, frame by frame, on the material that datasets.py keeps out of training.

    PYTHONPATH=. .venv/bin/python training/evaluate.py --data DIR --models DIR [--builtin FILE ...] [--areas N ...]

Runs in the project's own environment. Everybody gets the picture reduced as they like it, and is enlarged
bilinearly: the networks are compared, not the product's refinement. One markdown table comes out; ms is the median
CPU time of one answer on one thread.

| set | what | truth |
|---|---|---|
| ccp | 36 full-body photos, one by one | human masks |
| composite | a dancer keyed from flat green, before a photo that pans | exact alpha |
| garden | the same dancer before the moving picture of a dog in a garden | exact alpha |
| davis | breakdance, scooter-black (its masks include the scooter) | human masks |
| webcams | the clips of sources.HELD_OUT, their first 60 frames | RVM's answer: agreement, not truth |
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
from benchmarks import metrics

from alphareel.matting.model_input import fit_size
from datasets import HELD_OUT
from prepare import shrink
from teacher import Alpha, Image, RvmTeacher, Teacher, open_session

Sequence = Iterable[tuple[Image, Alpha]]
WEBCAM_FRAMES, WEBCAM_SIDE = 60, 640
GARDEN_FRAMES = 60
GREEN = (19, 255, 8)  # behind the dancer, everywhere
COLUMNS = {
    "ccp": ("MAD", "IoU", "BF"),
    "composite": ("MAD", "MSE", "Grad", "IoU", "BF", "dtSSD", "flicker"),
    "garden": ("MAD", "IoU", "BF", "dtSSD"),
    "davis": ("IoU", "BF"),
    "webcams": ("MAD", "IoU", "dtSSD"),
}


class Builtin:
    """A file of the builtin interface, asked as the engine asks it."""

    def __init__(self, file: Path, area: int | None = None) -> None:
        """`area`: pixels of the picture it sees; by default what the file recommends."""
        self._session = open_session(file)
        facts = self._session.get_modelmeta().custom_metadata_map
        self._area, self._stride = area or int(facts["area"]), int(facts["memory_stride"])
        self._channels = self._session.get_inputs()[1].shape[1]
        self.reset()

    def reset(self) -> None:
        self._memory: Alpha | None = None

    def frame(self, rgb: Image) -> Alpha:
        width, height = fit_size(rgb.shape[1], rgb.shape[0], area=self._area, multiple=32)
        small = cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA)
        if self._memory is None:
            shape = (1, self._channels, height // self._stride, width // self._stride)
            self._memory = np.zeros(shape, np.float32)
        feeds = {"rgb": small.transpose(2, 0, 1)[None].astype(np.float32) / 255, "memory": self._memory}
        alpha, self._memory = self._session.run(["alpha", "memory_out"], feeds)
        return cv2.resize(alpha[0, 0], rgb.shape[1::-1])

    def still(self, rgb: Image) -> Alpha:
        self.reset()
        return self.frame(rgb)


class Selfie:
    """MediaPipe selfie segmentation, converted to ONNX: 256x256, no memory."""

    def __init__(self, file: Path) -> None:
        self._session = open_session(file)

    def reset(self) -> None:
        """Nothing to forget."""

    def frame(self, rgb: Image) -> Alpha:
        small = cv2.resize(rgb, (256, 256), interpolation=cv2.INTER_AREA)
        (alpha,) = self._session.run(["activation_10"], {"input_1:0": small[None].astype(np.float32) / 255})
        return cv2.resize(alpha[0, ..., 0], rgb.shape[1::-1])

    def still(self, rgb: Image) -> Alpha:
        return self.frame(rgb)


@dataclass
class Row:
    """One network's figures: per set and measure, those of all frames."""

    network: Teacher
    figures: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    took: list[float] = field(default_factory=list)
    before: Alpha | None = None

    def ask(self, rgb: Image, *, still: bool) -> Alpha:
        began = time.thread_time()
        alpha = self.network.still(rgb) if still else self.network.frame(rgb)
        if not still:
            self.took.append(time.thread_time() - began)
        return np.clip(alpha, 0, 1)

    def note(self, name: str, measured: dict[str, float]) -> None:
        for measure, value in measured.items():
            self.figures.setdefault((name, measure), []).append(value)

    def mean(self, name: str, measure: str) -> float | None:
        values = self.figures.get((name, measure))
        return float(np.nanmean(values)) if values else None


def compare(alpha: Alpha, true: Alpha) -> dict[str, float]:
    """What one frame alone tells."""
    return {
        "MAD": metrics.mad(alpha, true),
        "MSE": metrics.mse(alpha, true),
        "Grad": metrics.grad(alpha, true),
        "IoU": metrics.iou(alpha, true),
        "BF": metrics.boundary_f(alpha, true),
    }


def score_stills(name: str, stills: Sequence, rows: Iterable[Row]) -> None:
    for rgb, true in stills:
        for row in rows:
            row.note(name, compare(row.ask(rgb, still=True), true))


def score_clip(name: str, clip: Sequence, rows: Iterable[Row]) -> None:
    """Every frame, and every change since the frame before."""
    for row in rows:
        row.network.reset()
    previous: tuple[Image, Alpha] | None = None
    for rgb, true in clip:
        flow = metrics.flow_between(rgb, previous[0]) if previous and "flicker" in COLUMNS[name] else None
        for row in rows:
            alpha = row.ask(rgb, still=False)
            row.note(name, compare(alpha, true))
            if previous:
                row.note(name, {"dtSSD": metrics.dtssd(alpha, row.before, true, previous[1])})
            if flow:
                row.note(name, {"flicker": metrics.flicker(alpha, row.before, flow)})
            row.before = alpha
        previous = rgb, true


def photos(folder: Path) -> Iterator[tuple[Image, Alpha]]:
    """Pictures of `rgb` and masks of `mask` with the same stems."""
    for path in sorted((folder / "rgb").iterdir()):
        mask = cv2.imread(str(folder / "mask" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        yield cv2.imread(str(path))[..., ::-1], (mask > 127).astype(np.float32)


def decoded(path: Path, layout: str) -> Iterator[Image]:
    with av.open(str(path)) as box:
        for frame in box.decode(video=0):
            yield frame.to_ndarray(format=layout)


def composite(folder: Path) -> Iterator[tuple[Image, Alpha]]:
    (rgb,), (alpha,) = folder.glob("*_rgb.*"), folder.glob("*_alpha.*")
    for picture, true in zip(decoded(rgb, "rgb24"), decoded(alpha, "gray"), strict=True):
        yield picture, true.astype(np.float32) / 255


def garden(clips: Path) -> Iterator[tuple[Image, Alpha]]:
    """The dancer without the green, before a sequence that goes to its end and back."""
    paths = sorted((clips / "davis" / "libby" / "rgb").iterdir())
    alphas = composite(clips / "composite")
    dancer = decoded(clips / "greenscreen" / "axe_dancer_puregreen.mp4", "rgb24")
    for n, (green, (_, true)) in enumerate(islice(zip(dancer, alphas, strict=True), GARDEN_FRAMES)):
        far = abs((n + len(paths) - 1) % (2 * len(paths) - 2) - (len(paths) - 1))
        behind = 1 - true[..., None]
        front = np.maximum(green - behind * GREEN, 0)
        place = center_crop(cv2.imread(str(paths[far]))[..., ::-1], true.shape)
        yield np.clip(front + behind * place, 0, 255).astype(np.uint8), true


def center_crop(picture: Image, size: tuple[int, int]) -> Image:
    """The middle of a picture, as large as fits the size (height, width)."""
    scale = max(size[0] / picture.shape[0], size[1] / picture.shape[1])
    large = cv2.resize(picture, None, fx=scale, fy=scale)
    top, left = ((have - want) // 2 for have, want in zip(large.shape, size, strict=False))
    return large[top : top + size[0], left : left + size[1]]


def labeled_by_teacher(path: Path, teacher: Teacher) -> Iterator[tuple[Image, Alpha]]:
    """The first frames of a clip with the teacher's answers."""
    teacher.reset()
    for picture in islice(decoded(path, "rgb24"), WEBCAM_FRAMES):
        rgb = shrink(picture, WEBCAM_SIDE)
        yield rgb, np.clip(teacher.frame(rgb), 0, 1)


def score(rows: dict[str, Row], data: Path, judge: Teacher) -> None:
    """Fill the rows; the judge's own row is left out of the sets that it judges."""
    every, clips = list(rows.values()), data / "clips"
    judged = [row for row in every if not isinstance(row.network, RvmTeacher)]
    score_stills("ccp", photos(clips / "ccp"), every)
    score_clip("composite", composite(clips / "composite"), every)
    score_clip("garden", garden(clips), every)
    for name in ("breakdance", "scooter-black"):
        score_clip("davis", photos(clips / "davis" / name), every)
    for path in HELD_OUT:
        score_clip("webcams", labeled_by_teacher(data / path, judge), judged)


def table(rows: dict[str, Row]) -> str:
    """Markdown: a row per network, a column per set."""
    heads = [f"{name}: {' / '.join(measures)}" for name, measures in COLUMNS.items()]
    lines = [f"| network | {' | '.join(heads)} | ms |", "|---" * (len(heads) + 2) + "|"]
    for title, row in rows.items():
        cells = [" / ".join(shown(row.mean(name, m), m) for m in measures) for name, measures in COLUMNS.items()]
        lines.append(f"| {title} | {' | '.join(cells)} | {1000 * np.median(row.took):.1f} |")
    return "\n".join(lines)


def shown(value: float | None, measure: str) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if measure in {"IoU", "BF"} else f"{value:.2f}" if measure == "dtSSD" else f"{value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with clips and train")
    parser.add_argument("--models", type=Path, required=True, help="folder with the two networks to compare with")
    parser.add_argument("--builtin", type=Path, nargs="*", default=[Path("src/alphareel/matting/models/builtin.onnx")])
    parser.add_argument("--areas", type=int, nargs="*", default=[None], help="pixels; default: as the file says")
    parser.add_argument("--alone", action="store_true", help="leave the other networks out")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rvm, selfie = (options.models / f"{n}.onnx" for n in ("rvm_mobilenetv3", "mediapipe_selfie_segmentation"))
    networks = {f"{f.stem} {area or ''}": Builtin(f, area) for f in options.builtin for area in options.areas}
    if not options.alone:
        networks |= {"MediaPipe selfie": Selfie(selfie), "RVM": RvmTeacher(rvm, inner=512, passes=4)}  # type: ignore[dict-item]
    rows = {title: Row(network) for title, network in networks.items()}
    score(rows, options.data, RvmTeacher(rvm, inner=512, passes=4))
    print(table(rows))


if __name__ == "__main__":
    main()
