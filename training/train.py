"""Train the network on a pack, by the clock.

    python train.py --pack runs/pack --out runs/people --minutes 112

The schedule follows the training time used, kept in the checkpoint: started again with the same arguments it
goes on where it was, and learning ends when the minutes are used up. `<out>/last.pt` holds everything,
`<out>/ema.pt` the averaged weights for export.py.
"""

from __future__ import annotations

import argparse
import copy
import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from augment import Augmenter
from losses import matting_loss, recognition_loss
from model import Matte
from pack import Pack


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
    """Everything that shapes a run."""

    minutes: float = 112.0
    rate: float = 4e-3
    decay: float = 0.02
    average: float = 0.998
    clip: float = 1.0
    length: int = 5
    aspects: tuple[float, ...] = (1.0, 4 / 3, 3 / 2, 16 / 9, 16 / 9, 3 / 4, 9 / 16)
    stages: tuple[Stage, ...] = (
        Stage(0, 160, 16, coarse=True),
        Stage(0.45, 192, 14),
        Stage(0.65, 224, 10, 0.3),
        Stage(0.85, 256, 10, 0.4),
    )
    seed: int = 5
    save_every: float = 120.0  # seconds
    log_every: float = 30.0


class Run:
    """Model, averaged model, optimiser and clock of one run; can be written to a file and read back."""

    def __init__(self, settings: Settings, out: Path) -> None:
        self.settings, self.out = settings, out
        self.model = Matte().to(memory_format=torch.channels_last).train()
        self.average = copy.deepcopy(self.model).requires_grad_(False)
        self.optimiser = torch.optim.AdamW(self._groups(), lr=settings.rate)
        self.seconds, self.step, self.frames = 0.0, 0, 0

    @property
    def share(self) -> float:
        """Part of the training time that is used up."""
        return self.seconds / (60 * self.settings.minutes)

    @property
    def stage(self) -> Stage:
        return next(s for s in reversed(self.settings.stages) if self.share >= s.start)

    def learn(self, rgb: Tensor, true: Tensor, length: int) -> float:
        """One step on frames (N, 3, H, W) and alphas (N, 1, H, W) of sequences of `length`; returns the loss."""
        if self.stage.coarse:
            loss = recognition_loss(self.model.recognise(rgb), true)
        else:
            loss = matting_loss(self.model.sequence(rgb, length), true, length)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
        for group in self.optimiser.param_groups:
            group["lr"] = self.settings.rate * rate_factor(self.share)
        self.optimiser.step()
        self.step, self.frames = self.step + 1, self.frames + len(rgb)
        self._follow()
        return loss.item()

    def save(self) -> None:
        """Write the whole state, and the averaged weights beside it."""
        state = {name: getattr(self, name).state_dict() for name in ("model", "average", "optimiser")}
        state |= {name: getattr(self, name) for name in ("seconds", "step", "frames")}
        write(state, self.out / "last.pt")
        write(self.average.state_dict(), self.out / "ema.pt")

    def load(self) -> None:
        """Go on from the last state, if there is one."""
        path = self.out / "last.pt"
        if not path.exists():
            return
        state = torch.load(path)
        for name in ("model", "average", "optimiser"):
            getattr(self, name).load_state_dict(state[name])
        self.seconds, self.step, self.frames = state["seconds"], state["step"], state["frames"]

    @torch.no_grad()
    def _follow(self) -> None:
        keep = min(self.settings.average, self.step / (self.step + 10))
        pairs = zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True)
        for mean, value in pairs:
            if mean.is_floating_point():
                mean.lerp_(value, 1 - keep)
            else:
                mean.copy_(value)

    def _groups(self) -> list[dict[str, object]]:
        """Weight decay for matrices only."""
        parameters = list(self.model.parameters())
        matrices = [p for p in parameters if p.ndim > 1]
        rest = [p for p in parameters if p.ndim <= 1]
        return [{"params": matrices, "weight_decay": self.settings.decay}, {"params": rest, "weight_decay": 0.0}]


def rate_factor(share: float, warm_up: float = 0.02, least: float = 0.01) -> float:
    """Learning rate over time: a short rise, then half a cosine."""
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return min(1.0, 0.05 + share / warm_up) * (least + (1 - least) * cosine)


def view_size(side: int, aspect: float) -> tuple[int, int]:
    """Height and width, multiples of 32, of about side x side pixels in the aspect (width / height)."""
    height = max(96, round(side / math.sqrt(aspect) / 32) * 32)
    return height, max(96, round(side * side / height / 32) * 32)


def draw_batch(source: Augmenter, stage: Stage, settings: Settings) -> tuple[Tensor, Tensor, int]:
    """Frames (N, 3, H, W) 0..1, alphas (N, 1, H, W) 0..1, and the length of the sequences among them."""
    length = settings.length if random.random() < stage.sequences else 1
    size = view_size(stage.side, random.choice(settings.aspects))
    samples = [source.sample(size, length) for _ in range(max(1, stage.batch // length))]
    rgb = torch.from_numpy(np.concatenate([rgb for rgb, _ in samples])).permute(0, 3, 1, 2).float() / 255
    true = torch.from_numpy(np.concatenate([alpha for _, alpha in samples])).unsqueeze(1).float() / 255
    return rgb.contiguous(memory_format=torch.channels_last), true, length


def write(state: object, path: Path) -> None:
    """Save by renaming, so that a crash never leaves half a file."""
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.rename(path)


class Log:
    """A line every now and then with the mean loss and the speed."""

    def __init__(self, every: float) -> None:
        self._every, self._losses, self._since, self._frames = every, [], time.monotonic(), 0

    def add(self, run: Run, loss: float, frames: int) -> None:
        self._losses.append(loss)
        self._frames += frames
        took = time.monotonic() - self._since
        if took < self._every:
            return
        print(
            f"{time.strftime('%H:%M:%S')} share {run.share:.3f} side {run.stage.side} step {run.step}",
            f"frames {run.frames} ({self._frames / took:.0f}/s) loss {np.mean(self._losses):.4f}",
            f"rate {run.optimiser.param_groups[0]['lr']:.1e}",
            flush=True,
        )
        self._losses, self._since, self._frames = [], time.monotonic(), 0


def train(settings: Settings, pack: Pack, out: Path) -> None:
    """Learn until the time is used up."""
    torch.manual_seed(settings.seed)
    run, log = Run(settings, out), Log(settings.log_every)
    run.load()
    random.seed(settings.seed + run.step)
    source = Augmenter(pack, settings.seed + run.step)
    saved = clock = time.monotonic()
    while run.share < 1:
        rgb, true, length = draw_batch(source, run.stage, settings)
        log.add(run, run.learn(rgb, true, length), len(rgb))
        now = time.monotonic()
        run.seconds, clock = run.seconds + now - clock, now
        if now - saved > settings.save_every:
            run.save()
            pack.refresh()
            saved = now
    run.save()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pack", type=Path, default=Path("runs/pack"))
    parser.add_argument("--out", type=Path, default=Path("runs/people"))
    parser.add_argument("--minutes", type=float, default=Settings.minutes)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    options.out.mkdir(parents=True, exist_ok=True)
    train(Settings(minutes=options.minutes), Pack(options.pack), options.out)


if __name__ == "__main__":
    main()
