"""Label and pack what teaches the network that cuts out whatever stands in front.

    python prepare_subject.py --objects DIR --data DIR --teacher u2net.onnx --out runs/subject

Human masks come first, then what the teacher has to look at. A source is a shard of its own (or several), and what
is there already is not made again; training may go on meanwhile.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch

from backgrounds import remove_people
from datasets import Kind, Photos
from labels import LEAST, Alpha, agreed, from_mask, iou
from prepare import LONG_SIDE, SUFFIXES, frames, read, shrink, to_bytes
from shards import Image, Sample, ShardWriter
from subject_datasets import (
    CUTOUTS,
    FETCHED,
    FOOTAGE,
    KEPT_EVERY,
    MASKED,
    MASKED_PEOPLE,
    NOT_EMPTY,
    OBJECTS,
    PANORAMAS,
    PARTS,
    PEOPLE,
    PEOPLE_FOOTAGE,
    PLACES,
    PLENTY,
    TEACH,
    Footage,
)
from u2net import U2Net

CALM = 0.75  # IoU of the labels of neighboring frames below which one of them is wrong
FILLED = 0.4  # part of a picture that may be taken out of it and filled
STRIP = 90  # width in pixels of a strip beside the subject that is worth keeping as a background


def strip(rgb: Image, alpha: Alpha) -> list[Sample]:
    """The wider side of the picture beside the subject, mirrored into a background; nothing if it is narrow."""
    busy = np.flatnonzero((alpha > 0.03).any(axis=0))
    left, right = busy[0] - 6, rgb.shape[1] - busy[-1] - 6
    if max(left, right) < STRIP:
        return []
    side = rgb[:, :left] if left >= right else rgb[:, -right:]
    tile = np.concatenate([side, side[:, ::-1]] * 3, axis=1)[:, : rgb.shape[0]]
    return [Sample(np.ascontiguousarray(tile), np.zeros((tile.shape[0], tile.shape[1]), np.uint8), Kind.STRIP)]


def with_its_place(sample: Sample) -> Iterator[Sample]:
    """A photo, and the place in it without its subject: of places with nothing in front there are few photos."""
    yield sample
    if (sample.alpha > 5).mean() < FILLED:
        yield remove_people(sample.rgb, sample.alpha, np.random.default_rng(sample.rgb.size))


def files(folder: Path, source: Photos) -> list[Path]:
    """The photos of a source: of those it limits, spread over the whole folder."""
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.stem not in source.without)
    return found if len(found) <= source.limit else [found[i * len(found) // source.limit] for i in range(source.limit)]


def labeled_by_teacher(root: Path, source: Photos, teacher: U2Net, part: slice = slice(None)) -> Iterator[Sample]:
    """Photos, or `part` of them, that the teacher labels, and their places without what stands there."""
    paths = files(root / source.folder, source)[part]
    for n in range(0, len(paths), 4):
        pictures = [read(path) for path in paths[n : n + 4]]
        for rgb, alpha in zip(pictures, agreed(teacher, pictures), strict=True):
            if alpha is not None:
                yield from with_its_place(Sample(rgb, to_bytes(alpha), source.kind))


def masked(root: Path, source: Photos) -> Iterator[Sample]:
    """Photos with human masks; a street photo also gives the wall beside the person, and itself without the person."""
    for path in files(root / source.folder, source):
        mask = cv2.imread(str(root / str(source.masks) / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        if mask is None or (mask > 127).mean() < LEAST:
            continue
        rgb = read(path)
        alpha = from_mask(rgb, mask)
        yield from with_its_place(Sample(rgb, to_bytes(alpha), source.kind))
        if source.kind == Kind.BODY:
            yield from strip(rgb, alpha)


def sequence(folder: Path, number: int) -> Iterator[Sample]:
    """A masked sequence, every frame."""
    for path in sorted((folder / "rgb").iterdir()):
        rgb = read(path)
        mask = cv2.imread(str(folder / "mask" / f"{path.stem}.png"), cv2.IMREAD_GRAYSCALE)
        yield Sample(rgb, to_bytes(from_mask(rgb, mask)), Kind.CLIP, number)


def footage(root: Path, clip: Footage, number: int, teacher: U2Net) -> Iterator[Sample]:
    """Frames of a clip that the teacher labels; what it is sure of in one frame and not in the next is left out."""
    pictures = list(frames(root / clip.path, clip.step, clip.frames))
    labels = [label for n in range(0, len(pictures), 4) for label in agreed(teacher, pictures[n : n + 4])]
    run: list[Sample] = []
    pairs = [(None, labels[0]), *pairwise(labels)]
    for rgb, (before, label) in zip(pictures, pairs, strict=True):
        if run and (label is None or before is None or iou(before, label) < CALM):
            yield from run if len(run) > 4 else ()
            run, number = [], number + 1
        if label is not None:
            run.append(Sample(rgb, to_bytes(label), Kind.CLIP, number))
    yield from run if len(run) > 4 else ()


def cutouts(folder: Path, number: int) -> Iterator[Sample]:
    """Things with their alpha; around them is nothing that counts."""
    for n, path in enumerate(sorted(folder.glob("*.png"))):
        image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        image = cv2.copyMakeBorder(shrink(image, LONG_SIDE), 8, 8, 8, 8, cv2.BORDER_CONSTANT, value=(0, 0, 0, 0))
        rgb = np.ascontiguousarray(image[..., 2::-1])
        yield Sample(rgb, np.ascontiguousarray(image[..., 3]), Kind.SYNTHETIC, number + n)


def places(root: Path, source: Photos, kept_every: int = KEPT_EVERY) -> Iterator[Sample]:
    """Pictures in which nothing is in front, without those that are kept for the set of empty scenes; 0: all."""
    for n, path in enumerate(files(root / source.folder, source)):
        if not kept_every or n % kept_every:
            rgb = read(path)
            yield Sample(rgb, np.zeros(rgb.shape[:2], np.uint8), source.kind)


def empty_scenes(roots: list[tuple[Path, Photos]], out: Path, most: int = 12) -> None:
    """Write what `places` keeps back, for checks: at most so many of a folder, of panoramas three parts."""
    out.mkdir(parents=True, exist_ok=True)
    for root, source in roots:
        kept = files(root / source.folder, source)[::KEPT_EVERY]
        for path in kept[:: max(1, len(kept) // most)][:most]:
            if path.stem in NOT_EMPTY:
                continue
            rgb = read(path)
            wide = rgb.shape[1] >= 2 * rgb.shape[0] - 2
            for n in range(3 if wide else 1):
                left, width = (n * rgb.shape[1] // 3, rgb.shape[1] // 3) if wide else (0, rgb.shape[1])
                cv2.imwrite(str(out / f"{path.stem}-{n}.jpg"), rgb[:, left : left + width, ::-1])


def all_sources(
    objects: Path, data: Path, fetched: Path, teacher: U2Net
) -> Iterator[tuple[str, Callable[[], Iterator[Sample]]]]:
    """Names and makers of shards, the most useful for the least time first."""
    for n, name in enumerate(TEACH):
        yield f"davis-{name}", partial(sequence, objects / "clip+mask/davis16" / name, 100 + n)
    for source in MASKED:
        yield Path(source.folder).parent.name, partial(masked, objects, source)
    yield "ccp", lambda: masked(data, MASKED_PEOPLE)
    yield "cutouts", lambda: cutouts(objects / CUTOUTS, 2000)
    for source in PLACES:
        yield f"place-{Path(source.folder).name}", partial(places, data, source)
    for source in FETCHED:
        if (fetched / source.folder).is_dir():
            yield f"place-{source.folder}", partial(places, fetched, source)
    if (fetched / PANORAMAS.folder).is_dir():
        yield f"place-{PANORAMAS.folder}", partial(places, fetched, PANORAMAS, kept_every=0)
    for source in OBJECTS:
        yield Path(source.folder).name, partial(labeled_by_teacher, objects, source, teacher)
    for part in range(PARTS):
        for source in PLENTY:
            name, root = Path(source.folder).name, data if source.folder.startswith("train/") else objects
            yield f"{name}-{part}", partial(labeled_by_teacher, root, source, teacher, slice(part, None, PARTS))
        if part == 1:
            yield from all_footage(objects, data, teacher)
    for source in PEOPLE:
        yield Path(source.folder).name, partial(labeled_by_teacher, data, source, teacher)


def all_footage(objects: Path, data: Path, teacher: U2Net) -> Iterator[tuple[str, Callable[[], Iterator[Sample]]]]:
    """Names and makers of shards of the clips that are there."""
    clips = [*((data, clip) for clip in PEOPLE_FOOTAGE), *((objects, clip) for clip in FOOTAGE)]
    for n, (root, clip) in enumerate(clips):
        if (root / clip.path).exists():
            yield f"clip-{Path(clip.path).stem}", partial(footage, root, clip, 200 + 20 * n, teacher)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--backgrounds", type=Path, default=Path("runs/backgrounds"))
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/subject"))
    parser.add_argument("--empty", type=Path, default=Path("runs/empty"), help="for scenes without anything in front")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    roots = [*((options.data, source) for source in PLACES), *((options.backgrounds, source) for source in FETCHED)]
    empty_scenes(roots, options.empty)
    teacher, start = U2Net(options.teacher), time.monotonic()
    for name, make in all_sources(options.objects, options.data, options.backgrounds, teacher):
        done = options.out / f"{name}.done"
        if done.exists():
            continue
        writer, count = ShardWriter(options.out, size=40, stem=f"{name}-"), 0
        for item in make():
            writer.add([item])
            count += 1
        writer.flush()
        done.write_text(f"{count}\n")
        print(f"{time.monotonic() - start:6.0f} s  {name}: {count}", flush=True)


if __name__ == "__main__":
    main()
