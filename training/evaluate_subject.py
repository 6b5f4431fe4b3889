"""Compare networks that cut out whatever stands in front: IoU of each clip, calm, and what they take of empty scenes.

    python evaluate_subject.py --network subject=FILE builtin=FILE --objects DIR --data DIR --empty DIR [--teacher FILE]

`--teacher` adds U2-Net, which looks at every `STRIDE`-th frame and the one after it; its answers are kept in
`--cache`. The clips of `subject_datasets.CHOOSE` choose between states of a training; those of `REPORT` are for the
figures that are written down. A markdown table comes out, and with `--sheet` a picture of what each network leaves.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import av
import cv2
import numpy as np
import torch

from check_subject import Alpha, Material, Network, iou, masked
from shards import Image
from subject_datasets import CHOOSE, REPORT
from u2net import U2Net

STRIDE = 10  # frames between those that the slow network looks at
LEAST_CONTRAST = 90.0  # distance in RGB between a drawn shape and its ground
FOUND = 0.7  # IoU from which a drawn shape counts as found


@dataclass
class Clip:
    """A name, the set that it belongs to, and its pictures and truths."""

    name: str
    group: str
    frames: Callable[[], Iterator[tuple[Image, Alpha]]]


class Recurrent:
    """A network that sees every frame."""

    def __init__(self, file: Path, area: int | None) -> None:
        self._network = Network(str(file), area) if area else Network(str(file))

    def reset(self, clip: Clip) -> None:  # noqa: ARG002 - the cache of the other one wants to know
        self._network.reset()

    def frame(self, number: int, rgb: Image) -> Alpha | None:  # noqa: ARG002 - as above
        return self._network.frame(rgb)


class Slow:
    """U2-Net on some of the frames, each answer computed once and kept."""

    def __init__(self, file: Path, cache: Path) -> None:
        self._network, self._cache = U2Net(file), cache

    def reset(self, clip: Clip) -> None:
        self._folder = self._cache / clip.name
        self._folder.mkdir(parents=True, exist_ok=True)

    def frame(self, number: int, rgb: Image) -> Alpha | None:
        if number % STRIDE > 1:
            return None
        path = self._folder / f"{number:05d}.png"
        if not path.exists():
            cv2.imwrite(str(path), (self._network([rgb])[0] * 255 + 0.5).astype(np.uint8))
        return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE).astype(np.float32) / 255


def composite(folder: Path) -> Iterator[tuple[Image, Alpha]]:
    """Pictures and exact alphas of the composite, its first 60 frames."""
    (rgb,), (alpha,) = folder.glob("*_rgb.*"), folder.glob("*_alpha.*")
    pairs = zip(decoded(rgb, "rgb24"), decoded(alpha, "gray"), strict=False)
    yield from ((picture, true.astype(np.float32) / 255) for picture, true in islice(pairs, 60))


def decoded(path: Path, layout: str) -> Iterator[Image]:
    with av.open(str(path)) as box:
        for frame in box.decode(video=0):
            yield frame.to_ndarray(format=layout)


def dtssd(pairs: tuple[tuple[Alpha, Alpha], tuple[Alpha, Alpha]]) -> float:
    """Root mean square of the difference between predicted and true change, times 100."""
    (before, true_before), (now, true) = pairs
    return 100 * float(np.sqrt(np.square((now - before) - (true - true_before)).mean()))


def all_clips(material: Material) -> Iterator[Clip]:
    for group, names in (("choose", CHOOSE), ("report", REPORT)):
        for name in names:
            folder = material.sequence(name)
            yield Clip(name, group, partial(masked, folder))
    yield Clip("composite", "people", lambda: composite(material.data / "clips" / "composite"))


def measure(clip: Clip, networks: dict[str, Recurrent | Slow]) -> dict[str, tuple[float, float]]:
    """IoU and dtSSD of each network on a clip, over the frames that it is asked at."""
    for network in networks.values():
        network.reset(clip)
    found: dict[str, list[float]] = {name: [] for name in networks}
    calm: dict[str, list[float]] = {name: [] for name in networks}
    last: dict[str, tuple[Alpha, Alpha]] = {}
    for number, (rgb, true) in enumerate(clip.frames()):
        for name, network in networks.items():
            alpha = network.frame(number, rgb)
            if alpha is None:
                last.pop(name, None)
                continue
            found[name].append(iou(alpha, true))
            if name in last:
                calm[name].append(dtssd((last[name], (alpha, true))))
            last[name] = alpha, true
    return {name: (float(np.mean(found[name])), float(np.mean(calm[name]))) for name in networks}


def stills(material: Material, networks: dict[str, Recurrent | Slow]) -> Iterator[str]:
    """Rows of the photos of people, in IoU, and of the empty scenes, in per cent of pixels taken."""
    photos = Clip("ccp", "people", lambda: masked(material.data / "clips" / "ccp"))
    cells = []
    for network in networks.values():
        values = []
        for n, (rgb, true) in enumerate(photos.frames()):
            network.reset(photos)
            alpha = network.frame(n * STRIDE, rgb)
            values.append(iou(alpha, true) if alpha is not None else np.nan)
        cells.append(f"{np.mean(values):.3f}")
    yield f"| ccp, 36 photos | people | {' | '.join(cells)} |"
    cells, empty = [], Clip("empty", "empty", lambda: iter(()))
    paths = sorted(material.empty.glob("*.jpg"))
    for network in networks.values():
        taken = []
        for n, path in enumerate(paths):
            network.reset(empty)
            alpha = network.frame(n * STRIDE, np.ascontiguousarray(cv2.imread(str(path))[..., ::-1]))
            taken.append(100 * float((alpha > 0.5).mean()) if alpha is not None else np.nan)
        cells.append(f"{np.mean(taken):.2f} % ({sum(t > 1 for t in taken)} of {len(taken)} over 1 %)")
    yield f"| empty scenes: pixels taken | empty | {' | '.join(cells)} |"


def drawn_shapes(count: int = 24) -> Iterator[tuple[Image, Alpha]]:
    """Ellipses and boxes in one color on a ground in another, the same each time; `shapes.py` draws others."""
    rng = np.random.default_rng(24)
    for n in range(count):
        wall, paint = rng.integers(0, 256, (2, 3))
        while np.linalg.norm(wall - paint.astype(float)) < LEAST_CONTRAST:
            paint = rng.integers(0, 256, 3)
        cover = np.zeros((270, 480), np.uint8)
        x, y = int(rng.integers(140, 340)), int(rng.integers(90, 180))
        wide, tall = int(rng.integers(30, 110)), int(rng.integers(30, 80))
        if n % 2:
            cv2.ellipse(cover, (x, y), (wide, tall), float(rng.uniform(0, 180)), 0, 360, 255, -1, cv2.LINE_AA)
        else:
            cv2.rectangle(cover, (x - wide, y - tall), (x + wide, y + tall), 255, -1)
        share = cover[..., None] / 255
        yield (wall * (1 - share) + paint * share).astype(np.uint8), (cover > 127).astype(np.float32)


def found_shapes(networks: dict[str, Recurrent | Slow]) -> str:
    """The row of the drawn shapes: of how many most is found."""
    clip, cells = Clip("shapes", "people", drawn_shapes), []
    for network in networks.values():
        found = 0
        for n, (rgb, true) in enumerate(clip.frames()):
            network.reset(clip)
            alpha = network.frame(n * STRIDE, rgb)
            found += alpha is not None and iou(alpha, true) > FOUND
        cells.append(str(found))
    return f"| drawn shapes found, of 24 | people | {' | '.join(cells)} |"


def table(material: Material, networks: dict[str, Recurrent | Slow], wanted: set[str]) -> Iterator[str]:
    yield f"| clip: IoU / dtSSD | set | {' | '.join(networks)} |"
    yield "| --- " * (len(networks) + 2) + "|"
    groups: dict[str, list[dict[str, tuple[float, float]]]] = {}
    for clip in all_clips(material):
        if clip.group not in wanted:
            continue
        row = measure(clip, networks)
        groups.setdefault(clip.group, []).append(row)
        yield f"| {clip.name} | {clip.group} | {' | '.join(f'{i:.3f} / {d:.1f}' for i, d in row.values())} |"
    for group, rows in groups.items():
        means = [np.mean([row[name] for row in rows], axis=0) for name in networks]
        yield f"| mean | {group} | {' | '.join(f'{i:.3f} / {d:.1f}' for i, d in means)} |"
    if "people" in wanted or "empty" in wanted:
        yield from stills(material, networks)
        yield found_shapes(networks)


def on_checks(rgb: Image, alpha: Alpha) -> Image:
    """The picture over a green that shows what is left out."""
    shown = rgb * alpha[..., None] + np.array((60, 170, 90), np.float32) * (1 - alpha[..., None])
    return shown.astype(np.uint8)


def sheet(material: Material, networks: dict[str, Recurrent | Slow], wanted: set[str], number: int) -> Image:
    """A row a clip: the frame of that number, its truth, and what each network makes of it."""
    rows = []
    for clip in all_clips(material):
        if clip.group not in wanted:
            continue
        for network in networks.values():
            network.reset(clip)
        for n, (rgb, true) in enumerate(clip.frames()):  # noqa: B007 - the last ones are shown
            alphas = [network.frame(n, rgb) for network in networks.values()]
            if n == number:
                break
        views = [rgb, on_checks(rgb, true), *(on_checks(rgb, a) for a in alphas if a is not None)]
        rows.append(np.hstack([cv2.resize(view, (320, 180), interpolation=cv2.INTER_AREA) for view in views]))
    return np.vstack(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--network", nargs="+", required=True, metavar="NAME=FILE")
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--empty", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, help="u2net.onnx")
    parser.add_argument("--cache", type=Path, default=Path("runs/u2net"))
    parser.add_argument("--area", type=int, help="pixels that the networks see")
    parser.add_argument("--sets", nargs="*", default=["choose", "people", "empty"], help="and `report`, at the end")
    parser.add_argument("--sheet", type=Path, help="write this picture instead of the table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    networks: dict[str, Recurrent | Slow] = {}
    for pair in options.network:
        name, file = pair.split("=", 1)
        networks[name] = Recurrent(Path(file), options.area)
    if options.teacher:
        networks["U2-Net"] = Slow(options.teacher, options.cache)
    material = Material(options.objects, options.data, options.empty)
    if options.sheet:
        cv2.imwrite(str(options.sheet), sheet(material, networks, set(options.sets), 20)[..., ::-1])
        return
    for line in table(material, networks, set(options.sets)):
        print(line, flush=True)


if __name__ == "__main__":
    main()
