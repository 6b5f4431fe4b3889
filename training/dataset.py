"""Batches for training, drawn in the training process or by several others beside it."""

from __future__ import annotations

import random
from collections.abc import Iterator
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from augment import Augmenter, Mix
from schedule import Settings, Stage, view_size
from shards import ShardDataset

REFRESH = 500  # batches after which new shards are looked for


class Batch(NamedTuple):
    """Frames (N, H, W, 3) uint8, alphas (N, H, W) uint8, the length of the sequences among them, and what to learn."""

    rgb: Tensor
    alpha: Tensor
    length: int
    coarse: bool


class SampleDataset(IterableDataset[Batch]):
    """Endless batches of the stage that `share`, the part of the time used up, has reached."""

    def __init__(self, folder: Path, settings: Settings, seed: int, share: Synchronized[float], mix: Mix) -> None:
        self.folder, self.settings, self.seed, self.share, self.mix = folder, settings, seed, share, mix

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        seed = self.seed if worker is None else self.seed + 7919 * (worker.id + 1)
        cv2.setNumThreads(1)
        rng, shards = random.Random(seed), ShardDataset(self.folder)
        source = Augmenter(shards, seed, self.mix)
        while True:
            for _ in range(REFRESH):
                yield draw_batch(source, self.settings.stage(self.share.value), self.settings, rng)
            shards.refresh()


def open_loader(feed: SampleDataset, workers: int, *, pin: bool) -> Iterator[Batch]:
    """Batches from `workers` processes, or from this one if 0; pinned for a GPU."""
    return iter(DataLoader(feed, batch_size=None, num_workers=workers, pin_memory=pin))


def draw_batch(source: Augmenter, stage: Stage, settings: Settings, rng: random.Random) -> Batch:
    """As many samples of one size as the stage asks for."""
    length = settings.length if rng.random() < stage.sequences else 1
    size = view_size(stage.side, rng.choice(settings.aspects))
    samples = [source.sample(size, length) for _ in range(max(1, settings.batch_factor * stage.batch // length))]
    rgb, alpha = (torch.from_numpy(np.concatenate(frames)) for frames in zip(*samples, strict=True))
    return Batch(rgb, alpha, length, stage.coarse)
