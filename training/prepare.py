"""Label photos and clips with the teacher and pack them for training.

    python prepare.py --data DIR --teacher rvm_mobilenetv3.onnx --out runs/shards

Shards appear while it runs, so that training may start on the first of them.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from backgrounds import remove_people
from datasets import CLIPS, PHOTOS, Clip, Kind, Photos
from shards import Image, Sample, ShardWriter
from teacher import Alpha, RvmTeacher, Teacher

LONG_SIDE = 512  # stored pictures are at most this long, in pixels
WARM_UP = 4  # first frames of a clip, in which the teacher still settles
NOBODY = 0.002  # a photo in which the teacher covers less of the frame is a background
AGREE = 0.75  # IoU of teacher and human mask below which one of the two is badly wrong
STRIP = 90  # width in pixels of a strip beside the person that is worth keeping as a background
EMPTY = {Kind.BACKGROUND, Kind.STRIP, Kind.INPAINTED}
SUFFIXES = {".jpg", ".jpeg", ".png"}

Job = Callable[[], list[Sample]]


def shrink(image: Image, long_side: int = LONG_SIDE) -> Image:
    """The picture, reduced to the long side if it is larger."""
    scale = long_side / max(image.shape[:2])
    return image if scale >= 1 else cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def read(path: Path) -> Image:
    """RGB picture from a file, reduced."""
    return np.ascontiguousarray(shrink(cv2.imread(str(path), cv2.IMREAD_COLOR))[..., ::-1])


def to_bytes(alpha: Alpha) -> Image:
    """Alpha 0..1 as 0..255."""
    return (alpha * 255 + 0.5).astype(np.uint8)


def empty(rgb: Image, kind: Kind) -> Sample:
    """A picture in which nothing is to be kept."""
    return Sample(rgb, np.zeros(rgb.shape[:2], np.uint8), kind)


def blend(alpha: Alpha, mask: Alpha) -> Alpha:
    """The teacher's alpha, but the human mask in patches wider than 7 px where the two disagree."""
    kernel = np.ones((7, 7), np.uint8)
    wrong = cv2.morphologyEx((np.abs(alpha - mask) > 0.5).astype(np.uint8), cv2.MORPH_OPEN, kernel)
    weight = cv2.GaussianBlur(cv2.dilate(wrong, kernel).astype(np.float32), (0, 0), 2)
    return alpha * (1 - weight) + cv2.GaussianBlur(mask, (0, 0), 1.2) * weight


def strip(rgb: Image, alpha: Alpha) -> list[Sample]:
    """The wider side of the picture beside the person, mirrored into a background; nothing if it is narrow."""
    busy = np.flatnonzero((alpha > 0.03).any(axis=0))
    if not busy.size:
        return []
    left, right = busy[0] - 6, rgb.shape[1] - busy[-1] - 6
    if max(left, right) < STRIP:
        return []
    side = rgb[:, :left] if left >= right else rgb[:, -right:]
    tile = np.concatenate([side, side[:, ::-1]] * 3, axis=1)[:, : rgb.shape[0]]
    return [empty(np.ascontiguousarray(tile), Kind.STRIP)]


def photo(rgb: Image, alpha: Alpha, kind: Kind) -> list[Sample]:
    """A photo of people, and the places that can be made of it."""
    label = to_bytes(alpha)
    return [Sample(rgb, label, kind), *strip(rgb, alpha), remove_people(rgb, label, np.random.default_rng(rgb.size))]


def contains_no_person(teacher: Teacher, rgb: Image) -> bool:
    """Whether the teacher finds nobody: beside a person there often is a passer-by."""
    return bool((teacher.still(rgb) > 0.1).mean() < NOBODY)


def labeled(teacher: Teacher, path: Path, mask_path: Path, kind: Kind) -> list[Sample]:
    """Photo with a human mask: the teacher's soft edge, the human's judgment."""
    rgb = read(path)
    mask = (cv2.imread(str(mask_path), cv2.IMREAD_GRAYSCALE) > 127).astype(np.float32)
    mask = cv2.resize(mask, rgb.shape[1::-1], interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    alpha = teacher.still(rgb)
    if np.minimum(mask, alpha).sum() < AGREE * np.maximum(mask, alpha).sum():
        return []
    return photo(rgb, blend(alpha, mask), kind)


def unlabeled(teacher: Teacher, path: Path, source: Photos) -> list[Sample]:
    """Photo with the teacher's alpha, if that looks sound: enough of the frame, and little of it half-transparent."""
    rgb = read(path)
    if source.kind in (Kind.HARD_NEGATIVE, Kind.BACKGROUND, Kind.GROUND):
        return [empty(rgb, source.kind)]
    alpha = teacher.still(rgb)
    sure, unsure = (alpha > 0.9).mean(), ((alpha > 0.1) & (alpha < 0.9)).mean()
    if sure + unsure < NOBODY:
        return [empty(rgb, Kind.BACKGROUND)]
    if sure < source.cover or unsure > 0.12 * sure + 0.01:
        return []
    return photo(rgb, alpha, source.kind)


def frames(path: Path, step: int, count: int) -> Iterator[Image]:
    """Every `step`-th frame of a clip, RGB, reduced, at most `count`."""
    with av.open(str(path)) as box:
        for n, frame in enumerate(box.decode(video=0)):
            if n >= step * count:
                return
            if n % step == 0:
                yield shrink(frame.to_ndarray(format="rgb24"))


def clip_items(teacher: Teacher, path: Path, clip: Clip, number: int) -> list[Sample]:
    """Frames of a clip, labeled one after another."""
    pictures = frames(path, clip.step, clip.frames)
    if not clip.people:
        return [empty(rgb, Kind.BACKGROUND) for rgb in pictures]
    teacher.reset()
    number = number if clip.smooth else -1
    items = [Sample(rgb, to_bytes(teacher.frame(rgb)), Kind.CLIP, number) for rgb in pictures]
    return items[WARM_UP:]


def photo_jobs(data: Path, places: Path, teacher: Teacher) -> Iterator[Job]:
    """One job per photo of every source."""
    more = (
        Photos(str(places / "photos"), Kind.BACKGROUND),
        Photos(str(places / "panoramas"), Kind.BACKGROUND),
        Photos(str(places / "ground"), Kind.GROUND),
    )
    for source in (*PHOTOS, *more):
        folder = data / source.folder
        paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.stem not in source.without)
        for path in paths[: source.limit]:
            if source.masks:
                yield partial(labeled, teacher, path, data / source.masks / f"{path.stem}.png", source.kind)
            else:
                yield partial(unlabeled, teacher, path, source)


def all_jobs(data: Path, places: Path, teacher: Teacher) -> list[Job]:
    """Photos in random order with the clips strewn in, so that every shard holds a bit of everything."""
    jobs = list(photo_jobs(data, places.resolve(), teacher))
    order = np.random.default_rng(7).permutation(len(jobs))
    jobs = [jobs[i] for i in order]
    for n, clip in enumerate(CLIPS):
        jobs.insert(n * len(jobs) // len(CLIPS), partial(clip_items, teacher, data / clip.path, clip, n))
    return jobs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument(
        "--backgrounds",
        type=Path,
        default=Path("runs/backgrounds"),
        help="what download_backgrounds.py fetched, if it did",
    )
    parser.add_argument("--out", type=Path, default=Path("runs/shards"))
    options = parser.parse_args()
    cv2.setNumThreads(1)
    writer, counts, start = ShardWriter(options.out), Counter(), time.monotonic()
    jobs = all_jobs(options.data, options.backgrounds, RvmTeacher(options.teacher))
    guard = RvmTeacher(options.teacher, inner=288, passes=1)
    for done, job in enumerate(jobs, 1):
        items = [item for item in job() if item.kind not in EMPTY or contains_no_person(guard, item.rgb)]
        writer.add(items)
        counts.update(item.kind.name for item in items)
        if done % 100 == 0 or done == len(jobs):
            print(f"{done}/{len(jobs)} {time.monotonic() - start:.0f} s {dict(counts)}", flush=True)
    writer.flush()


if __name__ == "__main__":
    main()
